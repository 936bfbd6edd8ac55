import json
import os
import re

import pytest
from dataset_trees import MAKERS, add_junk, put
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.data import DATASETS, VideoList, detect_dataset, load_videos

# dataset: (classes, (train paths, labels), (val paths, labels))
EXPECTED = {
    "kinetics": (
        ["abseiling", "making tea", "zumba"],
        (
            [
                "train/zumba/-aAbB_cCdD1_000012_000022.mp4",
                "train/bbbbbbbbbbb_000000_000010.mp4",
                "train/making_tea/ccccccccccc_000003_000013.mp4",
            ],
            [2, 0, 1],
        ),
        (["val/ddddddddddd_000100_000110.mp4", "val/zumba/eeeeeeeeeee_000007_000017.mp4"], [1, 2]),
    ),
    "mini-kinetics": (
        ["abseiling", "zumba"],
        (["train/zumba/-aAbB_cCdD1_000012_000022.mp4", "train/bbbbbbbbbbb_000000_000010.mp4"], [1, 0]),
        (["val/zumba/eeeeeeeeeee_000007_000017.mp4"], [1]),
    ),
    "somethingv1": (
        ["Dropping something", "Moving something left", "Moving something right", "Tearing something"],
        ([f"20bn-something-something-v1/{i}" for i in (10, 11, 12)], [3, 1, 0]),
        (["20bn-something-something-v1/20"], [2]),
    ),
    "somethingv2": (
        ["Moving something left", "Tearing something", "Dropping something onto something"],
        ([f"20bn-something-something-v2/{i}.webm" for i in (1, 2)], [1, 2]),
        (["20bn-something-something-v2/3.webm"], [0]),
    ),
    "ucf101": (
        ["YoYo", "Archery"],
        (["UCF-101/YoYo/v_YoYo_g02_c01.avi", "UCF-101/Archery/v_Archery_g02_c01.avi"], [0, 1]),
        (["UCF-101/YoYo/v_YoYo_g01_c01.avi", "UCF-101/Archery/v_Archery_g01_c01.avi"], [0, 1]),
    ),
    "hmdb51": (
        ["brush_hair", "wave"],
        (["hmdb51_org/brush_hair/brush_hair_(clip)_0.avi", "hmdb51_org/wave/wave_(clip)_0.avi"], [0, 1]),
        (["hmdb51_org/brush_hair/brush_hair_(clip)_1.avi", "hmdb51_org/wave/wave_(clip)_1.avi"], [0, 1]),
    ),
    "lists": (
        ["tea time", "coffee"],
        (["a b/1.mp4", "2.mp4"], [1, 0]),
        (["c/3.mp4", "c/4.mp4"], [1, 0]),
    ),
    "folders": (
        ["coffee", "tea"],
        (["train/coffee/c.mp4", "train/tea/a.mp4", "train/tea/b.mp4"], [0, 1, 1]),
        (["val/coffee/e.mp4", "val/tea/d.mp4"], [0, 1]),
    ),
}
ANNOTATED = [dataset for dataset in DATASETS if dataset != "folders"]


def test_every_dataset_is_tested():
    assert set(DATASETS) == set(EXPECTED) == set(MAKERS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_directories(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    assert detect_dataset(root) == dataset
    classes, *splits = EXPECTED[dataset]
    for split, (paths, labels) in zip(("train", "val"), splits, strict=True):
        videos = load_videos(root, split)
        assert (videos.dataset, videos.classes, videos.labels) == (dataset, classes, labels)
        assert [path.relative_to(root).as_posix() for path in videos.paths] == paths
        assert len(videos) == len(paths)
        assert videos.left_out == []


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_folds(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    assert load_videos(root, "train", fold=2).paths == load_videos(root, "val", fold=1).paths
    with pytest.raises(ValueError, match="fold 4"):
        load_videos(root, "train", fold=4)


@pytest.mark.parametrize(
    ("lines", "classes", "labels"),
    [
        (["2.mp4 9 3", "./a b/1.mp4 9 1"], ["0", "1", "2", "3"], [3, 1]),  # as TSM writes them
        (["2.mp4\t9\ttea", "a b/1.mp4\t9\tcoffee"], ["coffee", "tea"], [1, 0]),
        (["2.mp4\ttea", "a b/1.mp4\tcoffee, black"], ["coffee, black", "tea"], [1, 0]),
        (["a b/1.mp4 0", "c\\3.mp4 0"], ["0"], [0, 0]),
        (["2.mp4 9 02", "a b/1.mp4 9 00"], ["0", "1", "2"], [2, 0]),
        (["2.mp4\t9\t02", "a b/1.mp4\t9\t00"], ["0", "1", "2"], [2, 0]),
    ],
)
def test_lists_without_a_file_of_classes_have_those_of_training(make_tree, tmp_path, lines, classes, labels):
    root = make_tree("lists", tmp_path)
    (root / "classes.txt").unlink()
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("\n".join(lines))
    videos = load_videos(root, "val")
    assert (videos.classes, videos.labels) == (classes, labels)
    assert all(path.is_file() for path in videos.paths)


@pytest.mark.parametrize(
    ("line", "message"),
    [("c/3.mp4", "c/3.mp4: line 1 of val.txt is not a path, a tab and a class"), ("c/3.mp4 7", "unknown class '7'")],
)
def test_a_line_of_a_list_that_tells_no_class_is_named(make_tree, tmp_path, line, message):
    root = make_tree("lists", tmp_path)
    (root / "val.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        load_videos(root, "val")


def test_a_line_of_a_list_on_another_drive_is_named(make_tree, tmp_path, monkeypatch):
    """There is no path from one drive of Windows to another."""
    root, relpath = make_tree("lists", tmp_path / "set"), os.path.relpath

    def on_windows(path, start):
        if "elsewhere" in str(path):
            raise ValueError("path is on mount 'D:', start on mount 'C:'")
        return relpath(path, start)

    monkeypatch.setattr(os.path, "relpath", on_windows)
    with (root / "val.txt").open("a") as listed:
        listed.write("\n/elsewhere/x.mp4 0\n")
    with pytest.raises(ValueError, match="of val.txt is on another drive than"):
        load_videos(root, "val", "lists")
    assert len(load_videos(root, "val", "lists", missing="skip").left_out) == 1


def test_videos_that_lie_elsewhere_are_named_by_their_whole_path(tmp_path):
    listed = VideoList("mine", tmp_path, ["a"], [tmp_path / "x.mp4", tmp_path.parent / "y.mp4"], [0, 0], [])
    assert listed.names == ["x.mp4", (tmp_path.parent / "y.mp4").as_posix()]


def test_mini_kinetics_names_an_id_that_kinetics_has_not(make_tree, tmp_path):
    root = make_tree("mini-kinetics", tmp_path)
    with (root / "annotations" / "val_ytid_list.txt").open("a") as file:
        file.write("fffffffffff\n")
    with pytest.raises(ValueError, match="fffffffffff"):
        load_videos(root, "val")
    rest = load_videos(root, "val", missing="skip")
    assert len(rest) == len(rest.left_out) == 1


def test_kinetics_without_split_folders(make_tree, tmp_path):
    root = make_tree("kinetics", tmp_path)
    (root / "train").rename(root / "videos")
    (root / "val").rename(root / "other videos")
    assert len(load_videos(root, "train")) == 3
    assert len(load_videos(root, "val")) == 2


def test_something_v2_as_its_labels_unpack(make_tree, tmp_path):
    root = make_tree("somethingv2", tmp_path)
    before = load_videos(root, "val")
    for part in ("labels", "train", "validation"):
        (root / "labels").mkdir(exist_ok=True)
        (root / f"something-something-v2-{part}.json").rename(root / "labels" / f"{part}.json")
    put(next(root.rglob("1.webm")), root, ["train/any/1.webm"])  # folders come last
    assert detect_dataset(root) == "somethingv2"
    assert load_videos(root, "val") == before
    assert len(load_videos(root, "train")) == 2


def test_something_v2_may_lie_as_frames_or_in_other_files(make_tree, tmp_path):
    root = make_tree("somethingv2", tmp_path)
    folder, before = root / "20bn-something-something-v2", load_videos(root, "train")
    first, second = (path.stem for path in before.paths)
    (folder / f"{first}.webm").rename(folder / f"{first}.mp4")
    (folder / f"{second}.webm").unlink()
    (folder / second).mkdir()
    (folder / second / "000001.jpg").touch()
    found = load_videos(root, "train")
    assert [path.name for path in found.paths] == [f"{first}.mp4", second]
    assert found.labels == before.labels


BAD_ANNOTATION = {  # dataset: (annotation file of the training split, text to add or replace it with)
    "kinetics": ("annotations/train.csv", "{label},{video},1,2,train\n"),
    "somethingv1": ("something-something-v1-train.csv", "{video};{label}\n"),
    "somethingv2": ("something-something-v2-train.json", [("{video}", "{label}")]),
    "ucf101": ("ucfTrainTestlist/trainlist01.txt", "{label}/{video}.avi 1\n"),
    "hmdb51": ("testTrainMulti_7030_splits/wave_test_split1.txt", "{video}.avi 1\n"),
}


def bad_annotations():
    for dataset in BAD_ANNOTATION:
        yield dataset, "missing", "nowhere", FileNotFoundError
        yield dataset, "outside", "../../../../../etc/passwd", ValueError
        yield dataset, "outside", "/etc/passwd", (ValueError, FileNotFoundError)
        if dataset not in ("hmdb51", "kinetics"):  # there the training annotations define the classes
            yield dataset, "class", "nowhere", ValueError


def annotate(root, dataset, video, label):
    name, template = BAD_ANNOTATION[dataset]
    path = root / name
    if isinstance(template, list):
        path.write_text(json.dumps([*json.loads(path.read_text()), {"id": video, "template": label}]))
    else:
        path.write_text(path.read_text() + template.format(video=video, label=label))


@pytest.mark.parametrize(("dataset", "problem", "video", "error"), list(bad_annotations()))
def test_bad_annotations_are_errors_or_counted(make_tree, tmp_path, dataset, problem, video, error):
    root = make_tree(dataset, tmp_path)
    good = load_videos(root, "train")
    known = "Archery" if dataset == "ucf101" else good.classes[0]
    annotate(root, dataset, video, "nonsense" if problem == "class" else known)
    with pytest.raises(error, match="passwd" if problem == "outside" else "nowhere") as caught:
        load_videos(root, "train")
    assert "\n" not in str(caught.value)
    skipped = load_videos(root, "train", missing="skip")
    assert set(good.paths) >= set(skipped.paths)
    assert len(skipped.left_out) == 1
    assert {"missing": "no such video", "class": "nonsense", "outside": ""}[problem] in skipped.left_out[0]


def test_classes_of_kinetics_are_those_of_its_training_videos(make_tree, tmp_path):
    root = make_tree("kinetics", tmp_path)
    path = root / "annotations" / "validate.csv"
    path.write_text(path.read_text().replace("making tea", "making coffee"))
    with pytest.raises(ValueError, match="making coffee"):
        load_videos(root, "val")
    videos = load_videos(root, "val", missing="skip")
    assert (videos.labels, len(videos.left_out)) == ([2], 1)


@pytest.mark.parametrize("dataset", ANNOTATED)
def test_missing_videos_are_listed(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    videos = load_videos(root, "train")
    gone = videos.paths[1]
    gone.rename(gone.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError, match="missing='skip'"):
        load_videos(root, "train")
    rest = load_videos(root, "train", missing="skip")
    assert rest.paths == [path for path in videos.paths if path != gone]
    assert rest.labels == [label for path, label in zip(videos.paths, videos.labels, strict=True) if path != gone]
    assert rest.classes == videos.classes
    assert len(rest.left_out) == 1


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("kinetics", "annotations/train.csv"),
        ("mini-kinetics", "annotations/train_ytid_list.txt"),
        ("somethingv1", "something-something-v1-train.csv"),
        ("somethingv2", "something-something-v2-train.json"),
        ("somethingv2", "something-something-v2-labels.json"),
        ("hmdb51", "testTrainMulti_7030_splits/wave_test_split1.txt"),
    ],
)
@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff\xfe\x00junk", b"[1, 2]", b"{}"])
def test_unreadable_annotations_are_errors(make_tree, tmp_path, dataset, name, content):
    root = make_tree(dataset, tmp_path)
    (root / name).write_bytes(content)
    told = "unknown class" if name.endswith("labels.json") and content == b"{}" else re.escape(name.rpartition("/")[2])
    with pytest.raises(ValueError, match=told) as refused:
        load_videos(root, "train", dataset)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dataset", ANNOTATED)
def test_missing_annotations_are_named(tmp_path, dataset):
    with pytest.raises(FileNotFoundError, match="annotation"):
        load_videos(tmp_path, "train", dataset)
    with pytest.raises(FileNotFoundError, match=r"train\.csv"):
        load_videos(tmp_path, "train")


def test_folders_of_other_classes_and_none(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    (root / "val" / "tea").rename(root / "val" / "cocoa")
    with pytest.raises(ValueError, match="unknown class 'cocoa'"):
        load_videos(root, "val")
    assert load_videos(root, "val", missing="skip").labels == [0]
    (root / "val").rename(root / "test")
    with pytest.raises(FileNotFoundError, match=r"val: no such directory; put videos into train/<class>"):
        load_videos(root, "val")


def test_annotations_come_before_folders(make_tree, tmp_path):
    assert detect_dataset(make_tree("folders", make_tree("kinetics", tmp_path))) == "kinetics"


def test_impossible_arguments_are_errors(make_tree, tmp_path):
    root = make_tree("somethingv1", tmp_path)
    for arguments, message in (
        ({"split": "test"}, "split"),
        ({"split": "train", "dataset": "imagenet"}, "imagenet"),
        ({"split": "train", "missing": "ignore"}, "missing"),
    ):
        with pytest.raises(ValueError, match=message):
            load_videos(root, **arguments)


# What real folders and files are like

ANNOTATION_FILES = {
    "kinetics": ["annotations/train.csv", "annotations/validate.csv"],
    "mini-kinetics": ["annotations/train.csv", "annotations/train_ytid_list.txt", "annotations/val_ytid_list.txt"],
    "somethingv1": [f"something-something-v1-{part}.csv" for part in ("labels", "train", "validation")],
    "somethingv2": [f"something-something-v2-{part}.json" for part in ("labels", "train", "validation")],
    "ucf101": [f"ucfTrainTestlist/{part}.txt" for part in ("classInd", "trainlist01", "testlist01")],
    "hmdb51": [f"testTrainMulti_7030_splits/{part}_test_split1.txt" for part in ("wave", "brush_hair")],
    "lists": ["train.txt", "val.txt", "classes.txt"],
}


@pytest.mark.parametrize("dataset", ANNOTATED)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\n\r\n", b" \n"])
def test_annotations_as_editors_write_them(make_tree, tmp_path, dataset, mark, end):
    root = make_tree(dataset, tmp_path)
    before = [load_videos(root, split) for split in ("train", "val")]
    for name in ANNOTATION_FILES[dataset]:
        content = (root / name).read_bytes().replace(b"\r\n", b"\n")
        (root / name).write_bytes(mark + content.replace(b"\n", end))
    assert detect_dataset(root) == dataset
    assert [load_videos(root, split) for split in ("train", "val")] == before


@pytest.mark.parametrize("dataset", ANNOTATED)
def test_another_folder_of_that_name_hides_no_annotations(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    before = [load_videos(root, split) for split in ("train", "val")]
    if (root / "annotations").is_dir():
        for path in list((root / "annotations").iterdir()):
            path.rename(root / path.name)
        (root / "annotations").rmdir()
    (root / "annotations").mkdir()
    (root / "annotations" / "boxes.csv").write_text("of something else")
    assert detect_dataset(root) == dataset
    assert [load_videos(root, split) for split in ("train", "val")] == before


@pytest.mark.parametrize("time", ["12.0", " 12 ", "12.9", "012"])
def test_times_of_kinetics_may_be_floats(make_tree, tmp_path, time):
    root = make_tree("kinetics", tmp_path)
    before = load_videos(root, "train")
    path = root / "annotations" / "train.csv"
    path.write_text(path.read_text().replace(",12,", f",{time},"))
    assert load_videos(root, "train") == before


BAD_ROWS = {
    "kinetics": [
        *("zumba,xxxxxxxxxxx,,22,train", "zumba,xxxxxxxxxxx,a,22,train", "zumba,xxxxxxxxxxx,nan,22,train"),
        *("zumba,xxxxxxxxxxx", ",xxxxxxxxxxx,1,2,train", "zumba,,1,2,train", "zumba,xxxxxxxxxxx,-1,1e99,train"),
    ],
    "somethingv1": ["nothing", ";Dropping something", "17;"],
    "hmdb51": ["wave_(clip)_7.avi 3", "wave_(clip)_7.avi"],
    "lists": ["c/3.mp4", "c/3.mp4\t", "c/3.mp4 1.5", "c/3.mp4 7"],
}


@pytest.mark.parametrize(("dataset", "row"), [(dataset, row) for dataset, rows in BAD_ROWS.items() for row in rows])
def test_one_bad_row_refuses_no_other(make_tree, tmp_path, dataset, row):
    root = make_tree(dataset, tmp_path)
    before = load_videos(root, "train")
    name = {"somethingv1": "something-something-v1-train.csv"}.get(dataset, ANNOTATION_FILES[dataset][0])
    with (root / name).open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(ValueError, match=r"line|not a|unknown class") as caught:
        load_videos(root, "train")
    assert "\n" not in str(caught.value)
    after = load_videos(root, "train", missing="skip")
    assert (after.classes, after.paths, after.labels) == (before.classes, before.paths, before.labels)
    assert len(after.left_out) == 1


def test_a_class_that_is_listed_twice_is_told(make_tree, tmp_path):
    root = make_tree("somethingv1", tmp_path)
    with (root / "something-something-v1-labels.csv").open("a") as file:
        file.write("Tearing something\n")
    with pytest.raises(ValueError, match="'Tearing something' twice"):
        load_videos(root, "train")


@pytest.mark.parametrize("dataset", ["kinetics", "somethingv1"])
def test_a_video_that_is_listed_twice_counts_once(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    before = load_videos(root, "train")
    path = root / {"kinetics": "annotations/train.csv", "somethingv1": "something-something-v1-train.csv"}[dataset]
    path.write_text(path.read_text().rstrip("\n") + "\n" + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(ValueError, match="listed twice, here as '.*'; missing='skip' leaves out such videos"):
        load_videos(root, "train")
    found = load_videos(root, "train", missing="skip")
    assert (found.names, found.labels, len(found.left_out)) == (before.names, before.labels, 1)


@pytest.mark.parametrize("numbers", [(0, 0), ("0", 0), (0.5, 1), (True, 1), (None, 1)])
def test_numbers_of_classes_must_tell_their_order(make_tree, tmp_path, numbers):
    root = make_tree("somethingv2", tmp_path)
    path = root / "something-something-v2-labels.json"
    names = list(json.loads(path.read_text()))[:2]
    path.write_text(json.dumps(dict(zip(names, numbers, strict=True))))
    with pytest.raises(ValueError, match="a number of its own for each class"):
        load_videos(root, "train")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_texts_in_other_encodings_are_named(make_tree, tmp_path, encoding):
    path = make_tree("kinetics", tmp_path) / "annotations" / "train.csv"
    path.write_text(path.read_text(), encoding)
    with pytest.raises(ValueError, match=r"train.csv: not a text file in UTF-8"):
        load_videos(tmp_path, "train", "kinetics")


def test_hidden_copies_of_annotations_are_no_classes(make_tree, tmp_path):
    root = make_tree("hmdb51", tmp_path)
    before = load_videos(root, "train")
    for path in list((root / "testTrainMulti_7030_splits").iterdir()):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert load_videos(root, "train") == before


def test_kinetics_takes_no_thumbnail_for_the_video(make_tree, tmp_path):
    root = make_tree("kinetics", tmp_path)
    before = [load_videos(root, split) for split in ("train", "val")]
    for path in [path for videos in before for path in videos.paths]:
        for ending in (".jpg", ".JPG", ".srt", ".en.vtt", ".info.json", ".webp", ".mp4.part", ".m4a", ".gif", ".txt"):
            path.with_suffix(ending).write_text("beside it")
        path.with_name(f"._{path.name}").write_text("of another file system")
        put(path, path.parent, [f"{path.stem}.webm"])  # a second copy of the same clip: the .mp4 counts
    assert [load_videos(root, split) for split in ("train", "val")] == before


def test_kinetics_names_no_thumbnail_where_the_video_is_missing(make_tree, tmp_path):
    root = make_tree("kinetics", tmp_path)
    gone = load_videos(root, "train").paths[1]
    gone.rename(gone.with_suffix(".jpg"))
    assert [path.suffix for path in load_videos(root, "train", missing="skip").paths] == [".mp4", ".mp4"]


@pytest.mark.parametrize("dataset", ["kinetics", "folders"])
def test_links_to_folders_of_classes_are_followed(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path / "set")
    before = [load_videos(root, split) for split in ("train", "val")]
    (tmp_path / "elsewhere").mkdir()
    for folder in [path for split in ("train", "val") for path in (root / split).iterdir() if path.is_dir()]:
        target = tmp_path / "elsewhere" / f"{folder.parent.name}-{folder.name}"
        folder.rename(target)
        folder.symlink_to(target)
    (root / "train" / "loop").symlink_to(root / "train")
    if dataset == "folders":
        (root / "train" / "loop").unlink()
    assert [load_videos(root, split) for split in ("train", "val")] == before


def test_upper_case_and_other_containers_are_videos(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    video = root / "train" / "tea" / "a.mp4"
    put(video, video.parent, ["c.MP4", "d.MoV", "e.mkv", "no ending"])
    assert [path.name for path in load_videos(root, "train").paths[1:]] == [
        *("a.mp4", "b.mp4", "c.MP4", "d.MoV", "e.mkv", "no ending")
    ]


def test_what_is_no_video_is_left_out_of_folders_and_told(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    before = load_videos(root, "train")
    told = add_junk(root / "train" / "tea", before.paths[1])
    for missing in ("error", "skip"):
        videos = load_videos(root, "train", missing=missing)
        assert (videos.paths, videos.labels) == (before.paths, before.labels)
        assert sorted(line.split(": ")[0] for line in videos.left_out) == [f"train/tea/{name}" for name in told]


def test_a_split_without_any_video_says_what_lies_there(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    for path in load_videos(root, "val").paths:
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(
        ValueError, match=r"no videos of split 'val'; left out are val/coffee/e.txt: no video by its name"
    ):
        load_videos(root, "val")


# Whatever an annotation file holds, it gives videos that are there, or one line


def lines_like(*shapes):
    """Lines of some shapes, broken ones and any text."""
    words = st.sampled_from(
        ["10", "wave", "YoYo/v.avi", "zumba", "-aAbB_cCdD1", "12", "22", "..", "/etc/passwd", "", "1"]
    )
    words |= st.text(max_size=8)
    shaped = st.one_of(
        *(st.tuples(*[words] * shape.count("{}")).map(lambda w, s=shape: s.format(*w)) for shape in shapes)
    )
    return st.lists(shaped | st.text(max_size=20), max_size=6).map("\n".join)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "template", "Tearing something"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
).map(json.dumps)
CONTENTS = {
    "kinetics": lines_like("label,youtube_id,time_start,time_end,split", "{},{},{},{},{}", '"{},{},{}'),
    "mini-kinetics": lines_like("{}"),
    "somethingv1": lines_like("{};{}"),
    "somethingv2": JSON | st.just("[" * 100_000),
    "ucf101": lines_like("{} {}", "{}/{} 1"),
    "hmdb51": lines_like("{} {}", "{} 1"),
    "lists": lines_like("{}\t{}", "{} 1", "{} 9 {}"),
}


@pytest.fixture(scope="module")
def trees(make_tree, tmp_path_factory):
    return {dataset: make_tree(dataset, tmp_path_factory.mktemp(dataset)) for dataset in ANNOTATED}


@pytest.mark.parametrize(("dataset", "name"), [(d, name) for d, names in ANNOTATION_FILES.items() for name in names])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_annotations_give_videos_that_are_there_or_one_line(trees, dataset, name, data):
    root = trees[dataset]
    kept = (root / name).read_bytes()
    content = data.draw(
        CONTENTS[dataset].map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=50)
    )
    (root / name).write_bytes(content)
    try:
        for split in ("train", "val"):
            for missing in ("skip", "error"):
                try:
                    videos = load_videos(root, split, dataset, missing=missing)
                except (ValueError, FileNotFoundError) as error:
                    message = str(error)
                    assert len(message.splitlines()) == 1, message
                    continue
                assert all(path.exists() and path.resolve().is_relative_to(root) for path in videos.paths)
                assert all(0 <= label < len(videos.classes) for label in videos.labels)
                assert missing == "skip" or not videos.left_out
                "".join(videos.left_out).encode()
    finally:
        (root / name).write_bytes(kept)

import json

import pytest
from dataset_trees import MAKERS, put

from ctnet.data import DATASETS, detect_dataset, load_videos

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
    with pytest.raises(ValueError, match=r"annotations|not|unknown class"):
        load_videos(root, "train", dataset)


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

import csv
import json

import av
import numpy as np
import pytest

from ctnet.micro import MicroSomething, MicroUCF, files, make, write_video

COUNTS = {"train": 26, "val": 3, "test": 2}


def read(path):
    with av.open(str(path if path.suffix else path / "%05d.jpg")) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def luma(frames):
    return frames @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize(
    ("suffix", "colour", "grey"), [(".webm", 28, 36), (".mp4", 28, 36), (".avi", 28, 36), ("", 28, 36)]
)
def test_files_show_the_drawn_frames(suffix, colour, grey, tmp_path):
    """Within a PSNR in dB of RGB, whose loss is mostly that of colours at half the resolution (4:2:0), and of luma."""
    config = MicroSomething.split("train", 4, size=128)
    for number in range(4):
        frames, _ = config.draw(number)
        path = tmp_path / f"{number}{suffix}"
        write_video(path, frames)
        decoded = read(path)
        assert decoded.shape == frames.shape
        assert psnr(frames, decoded) > colour
        assert psnr(luma(frames), luma(decoded)) > grey
        assert psnr(luma(frames[1:]), luma(decoded[:-1])) < psnr(luma(frames), luma(decoded)) - 3  # in order


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every layout, with three clips or so in a split."""
    root = tmp_path_factory.mktemp("micro")
    options = {"counts": COUNTS, "size": 32, "frames": 5, "progress": False}
    for layout in ("somethingv1", "somethingv2", "kinetics"):
        make("MicroSomething", root / layout, layout, **options)
    make("MicroUCF", root / "ucf101", "ucf101", **(options | {"counts": {"train": 40}}))
    return root


def expect(split, number):
    config = MicroSomething.split(split, COUNTS[split], size=32, frames=5)
    return MicroSomething.classes[config.label(number)], config.draw(number)[0]


def agrees(path, frames):
    return psnr(read(path), frames) > 22 and len(read(path)) == len(frames)  # at 32 pixels, colour has 16


def test_something_v2(folders):
    root, prefix = folders / "somethingv2", "something-something-v2"
    tables = {path.stem.removeprefix(f"{prefix}-"): json.loads(path.read_text()) for path in root.glob("*.json")}
    assert set(tables) == {"labels", "train", "validation", "test"}
    assert list(tables["labels"]) == [item.name for item in MicroSomething.classes]
    assert list(tables["labels"].values()) == [str(label) for label in range(24)]
    assert [len(tables[name]) for name in ("train", "validation", "test")] == list(COUNTS.values())
    assert all(set(row) == {"id"} for row in tables["test"])
    for split, name in (("train", "train"), ("val", "validation")):
        for number, row in enumerate(tables[name]):
            item, frames = expect(split, number)
            assert row["template"] == item.template
            assert row["template"].replace("[", "").replace("]", "") in tables["labels"]
            assert len(row["placeholders"]) == row["template"].count("[something]")
            assert all(thing in row["label"] for thing in row["placeholders"])
            assert agrees(root / f"20bn-{prefix}" / f"{row['id']}.webm", frames)
    assert len(list((root / f"20bn-{prefix}").iterdir())) == sum(COUNTS.values())


def test_something_v1(folders):
    root, prefix = folders / "somethingv1", "something-something-v1"
    tables = {path.stem.removeprefix(f"{prefix}-"): path.read_text().splitlines() for path in root.glob("*.csv")}
    assert tables["labels"] == [item.name for item in MicroSomething.classes]
    assert [len(tables[name]) for name in ("train", "validation", "test")] == list(COUNTS.values())
    for split, name in (("train", "train"), ("val", "validation")):
        for number, row in enumerate(tables[name]):
            ident, label = row.split(";")
            item, frames = expect(split, number)
            assert label == item.name
            folder = root / f"20bn-{prefix}" / ident
            assert sorted(path.name for path in folder.iterdir()) == [f"{n:05d}.jpg" for n in range(1, 6)]
            assert agrees(folder, frames)
    assert all((root / f"20bn-{prefix}" / ident).is_dir() for ident in tables["test"])


def test_kinetics(folders):
    root = folders / "kinetics"
    for split, word in (("train", "train"), ("val", "validate"), ("test", "test")):
        rows = list(csv.DictReader((root / f"{split}.csv").open()))
        assert list(rows[0]) == ["label", "youtube_id", "time_start", "time_end", "split"]
        assert len(rows) == COUNTS[split] == len(list((root / split).iterdir()))
        for number, row in enumerate(rows):
            item, frames = expect(split, number)
            assert row["label"] == item.name
            assert row["split"] == word
            assert len(row["youtube_id"]) == 11
            start, stop = int(row["time_start"]), int(row["time_end"])
            assert agrees(root / split / f"{row['youtube_id']}_{start:06d}_{stop:06d}.mp4", frames)


def test_ucf101(folders):
    root = folders / "ucf101"
    lists = root / "ucfTrainTestlist"
    index = dict(reversed(line.split()) for line in (lists / "classInd.txt").read_text().splitlines())
    assert list(index.values()) == [str(number) for number in range(1, len(MicroUCF.classes) + 1)]
    videos = {path.relative_to(root / "UCF-101").as_posix(): path for path in root.rglob("*.avi")}
    assert len(videos) == 40
    for fold in (1, 2, 3):
        train = dict(line.split() for line in (lists / f"trainlist{fold:02d}.txt").read_text().splitlines())
        test = (lists / f"testlist{fold:02d}.txt").read_text().split()
        assert sorted([*train, *test]) == sorted(videos)
        assert all(file.startswith(f"{name}/v_{name}_g") for file in videos if (name := file.split("/")[0]) in index)
        assert all(index[file.split("/")[0]] == label for file, label in train.items())
        expected = MicroUCF.split("val", 40, fold=fold, size=32, frames=5)
        assert len(test) == len(expected.members)
        assert all(agrees(videos[test[n]], expected.draw(expected.members[n])[0]) for n in (0, -1))


# -- Nothing is lost, nothing half done --------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(FileExistsError, match="not empty"):
        make("MicroSomething", tmp_path, "kinetics", counts=COUNTS, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious").read_text() == "data"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "root").mkdir()
    counts = {"train": 1, "val": 1, "test": 1}
    assert make("MicroKinetics", tmp_path / "root", "kinetics", counts=counts, size=32, progress=False).is_dir()
    assert (tmp_path / "root" / "train.csv").is_file()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_making_leaves_nothing(interruption, tmp_path, monkeypatch):
    def fail(*_):
        raise interruption

    monkeypatch.setattr(files, "write_video", fail)
    with pytest.raises(interruption):
        make("MicroSomething", tmp_path / "root", "somethingv2", counts=COUNTS, size=32, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "layout", "options", "message"),
    [
        ("MicroNothing", "kinetics", {}, "there are MicroSomething"),
        ("MicroSomething", "vhs", {}, "there are somethingv1, somethingv2, kinetics, ucf101"),
        ("MicroPictures", "kinetics", {}, "pictures, not videos"),
        ("MicroSomething", "ucf101", {}, "three folds"),
        ("MicroSomething", "kinetics", {"size": 33}, "even"),
        ("MicroSomething", "kinetics", {"counts": {"trian": 3}}, "no split 'trian'"),
        ("MicroUCF", "ucf101", {"counts": {"val": 12}}, "count them all as 'train'"),
        ("MicroUCF", "kinetics", {"counts": {"train": 5}}, "5 clips of MicroUCF leave none for train"),
    ],
)
def test_what_does_not_go_is_refused_in_one_line(name, layout, options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        make(name, tmp_path / "root", layout, progress=False, **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_video_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mkv cannot be written: videos end in \.webm, \.mp4, \.avi"):
        write_video(tmp_path / "a.mkv", np.zeros((2, 32, 32, 3), np.uint8))


def test_clips_are_drawn_with_the_seed_and_the_difficulty_that_are_asked_for(tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr(files, "write_video", lambda path, frames: written.update({path.name: frames}))
    asked = {"size": 32, "frames": 5, "seed": 3, "difficulty": 0.2}
    make("MicroSomething", tmp_path / "set", "somethingv2", counts={"train": 2, "val": 1}, progress=False, **asked)
    config = MicroSomething.split("train", 2, **asked)
    for number in range(2):
        np.testing.assert_array_equal(written[f"{number + 1}.webm"], config.draw(number)[0])
    for other in ({"seed": 0}, {"difficulty": None}):
        assert not np.array_equal(written["1.webm"], MicroSomething.split("train", 2, **asked | other).draw(0)[0])

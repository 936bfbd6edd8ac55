import os
import sys
from importlib import import_module

import pytest
from PIL import Image
from video_files import draw_frames, write_video

from ctnet.data import DATASETS, VideoDataset, check, eval_transform, info, load_videos, sample_sparse
from ctnet.data.workers import results


@pytest.mark.parametrize("dataset", [dataset for dataset in DATASETS if dataset != "folders"])
def test_info_counts_videos_and_what_is_left_out(make_tree, tmp_path, dataset):
    root = make_tree(dataset, tmp_path)
    videos = load_videos(root, "train")
    gone = videos.paths[0]
    gone.rename(gone.with_name("elsewhere"))
    counts = info(root)
    assert counts["dataset"] == dataset
    assert counts["classes"] == len(videos.classes)
    folds = dataset in ("ucf101", "hmdb51")
    train = counts["splits"]["train 1" if folds else "train"]
    assert train == {"videos": len(videos) - 1, "classes": len(set(videos.labels)) - 1, "left_out": 1}
    assert len(counts["splits"]) == (6 if folds else 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_file_that_never_ends_has_its_time_without_processes_too(make_tree, tmp_path):
    root = make_tree("somethingv1", tmp_path)
    frame = next(load_videos(root, "train").paths[0].iterdir())
    frame.unlink()
    os.mkfifo(frame)
    bad = check(root, workers=0, progress=False, every_frame=True, seconds=3)
    assert bad[frame.parent] == f"{frame.parent}: takes more than 3 s"


def test_info_counts_videos_in_folders(make_tree, tmp_path):
    counts = info(make_tree("folders", tmp_path))
    assert (counts["dataset"], counts["classes"]) == ("folders", 2)
    assert [split["videos"] for split in counts["splits"].values()] == [3, 2]


@pytest.fixture
def damaged(make_tree, tmp_path):
    """UCF101 with an empty, a truncated and a short video among four."""
    root = make_tree("ucf101", tmp_path)
    empty, cut, short, good = sorted((root / "UCF-101").rglob("*.avi"))
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:8000])
    write_video(short, "mpeg4", frames=draw_frames(7))
    return root, {empty, cut, short}, good.relative_to(root).as_posix()


@pytest.mark.parametrize(("every_frame", "workers"), [(False, 0), (True, 0), (False, 2)])
def test_check_finds_bad_videos_and_training_can_skip_them(damaged, tmp_path, capfd, every_frame, workers):
    root, bad, good = damaged
    skip_list = tmp_path / "skip.txt"
    reasons = check(root, every_frame=every_frame, workers=workers, skip_list=skip_list)
    assert "4/4" in capfd.readouterr().err
    assert set(reasons) == bad
    assert all(path.name in reason for path, reason in reasons.items())
    assert sum("7 frames, fewer than 8" in reason for reason in reasons.values()) == 1
    assert len(skip_list.read_text().splitlines()) == 3
    kept = []
    for split in ("train", "val"):
        dataset = VideoDataset(load_videos(root, split), sample_sparse, eval_transform(), skip=skip_list)
        kept += dataset.names
    assert kept == [good]


@pytest.mark.parametrize(
    ("changes", "read"),
    [({}, 3), ({"every_frame": True}, 4), ({"min_frames": 7}, 4)],
    ids=lambda value: next(iter(value), "same") if isinstance(value, dict) else None,
)
def test_an_interrupted_check_goes_on_where_it_was(changes, read, damaged, tmp_path, monkeypatch, capfd):
    """Bad videos are read again, one of which was mended; so is all, when something else is asked."""
    root, bad, good = damaged
    skip_list = tmp_path / "lists" / "skip.txt"

    def interrupted(*args, **named):
        for count, found in enumerate(results(*args, **named), 1):
            yield found
            if count == 4:
                raise KeyboardInterrupt

    module = import_module("ctnet.data.check")
    monkeypatch.setattr(module, "results", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(root, workers=1, skip_list=skip_list, progress=False)
    assert not skip_list.exists()
    (notes,) = skip_list.parent.iterdir()
    notes.write_text(notes.read_text() + '\n"UCF-101/Fenc')  # what is left of a killed process's last line
    mended = min(bad)
    mended.write_bytes((root / good).read_bytes())
    seen = []
    monkeypatch.setattr(module, "results", lambda work, paths, *more: seen.extend(paths) or results(work, paths, *more))
    reasons = check(root, workers=1, skip_list=skip_list, **changes)
    assert len(seen) == read
    assert "4/4" in capfd.readouterr().err
    assert len(reasons) == len(skip_list.read_text().splitlines()) == 2 - ("min_frames" in changes)
    assert set(reasons) <= bad - {mended}
    assert [path.name for path in skip_list.parent.iterdir()] == [skip_list.name], "its notes are gone"


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_check_looks_at_the_videos_of_every_fold(make_tree, tmp_path, fold):
    root = make_tree("hmdb51", tmp_path)
    (video, *_) = load_videos(root, "train", fold=fold).paths
    video.write_bytes(b"")
    assert set(check(root, workers=0, progress=False)) == {video}


def test_check_of_a_whole_dataset_finds_nothing(make_tree, tmp_path, capfd):
    root = make_tree("somethingv1", tmp_path)
    assert check(root, workers=0, skip_list=tmp_path / "skip.txt", progress=False) == {}
    assert capfd.readouterr().err == ""
    assert (tmp_path / "skip.txt").read_text() == ""


def test_check_passes_over_missing_videos(make_tree, tmp_path):
    root = make_tree("somethingv2", tmp_path)
    load_videos(root, "train").paths[0].unlink()
    assert check(root, workers=0, progress=False) == {}


def test_check_of_nothing_is_no_success(make_tree, tmp_path):
    root = make_tree("somethingv2", tmp_path)
    for split in ("train", "val"):
        for path in load_videos(root, split).paths:
            path.unlink()
    with pytest.raises(ValueError, match="none of the annotated videos is there; see `ctnet data info`"):
        check(root, workers=0, progress=False, skip_list=tmp_path / "skip.txt")
    assert not (tmp_path / "skip.txt").exists()


def test_check_looks_at_every_frame_if_asked(make_tree, tmp_path):
    root = make_tree("somethingv1", tmp_path)
    picture = root / "20bn-something-something-v1" / "11" / "00005.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    assert check(root, workers=0, progress=False) == {}
    assert set(check(root, workers=0, progress=False, every_frame=True)) == {picture.parent}


def test_one_bad_entry_is_one_line_and_ends_no_check(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    tea = root / "train" / "tea"
    video = tea / "a.mp4"
    (tea / "link.mp4").symlink_to("nowhere.mp4")
    os.symlink(os.fsencode(video), os.fsencode(tea) + b"/caf\xe9.mp4")
    (tea / "two\nlines\tand a tab.mp4").write_bytes(video.read_bytes()[:2000])
    os.link(tea / "two\nlines\tand a tab.mp4", os.fsencode(tea) + b"/\xff.mp4")
    for name, odd in (("png", "png"), ("dangling", None)):
        folder = tea / name
        folder.mkdir()
        for i, frame in enumerate(draw_frames(9), 1):
            Image.fromarray(frame).save(folder / f"{i}.jpg")
        (folder / "9.jpg").unlink()
        if odd:
            Image.new("RGB", (64, 48)).save(folder / "9.jpg", odd)
        else:
            (folder / "9.jpg").symlink_to("nowhere")
    skip = tmp_path / "skip.txt"
    skip.write_text("what was there\n")
    bad = check(root, workers=0, progress=False, every_frame=True, skip_list=skip)
    names = {os.fsencode(path.relative_to(tea)) for path in bad}
    assert names == {b"two\nlines\tand a tab.mp4", b"\xff.mp4", b"png", b"dangling"}
    assert all("\n" not in reason and reason.encode() for reason in bad.values())
    clips = VideoDataset(load_videos(root, "train"), sample_sparse, eval_transform(), skip=skip)
    assert {os.fsencode(name) for name in clips.names} == {
        *(b"train/tea/a.mp4", b"train/tea/b.mp4", b"train/tea/caf\xe9.mp4", b"train/coffee/c.mp4"),
    }
    assert not [note for note in clips.notes if "match no video" in note]


@pytest.mark.parametrize("place", ["folder", "under/a/file"])
def test_the_list_s_place_is_tried_before_the_work(make_tree, tmp_path, place, capfd):
    root = make_tree("folders", tmp_path / "set")
    (tmp_path / "folder").mkdir()
    (tmp_path / "under").write_text("a file")
    with pytest.raises(OSError, match=place.split("/")[0]):
        check(root, workers=0, skip_list=tmp_path / place)
    assert "video" not in capfd.readouterr().err


def test_what_was_in_the_list_is_kept_when_a_check_is_cut_short(make_tree, tmp_path, monkeypatch):
    root = make_tree("folders", tmp_path / "set")
    skip = tmp_path / "skip.txt"
    skip.write_text("what was there\n")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["ctnet.data.check"], "results", interrupt)
    with pytest.raises(KeyboardInterrupt):
        check(root, workers=0, progress=False, skip_list=skip)
    assert skip.read_text() == "what was there\n"


@pytest.mark.parametrize("numbers", [{"min_frames": 0}, {"seconds": 0}, {"workers": -1}])
def test_numbers_out_of_range_are_refused(make_tree, tmp_path, numbers):
    with pytest.raises(ValueError, match="at least 1"):
        check(make_tree("folders", tmp_path), **numbers)


def test_a_video_that_takes_too_long_is_one_line(make_tree, tmp_path):
    root = make_tree("folders", tmp_path)
    bad = check(root, workers=1, progress=False, seconds=1e-4)
    assert bad
    assert all(reason == f"{path}: takes more than 0.0001 s" for path, reason in bad.items())

import pytest
from video_files import draw_frames, write_video

from ctnet.data import DATASETS, VideoDataset, check, eval_transform, info, load_videos, sample_sparse


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


def test_check_looks_at_every_frame_if_asked(make_tree, tmp_path):
    root = make_tree("somethingv1", tmp_path)
    picture = root / "20bn-something-something-v1" / "11" / "00005.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    assert check(root, workers=0, progress=False) == {}
    assert set(check(root, workers=0, progress=False, every_frame=True)) == {picture.parent}

"""From drawn files in official layouts to clips for a network: every reader, sampler and transform in one line."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import ctnet
from ctnet.data import (
    VideoDataset,
    check,
    eval_transform,
    info,
    load_videos,
    read_frames,
    sample_dense,
    sample_sparse,
    train_transform,
)
from ctnet.micro import MicroSomething, MicroUCF, make

LAYOUTS = {"somethingv1": MicroSomething, "somethingv2": MicroSomething, "kinetics": MicroSomething, "ucf101": MicroUCF}
COUNTS = {"train": 36, "val": 24, "test": 2}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made = {}
    for layout, kind in LAYOUTS.items():
        counts = {split: COUNTS[split] for split in kind.counts if kind.folds == 1 or split == "train"}
        root = tmp_path_factory.mktemp("drawn") / layout
        made[layout] = make(kind.__name__, root, layout, counts=counts, size=64, progress=False)
    return made


def psnr(a, b):
    return float(10 * np.log10(255**2 / np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_show_the_clips_and_labels_of_memory(layout, roots, tmp_path):
    kind = LAYOUTS[layout]
    videos = load_videos(roots[layout], "val")
    memory = kind(tmp_path, "val", count=COUNTS["train"] if kind.folds > 1 else COUNTS["val"], size=64, progress=False)
    assert len(videos) == len(memory)
    assert videos.classes == (
        [item.name.title().replace(" ", "") for item in kind.classes]
        if layout == "ucf101"
        else [item.name for item in kind.classes]
    )
    indices = sample_sparse(24, 8)[0].tolist()
    # files and memory may list the clips in another order: pair each file with the clip that it shows
    for path, label in list(zip(videos.paths, videos.labels, strict=True))[:8]:
        frames = read_frames(path, indices).permute(0, 2, 3, 1)
        same_class = np.flatnonzero(memory.labels == label)
        assert max(psnr(frames, memory.clips[clip][indices]) for clip in same_class) > 24


@pytest.mark.parametrize("layout", ["somethingv2", "kinetics"])
def test_training_batches_go_through_a_network(layout, roots):
    videos = load_videos(roots[layout], "train")
    sampler = partial(sample_dense, length=4, window=16) if layout == "kinetics" else partial(sample_sparse, length=4)
    data = VideoDataset(videos, sampler, train_transform(32, 40), train=True)
    clips, labels = next(iter(DataLoader(data, batch_size=4, num_workers=2, shuffle=True)))
    assert clips.shape == (4, 3, 4, 32, 32)
    model = ctnet.create_model("ctnet_r26_twin", num_classes=len(data.classes))
    torch.nn.functional.cross_entropy(model(clips), labels).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_testing_views_are_clips_times_crops(layout, roots):
    sampler = partial(sample_sparse, length=4, clips=2)
    data = VideoDataset(load_videos(roots[layout], "val"), sampler, eval_transform(48, crops=3))
    number = max(range(len(data)), key=data.labels.__getitem__)
    views, label = data[number]
    assert views.shape == (6, 3, 4, 48, 48)
    assert label == load_videos(roots[layout], "val").labels[number] > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_info_and_check_find_whole_datasets_sound(layout, roots):
    found = info(roots[layout])
    assert found["dataset"] == layout
    assert all(counts["left_out"] == 0 and counts["videos"] > 0 for counts in found["splits"].values())
    assert check(roots[layout], workers=0, progress=False) == {}
    assert len(check(roots[layout], min_frames=25, workers=0, progress=False)) > 0


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_folds_of_the_transfer_set_share_no_video(roots, fold):
    train, test = (load_videos(roots["ucf101"], split, fold=fold) for split in ("train", "val"))
    assert not set(train.paths) & set(test.paths)
    assert len(train) + len(test) == COUNTS["train"]

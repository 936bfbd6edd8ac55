import pickle
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from ctnet.data import (
    VideoDataset,
    VideoError,
    VideoList,
    eval_transform,
    load_videos,
    read_frames,
    sample_dense,
    sample_sparse,
    train_transform,
)
from ctnet.micro import MicroSomething

SPARSE = partial(sample_sparse, length=4)


@pytest.fixture(scope="module")
def roots(make_tree, tmp_path_factory):
    return {name: make_tree(name, tmp_path_factory.mktemp(name)) for name in ("kinetics", "somethingv1", "ucf101")}


def training(root, **arguments):
    return VideoDataset(load_videos(root, "train"), SPARSE, train_transform(32, 40, flip=True), train=True, **arguments)


@pytest.mark.parametrize("name", ["kinetics", "somethingv1", "ucf101"])
def test_training_items(roots, name):
    videos = load_videos(roots[name], "train")
    dataset = training(roots[name])
    assert len(dataset) == len(videos)
    assert dataset.classes == videos.classes
    for i in range(len(dataset)):
        clip, label = dataset[i]
        assert clip.shape == (3, 4, 32, 32)
        assert clip.dtype == torch.float32
        assert label == videos.labels[i]


def test_a_clip_holds_the_sampled_frames_in_order(roots):
    videos = load_videos(roots["ucf101"], "val")
    dataset = VideoDataset(videos, SPARSE, eval_transform(48))
    clip, label = dataset[1]
    frames = read_frames(videos.paths[1], sample_sparse(40, 4)[0].tolist())
    expected, _ = eval_transform(48)(frames, label)
    assert torch.equal(clip, expected.transpose(0, 1))


@pytest.mark.parametrize(("clips", "crops", "views"), [(1, 1, None), (2, 1, 2), (1, 3, 3), (4, 3, 12)])
def test_views(roots, clips, crops, views):
    sampler = partial(sample_dense, length=4, clips=clips, window=16)
    dataset = VideoDataset(load_videos(roots["kinetics"], "val"), sampler, eval_transform(32, 40, crops=crops))
    clip, _ = dataset[0]
    assert clip.shape == (3, 4, 32, 32) if views is None else (views, 3, 4, 32, 32)
    if (clips, crops) == (4, 3):  # view = crop * clips + clip
        one, _ = VideoDataset(load_videos(roots["kinetics"], "val"), sampler, eval_transform(32, 40))[0]
        assert torch.equal(clip[4:8], one)


def items(dataset):
    return [clip for clip, _ in (dataset[i] for i in range(len(dataset)))]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_items_depend_on_seed_epoch_and_index_only(roots):
    dataset = training(roots["ucf101"])
    first = items(dataset)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert equal(first, items(dataset))
    assert torch.equal(state, torch.get_rng_state())
    assert not equal(first, items(training(roots["ucf101"], seed=1)))
    dataset.set_epoch(1)
    assert not equal(first, items(dataset))
    dataset.set_epoch(0)
    assert equal(first, items(dataset))


def test_items_are_counted_from_the_end_too(roots):
    dataset = training(roots["ucf101"])
    assert equal([dataset[-1][0]], [dataset[len(dataset) - 1][0]])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_items_and_follow_the_epoch(roots, context):
    dataset = training(roots["ucf101"])
    loader = DataLoader(dataset, 1, num_workers=1, multiprocessing_context=context, persistent_workers=True)
    epochs = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        epochs.append([clip[0] for clip, _ in loader])
        assert equal(epochs[-1], items(dataset))
    assert not equal(*epochs)


def test_datasets_can_be_pickled(roots):
    dataset = training(roots["ucf101"])
    assert equal(items(pickle.loads(pickle.dumps(dataset))), items(dataset))


def test_short_side_is_resized_while_decoding(roots):
    dataset = VideoDataset(
        load_videos(roots["ucf101"], "train"), SPARSE, lambda clip, label: (clip, label), short_side=24
    )
    assert dataset[0][0].shape == (3, 4, 24, 32)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_of_no_class_is_refused_with_its_video(tmp_path, label):
    videos = VideoList("own", tmp_path, ["a", "b"], [tmp_path / "x.mp4", tmp_path / "y.mp4"], [0, label], [])
    with pytest.raises(ValueError, match=f"y.mp4 has the label {label}, and there are 2 classes"):
        VideoDataset(videos, sample_sparse, train_transform())


def test_what_is_left_out_shifts_neither_clips_nor_labels(tmp_path):
    videos = MicroSomething(tmp_path, "val", count=5)
    (tmp_path / "skip.txt").write_text(f"{videos.names[0]}\tdull\n{videos.names[2]}\tdull\n")
    whole = VideoDataset(videos, SPARSE, eval_transform(32))
    rest = VideoDataset(videos, SPARSE, eval_transform(32), skip=tmp_path / "skip.txt")
    assert rest.left_out == 2
    assert len(rest) == 3
    for place, kept in enumerate((1, 3, 4)):
        clip, label = rest[place]
        assert label == whole[kept][1] == rest.labels[place]
        assert torch.equal(clip, whole[kept][0])


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_videos_raise_instead_of_being_replaced(make_tree, tmp_path, workers):
    root = make_tree("ucf101", tmp_path)
    videos = load_videos(root, "train")
    videos.paths[1].write_bytes(b"")
    dataset = VideoDataset(videos, SPARSE, eval_transform(32))
    with pytest.raises(VideoError, match=videos.paths[1].name):
        list(DataLoader(dataset, num_workers=workers))
    skip = tmp_path / "skip.txt"
    skip.write_text(f"{videos.paths[1].relative_to(root).as_posix()}\tempty\n")
    dataset = VideoDataset(videos, SPARSE, eval_transform(32), skip=skip)
    assert dataset.names == videos.names[:1]
    assert dataset.labels == videos.labels[:1]
    assert len(list(DataLoader(dataset, num_workers=workers))) == 1
    with pytest.raises(FileNotFoundError):
        VideoDataset(videos, SPARSE, eval_transform(32), skip=tmp_path / "nowhere.txt")

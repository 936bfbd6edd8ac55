import multiprocessing
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch

import ctnet
from ctnet.data import (
    VideoDataset,
    VideoError,
    eval_transform,
    left_right_swap,
    load_videos,
    sample_dense,
    sample_sparse,
    train_transform,
)
from ctnet.engine import Batches, Place, View, eval_data, get_recipe, train_data
from ctnet.engine.loading import Loader, load_split, sampler
from ctnet.micro import make

CPU = torch.device("cpu")


def batches(rank=0, world=1, most=None, length=23, epoch=0, first=0):
    sampler = Batches(length, 8, seed=3, place=Place(CPU, rank, world), most=most)
    sampler.start(epoch, first)
    return list(sampler)


def test_an_epoch_shuffles_all_clips_and_drops_what_fills_no_batch():
    first, second = batches(epoch=0), batches(epoch=1)
    assert [len(batch) for batch in first] == [8, 8]
    assert len({i for batch in first for i in batch}) == 16
    assert first != second
    assert first == batches(epoch=0)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("most", [None, 1, 3])
def test_processes_and_pieces_share_out_the_same_batches(world, most):
    whole = batches()
    shares = [batches(rank, world, most) for rank in range(world)]
    pieces = len(shares[0]) // 2
    for step, batch in enumerate(whole):
        mine = [i for share in shares for piece in share[step * pieces : (step + 1) * pieces] for i in piece]
        assert sorted(mine) == sorted(batch)
    assert max(len(piece) for share in shares for piece in share) <= (most or 8)


def test_the_largest_seed_shuffles_too():
    (batch,) = Batches(3, 3, 2**63 - 1, Place(CPU))
    assert sorted(batch) == [0, 1, 2]


def test_an_epoch_can_be_entered_at_any_step():
    assert batches(first=1, most=4) == batches(most=4)[2:]
    sampler = Batches(23, 8, 3, Place(CPU), 4)
    sampler.start(0, 1)
    assert len(sampler) == len(list(sampler)) == 2


@pytest.mark.parametrize(("length", "world", "message"), [(7, 1, "lower batch_size=8"), (23, 3, "evenly to 3")])
def test_batches_that_cannot_be_made_are_refused(length, world, message):
    with pytest.raises(ValueError, match=message):
        batches(world=world, length=length)


@pytest.mark.parametrize(("text", "view"), [("1x1", View(1, 1)), ("3x2", View(3, 2)), ("3x10@224", View(3, 10, 224))])
def test_views_are_written_as_in_the_paper(text, view):
    assert View.parse(text) == view
    assert str(view) == text


@pytest.mark.parametrize("text", ["", "3", "2x1", "3x0", "3xa", "1x1@", "1x1@0"])
def test_what_is_no_view_is_refused(text):
    with pytest.raises(ValueError, match="is no view: write crops x clips"):
        View.parse(text)


@pytest.mark.parametrize(
    ("view", "shape"), [("1x1", (3, 2, 16, 16)), ("3x2", (6, 3, 2, 16, 16)), ("1x1@24", (3, 2, 24, 24))]
)
def test_views_of_drawn_clips(tiny, view, shape):
    model = ctnet.create_model(tiny.model, num_classes=24)
    item, label = eval_data(tiny, model, View.parse(view))[0]
    assert item.shape == shape
    assert label == 0


def test_clips_to_test_on_have_a_size_of_their_own_unless_the_view_has_one(tiny):
    model = ctnet.create_model(tiny.model, num_classes=24)
    recipe = tiny.override({"test_size": 24})
    assert eval_data(recipe, model)[0][0].shape == (3, 2, 24, 24)
    assert eval_data(recipe, model, View(size=20))[0][0].shape == (3, 2, 20, 20)
    assert train_data(recipe, model)[0][0].shape == (3, 2, 16, 16)


def test_a_smaller_view_is_the_middle_of_frames_of_the_usual_size(tiny):
    model = ctnet.create_model(tiny.model, num_classes=24)
    middle, whole = (eval_data(tiny, model, View.parse(view))[3][0] for view in ("1x1", "1x1@32"))
    assert torch.equal(middle, whole[..., 8:24, 8:24])
    left, same, right = eval_data(tiny, model, View.parse("3x1"))[3][0]
    assert torch.equal(same, middle)
    assert torch.equal(left, whole[..., 8:24, :16])
    assert torch.equal(right, whole[..., 8:24, 16:])


def test_a_square_clip_is_enlarged_to_have_room_for_three_crops(tiny):
    recipe = tiny.override({"size": 32})
    model = ctnet.create_model(tiny.model, num_classes=24)
    crops = eval_data(recipe, model, View.parse("3x1"))[3][0]
    videos = load_split(recipe, "val")
    by_hand = eval_transform(32, 36, 3)
    expected, _ = VideoDataset(videos, partial(sample_sparse, length=2), by_hand, short_side=36)[3]
    assert expected.shape == (3, 3, 2, 32, 32)
    assert torch.equal(crops, expected)
    assert not torch.equal(crops[0], crops[2])


def test_clips_are_drawn_as_the_recipe_says_and_normalised_for_the_network(tiny):
    changes = {"flip": True, "scales": [1, 0.5], "short_side": [32, 40], "seed": 3}
    recipe = tiny.override(changes)
    model = ctnet.create_model(tiny.model, num_classes=24)
    model.input_mean, model.input_std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    videos = load_split(recipe, "train")
    normalisation = model.input_mean, model.input_std
    transform = train_transform(16, [32, 40], [1, 0.5], True, left_right_swap(videos.class_names), *normalisation)
    sample = partial(sample_sparse, length=2)
    by_hand = VideoDataset(videos, sample, transform, train=True, short_side=40, seed=3)
    flipped = 0
    for (clip, label), (expected, same), own in zip(train_data(recipe, model), by_hand, videos.labels, strict=True):
        assert label == same
        assert torch.equal(clip, expected)
        flipped += int(label != own)
    assert flipped > 0  # a motion to the left became one to the right
    tested = VideoDataset(load_split(recipe, "val"), sample, eval_transform(16, 32, 1, *normalisation), short_side=32)
    assert torch.equal(eval_data(recipe, model)[3][0], tested[3][0])


def test_recipes_sample_frames_as_the_paper_does():
    assert sampler(get_recipe("somethingv2"))(300).tolist() == sample_sparse(300, 8).tolist()
    dense = get_recipe("kinetics").override({"window": 80})
    assert sampler(dense, 2)(300).tolist() == sample_dense(300, 16, 2, 80).tolist()


def test_the_split_of_a_fold_is_read(tiny):
    recipe = tiny.override({"dataset": "MicroUCF", "train_clips": 36, "val_clips": 36, "difficulty": None})
    first, second = (load_split(recipe.override({"fold": fold}), "val") for fold in (1, 2))
    assert set(first.names).isdisjoint(second.names)


def test_clips_do_not_depend_on_the_number_of_workers(tiny):
    model = ctnet.create_model(tiny.model, num_classes=24)
    dataset = train_data(tiny, model)
    dataset.set_epoch(1)
    sampler = Batches(len(dataset), 8, 0, Place(CPU))
    alone = [clips for clips, _ in Loader(dataset, sampler, 0, Place(CPU))]
    shared = [clips for clips, _ in Loader(dataset, sampler, 2, Place(CPU))]
    assert len(alone) == len(shared) == 4
    assert all(map(torch.equal, alone, shared))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("view", [None, "1x1", "3x2"])
def test_clips_travel_as_pixels_and_come_out_as_the_items_are(view, workers, tiny):
    model = ctnet.create_model(tiny.model, num_classes=24)
    dataset = eval_data(tiny, model, View.parse(view)) if view else train_data(tiny, model)
    assert dataset.pixels(3)[0].dtype == torch.uint8
    loader = Loader(dataset, [[0, 3], [2]], workers, Place(CPU))
    (first, labels), (last, _) = loader
    loader.close()
    assert torch.equal(first, torch.stack([dataset[0][0], dataset[3][0]]))
    assert torch.equal(last[0], dataset[2][0])
    assert first.is_contiguous()
    assert first.dtype == torch.float32
    assert labels.tolist() == [dataset.labels[0], dataset.labels[3]]


def test_other_classes_than_the_networks_are_refused(tiny):
    model = ctnet.create_model(tiny.model, num_classes=2)
    model.classes = ["a", "b"]
    with pytest.raises(ValueError, match="trained for other classes"):
        eval_data(tiny, model)


def test_missing_and_skipped_videos_are_left_out_and_counted(tiny, tmp_path):
    root = make("MicroSomething", tmp_path / "v2", "somethingv2", counts={"train": 24, "val": 24, "test": 1}, size=32)
    (tmp_path / "bad.txt").write_text(f"{load_videos(root, 'val').names[3]}\tcut off\n")
    load_videos(root, "val").paths[0].unlink()
    model = ctnet.create_model(tiny.model, num_classes=24)
    recipe = ctnet.engine.get_recipe("somethingv2").override({"root": str(root), "skip": str(tmp_path / "bad.txt")})
    with pytest.raises(FileNotFoundError, match="missing='skip'"):
        eval_data(recipe, model)
    dataset = eval_data(recipe.override({"missing": "skip"}), model)
    assert (len(dataset), dataset.left_out) == (22, 2)


@pytest.mark.parametrize("view", ["1x1", "3x1"])
def test_videos_are_tested_at_full_resolution_in_every_view(view, tmp_path):
    """Section 4: a shorter side of 256 and crops of 256, which frames that are no squares leave room for."""
    folder = tmp_path / "v2"
    root = make("MicroSomething", folder, "somethingv2", counts={"train": 1, "val": 24, "test": 1}, size=32)
    changes = {"root": str(root), "size": 32, "short_side": 32, "frames": 2}
    recipe = get_recipe("somethingv2").override(changes)
    model, crops = ctnet.create_model("tsn_r26_twin", num_classes=24), View.parse(view).crops
    by_hand = VideoDataset(load_videos(root, "val"), partial(sample_sparse, length=2), eval_transform(32, 32, crops))
    assert torch.equal(eval_data(recipe, model, View.parse(view))[3][0], by_hand[3][0])


def test_fields_of_drawn_datasets_are_told_to_have_no_effect_on_videos(tiny, tmp_path):
    root = make("MicroSomething", tmp_path / "v2", "somethingv2", counts={"train": 24, "val": 24, "test": 1}, size=32)
    model = ctnet.create_model(tiny.model, num_classes=24)
    assert not train_data(tiny, model).notes
    recipe = tiny.override({"dataset": "somethingv2", "root": str(root), "train_clips": 12, "difficulty": 0.0})
    clips = train_data(recipe, model)
    assert len(clips) == 24
    assert [note.partition(" ")[0] for note in clips.notes] == ["train_clips=12", "difficulty=0.0"]
    assert [note.partition("=")[0] for note in eval_data(recipe, model).notes] == ["val_clips"]
    of_its_own = recipe.override({"train_clips": None, "val_clips": None, "difficulty": None})
    assert not train_data(of_its_own, model).notes + eval_data(of_its_own, model).notes


def test_a_dataset_without_a_place_is_asked_for():
    with pytest.raises(ValueError, match="root=DIRECTORY"):
        ctnet.engine.train(ctnet.engine.get_recipe("somethingv2"), "/nowhere", progress=False)


class Broken(torch.utils.data.Dataset):
    """Videos of which the third leads to an error."""

    names = ("one.mp4", "two.mp4", "three.mp4")

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 3

    def pixels(self, index):
        if index == 2:
            raise self.error
        return torch.zeros(1), index

    def normalised(self, clips):
        return clips


class Unlike(Exception):
    """An error that is not made of what it says, and so cannot be sent to another process."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")


class Locked(Exception):
    """An error that holds what no process can send."""

    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class UnlikeVideo(VideoError):
    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (Unlike("a.h5", "no group"), RuntimeError, "three.mp4: Unlike: a.h5: no group"),
        (Locked("no key"), RuntimeError, "three.mp4: Locked: no key"),
        (UnlikeVideo("three.mp4", "empty"), VideoError, "three.mp4: empty"),
    ],
)
def test_an_error_that_cannot_be_sent_is_told_in_words(error, kind, message, workers):
    with pytest.raises(kind) as raised:
        list(Loader(Broken(error), [[0], [1, 2]], workers, Place(CPU)))
    assert str(raised.value) == message
    assert "in pixels" in str(raised.value.__cause__)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (VideoError("/set/three.mp4: truncated"), VideoError, "/set/three.mp4: truncated"),
        (RuntimeError("no such\nshape"), ValueError, "three.mp4: no such shape"),
        (OSError(5, "Input/output error"), ValueError, "three.mp4: [Errno 5] Input/output error"),
        (FileNotFoundError("/set/three.mp4: no such video"), FileNotFoundError, "/set/three.mp4: no such video"),
        (KeyError("a"), KeyError, "'a'"),
    ],
)
def test_an_error_in_any_process_is_one_line_with_the_name_of_the_file(error, kind, message, workers):
    batches = Loader(Broken(error), [[0], [1, 2]], workers, Place(CPU))
    others = set(multiprocessing.active_children())
    for _ in range(2):  # the second pass is as the first
        with pytest.raises(kind) as raised:
            list(batches)
        assert str(raised.value) == message
        assert set(multiprocessing.active_children()) <= others
    assert "in pixels" in str(raised.value.__cause__)  # where it happened, for those who debug


SERVED = """
import multiprocessing
from functools import partial
import torch
from ctnet.data import VideoDataset, eval_transform, sample_sparse
from ctnet.engine import Place
from ctnet.engine.loading import Loader
from ctnet.micro import MicroSomething

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    sampler, transform = partial(sample_sparse, length=2), eval_transform(size=32, short_side=32)
    dataset = VideoDataset(MicroSomething(None, "val", count=3), sampler, transform)
    print(sum(len(clips) for clips, _ in Loader(dataset, [[0, 1], [2]], 1, Place(torch.device("cpu")))))
"""


def test_processes_that_a_server_starts_load_data_too(tmp_path):
    """As they are started by default from Python 3.14 on."""
    script = tmp_path / "served.py"
    script.write_text(SERVED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr

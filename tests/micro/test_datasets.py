import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from versions import scene_digest

from ctnet.micro import Difficulty, MicroHMDB, MicroKinetics, MicroPictures, MicroSomething, MicroSomething64, MicroUCF
from ctnet.micro.datasets import GROUPS, MICRO_DATASETS, MicroSplit
from ctnet.micro.drawing import MOTIONS

SETS = [MicroSomething, MicroKinetics, MicroPictures, MicroUCF, MicroHMDB]


def draw(kind, root, split="train", count=48, **options):
    return kind(root, split, count=count, frames=4, progress=False, **options)


@pytest.mark.parametrize("kind", SETS)
def test_arrays_and_items_hold_the_same_clips(kind, tmp_path):
    data = draw(kind, tmp_path, masks=True)
    assert data.clips.shape == (len(data), 4, 32, 32, 3)
    assert data.masks.shape == data.clips.shape[:-1]
    assert isinstance(data.clips, np.memmap)
    assert not data.clips.flags.writeable
    frames, label, mask = data[5]
    assert frames.dtype == torch.uint8
    assert frames.shape == (4, 3, 32, 32)
    assert mask.dtype == torch.bool
    assert label == data.labels[5]
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), data.clips[5])
    np.testing.assert_array_equal(mask, data.masks[5])
    data.with_masks = False
    assert len(data[5]) == 2


@pytest.mark.parametrize("kind", SETS)
def test_a_clip_depends_on_its_number_alone(kind, tmp_path):
    data = draw(kind, tmp_path)
    few = draw(kind, tmp_path, count=24)
    numbers = data.config.members
    for place in (0, len(few) - 1, len(data) - 1):
        frames, mask = data.config.draw(numbers[place])
        np.testing.assert_array_equal(frames, data.clips[place])
        np.testing.assert_array_equal(mask, data.masks[place])
    np.testing.assert_array_equal(few.clips, data.clips[: len(few)])


@pytest.mark.parametrize("kind", SETS)
def test_classes(kind):
    names = [item.name for item in kind.classes]
    assert names == sorted(set(names))
    labels = [kind.split("train").label(number) for number in kind.split("train").members]
    assert len(set(np.bincount(labels, minlength=len(names)))) <= 2  # as good as balanced
    assert set(labels) == set(range(len(names)))


def test_labels_are_the_classes_of_what_is_drawn():
    for kind in SETS:
        config = kind.split("train")
        for number in range(2 * len(kind.classes)):
            item, scene = kind.classes[config.label(number)], config.scene(number)
            assert scene.backwards in {MOTIONS[motion].backwards for motion in item.motions}
            if item.appearance:
                assert [sprite.appearance for sprite in scene.sprites if sprite.acting] == [item.appearance]


def test_sets_are_about_what_they_should_be():
    assert {item.motions[0] for item in MicroSomething.classes} == set(MOTIONS)
    assert not any(item.appearance for item in MicroSomething.classes)
    assert MicroPictures.frames == 1
    assert len({item.appearance for item in MicroPictures.classes}) == len(MicroPictures.classes) == 20
    assert len({item.appearance for item in MicroKinetics.classes}) >= 0.75 * len(MicroKinetics.classes)
    known = {(item.appearance, motion) for kind in SETS[:3] for item in kind.classes for motion in item.motions}
    for kind in (MicroUCF, MicroHMDB):
        assert not known & {(item.appearance, motion) for item in kind.classes for motion in item.motions}
        assert kind.folds == 3


# -- Splits ------------------------------------------------------------------------------------------------------------


def test_splits_and_seeds_differ(tmp_path):
    kinds = [
        draw(MicroSomething, tmp_path, split, 24, seed=seed) for split in ("train", "val", "test") for seed in (0, 1)
    ]
    assert len({data.config.fingerprint for data in kinds}) == 6
    assert len({data.clips[0].tobytes() for data in kinds}) == 6


@pytest.mark.parametrize("kind", [MicroUCF, MicroHMDB])
def test_folds_divide_the_clips_by_groups(kind):
    tested = []
    for fold in (1, 2, 3):
        train, val = kind.split("train", fold=fold), kind.split("val", fold=fold)
        assert sorted(train.members + val.members) == list(range(train.count))
        assert not {(train.label(n), train.group(n)[0]) for n in train.members} & {
            (val.label(n), val.group(n)[0]) for n in val.members
        }
        assert {train.label(n) for n in val.members} == set(range(len(kind.classes)))
        tested += val.members
    assert sorted(tested) == list(range(train.count))
    assert {train.group(n)[0] for n in train.members} | {train.group(n)[0] for n in val.members} == set(range(GROUPS))
    a, b = kind.split("train", fold=1), kind.split("val", fold=2)
    number = next(n for n in a.members if n in b.members)
    assert scene_digest(a.scene(number)) == scene_digest(b.scene(number))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (MicroSomething, {"split": "trial"}, "splits train, val, test"),
        (MicroUCF, {"split": "test"}, "splits train, val"),
        (MicroUCF, {"fold": 4}, "folds 1 to 3"),
        (MicroSomething, {"fold": 2}, "folds 1 to 1"),
        (MicroSomething, {"size": 4}, "16 pixels"),
        (MicroSomething, {"count": 0}, "at least 1"),
        (MicroSomething, {"frames": 0}, "at least 1 frame"),
        (MicroUCF, {"count": 5}, "5 clips of MicroUCF leave none for train of fold 1: ask for more than 2"),
        (MicroUCF, {"count": 5, "split": "val", "fold": 2}, "none for val of fold 2"),
        (MicroSomething, {"difficulty": 2.0}, "between 0 and 1"),
    ],
)
def test_what_does_not_exist_is_refused(kind, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kind(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_difficulty_may_be_a_level():
    assert MicroSomething.split("train", difficulty=0).difficulty == Difficulty.level(0)
    assert MicroSomething.split("train").difficulty == Difficulty()


# -- The cache ---------------------------------------------------------------------------------------------------------


def test_clips_are_drawn_once(tmp_path, monkeypatch):
    first = draw(MicroSomething, tmp_path)
    monkeypatch.setattr(MicroSplit, "draw", None)
    again = draw(MicroSomething, tmp_path)
    assert again.path == first.path
    np.testing.assert_array_equal(again.clips, first.clips)
    with pytest.raises(TypeError):
        draw(MicroSomething, tmp_path, size=48)


def test_every_part_of_the_definition_changes_the_fingerprint():
    base = {"count": 10, "frames": 4, "size": 32, "seed": 0, "difficulty": None}
    others = [{"count": 11}, {"frames": 5}, {"size": 48}, {"seed": 1}, {"difficulty": Difficulty(pan=0.1)}]
    splits = [MicroSomething.split("train", **(base | other)) for other in ({}, *others)]
    splits += [MicroUCF.split("train", **(base | {"count": 30}), fold=fold) for fold in (1, 2)]
    assert len({split.fingerprint for split in splits}) == len(splits)
    assert splits[0].fingerprint == MicroSomething.split("train", **base).fingerprint


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_drawing_leaves_nothing(interruption, tmp_path, monkeypatch):
    real, calls = MicroSplit.draw, []

    def interrupted(self, number):
        calls.append(number)
        if len(calls) == 20:
            raise interruption
        return real(self, number)

    monkeypatch.setattr(MicroSplit, "draw", interrupted)
    with pytest.raises(interruption):
        draw(MicroSomething, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(draw(MicroSomething, tmp_path)) == 48


def test_a_half_drawn_set_is_never_at_the_final_place(tmp_path, monkeypatch):
    real = MicroSplit.draw
    seen = []

    def watching(self, number):
        seen.extend(path for path in tmp_path.iterdir() if not path.name.startswith("."))
        return real(self, number)

    monkeypatch.setattr(MicroSplit, "draw", watching)
    draw(MicroSomething, tmp_path)
    assert not seen


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system which files are mapped")
def test_a_set_that_is_drawn_lets_its_files_go_before_it_moves(tmp_path, monkeypatch):
    """Windows moves no file that is mapped."""
    mapped, replace = [], os.replace

    def looking(source, target):
        with open("/proc/self/maps") as maps:
            mapped.append(str(source) in maps.read())
        replace(source, target)

    monkeypatch.setattr(os, "replace", looking)
    MicroSomething(tmp_path, "val", count=3, progress=False)
    assert mapped
    assert not any(mapped)


def test_several_makers_at_once_agree(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: draw(MicroSomething, tmp_path), range(4)))
    assert len(list(tmp_path.iterdir())) == 1
    for data in sets:
        np.testing.assert_array_equal(data.clips, sets[0].clips)
        np.testing.assert_array_equal(data.labels, sets[0].labels)


def test_a_loader_with_workers_maps_the_same_files(tmp_path):
    data = draw(MicroSomething, tmp_path)
    assert len(pickle.dumps(data)) < 2000 < data.clips.nbytes
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy.clips, data.clips)
    frames, labels = next(iter(DataLoader(data, batch_size=8, num_workers=1)))
    np.testing.assert_array_equal(frames.permute(0, 1, 3, 4, 2), data.clips[:8])
    assert labels.tolist() == data.labels[:8].tolist()


def test_datasets_are_found_by_name():
    assert set(MICRO_DATASETS.values()) == {*SETS, MicroSomething64}
    assert list(MICRO_DATASETS) == [kind.__name__ for kind in MICRO_DATASETS.values()]
    assert MicroKinetics.split("train").name == "MicroKinetics"


def test_larger_clips_are_the_same_scenes_on_more_pixels(tmp_path):
    small, large = (draw(kind, tmp_path, "val") for kind in (MicroSomething, MicroSomething64))
    assert large.clips.shape == (48, 4, 64, 64, 3)
    assert [scene_digest(large.config.scene(n)) for n in range(5)] == [
        scene_digest(small.config.scene(n)) for n in range(5)
    ]
    assert large.class_names == small.class_names
    assert (large.labels == small.labels).all()
    assert draw(MicroSomething64, tmp_path, "val", 3, size=40).clips.shape[-2] == 40


def test_drawn_clips_are_kept_in_the_user_s_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = MicroSomething(split="test", count=2, frames=1, size=16, progress=False)
    assert drawn.path.parent == tmp_path / "ctnet" / "micro"
    assert len(drawn) == 2

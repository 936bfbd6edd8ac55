import pytest
import torch
from torchvision.transforms import v2

from ctnet.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MultiScaleCrop,
    RandomFlip,
    ThreeCrop,
    eval_transform,
    left_right_swap,
    train_transform,
    unmatched_left_right,
)
from ctnet.data.transforms import split_normalisation
from ctnet.micro import MicroSomething


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clip_of(height, width, frames=3):
    return torch.randint(0, 256, (1, frames, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(100, 140), (140, 100), (64, 64), (20, 300)])
@pytest.mark.parametrize("size", [56, 64])
@pytest.mark.parametrize(
    "transform",
    [
        lambda size: train_transform(size, short_side=64),
        lambda size: train_transform(size, short_side=range(64, 80), scales=None, flip=True),
        lambda size: eval_transform(size),
        lambda size: eval_transform(size, short_side=80),
    ],
)
def test_square_float_clips_come_out_with_their_label(shape, size, transform):
    clip, label = transform(size)(clip_of(*shape), 7)
    assert clip.shape == (1, 3, 3, size, size)
    assert clip.dtype == torch.float32
    assert label == 7


def test_normalisation():
    clip, _ = eval_transform(8)(torch.full((1, 1, 3, 8, 8), 255, dtype=torch.uint8), 0)
    expected = [(1 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    torch.testing.assert_close(clip[0, 0, :, 3, 3], torch.tensor(expected))
    clip, _ = train_transform(8, 8, mean=(0, 0, 0), std=(0.5, 0.5, 0.5))(torch.full((1, 1, 3, 8, 8), 255).byte(), 0)
    torch.testing.assert_close(clip, torch.full_like(clip, 2))


def test_frames_of_a_clip_are_treated_alike():
    frame = clip_of(90, 120, 1)
    clip, _ = train_transform(64, 80, flip=True)(frame.repeat(1, 4, 1, 1, 1), 0)
    assert all(torch.equal(clip[0, 0], clip[0, i]) for i in range(4))


def test_multi_scale_crop_draws_the_sizes_and_places_of_tsn():
    crop = MultiScaleCrop(10)
    assert len(crop.places) == 13
    draws = [crop.make_params([clip_of(100, 140)]) for _ in range(600)]
    sizes = {(d["height"], d["width"]) for d in draws}
    assert sizes == {
        (100, 100),
        (100, 87),
        (87, 100),
        (87, 87),
        (87, 75),
        (75, 87),
        (75, 75),
        (75, 66),
        (66, 75),
        (66, 66),
    }
    whole = {(d["top"], d["left"]) for d in draws if (d["height"], d["width"]) == (100, 100)}
    assert whole == {(0, 0), (0, 10), (0, 20), (0, 30), (0, 40)}
    assert all(d["top"] + d["height"] <= 100 and d["left"] + d["width"] <= 140 for d in draws)


@pytest.mark.parametrize("wide", [True, False])
def test_three_crops_stand_at_both_ends_and_the_middle(wide):
    shape = (1, 1, 1, 10, 30) if wide else (1, 1, 1, 30, 10)
    ramp = torch.arange(30, dtype=torch.uint8)
    clip = ramp.view(1, -1).expand(shape) if wide else ramp.view(-1, 1).expand(shape)
    crops, label = ThreeCrop(10)(clip, 5)
    assert crops.shape == (3, 1, 1, 1, 10, 10)
    assert [int(crop.min()) for crop in crops] == [0, 10, 20]
    assert label == 5
    views, _ = eval_transform(64, 72, crops=3)(clip_of(72, 100), 0)
    assert views.shape == (3, 1, 3, 3, 64, 64)


def test_other_numbers_of_crops_are_an_error():
    with pytest.raises(ValueError, match="crops"):
        eval_transform(crops=5)


CLASSES = [
    "Pulling something from left to right",
    "Pulling something from right to left",
    "Throwing something",
    "Turning the camera left while filming something",
    "Turning the camera right while filming something",
    "Something with a bright, leftover right",
]


def test_left_right_swap_pairs_classes():
    assert left_right_swap(CLASSES) == {0: 1, 1: 0, 3: 4, 4: 3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Swiping Left", "Swiping Right"),
        ("turn_left", "turn_right"),
        ("turn-left", "turn-right"),
        ("TurnLeft", "TurnRight"),
        ("turnLeftSlowly", "turnRightSlowly"),
        ("LeftTurn", "RightTurn"),
        ("TURN LEFT", "TURN RIGHT"),
        ("TVLeftTurn", "TVRightTurn"),
        ("left", "right"),
        ("Left2", "Right2"),
        ("turn_left", "TurnRight"),
        ("Pushing [something] (left)", "Pushing [something] (right)"),
        ("left_to_right", "right_to_left"),
        ("Moving FromLeftToRight", "Moving FromRightToLeft"),
        ("moving leftwards", "moving rightwards"),
        ("left-handed throw", "right-handed throw"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("turn_clockwise", "turn_anti-clockwise"),
        ("Turning_Left", "turning right"),
        ("rotate_cw", "rotate CCW"),
        ("rotate clock-wise", "rotate contra-clock-wise"),
        ("swipe ←", "swipe →"),
        ("Ｌｅｆｔ turn", "right turn"),
        ("swipeleft", "swiperight"),
        ("leftside kick", "rightside kick"),
        ("two lefts", "two rights"),
    ],
)
def test_names_are_matched_by_their_words(one, other):
    classes = ["still", other, "bright copyright", one, "cleft", "upright", "lefty", "counter"]
    assert left_right_swap(classes) == {1: 3, 3: 1}
    assert unmatched_left_right(classes) == []


@pytest.mark.parametrize(
    ("classes", "unmatched"),
    [
        (["turn_left", "turn_rihgt"], ["turn_left"]),
        (["Swiping Left", "swipe right"], ["Swiping Left", "swipe right"]),
        (["turn left", "turn_left", "turn right"], ["turn left", "turn_left", "turn right"]),  # which one is meant?
        (["turn clockwise"], ["turn clockwise"]),
        (["bright", "copyright", "cleft", "Upright"], []),
        ([], []),
    ],
)
def test_names_without_a_partner_are_told(classes, unmatched):
    assert left_right_swap(classes) == {}
    assert unmatched_left_right(classes) == unmatched


def test_drawn_classes_are_swapped_with_what_their_mirror_image_shows():
    names = [kind.name for kind in MicroSomething.classes]
    pairs = {names[i]: names[j] for i, j in left_right_swap(names).items()}
    assert len(pairs) == 4
    assert pairs["Moving something from left to right"] == "Moving something from right to left"
    assert "counter-clockwise" in pairs["Turning something and something clockwise around each other"]
    assert unmatched_left_right(names) == []


def test_a_flip_mirrors_the_clip_and_swaps_its_label():
    flip = RandomFlip(left_right_swap(CLASSES))
    clip = clip_of(4, 6)
    results = [flip(clip, label) for label in (0, 2) for _ in range(40)]
    for (result, after), before in zip(results, [0] * 40 + [2] * 40, strict=True):
        flipped = torch.equal(result, clip.flip(-1))
        assert flipped or torch.equal(result, clip)
        assert after == ({0: 1, 2: 2}[before] if flipped else before)
    assert {after for _, after in results} == {0, 1, 2}


def test_no_flip_unless_asked():
    clip = torch.arange(64 * 64).view(64, 64).remainder(251).byte().expand(1, 1, 3, 64, 64)
    transform = train_transform(64, 64, scales=(1,))
    plain, _ = eval_transform(64)(clip, 0)
    assert all(torch.equal(transform(clip, 0)[0], plain) for _ in range(20))


@pytest.mark.parametrize("transform", [train_transform(64, 64, scales=(1,)), eval_transform(64, 72, crops=3)])
def test_a_clip_can_be_normalised_later(transform):
    make, normalise = split_normalisation(transform)
    clip = clip_of(72, 72)
    whole, label = transform(clip, 4)
    cut, same = make(clip, 4)
    assert (cut.dtype, label, same) == (torch.uint8, 4, 4)
    assert torch.equal(normalise(cut), whole)
    assert torch.equal(normalise(torch.stack([cut, cut]))[1], whole)
    meta = normalise(cut.to("meta"))  # as on a GPU: the numbers follow the clips
    assert (meta.device.type, meta.dtype, meta.shape) == ("meta", torch.float32, whole.shape)


def test_numbers_to_normalise_by_are_copied_to_a_device_once(monkeypatch):
    """A copy waits for a GPU until all of its work is done."""
    _, normalise = split_normalisation(eval_transform(64))
    clip = clip_of(64, 64)
    first = normalise(clip)
    for name in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, lambda *arguments, **options: pytest.fail("made anew"))
    assert torch.equal(normalise(clip), first)


@pytest.mark.parametrize(
    "transform",
    [
        lambda clip, label: (clip.float(), label),
        v2.Compose([v2.CenterCrop(64), v2.ToDtype(torch.float32, scale=True)]),
        v2.Compose([v2.Normalize([0.5] * 3, [0.5] * 3), v2.Lambda(lambda clip: clip)]),
    ],
)
def test_a_transform_of_ones_own_is_left_whole(transform):
    make, normalise = split_normalisation(transform)
    assert make is transform
    assert normalise(clip := torch.rand(3, 4)) is clip

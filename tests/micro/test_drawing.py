import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from versions import scene_digest

from ctnet.micro.drawing import (
    MOTIONS,
    SHAPES,
    TEXTURES,
    UNIT,
    Appearance,
    Dice,
    Difficulty,
    Scene,
    Sprite,
    compose,
    render,
)

PAIRED = [name for name, motion in MOTIONS.items() if motion.opposite != name]
FORWARD = [name for name, motion in MOTIONS.items() if not motion.backwards]
CALM = Difficulty(distractors=0, occlusion=0, pan=0, noise=0, contrast=0)


def still(scene: Scene, frame: int) -> Scene:
    """One frame of a scene."""
    sprites = []
    for sprite in scene.sprites:
        courses = {name: getattr(sprite, name)[[frame]] for name in ("x", "y", "width", "height", "opacity")}
        sprites.append(dataclasses.replace(sprite, **courses))
    return dataclasses.replace(scene, sprites=tuple(sprites), camera=scene.camera[[frame]])


# -- Classes are motions -----------------------------------------------------------------------------------------------


def test_there_are_enough_motions_and_pairs():
    assert len(MOTIONS) >= 24
    assert len(PAIRED) >= 16
    assert all(MOTIONS[motion.opposite].opposite == name for name, motion in MOTIONS.items())


@pytest.mark.parametrize("motion", MOTIONS)
def test_opposite_motion_is_the_same_clip_backwards(motion):
    for number in range(3):
        frames, mask = render(compose((7, number), motion))
        reverse, reverse_mask = render(compose((7, number), MOTIONS[motion].opposite))
        if motion in PAIRED:
            np.testing.assert_array_equal(frames, reverse[::-1])
            np.testing.assert_array_equal(mask, reverse_mask[::-1])
        else:
            np.testing.assert_array_equal(frames, reverse)


def distance(a: Sprite, b: Sprite) -> np.ndarray:
    return np.hypot(a.x - b.x, a.y - b.y)


def turning(a: Sprite, b: Sprite) -> np.ndarray:
    return np.unwrap(np.arctan2(b.y - a.y, b.x - a.x))


def path(a: Sprite) -> np.ndarray:
    return np.hypot(np.diff(a.x), np.diff(a.y))


def speed(a: Sprite) -> np.ndarray:
    return path(a)[path(a) > 0][1:-1]  # without the steps that begin or end in a pause


# For each motion, a quantity of the acting objects that grows from the first frame to the last.
GROWS = {
    "right": lambda a: a.x,
    "down": lambda a: a.y,
    "approach": lambda a: a.width * 1.0 * a.height,
    "stretch": lambda a: a.width / a.height,
    "speed up": speed,
    "diverge": distance,
    "clockwise": turning,
    "appear": lambda b: b.opacity,
    "cover": lambda b, c: -distance(b, c),
    "hide": lambda b, c: -distance(b, c),
}


@pytest.mark.parametrize("motion", GROWS)
@pytest.mark.parametrize("level", [0, 1])
def test_motion_does_what_its_name_says(motion, level):
    for number in range(20):
        scene = compose((3, number), motion, difficulty=Difficulty.level(level))
        values = GROWS[motion](*(sprite for sprite in scene.sprites if sprite.acting)).astype(float)
        assert values[-1] > values[0]
        # never the other way, but for rounding: courses are integers
        assert (np.diff(values) >= -1e-4 * np.abs(values).max() - 2).all()


def test_cover_moves_the_card_and_hide_the_other():
    for motion, moving in (("cover", 1), ("hide", 0)):
        actors = [sprite for sprite in compose((3, 0), motion).sprites if sprite.acting]
        assert actors[1].appearance.shape == "card"
        assert [np.ptp(actor.x) + np.ptp(actor.y) > 0 for actor in actors] == [moving == 0, moving == 1]


@pytest.mark.parametrize("motion", ["bounce", "shake"])
def test_motion_comes_back_to_where_it_began(motion):
    for number in range(10):
        (actor,) = (sprite for sprite in compose((4, number), motion, difficulty=CALM).sprites if sprite.acting)
        way = np.hypot(actor.x - actor.x[0], actor.y - actor.y[0])
        assert way.max() > 4 * way[-1]
        assert path(actor).sum() > 1.5 * way.max()


def test_still_is_still():
    frames, _ = render(compose((5, 0), "still", difficulty=CALM))
    assert (frames == frames[0]).all()


def test_pixels_move_as_the_scene_says():
    _, mask = render(compose((6, 0), "right", difficulty=CALM))
    columns = [np.nonzero(m)[1].mean() for m in mask]
    assert columns[-1] - columns[0] > 0.2 * 32


# -- One frame tells nothing -------------------------------------------------------------------------------------------


QUANTITIES = {
    "x": lambda a: a.x,
    "y": lambda a: a.y,
    "width": lambda a: a.width,
    "height": lambda a: a.height,
    "ratio": lambda a: a.width / a.height,
    "colour": lambda a: 0 * a.x + a.colours[0] @ [1, 2, 4],
}


@pytest.fixture(scope="module")
def moments():
    """By motion and quantity: its values at random moments of many clips."""
    dice, values = Dice(1, 2), {}
    for stream, motion in enumerate(("right", "down", "approach", "stretch", "still")):
        values[motion] = {quantity: [] for quantity in QUANTITIES}
        for number in range(400):
            (actor,) = (sprite for sprite in compose((8, stream, number), motion, frames=12).sprites if sprite.acting)
            moment = dice.index(12)
            for quantity, of in QUANTITIES.items():
                values[motion][quantity].append(of(actor)[moment])
    return values


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_property_is_distributed_alike_in_classes_that_play_it_and_classes_that_do_not(moments, quantity):
    pooled = np.sort(np.concatenate([values[quantity] for values in moments.values()]))
    for motion, values in moments.items():
        own = np.sort(values[quantity])
        below, expected = (np.searchsorted(held, pooled, side="right") / len(held) for held in (own, pooled))
        assert np.abs(below - expected).max() < 1.8 / np.sqrt(len(own)), motion  # Kolmogorov-Smirnov


@pytest.fixture(scope="module")
def single_frames():
    """Frames 32 x 32 at random moments, and the motion's number: for training and for testing."""
    motions, dice, frames, labels = list(MOTIONS), Dice(9), [], []
    for number in range(2400):
        label = number % len(motions)
        scene = compose((9, number), motions[label])
        moment = dice.index(24)
        frames.append(render(still(scene, moment))[0][0])
        labels.append(label)
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 128 - 1
    return pixels[:1600], torch.tensor(labels[:1600]), pixels[1600:], torch.tensor(labels[1600:])


def ridge(pixels, labels):
    def features(x):
        return torch.cat(
            [nn.functional.avg_pool2d(x, 4).flatten(1), x.std(dim=(2, 3)), x.diff(dim=3).abs().mean((2, 3))], 1
        )

    x = features(pixels)
    mean, std = x.mean(0), x.std(0)
    x = (x - mean) / std
    weight = torch.linalg.solve(x.T @ x + 100 * torch.eye(x.shape[1]), x.T @ nn.functional.one_hot(labels).float())
    return lambda pixels: (features(pixels) - mean) / std @ weight


def network(pixels, labels):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.LazyConv2d(n, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU()) for n in (16, 32, 64)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(len(MOTIONS)))
    model(pixels[:2])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    for _ in range(5):
        for batch in torch.randperm(len(labels)).split(50):
            loss = nn.functional.cross_entropy(model(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("fit", [ridge, network])
def test_a_single_frame_does_not_tell_the_class(fit, single_frames):
    pixels, labels, test_pixels, test_labels = single_frames
    with torch.set_grad_enabled(fit is network):
        model = fit(pixels, labels)
    scores = model(test_pixels).detach()
    names = list(MOTIONS)
    opposite = torch.tensor([names.index(MOTIONS[name].opposite) for name in names])[test_labels]
    rows, paired = torch.arange(len(test_labels)), opposite != test_labels

    within = (scores[rows, test_labels] > scores[rows, opposite])[paired].float().mean().item()
    assert abs(within - 0.5) < 3 * 0.5 / paired.sum().sqrt()
    assert (scores.argmax(1) == test_labels).float().mean() < 3 / len(MOTIONS)


# -- Drawing -----------------------------------------------------------------------------------------------------------


def test_a_shaking_object_stays_nearer_the_middle_than_others():
    """What one frame tells of a class all the same, as `MicroSomething` says: its object goes less far."""

    def apart(motion):
        scenes = [compose((11, number), motion, difficulty=Difficulty.level(0.3)) for number in range(60)]
        acting = [next(sprite for sprite in scene.sprites if sprite.acting) for scene in scenes]
        return np.mean([np.hypot(a.x / UNIT - 0.5, a.y / UNIT - 0.5).mean() for a in acting])

    assert apart("shake") < 0.6 * min(
        apart(motion) for motion in ("still", "right", "up", "approach", "stretch", "bounce")
    )


def test_digest_sees_every_part_of_a_scene():
    scene = compose((0, 0), "right")
    sprite = scene.sprites[0]
    changes = [dataclasses.replace(scene, noise=1), dataclasses.replace(scene, camera=scene.camera + 1)]
    changes += [dataclasses.replace(scene, ground=scene.ground[::-1]), dataclasses.replace(scene, backwards=True)]
    for change in ({"x": sprite.x + 1}, {"colours": sprite.colours + 1}, {"acting": not sprite.acting}):
        sprites = (dataclasses.replace(sprite, **change), *scene.sprites[1:])
        changes.append(dataclasses.replace(scene, sprites=sprites))
    assert len({scene_digest(scene), *(scene_digest(change) for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize(("frames", "size"), [(1, 32), (8, 64), (24, 96), (16, 33)])
def test_length_and_resolution_are_free(frames, size):
    clip, mask = render(compose((1, 1), "right", frames=frames), size)
    assert clip.shape == (frames, size, size, 3)
    assert clip.dtype == np.uint8
    assert mask.shape == (frames, size, size)
    assert mask.dtype == np.bool_


def test_resolutions_show_the_same_scene():
    for number, motion in enumerate(("right", "approach", "cover", "clockwise")):
        scene = compose((2, number), motion, difficulty=dataclasses.replace(Difficulty(), noise=0))
        small, large = render(scene, 32)[0], render(scene, 128)[0]
        shrunk = large.reshape(24, 32, 4, 32, 4, 3).mean((2, 4))
        assert np.abs(shrunk - small).mean() < 0.5 * np.abs(shrunk - np.roll(small, 1, axis=2)).mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("radius", [0.08, 0.4])
def test_every_appearance_stays_within_its_radius(shape, texture, radius):
    knobs = dataclasses.replace(CALM, size=(radius, radius), motion=(0, 0))
    scene = compose((1, 0), "still", Appearance(shape, texture), knobs, frames=1)
    (sprite,) = scene.sprites
    middle = np.array([1 << 15], np.int32)
    scene = dataclasses.replace(scene, sprites=(dataclasses.replace(sprite, x=middle, y=middle),))
    frames, mask = render(scene, 64)
    y, x = np.nonzero((frames[0] != frames[0, 0, 0]).any(-1))
    assert np.hypot(x - 31.5, y - 31.5).max() < 64 * radius + 0.5
    assert 0.2 < mask.sum() / (np.pi * (64 * radius) ** 2) < 0.85


def test_mask_is_where_the_acting_objects_are_seen():
    scene = compose((2, 5), "hide", difficulty=CALM)
    b, card = scene.sprites
    frames, _ = render(scene)
    empty, nothing = render(dataclasses.replace(scene, sprites=()))
    assert not nothing.any()
    both = render(scene)[1]
    changed = np.abs(frames.astype(int) - empty).max(-1)
    assert changed[both].mean() > 8 * changed[~both].mean()
    only_b = render(dataclasses.replace(scene, sprites=(b, dataclasses.replace(card, acting=False))))[1]
    assert only_b[0].sum() > 20  # in the open
    assert only_b[-1].sum() < 5  # behind the card
    assert (both | ~only_b).all()


def test_faint_objects_are_not_in_the_mask():
    _, mask = render(compose((2, 0), "appear", difficulty=CALM))
    assert mask[0].sum() == 0
    assert mask[-1].sum() > 20


# -- Difficulty --------------------------------------------------------------------------------------------------------


def test_level_blends_from_easy_to_the_default():
    easy, half, hard = (Difficulty.level(level) for level in (0, 0.5, 1))
    assert hard == Difficulty()
    assert easy.motion[0] > half.motion[0] > hard.motion[0]
    assert easy.pan < half.pan < hard.pan
    assert half.noise == pytest.approx((easy.noise + hard.noise) / 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Difficulty.level(1.1)


@pytest.mark.parametrize(
    ("knob", "value", "measure"),
    [
        ("distractors", 0.0, lambda scene: -len(scene.sprites)),
        ("pan", 0.0, lambda scene: -np.ptp(scene.camera)),
        ("contrast", 5.0, lambda scene: -np.ptp(scene.ground[0][..., 0])),
        ("noise", 0.0, lambda scene: -scene.noise),
        ("motion", (0.7, 0.8), lambda scene: np.ptp(scene.sprites[-1].x)),
        ("size", (0.3, 0.31), lambda scene: scene.sprites[-1].width[0]),
        ("pauses", 0.0, lambda scene: (np.diff(scene.sprites[-1].x) > 0).sum()),
    ],
)
def test_every_knob_turns(knob, value, measure):
    base = Difficulty(distractors=0.0 if knob in ("motion", "size", "pauses") else 1.0)
    other = dataclasses.replace(base, **{knob: value})
    sums = [sum(measure(compose((1, n), "right", difficulty=d)) for n in range(10)) for d in (base, other)]
    assert sums[1] > sums[0]


def test_occlusion_puts_others_in_front():
    hidden = []
    for occlusion in (0.0, 1.0):
        knobs = Difficulty(distractors=1, occlusion=occlusion)
        hidden.append([compose((1, n), "right", difficulty=knobs).sprites[-1].acting for n in range(10)])
    assert hidden == [[True] * 10, [False] * 10]

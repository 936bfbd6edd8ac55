"""Drawing of the Micro clips: who is in a scene, what moves, and how it becomes pixels.

A clip is drawn in two steps. `compose` rolls a `Scene`: a handful of sprites with a course over time, a camera and a
background, all held as integers. `render` turns a scene into frames of any size with integer arithmetic only.

Two rules make motion, and nothing but motion, tell the classes of MicroSomething apart:

- A scene has a course for *every* property (place, size, shape, gap, bearing, opacity, cover). A class plays the course
  of its own property and freezes the others at a random moment of theirs, so that one frame looks alike in all classes
  with the same objects. (A shaking object goes less far, and so lies nearer the middle than others.)
- The class with the opposite motion is the same drawing with its frames in reverse order.

The same seed gives the same bits on any machine: random streams are of the kind that NumPy promises to keep, a
scene's pixels follow from its integers exactly, and each clip is drawn alone. One reservation: sines, powers and the
like may differ between mathematical libraries in their last bit, which shows only if a value lies within about 1e-15
of the middle between two integers before it is rounded. The tests pin a hash of scenes and of pixels.
"""

import colorsys
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

VERSION = 2  # of the drawing, part of every cache's key: to be raised whenever the same seed gives other pixels
UNIT = 1 << 16  # scenes hold lengths as integers, in 1/UNIT of the side of the frame
TEXELS = 128  # side of a sprite's texture
REACH = 256  # textures hold the distance to the edge in 1/REACH of half their side


@dataclass(frozen=True)
class Difficulty:
    """How hard clips are to tell apart; the default leaves room between a good model and a perfect one.

    Lengths are fractions of the side of the frame; contrast and noise are grey levels out of 255.
    """

    motion: tuple[float, float] = (0.3, 0.65)  # range of the acting object's way; turns and growth scale with it
    size: tuple[float, float] = (0.13, 0.19)  # range of the objects' radii
    distractors: float = 0.8  # probability that each object without a part in the motion is there
    occlusion: float = 0.25  # probability that such an object passes in front of the acting ones
    pan: float = 0.2  # longest way of the camera
    contrast: float = 50.0  # of the background
    noise: float = 8.0  # standard deviation, every pixel and frame on its own
    pauses: float = 0.25  # longest pause before, and after, the motion, as a fraction of the clip

    @classmethod
    def level(cls, level: float) -> "Difficulty":
        """Blend between an easy setting (level 0), at which the classes are told at a glance, and the default (1)."""
        if not 0 <= level <= 1:
            raise ValueError(f"a level of difficulty lies between 0 and 1: {level}")
        easy = cls((0.6, 0.9), (0.15, 0.2), distractors=0.25, occlusion=0, pan=0, contrast=14, noise=1, pauses=0.1)

        def blend(a: Any, b: Any) -> Any:
            return tuple(map(blend, a, b)) if isinstance(a, tuple) else a + level * (b - a)

        return cls(**{f.name: blend(getattr(easy, f.name), getattr(cls(), f.name)) for f in fields(cls)})


class Dice:
    """Random numbers from a key of integers.

    Built on the raw output of Philox and on SeedSequence, the two parts of NumPy's generators whose streams are
    promised never to change.
    """

    def __init__(self, seed: int, *key: int) -> None:
        self._bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=key))

    def uniform(self, low: float, high: float) -> float:
        """One number from [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def array(self, low: float, high: float, *shape: int) -> Floats:
        """An array of numbers from [low, high)."""
        raw = self._bits.random_raw(int(np.prod(shape))).reshape(shape)
        return low + (high - low) * (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def index(self, stop: int) -> int:
        """One of 0, ..., stop - 1."""
        return int(self.uniform(0, stop))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0, 1) < probability

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Random bytes, the same ones on big- and little-endian machines."""
        return self._bits.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]


# -- Appearance ------------------------------------------------------------------------------------------------------

SHAPES = {  # name: (number of lobes, their depth)
    **dict(zip(("bean", "trefoil", "clover", "flower", "blossom"), product((2, 3, 4, 5, 6), (0.14,)), strict=True)),
    **dict(zip(("bow", "propeller", "cross", "star", "snowflake"), product((2, 3, 4, 5, 6), (0.42,)), strict=True)),
    "disc": (0, 0.0),
    "card": (0, -1.0),  # a square with round corners
}
TEXTURES = ("plain", "striped", "dotted", "ringed", "chequered")


class Appearance(NamedTuple):
    """What an object looks like, apart from its colours."""

    shape: str
    texture: str

    def __str__(self) -> str:
        return f"{self.texture} {self.shape}"


@cache
def texture(appearance: Appearance) -> NDArray[np.uint16]:
    """Draw a sprite: TEXELS * TEXELS numbers, each 256 * (128 + distance to the edge, positive inside) + pattern.

    With the distance in the texture, edges are exactly one pixel soft at every scale and resolution.
    """
    y, x = _texel_centres()
    radius = np.hypot(x, y)
    pattern = {
        "plain": 0.15 * (1 + y),
        "striped": 0.5 + 2.5 * np.sin(3 * np.pi * x),
        "dotted": 0.5 + 4 * (np.cos(2.6 * np.pi * x) * np.cos(2.6 * np.pi * y) - 0.3),
        "ringed": 0.5 + 2.5 * np.cos(4.2 * np.pi * radius),
        "chequered": 0.5 + 5 * np.sin(2.2 * np.pi * x) * np.sin(2.2 * np.pi * y),
    }[appearance.texture]
    edge = np.clip(np.rint(128 + REACH * _distance(appearance.shape)), 0, 255)
    edge[[0, -1]] = edge[:, [0, -1]] = 0  # places off the texture take the value on its border: outside
    return (256 * edge + np.rint(255 * np.clip(pattern, 0, 1))).astype(np.uint16).ravel()


def _texel_centres() -> Floats:
    """Coordinates y and x of a texture's texels, from -1 to 1: (2, TEXELS, TEXELS)."""
    return (np.mgrid[:TEXELS, :TEXELS] + 0.5) * 2 / TEXELS - 1


@cache
def _distance(shape: str) -> Floats:
    """Distance of each texel to the shape's edge, positive inside."""
    y, x = _texel_centres()
    lobes, depth = SHAPES[shape]
    if depth < 0:
        return 0.22 - np.hypot(*np.maximum(np.abs((x, y)) - 0.5, 0))

    def edge(angle: Floats) -> Floats:
        return 0.88 * (1 + depth * np.cos(lobes * angle)) / (1 + depth)

    angle = np.linspace(-np.pi, np.pi, 512)
    outline = np.stack([edge(angle) * np.sin(angle), -edge(angle) * np.cos(angle)])
    distance = np.stack(
        [
            np.hypot(row[:, None] - outline[0], y_row[:, None] - outline[1]).min(axis=1)
            for row, y_row in zip(x, y, strict=True)
        ]
    )
    return np.where(np.hypot(x, y) < edge(np.arctan2(x, -y)), distance, -distance)


def _colour(hue: float, saturation: float, value: float) -> Ints:
    """Integer RGB of a hue in turns."""
    return np.rint(np.multiply(colorsys.hsv_to_rgb(hue % 1, saturation, value), 255)).astype(np.int32)


# -- Motion ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Motion:
    """What happens in a clip of one class.

    `plays` names the property that moves, `actors` the objects that it belongs to: "a", "b", "c" (a card). `backwards`
    marks the half of a pair that is drawn in reverse; `opposite` is the motion seen when time runs the other way.
    """

    opposite: str
    plays: str
    actors: str = "a"
    pace: Literal["steady", "accelerating", "there and back", "trembling"] = "steady"
    backwards: bool = False


def _pair(forward: str, backward: str, plays: str, actors: str = "a", **rest: Any) -> dict[str, Motion]:
    return {
        forward: Motion(backward, plays, actors, **rest),
        backward: Motion(forward, plays, actors, backwards=True, **rest),
    }


MOTIONS: dict[str, Motion] = {
    **_pair("right", "left", "x"),
    **_pair("down", "up", "y"),
    **_pair("approach", "recede", "size"),
    **_pair("stretch", "squeeze", "shape"),
    **_pair("speed up", "slow down", "place", pace="accelerating"),
    **_pair("diverge", "converge", "gap", "ab"),
    **_pair("clockwise", "counter-clockwise", "bearing", "ab"),
    **_pair("appear", "disappear", "opacity", "b"),
    **_pair("cover", "uncover", "cover", "bc"),
    **_pair("hide", "emerge", "hide", "bc"),
    "pass": Motion("pass", "pass", "ab"),
    "bounce": Motion("bounce", "place", pace="there and back"),
    "shake": Motion("shake", "place", pace="trembling"),
    "still": Motion("still", "nothing"),
}


def _progress(dice: Dice, pace: str, pauses: float, frames: int) -> Floats:
    """How far the motion has come at each frame, from 0 to 1, with a pause of random length before and after."""
    start, stop = dice.uniform(0, pauses), 1 - dice.uniform(0, pauses)
    ease, power, beats = dice.uniform(0, 0.8), dice.uniform(1.8, 2.6), 2 + dice.index(2)
    way = np.clip(((np.arange(frames) + 0.5) / frames - start) / (stop - start), 0, 1)
    if pace == "accelerating":
        return way**power
    if pace == "there and back":
        way = 1 - np.abs(1 - 2 * way)
    if pace == "trembling":
        way = np.abs(1 - 2 * np.mod(way * beats, 1))
    return way + ease * (way * way * (3 - 2 * way) - way)


# -- Scenes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sprite:
    """One object of a scene. Courses are (frames,) integers, lengths and opacity in 1/UNIT."""

    appearance: Appearance
    colours: Ints  # (3, RGB): two of the pattern, one of the rim
    turn: Ints  # cosine and sine of its orientation, in 1/UNIT
    x: Ints
    y: Ints
    width: Ints  # half of the texture's width
    height: Ints
    opacity: Ints
    acting: bool


@dataclass(frozen=True)
class Scene:
    """All that is needed to draw a clip at any resolution, in integers."""

    sprites: tuple[Sprite, ...]  # from back to front
    camera: Ints  # (frames, 2): the camera's x and y in 1/UNIT
    ground: tuple[Ints, ...]  # grids (n, n, RGB) of colour, added up to the background
    noise: int  # level, in 1/256 of a grey level
    noise_key: tuple[int, ...]
    backwards: bool


def _fixed(values: Any) -> Ints:
    """Round to integers in 1/UNIT."""
    return np.rint(np.multiply(values, UNIT)).astype(np.int32)


def compose(
    key: tuple[int, ...],
    motion: str,
    appearance: Appearance | None = None,
    difficulty: Difficulty | None = None,
    frames: int = 24,
) -> Scene:
    """Roll the scene of one clip.

    Args:
        key: integers that the scene depends on and nothing else; two opposite motions with one key are the same
            clip forwards and backwards.
        motion: a name from `MOTIONS`.
        appearance: what object "a" looks like; any by default. Objects that do not act are then half as large.
        difficulty: the default `Difficulty` if None.
        frames: number of frames.
    """
    act, knobs, dice = MOTIONS[motion], difficulty or Difficulty(), Dice(*key)
    paths = _paths(dice, act, knobs, 0.5 if appearance else 1.0, frames)
    dark = dice.chance(0.5)
    fronts = {"a": dice.chance(knobs.occlusion), "b": dice.chance(knobs.occlusion), "d": dice.chance(knobs.occlusion)}
    fronts["c"] = fronts["b"]
    shapes, layers = [name for name in SHAPES if name != "card"], []
    for name, (place, radius, opacity) in paths.items():
        looks = Appearance(shapes[dice.index(len(shapes))], TEXTURES[dice.index(len(TEXTURES))])
        if name == "c":
            looks = looks._replace(shape="card")
        if name == "a" and appearance:
            looks = appearance
        colours, angle = _palette(dice, dark), 2 * np.pi * dice.uniform(0, 1)
        here, tie = dice.chance(knobs.distractors), dice.uniform(0, 1)
        acting = name in act.actors
        sprite = Sprite(
            appearance=looks,
            colours=colours,
            turn=_fixed([np.cos(angle), np.sin(angle)]),
            x=_fixed(place[0]),
            y=_fixed(place[1]),
            width=_fixed(radius[0]),
            height=_fixed(radius[1]),
            opacity=_fixed(opacity),
            acting=acting,
        )
        if acting or here:
            layers.append((1 if acting else 2 * fronts[name], name == "c", tie, sprite))

    pan = knobs.pan * dice.uniform(0, 1)
    direction = 2 * np.pi * dice.uniform(0, 1)
    along = (np.arange(frames) + 0.5) / frames - 0.5
    return Scene(
        sprites=tuple(sprite for *_, sprite in sorted(layers, key=lambda layer: layer[:3])),
        camera=_fixed(pan * along[:, None] * [np.cos(direction), np.sin(direction)]),
        ground=_ground(dice, dark, knobs.contrast),
        noise=round(256 * knobs.noise),
        noise_key=(*key, frames),
        backwards=act.backwards,
    )


class _Rolls:
    """The dice of a scene's motion: the courses of its properties over time, and how far they reach."""

    def __init__(self, dice: Dice, act: Motion, knobs: Difficulty, frames: int) -> None:
        self.dice, self.act, self.knobs, self.frames = dice, act, knobs, frames
        self.steady = _progress(dice, "steady", knobs.pauses, frames)
        self.played = _progress(dice, act.pace, knobs.pauses, frames)

    def course(self, name: str, *others: str) -> Floats:
        """Progress of a property: played if it belongs to the class, else frozen at a random moment."""
        frozen = np.full(self.frames, self.steady[self.dice.index(self.frames)])
        return self.played if self.act.plays in (name, *others) else frozen

    def extent(self) -> float:
        """How far a property goes."""
        return self.dice.uniform(*self.knobs.motion)


def _paths(
    dice: Dice, act: Motion, knobs: Difficulty, others: float, frames: int
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Where the four objects are, and how large: place (x and y, frames), radii (2, frames) and opacity (frames,).

    "a" and "b" are the actors, "c" is a card, "d" a stranger; `others` scales "b" and "c".
    """
    rolls, constant = _Rolls(dice, act, knobs, frames), np.ones((2, frames))

    # Object a grows over the clip, or is drawn out: from tall to wide.
    a_radius, b_radius = dice.uniform(*knobs.size), others * dice.uniform(*knobs.size)
    growth = np.exp2(2 * rolls.extent() * (rolls.course("size") - 0.5))
    drawn_out = np.exp2(3.0 * rolls.extent() * (rolls.course("shape") - 0.5))

    a, b, spots = _actors(rolls, _way(rolls), 0.8 * (a_radius + b_radius))
    opacity = rolls.course("opacity")
    if act.plays != "opacity" and "b" in act.actors:
        opacity = constant[0]
    b, c = _card(rolls, a, b, b_radius, spots)

    # A small stranger drifts about.
    drift = dice.array(-0.8, 0.8, 2, 1) * knobs.motion[0]
    d = dice.array(0.1, 0.9, 2, 1) + drift * (_progress(dice, "steady", knobs.pauses, frames) - 0.5)
    d_radius = 0.55 * dice.uniform(*knobs.size)

    return {
        "a": (a, a_radius * growth * np.stack([drawn_out, 1 / drawn_out]), constant[0]),
        "b": (b, b_radius * constant, opacity),
        "c": (c, 1.35 * b_radius * constant, constant[0]),
        "d": (d, d_radius * constant, constant[0]),
    }


def _way(rolls: _Rolls) -> Floats:
    """The way of object a across the frame, (2, frames). "Place" means any of eight directions."""
    dice, act = rolls.dice, rolls.act
    ways = np.array([rolls.extent(), rolls.extent()])
    heading = [(1, 0), (0, 1), (1, 1), (1, -1), (-1, 0), (0, -1), (-1, -1), (-1, 1)][dice.index(8)]
    signs = np.array(heading if act.plays == "place" else (1, 1)) * (0.4 if act.pace == "trembling" else 1)
    middle = 0.5 + (1 - np.minimum(ways + 0.3, 1)) * dice.array(-0.5, 0.5, 2)
    slope = dice.array(-0.2, 0.2, 2)
    offset = np.stack(
        [(rolls.course(axis, "place") - 0.5) * sign * way for axis, sign, way in zip("xy", signs, ways, strict=True)]
    )
    if act.plays in ("x", "y"):
        offset = offset + slope[:, None] * offset[::-1]
    return middle[:, None] + offset


def _actors(rolls: _Rolls, a: Floats, near: float) -> tuple[Floats, Floats, Floats]:
    """Object b lies apart from a, or the two of them act about their middle: both courses, and spots (4, 2, 1)."""
    dice, act = rolls.dice, rolls.act
    far = min(near + rolls.extent(), 0.85)
    gap = near + (far - near) * rolls.course("gap")
    if act.plays == "pass":
        gap = far * (1 - 2 * rolls.played)
    bearing = 2 * np.pi * (dice.uniform(0, 1) + 0.8 * rolls.extent() * (rolls.course("bearing") - 0.5))
    spots = dice.array(0.18, 0.82, 4, 2, 1)
    if act.actors != "ab":
        return a, _farthest(spots, a), spots
    centre, arm = 0.5 + 0.4 * (a - 0.5), gap / 2 * np.stack([np.cos(bearing), np.sin(bearing)])
    return centre - arm, centre + arm, spots


def _card(rolls: _Rolls, a: Floats, b: Floats, b_radius: float, spots: Floats) -> tuple[Floats, Floats]:
    """The card c slides over b, or b behind the card, or it lies alone: the courses of b and c."""
    inwards = np.arctan2(*(0.5 - b.mean(axis=1))[::-1]) + rolls.dice.uniform(-0.9, 0.9)
    aside = 1.7 * b_radius + 0.4 * rolls.extent()
    uncovered = aside * np.stack([[np.cos(inwards)], [np.sin(inwards)]]) * np.ones((2, rolls.frames))
    shift = uncovered * (1 - rolls.course("cover", "hide"))
    if rolls.act.plays == "hide":
        return b + uncovered - shift, b + uncovered
    alone = rolls.act.actors == "ab" or rolls.act.plays == "opacity"
    return b, _farthest(spots, a, b) if alone else b + shift


def _farthest(spots: Floats, *others: Floats) -> Floats:
    """The spot, of (n, 2, 1), that stays farthest from all the others' courses, as a course (2, frames)."""
    distances = [((spots - other) ** 2).sum(axis=1).min(axis=1) for other in others]
    return np.broadcast_to(spots[np.min(distances, axis=0).argmax()], others[0].shape)


def _palette(dice: Dice, dark: bool) -> Ints:
    """Two strong colours and the rim's, (3, RGB), to stand out on a dark or on a light background."""
    hue, other = dice.uniform(0, 1), dice.uniform(0.2, 0.8)
    strength = dice.uniform(0.65, 0.95)
    first = _colour(hue, strength, dice.uniform(0.8, 1) if dark else dice.uniform(0.55, 0.85))
    second = _colour(hue + other, dice.uniform(0.15, 0.7), 1.0) if dark else _colour(hue + other, 0.8, 0.35)
    rim = _colour(hue, 0.1, 1.0) if dark else _colour(hue, 0.8, 0.2)
    return np.stack([first, second, rim])


def _ground(dice: Dice, dark: bool, contrast: float) -> tuple[Ints, ...]:
    """A coarse and a fine grid of colours, (n, n, RGB), whose sum is the background."""
    base = _colour(dice.uniform(0, 1), dice.uniform(0.1, 0.5), 0.3 if dark else 0.85)
    tint, shade = dice.array(-0.6, 0.6, 4, 4, 3), dice.array(-0.7, 0.7, 4, 4, 1)
    fine = dice.array(-0.45, 0.45, 11, 11, 1) * np.ones(3)
    return base + np.rint(contrast * (tint + shade)).astype(np.int32), np.rint(contrast * fine).astype(np.int32)


# -- Pixels ----------------------------------------------------------------------------------------------------------


def render(scene: Scene, size: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a scene.

    Returns:
        The frames (T, size, size, RGB), and the mask (T, size, size) of the pixels in which an acting object is seen.
    """
    frames = len(scene.camera)
    image = _background(scene, size)
    mask = np.zeros((frames, size, size), np.bool_)
    for sprite in scene.sprites:
        _paste(image, mask, sprite, scene.camera, size)
    grain = Dice(*scene.noise_key, size).bytes(frames * size * size).reshape(frames, size, size, 1).astype(np.int32)
    image += ((grain & 15) + (grain >> 4) - 15) * (scene.noise * 39 >> 8) >> 8  # of deviation 6.52 = 256 / 39
    clip = np.clip(image, 0, 255).astype(np.uint8)
    return (clip[::-1], mask[::-1]) if scene.backwards else (clip, mask)


def _background(scene: Scene, size: int) -> Ints:
    """The camera's view of the ground: (T, size, size, RGB)."""
    pixels = (2 * np.arange(size) + 1) * UNIT // (2 * size)
    view = pixels + scene.camera.T[:, :, None]  # x and y of every column and row, (2, T, size)
    image = np.zeros((3, len(scene.camera), size, size), np.float32)
    for grid in scene.ground:
        # A quarter of a frame lies on either side. Smooth weights in 1/64: the products are exact in float32.
        steps = (view + UNIT // 4) * (len(grid) - 1) * 2 // 3
        cell, part = steps[..., None] >> 16, (steps[..., None] & (UNIT - 1)) >> 10
        part = part * part * (192 - 2 * part) >> 12
        knots = np.arange(len(grid))
        weights = np.where(knots == cell, 64 - part, np.where(knots == cell + 1, part, 0)).astype(np.float32)
        image += weights[1] @ grid.transpose(2, 0, 1)[:, None].astype(np.float32) @ weights[0].swapaxes(-1, -2)
    return image.transpose(1, 2, 3, 0).astype(np.int32, order="C") >> 12


def _paste(image: Ints, mask: NDArray[np.bool_], sprite: Sprite, camera: Ints, size: int) -> None:
    """Lay a sprite over the frames (T, size, size, RGB) and update the mask (T, size, size), in place."""
    x, y = sprite.x - camera[:, 0], sprite.y - camera[:, 1]
    rows, columns = _window(y, sprite.height, size), _window(x, sprite.width, size)

    # Texture coordinates grow linearly with row and column: texels in 1/UNIT, from exactly rounded operations.
    (cos, sin), half = sprite.turn / UNIT, TEXELS / 2 * UNIT
    across = ((2 * np.arange(size)[columns] + 1) * UNIT / (2 * size) - x[:, None]) / sprite.width[:, None]
    down = ((2 * np.arange(size)[rows] + 1) * UNIT / (2 * size) - y[:, None]) / sprite.height[:, None]

    def texels(part_across: float, part_down: float) -> Ints:
        steps = [np.rint(half * part).astype(np.int32) for part in (part_across * across, part_down * down)]
        place = (steps[0][:, None, :] + steps[1][:, :, None] >> 16) + TEXELS // 2
        return np.clip(place, 0, TEXELS - 1, out=place)

    texel = texture(sprite.appearance).take(texels(-sin, cos) * TEXELS + texels(cos, sin))

    # The distance to the edge, in pixels, gives the share of a pixel that is covered, in 1/256.
    scale = np.sqrt(sprite.width.astype(np.float64) * sprite.height) * size / UNIT
    sharpness = np.rint(scale * (UNIT / REACH)).astype(np.int32)[:, None, None]
    distance = ((texel >> 8).astype(np.int32) - 128) * sharpness >> 8
    share = np.clip(distance + 128, 0, 256) * sprite.opacity[:, None, None] >> 16

    where = np.nonzero(share)
    share, pattern = share[where][:, None], (texel[where] & 255).astype(np.int32)[:, None]
    inner = np.clip(distance[where] + 128 - 8 * size, 0, 256)[:, None]  # a rim 1/32 of the frame wide
    first, second, rim = sprite.colours
    fill = (first << 8) + (second - first) * pattern >> 8
    colour = rim + ((fill - rim) * inner >> 8)
    area, solid = image[:, rows, columns], mask[:, rows, columns]
    area[where] += (colour - area[where]) * share >> 8
    solid[where] = np.where(share[:, 0] >= 128, sprite.acting, solid[where])


def _window(centre: Ints, reach: Ints, size: int) -> slice:
    """The rows, or columns, of the frame that a sprite touches at any time."""
    low, high = (centre - reach).min() * size // UNIT - 1, (centre + reach).max() * size // UNIT + 2
    return slice(min(max(low, 0), size), max(high, 0))

"""The Micro datasets: which classes there are, and clips drawn once and then read from the disk.

Only what hands out tensors needs torch, and imports it there: classes, labels and splits are told without.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ctnet.files import cache_folder, replacing
from ctnet.micro.drawing import MOTIONS, SHAPES, VERSION, Appearance, Dice, Difficulty, Scene, compose, render

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "val", "test")
GROUPS = 12  # of clips in a class of a set with several folds; a fold tests on every third

TEMPLATES = {
    "right": "Moving [something] from left to right",
    "left": "Moving [something] from right to left",
    "down": "Moving [something] down",
    "up": "Moving [something] up",
    "approach": "Moving [something] closer to the camera",
    "recede": "Moving [something] away from the camera",
    "stretch": "Stretching [something] sideways",
    "squeeze": "Squeezing [something] from its sides",
    "speed up": "Moving [something] faster and faster",
    "slow down": "Moving [something] slower and slower",
    "diverge": "Moving [something] and [something] apart",
    "converge": "Moving [something] and [something] together",
    "clockwise": "Turning [something] and [something] clockwise around each other",
    "counter-clockwise": "Turning [something] and [something] counter-clockwise around each other",
    "appear": "Making [something] appear",
    "disappear": "Making [something] disappear",
    "cover": "Covering [something] with [something]",
    "uncover": "Uncovering [something] from under [something]",
    "hide": "Moving [something] behind [something]",
    "emerge": "Moving [something] out from behind [something]",
    "pass": "Moving [something] and [something] past each other",
    "bounce": "Moving [something] there and back",
    "shake": "Shaking [something]",
    "still": "Holding [something] still",
}


@dataclass(frozen=True)
class MicroClass:
    """A class of clips: one of `motions`, and the acting object's appearance if the class has one."""

    motions: tuple[str, ...]
    appearance: Appearance | None = None

    @property
    def template(self) -> str:
        """The class in words; [something] stands for an object that the class leaves open."""
        if self.appearance is None:
            return TEMPLATES[self.motions[0]]
        thing = f"a {self.appearance}"
        return (
            TEMPLATES[self.motions[0]].replace("[something]", thing) if len(self.motions) == 1 else thing.capitalize()
        )

    @property
    def name(self) -> str:
        """The class in words, without brackets."""
        return self.template.replace("[", "").replace("]", "")


@dataclass(frozen=True)
class MicroSplit:
    """One split of a Micro dataset, defined down to the last pixel; draws any of its clips on its own.

    `count` is the number of clips; in a set with several folds, train and val share them out between them.
    """

    name: str
    split: str
    count: int
    fold: int = 1
    frames: int = 24
    size: int = 32
    seed: int = 0
    difficulty: Difficulty = field(default_factory=Difficulty)

    def __post_init__(self) -> None:
        kind = MICRO_DATASETS[self.name]
        if self.split not in kind.counts:
            raise ValueError(f"{self.name} has the splits {', '.join(kind.counts)}, not {self.split!r}")
        if not 1 <= self.fold <= kind.folds:
            raise ValueError(f"{self.name} has folds 1 to {kind.folds}, not {self.fold}")
        if min(self.count, self.frames) < 1 or self.size < 16:
            raise ValueError("there must be at least 1 clip, of at least 1 frame, of at least 16 pixels a side")
        if not self.members:
            raise ValueError(
                f"{self.count} clips of {self.name} leave none for {self.split} of fold {self.fold}: "
                f"ask for more than {(kind.folds - 1) * len(kind.classes)}"
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the clips depend on."""
        return hashlib.sha256(json.dumps([VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()

    @property
    def members(self) -> list[int]:
        """The clips' numbers in the stream that they are drawn from."""
        if MICRO_DATASETS[self.name].folds == 1:
            return list(range(self.count))
        return [n for n in range(self.count) if (self.test_fold(n) == self.fold) == (self.split == "val")]

    def label(self, number: int) -> int:
        """Class of a clip; all classes are equally frequent."""
        return number % len(MICRO_DATASETS[self.name].classes)

    def group(self, number: int) -> tuple[int, int]:
        """Group of a clip within its class, and its place in the group, from 0; a fold tests on whole groups."""
        place, group = divmod(number // len(MICRO_DATASETS[self.name].classes), GROUPS)
        return group, place

    def test_fold(self, number: int) -> int:
        """The fold, from 1, that tests on a clip; all others train on it."""
        return self.group(number)[0] % MICRO_DATASETS[self.name].folds + 1

    def scene(self, number: int) -> Scene:
        """The scene of a clip."""
        kind = MICRO_DATASETS[self.name]
        stream = 0 if kind.folds > 1 else SPLITS.index(self.split)
        key = (self.seed, list(MICRO_DATASETS).index(self.name), stream, number)
        label = kind.classes[self.label(number)]
        motion = label.motions[Dice(*key, 0).index(len(label.motions))]
        return compose(key, motion, label.appearance, self.difficulty, self.frames)

    def draw(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A clip's frames (T, H, W, RGB), and the mask (T, H, W) of its acting objects."""
        return render(self.scene(number), self.size)


class MicroDataset:
    """Clips of one split, drawn the first time they are asked for, then mapped from the disk: a map-style dataset.

    Item `i` is a clip's frames, a uint8 tensor (T, 3, H, W), and its label; with `masks=True` also a bool tensor
    (T, H, W), true where an acting object is seen. A fast loader may index the whole arrays instead.

    Attributes:
        clips: uint8 (N, T, H, W, RGB), memory-mapped and read-only.
        masks: bool (N, T, H, W), likewise.
        labels: int64 (N,).
        classes: the classes' `MicroClass`, by label.
        config: the `MicroSplit`; its `fingerprint` identifies the data.

    Args:
        root: folder for drawn clips; by default ~/.cache/ctnet/micro, or in `XDG_CACHE_HOME` if that is set.
        split: "train", "val" or, where there is one, "test".
        count: number of clips, `counts[split]` by default. In a set with folds: of train and val together.
        fold: which of the set's train/val divisions, from 1.
        frames, size: length and side of the clips.
        difficulty: a `Difficulty`, or a level from 0 (easy) to 1; the set's own by default.
        seed: of everything random.
        masks: whether items come with their mask.
        progress: whether drawing shows a progress bar.

    Raises:
        ValueError: for a split, fold, size or difficulty that does not exist, or fewer clips than the split takes.
    """

    classes: ClassVar[Sequence[MicroClass]]
    counts: ClassVar[dict[str, int]]
    folds: ClassVar[int] = 1
    frames: ClassVar[int] = 24
    difficulty: ClassVar[Difficulty] = Difficulty()

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        *,
        count: int | None = None,
        fold: int = 1,
        frames: int | None = None,
        size: int = 32,
        difficulty: Difficulty | float | None = None,
        seed: int = 0,
        masks: bool = False,
        progress: bool = True,
    ) -> None:
        self.config = self.split(split, count, fold=fold, frames=frames, size=size, difficulty=difficulty, seed=seed)
        self.with_masks = masks
        folder = Path(root).expanduser() if root else cache_folder() / "micro"
        self.path = folder / f"{self.config.name}-{split}-{self.config.fingerprint[:16]}"
        if not self.path.exists():
            try:
                _draw_all(self.config, self.path, progress)
            except OSError:
                if not self.path.exists():  # otherwise somebody else drew the same clips at the same time
                    raise
        self._open()

    @classmethod
    def split(
        cls,
        split: str,
        count: int | None = None,
        *,
        difficulty: Difficulty | float | None = None,
        frames: int | None = None,
        **rest: Any,
    ) -> MicroSplit:
        """The definition of a split, with this set's defaults; arguments as for the class itself."""
        if split not in cls.counts:
            raise ValueError(f"{cls.__name__} has the splits {', '.join(cls.counts)}, not {split!r}")
        if isinstance(difficulty, int | float):
            difficulty = Difficulty.level(difficulty)
        return MicroSplit(
            cls.__name__,
            split,
            cls.counts[split] if count is None else count,
            difficulty=difficulty or cls.difficulty,
            frames=cls.frames if frames is None else frames,
            **rest,
        )

    def _open(self) -> None:
        self.clips, self.masks = (np.load(self.path / f"{part}.npy", mmap_mode="r") for part in ("clips", "masks"))
        self.labels: NDArray[np.int64] = np.load(self.path / "labels.npy")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> "tuple[Tensor, int] | tuple[Tensor, int, Tensor]":
        import torch

        frames = torch.from_numpy(self.clips[index].copy()).permute(0, 3, 1, 2)  # (T, H, W, 3) -> (T, 3, H, W)
        label = int(self.labels[index])
        return (frames, label, torch.from_numpy(self.masks[index].copy())) if self.with_masks else (frames, label)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by label."""
        return [item.name for item in self.classes]

    @property
    def names(self) -> list[str]:
        """The clips' numbers in the stream that they are drawn from."""
        return [str(number) for number in self.config.members]

    def read(self, index: int, indices: Callable[[int], Sequence[int]], short_side: int | None = None) -> "Tensor":
        """Frames of a clip, uint8 (T, 3, H, W), as `ctnet.data.read_frames` gives those of a video."""
        import torch
        from torchvision.transforms.v2.functional import resize

        frames = torch.from_numpy(self.clips[index][indices(self.config.frames)]).permute(0, 3, 1, 2)
        return frames if short_side in (None, self.config.size) else resize(frames, [short_side])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the arrays on the disk: a loader's workers map them anew."""
        return {name: value for name, value in vars(self).items() if name not in ("clips", "masks", "labels")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _draw_all(config: MicroSplit, path: Path, progress: bool) -> None:
    """Draw a split into `path`, which appears at once when all is done, or not at all."""
    members = config.members
    shape = (len(members), config.frames, config.size, config.size)
    with replacing(path) as scratch:
        scratch.mkdir()
        clips = np.lib.format.open_memmap(scratch / "clips.npy", "w+", np.uint8, (*shape, 3))
        masks = np.lib.format.open_memmap(scratch / "masks.npy", "w+", np.bool_, shape)

        title = f"drawing {config.name} {config.split}"
        for place, number in enumerate(tqdm(members, title, unit="clip", disable=not progress)):
            clips[place], masks[place] = config.draw(number)
        clips.flush()
        masks.flush()
        del clips, masks  # Windows moves no file that is mapped
        np.save(scratch / "labels.npy", np.array([config.label(number) for number in members], np.int64))
        (scratch / "config.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")


# -- The sets --------------------------------------------------------------------------------------------------------

_SHALLOW = [name for name, (_, depth) in SHAPES.items() if 0 < depth < 0.3]
_DEEP = [name for name, (_, depth) in SHAPES.items() if depth > 0.3]
_GENTLE = ("still", "shake", "bounce", "stretch", "squeeze", "left", "right")


def _alphabetical(classes: Iterable[MicroClass]) -> tuple[MicroClass, ...]:
    """In the order of their names, as readers of video datasets number them."""
    return tuple(sorted(classes, key=lambda item: item.name))


def _things(shapes: Iterable[str], *textures: str) -> list[Appearance]:
    return [Appearance(shape, texture) for texture, shape in product(textures, shapes)]


class MicroSomething(MicroDataset):
    """Motions of any objects: ten pairs, each the other's time reversal, and four that are their own.

    One frame, taken at a random moment, tells nothing within a pair. Of the class it tells which parts a scene has, and
    little more: an object that shakes stays near the middle. A clip's first frame does tell a little within a pair: a
    path that stays in the frame starts off its middle.
    """

    classes = _alphabetical(MicroClass((motion,)) for motion in MOTIONS)
    counts: ClassVar = {"train": 4800, "val": 960, "test": 480}


class MicroSomething64(MicroSomething):
    """The clips of MicroSomething to be looked at, on four times as many pixels: 64 x 64 unless asked otherwise."""

    def __init__(self, *args: Any, size: int = 64, **rest: Any) -> None:
        super().__init__(*args, size=size, **rest)

    @classmethod
    def split(cls, split: str, count: int | None = None, *, size: int = 64, **rest: Any) -> MicroSplit:
        """The definition of a split of MicroSomething, at this size."""
        return MicroSomething.split(split, count, size=size, **rest)


class MicroKinetics(MicroDataset):
    """Objects with a little motion: twelve classes by looks alone, and four looks with two motions each."""

    classes = _alphabetical(
        MicroClass(motions, thing)
        for place, thing in enumerate(_things(_SHALLOW[1:] + _DEEP[1:], "dotted", "ringed"))
        for motions in ([_GENTLE] if place < 12 else [("shake",), ("bounce",)])
    )
    counts: ClassVar = {"train": 4000, "val": 800, "test": 400}
    difficulty = Difficulty(motion=(0.2, 0.4), size=(0.2, 0.3), distractors=0.5)


class MicroPictures(MicroDataset):
    """Single pictures of single objects to pretrain on: five numbers of lobes x two depths x two textures."""

    classes = _alphabetical(MicroClass(("still",), thing) for thing in _things(_SHALLOW + _DEEP, "plain", "striped"))
    counts: ClassVar = {"train": 16000, "val": 2000}
    frames = 1
    difficulty = Difficulty(motion=(0.0, 0.3), size=(0.22, 0.42), distractors=0.0)


class MicroUCF(MicroDataset):
    """Six looks with two motions each, in three divisions into train and val."""

    classes = _alphabetical(
        MicroClass((motion,), thing)
        for thing, motions in zip(
            _things(_DEEP[:3] + _SHALLOW[2:], "chequered"),
            [("right", "left"), ("approach", "recede"), ("shake", "still")] * 2,
            strict=True,
        )
        for motion in motions
    )
    counts: ClassVar = {"train": 1440, "val": 1440}
    folds = 3
    difficulty = Difficulty(size=(0.17, 0.25), distractors=0.5)


class MicroHMDB(MicroDataset):
    """Four looks with two motions each, in three divisions into train and val; smaller and harder than MicroUCF."""

    classes = _alphabetical(
        MicroClass((motion,), thing)
        for thing, motions in zip(
            _things(("bean", "bow"), "dotted", "chequered"),
            [("up", "down"), ("stretch", "squeeze"), ("speed up", "slow down"), ("bounce", "still")],
            strict=True,
        )
        for motion in motions
    )
    counts: ClassVar = {"train": 720, "val": 720}
    folds = 3


MICRO_DATASETS: dict[str, type[MicroDataset]] = {
    kind.__name__: kind
    for kind in (MicroSomething, MicroKinetics, MicroPictures, MicroUCF, MicroHMDB, MicroSomething64)
}
"""By name. Scenes are seeded with the place of their dataset among these: a new one goes to the end."""

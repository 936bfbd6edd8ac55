"""From a recipe to clips: its dataset for training or testing, and which clips make up which batch."""

import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_all_start_methods, get_start_method
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torchvision.transforms import v2

from ctnet.data import (
    DATASETS,
    VideoDataset,
    VideoError,
    VideoList,
    Videos,
    eval_transform,
    left_right_swap,
    load_videos,
    sample_dense,
    sample_sparse,
    train_transform,
    unmatched_left_right,
)
from ctnet.data.skipping import add_to_skip_list
from ctnet.engine import signals
from ctnet.engine.place import Place
from ctnet.engine.recipe import Recipe
from ctnet.errors import did_you_mean, some
from ctnet.micro import MICRO_DATASETS, MicroDataset
from ctnet.models import VideoModel

TRIES = 5  # other videos that are tried in the place of one that cannot be read


class View(NamedTuple):
    """How a video is looked at in testing: "3x2" in the paper's tables is 3 crops of each of 2 clips."""

    crops: int = 1
    clips: int = 1
    size: int | None = None  # side of the square that the network sees; the recipe's unless given

    @classmethod
    def parse(cls, text: str) -> "View":
        """Read "3x2" or, with a size, "3x2@224"; raises ValueError for anything else."""
        try:
            views, at, size = text.partition("@")
            crops, clips = map(int, views.split("x"))
            view = cls(crops, clips, int(size) if at else None)
        except ValueError:
            view = cls(0, 0)
        if view.crops not in (1, 3) or view.clips < 1 or (view.size is not None and view.size < 1):
            raise ValueError(f"{text!r} is no view: write crops x clips, such as 1x1, 1x2, 3x2 or 3x4@224")
        return view

    def __str__(self) -> str:
        return f"{self.crops}x{self.clips}" + (f"@{self.size}" if self.size else "")


def load_split(recipe: Recipe, split: str) -> VideoList | MicroDataset:
    """The videos of a recipe's dataset, "train" or "val"."""
    if recipe.dataset in MICRO_DATASETS:
        count = recipe.train_clips if split == "train" else recipe.val_clips
        kind, level = MICRO_DATASETS[recipe.dataset], recipe.difficulty
        return kind(recipe.root or None, split, count=count, fold=recipe.fold, difficulty=level)
    if recipe.dataset not in DATASETS:
        raise ValueError(
            f"unknown dataset {recipe.dataset!r}; {did_you_mean(recipe.dataset, [*DATASETS, *MICRO_DATASETS])}"
        )
    if not recipe.root:
        raise ValueError(f"where does {recipe.dataset} lie? give its directory as root=DIRECTORY")
    return load_videos(recipe.root, "train" if split == "train" else "val", recipe.dataset, recipe.fold, recipe.missing)


def train_data(recipe: Recipe, model: VideoModel, videos: Videos | None = None) -> VideoDataset:
    """Clips to train a model on: sampled, cropped and flipped at random as the recipe says, and normalised for it.

    Raises:
        ValueError: when no video is left.
    """
    videos = load_split(recipe, "train") if videos is None else videos
    swap = left_right_swap(videos.class_names) if recipe.flip else None
    normalisation = model.input_mean, model.input_std
    transform = train_transform(recipe.size, recipe.sides, recipe.scales, recipe.flip, swap, *normalisation)
    clips = VideoDataset(
        videos,
        sampler(recipe),
        transform,
        train=True,
        short_side=max(recipe.sides),
        seed=recipe.seed,
        skip=recipe.skip or None,
    )
    if recipe.flip and (unmatched := unmatched_left_right(videos.class_names)):
        clips.notes.append(f"flip=true gives clips of these classes a wrong label: {some(unmatched)}")
    clips.notes += _without_effect(recipe, "train_clips", "difficulty")
    return _not_empty(clips, recipe, "train")


def eval_data(
    recipe: Recipe, model: VideoModel, view: View | None = None, videos: Videos | None = None
) -> VideoDataset:
    """Clips to test a model on; an item has crops x clips of them where a view has more than one.

    Args:
        recipe: that the model was trained by; its validation split is read unless `videos` are given.
        model: whose normalisation the clips get.
        view: one clip and one crop unless given.
        videos: what to read.

    Raises:
        ValueError: when the model knows its classes and the dataset has others, or no video is left.
    """
    videos, view = load_split(recipe, "val") if videos is None else videos, view or View()
    if model.classes is not None and model.classes != videos.class_names:
        raise ValueError(f"the network was trained for other classes than those of {recipe.root or recipe.dataset}")
    transform, short_side = _eval_transform(recipe, model, view)
    clips = sampler(recipe, view.clips)
    dataset = VideoDataset(videos, clips, transform, short_side=short_side, skip=recipe.skip or None)
    dataset.notes += _without_effect(recipe, "val_clips")
    return _not_empty(dataset, recipe, "test")


def _without_effect(recipe: Recipe, *names: str) -> list[str]:
    """A note on each field of a Micro dataset that is set for another one, whose videos are all read."""
    if recipe.dataset in MICRO_DATASETS:
        return []
    given = {name: value for name in names if (value := getattr(recipe, name)) is not None}
    return [f"{name}={value} has no effect: only a Micro dataset has it" for name, value in given.items()]


def _not_empty(dataset: VideoDataset, recipe: Recipe, use: str) -> VideoDataset:
    """The dataset, which must hold a video; raises ValueError."""
    if not len(dataset):
        where = recipe.root or recipe.dataset
        raise ValueError(f"{where} has no video to {use} on: {dataset.left_out} were left out, see `ctnet data info`")
    return dataset


def _eval_transform(recipe: Recipe, model: VideoModel, view: View) -> tuple[v2.Compose, int]:
    """The transform of a view, and the shorter side to which frames are resized before it: as in training, at least."""
    size = view.size or recipe.eval_size
    short_side = max(size, min(recipe.sides))
    if view.crops == 3 and short_side == size and recipe.dataset in MICRO_DATASETS:  # square: room for three crops
        short_side = size * 9 // 8
    return eval_transform(size, short_side, view.crops, model.input_mean, model.input_std), short_side


def sampler(recipe: Recipe, clips: int = 1) -> Callable[..., NDArray[np.int64]]:
    """The recipe's choice of frames, for one or several clips of a video."""
    if recipe.sampling == "sparse":
        return partial(sample_sparse, length=recipe.frames, clips=clips)
    return partial(sample_dense, length=recipe.frames, clips=clips, window=recipe.window)


class Batches(Sampler[list[int]]):
    """Which clips this process works on: for every step of an epoch, its share of the batch, in one or more pieces.

    All clips are shuffled anew in each epoch, from the seed and the epoch alone; what does not fill a batch is left
    out. Process r takes clips r, r + world, ... of each batch.

    Args:
        length: number of clips in the dataset.
        batch_size: clips of a step over all processes.
        seed: of the order.
        place: of this process among `place.world`.
        most: clips of a piece at most; gradients are accumulated over the pieces.

    Raises:
        ValueError: when the dataset does not fill one batch, or the batch cannot be shared out evenly.
    """

    def __init__(self, length: int, batch_size: int, seed: int, place: Place, most: int | None = None) -> None:
        if batch_size % place.world:
            raise ValueError(f"batch_size={batch_size} cannot be shared out evenly to {place.world} processes")
        if length < batch_size:
            raise ValueError(f"{length} clips do not fill a batch: lower batch_size={batch_size}")
        self.length, self.batch_size, self.seed, self.place = length, batch_size, seed, place
        self.share = batch_size // place.world
        pieces = -(-self.share // (most or self.share))
        self.pieces = [len(range(self.share)[i::pieces]) for i in range(pieces)]
        self.epoch = self.first_step = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.length // self.batch_size

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch, and the step to begin at, of the next iteration."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps - self.first_step) * len(self.pieces)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed((self.seed * 100_003 + self.epoch) % 2**63)
        order = torch.randperm(self.length, generator=generator).tolist()
        for step in range(self.first_step, self.steps):
            share = iter(
                order[step * self.batch_size : (step + 1) * self.batch_size][self.place.rank :: self.place.world]
            )
            for piece in self.pieces:
                yield [next(share) for _ in range(piece)]


class Loader:
    """Batches of clips from worker processes; an error in one of them is raised here, as it was there.

    Clips travel as uint8, a quarter as large, and are normalised on the device of this process, where they come out.

    Args:
        dataset: what to read.
        batches: indices of each batch.
        workers: number of processes; 0 reads in this one.
        place: of this process.
        unreadable: skip list that gets the name of each video that cannot be read, whose place another one takes; such
            a video is an error unless it is given.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        batches: Sampler[list[int]],
        workers: int,
        place: Place,
        unreadable: Path | None = None,
    ) -> None:
        self.dataset, self.device = dataset, place.device
        self.loader = DataLoader(
            _Items(dataset, unreadable),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=place.device.type == "cuda",
            persistent_workers=workers > 0,  # they stay between two passes
            worker_init_fn=partial(_follow, None if _served() else os.getpid()),
            generator=torch.Generator(),  # so that it draws nothing from the generator that dropout uses
        )

    def close(self) -> None:
        """End the processes, which would outlive the signal that ends them at the end of a program.

        The next pass starts others.
        """
        processes, self.loader._iterator = self.loader._iterator, None
        if isinstance(processes, _MultiProcessingDataLoaderIter):
            processes._shutdown_workers()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        try:
            with signals.held():  # torch gives the processes that it starts a handler that ends them
                batches = iter(self.loader)
            for batch in batches:
                if isinstance(batch, _Failure):
                    raise batch.error from RuntimeError(f"in the process that loads data:\n{batch.trace}")
                clips, labels = (part.to(self.device, non_blocking=True) for part in batch)
                yield self.dataset.normalised(clips), labels
        except Exception:
            self.close()  # they would live as long as somebody keeps the error
            raise


def _served() -> bool:
    """Whether a server, and not this process, is the parent of the processes that are started."""
    return (get_start_method(allow_none=True) or get_all_start_methods()[0]) == "forkserver"


def _follow(trainer: int | None, number: int) -> None:
    """Have a process that loads data outlive signals to its group: the one that trains saves first, then ends it.

    But not that one's death: torch looks for it from here on only, and would take another process for it.
    """
    signals.ignore()
    if trainer is not None and os.getppid() != trainer:
        os._exit(1)


class _Failure(NamedTuple):
    """An error in place of a batch."""

    error: Exception
    trace: str


class _Items(Dataset[Any]):
    """The items of a dataset, or the error that one of them led to."""

    def __init__(self, videos: VideoDataset, unreadable: Path | None) -> None:
        self.videos, self.unreadable = videos, unreadable

    def __getitems__(self, indices: list[int]) -> list[Any]:
        items = []
        for index in indices:
            try:
                items.append(self._item(index))
            except Exception as error:
                return [_Failure(_named(error, self.videos.names[index]), traceback.format_exc())]
        return items

    def _item(self, index: int) -> Any:
        """The item; where unreadable ones are listed, the first readable of some that the seed and the index give."""
        if self.unreadable is None:
            return self.videos.pixels(index)
        others = np.random.default_rng([self.videos.seed, index]).integers(len(self.videos), size=TRIES)
        for number in (index, *others.tolist()):
            try:
                return self.videos.pixels(number)
            except VideoError as error:
                add_to_skip_list(self.unreadable, self.videos.names[number], str(error))
                last = error
        raise last


def _named(error: Exception, name: str) -> Exception:
    """The error, to be sent to another process; one that does not name the video gets its name."""
    message = " ".join(str(error).split())
    named = message if name in message else f"{name}: {message or type(error).__name__}"
    if isinstance(error, VideoError | FileNotFoundError):
        return VideoError(named) if isinstance(error, VideoError) else FileNotFoundError(named)
    if isinstance(error, ValueError | OSError | RuntimeError):
        return ValueError(named)
    try:  # a mistake in the program: as it is, if it can be sent
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{name}: {type(error).__name__}: {message}")


def _collate(items: list[Any]) -> Any:
    return items[0] if isinstance(items[0], _Failure) else default_collate(items)

"""Clips for training and testing: a list of videos, a sampler and a transform joined."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ctnet.data.skipping import read_skip_list
from ctnet.data.transforms import split_normalisation
from ctnet.errors import some
from ctnet.files import PathLike


class Videos(Protocol):
    """What `VideoDataset` reads from: a `VideoList` of files, or a `ctnet.micro.MicroDataset` of drawn clips.

    Attributes:
        names: of the videos, by their index.
        labels: of the videos.
        class_names: by label.
    """

    @property
    def names(self) -> list[str]: ...  # noqa: D102
    @property
    def labels(self) -> Sequence[int] | NDArray[np.int64]: ...  # noqa: D102
    @property
    def class_names(self) -> list[str]: ...  # noqa: D102

    def read(self, index: int, indices: Callable[[int], Sequence[int]], short_side: int | None = None) -> Tensor:
        """Frames of a video, uint8 (T, 3, H, W): those that `indices` picks, given their number."""
        ...


class VideoDataset(Dataset[tuple[Tensor, int]]):
    """Clips and labels of a list of videos.

    An item is `(clip, label)`, the clip float of shape (3, T, H, W), or (views, 3, T, H, W) where the sampler gives
    several clips or the transform several crops (views = crops x clips). A video that cannot be read raises a
    VideoError; `check` finds such videos beforehand, and `skip` leaves them out.

    Args:
        videos: what to read, from `load_videos`, or a Micro dataset.
        sampler: `sampler(num_frames, generator=...)` gives frame indices (clips, T): a partial of `sample_sparse` or
            `sample_dense`.
        transform: called with (clip, label), from `train_transform` or `eval_transform`.
        train: draw frames at random, afresh in each epoch; otherwise the sampler gets no generator.
        short_side: length to which the shorter side is resized while decoding; saves time for large videos.
        seed: an item depends on the seed, the epoch and its index only, not on the number of workers.
        skip: file of videos to leave out, as `check` writes it.

    Attributes:
        names: of the videos in use, paths under the dataset's directory or numbers of drawn clips.
        labels: of the videos in use.
        classes: names of the classes.
        left_out: number of videos that were skipped, here or in listing them.
        notes: what a user should know before the clips are used, a line each: what was left out, and what of the skip
            list matches nothing.
    """

    def __init__(
        self,
        videos: Videos,
        sampler: Callable[..., NDArray[np.int64]],
        transform: Callable[[Tensor, int], tuple[Tensor, int]],
        train: bool = False,
        short_side: int | None = None,
        seed: int = 0,
        skip: PathLike | None = None,
    ) -> None:
        names = videos.names
        excluded, unmatched = read_skip_list(skip, names, getattr(videos, "root", None)) if skip else (set(), [])
        self.kept = [i for i, name in enumerate(names) if name not in excluded]
        self.names = [names[i] for i in self.kept]
        self.labels = [int(videos.labels[i]) for i in self.kept]
        self.classes = videos.class_names
        for name, label in zip(self.names, self.labels, strict=True):
            if not 0 <= label < len(self.classes):
                raise ValueError(f"{name} has the label {label}, and there are {len(self.classes)} classes")
        listed = getattr(videos, "left_out", [])
        self.left_out = len(names) - len(self.kept) + len(listed)
        self.notes = [f"{len(listed)} left out, {len(names)} used: {some(listed)}"] if listed else []
        if skip:
            self.notes.append(f"{len(names) - len(self.kept)} of {len(names)} skipped, which {skip} lists")
        if unmatched:
            self.notes.append(f"{len(unmatched)} entries of {skip} match no video: {some(unmatched)}")
        self.videos = videos
        self.sampler = sampler
        self.crop, self.normalise = split_normalisation(transform)
        self.train = train
        self.short_side = short_side
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by persistent workers too

    def __len__(self) -> int:
        return len(self.kept)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random draws of an epoch; call before each one."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip, label = self.pixels(index)
        return self.normalised(clip), label

    def normalised(self, clips: Tensor) -> Tensor:
        """Clips from `pixels`, one or a batch (..., 3, T, H, W), as they are in items: float, on their own device."""
        return self.normalise(clips.transpose(-3, -4)).transpose(-3, -4)

    def pixels(self, index: int) -> tuple[Tensor, int]:
        """An item before it is normalised: uint8, if the transform ends with that, as `train_transform` does."""
        index = range(len(self))[index]
        generator = np.random.default_rng([self.seed, int(self._epoch), index])
        shape: list[int] = []

        def sample(num_frames: int) -> list[int]:
            indices = self.sampler(num_frames, generator=generator if self.train else None)
            shape[:] = indices.shape
            return indices.ravel().tolist()

        frames = self.videos.read(self.kept[index], sample, self.short_side)  # (clips * T, 3, H, W)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(generator.integers(2**63)))
            clip, label = self.crop(frames.unflatten(0, shape), self.labels[index])
        views = clip.flatten(0, -5).transpose(-3, -4)  # (crops, clips, T, 3, H, W) -> (views, 3, T, H, W)
        return views[0] if len(views) == 1 else views, label

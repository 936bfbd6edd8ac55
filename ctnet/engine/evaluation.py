"""Scores of a network on a dataset, and what follows from them: accuracies, confusion, ensembles."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler
from tqdm.auto import tqdm

from ctnet.data import VideoDataset, VideoList
from ctnet.engine.loading import Loader, View, eval_data
from ctnet.engine.place import Place
from ctnet.engine.preparation import exact_fp32
from ctnet.engine.recipe import Recipe
from ctnet.files import PathLike, replacing
from ctnet.models import VideoModel
from ctnet.models.modes import evaluating

Average = Literal["probabilities", "scores"]


@dataclass(frozen=True)
class ClassResult:
    """What a network makes of the videos of one class.

    Attributes:
        name: of the class.
        videos: how many it has.
        accuracy: from 0 to 1.
        mistaken_for: the class that its videos are wrongly taken for most often; None when all are right.
        mistakes: how many videos are taken for that one.
    """

    name: str
    videos: int
    accuracy: float
    mistaken_for: str | None
    mistakes: int


@dataclass(frozen=True)
class Scores:
    """What a network, or several together, says of every video of a split.

    Attributes:
        probabilities: float32 (N, classes): the softmax of the scores, averaged over the views of a video before or
            behind it.
        labels: int64 (N,).
        names: of the videos.
        classes: names of the classes.
        about: where the scores come from, as `ctnet test --scores` records it: hash of the weights, recipe, fields of
            it that were changed for the test, view, precision, devices, seconds, versions, identity of the data.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: list[str]
    classes: list[str]
    about: Mapping[str, Any] = field(default_factory=dict)

    def top(self, k: int) -> NDArray[np.int64]:
        """The `k` most probable classes of each video, (N, k), best first.

        Of equally probable ones the first class stands before the others, and what is no number behind all. Every
        accuracy, confusion and verdict follows this rule.
        """
        return (-self.probabilities).argsort(axis=1, kind="stable")[:, :k]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The most probable class of each video, (N,)."""
        return self.top(1)[:, 0]

    def accuracy(self, k: int = 1) -> float:
        """Share of the videos whose label is among the `k` most probable classes, from 0 to 1.

        A label whose probability is no number is never right.
        """
        known = ~np.isnan(self.probabilities[np.arange(len(self.labels)), self.labels])
        return float((known & (self.top(k) == self.labels[:, None]).any(1)).mean())

    def confusion(self) -> NDArray[np.int64]:
        """Counts (classes, classes): row the label, column the prediction."""
        counts = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(counts, (self.labels, self.predictions), 1)
        return counts

    def per_class(self) -> NDArray[np.float64]:
        """Accuracy within each class, (classes,); NaN where a class has no video."""
        counts = self.confusion()
        with np.errstate(invalid="ignore"):
            return counts.diagonal() / counts.sum(1)

    def hardest(self, count: int) -> list[ClassResult]:
        """The `count` classes with the lowest accuracy, lowest first, and what each is mostly taken for.

        Classes without a video are left out; of equally hard ones, or equal mistakes, the first stands before the
        others. Accuracies are those of `per_class`.
        """
        counts = self.confusion()
        videos = counts.sum(1)
        accuracies = self.per_class()
        np.fill_diagonal(counts, 0)
        order = accuracies.argsort(kind="stable")[: (videos > 0).sum()]  # NaN stands last
        found = []
        for place in order[: max(count, 0)]:
            wrong = counts[place]
            mistaken = self.classes[int(wrong.argmax())] if wrong.any() else None
            result = (self.classes[place], int(videos[place]), float(accuracies[place]), mistaken, int(wrong.max()))
            found.append(ClassResult(*result))
        return found

    def save(self, path: PathLike) -> None:
        """Write everything to an .npz file, so that no second pass is needed; whole or not at all."""
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.savez_compressed(
                file,
                probabilities=self.probabilities,
                labels=self.labels,
                names=np.array(self.names),
                classes=np.array(self.classes),
                about=np.array(json.dumps(self.about)),
            )

    @classmethod
    def load(cls, path: PathLike) -> "Scores":
        """Read what `save` wrote; raises FileNotFoundError, or ValueError for a file of another kind."""
        try:
            with np.load(path, allow_pickle=False) as held:
                about = json.loads(str(held["about"])) if "about" in held else {}
                names, classes = held["names"].tolist(), held["classes"].tolist()
                return cls(held["probabilities"], held["labels"], names, classes, about)
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever the damage leads to
            raise ValueError(f"{path} holds no scores of ctnet ({error})") from error


def fuse(several: Sequence[Scores]) -> Scores:
    """An ensemble: the mean of the networks' probabilities (Table 6).

    Raises:
        ValueError: when the scores are of other videos or classes.
    """
    check_alike(several)
    first = several[0]
    return Scores(
        np.mean([scores.probabilities for scores in several], axis=0, dtype=np.float32),
        first.labels,
        first.names,
        first.classes,
    )


def check_alike(several: Sequence[Scores | VideoDataset]) -> None:
    """Refuse scores, or datasets that are to be scored, of which the videos or classes differ; raises ValueError."""
    first = several[0]
    for other in several[1:]:
        same_videos = other.names == first.names and list(other.labels) == list(first.labels)
        if not same_videos or other.classes != first.classes:
            raise ValueError("scores of different videos or classes cannot be fused")


def data_identity(scored: Scores | VideoDataset) -> str:
    """Sixteen hexadecimal digits that tell which videos these are, with which labels among which classes."""
    content = [list(scored.names), [int(label) for label in scored.labels], list(scored.classes)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def check_same_videos(dataset: VideoDataset, place: Place) -> None:
    """Raise ValueError when processes that share out a dataset have different videos: they would count on others'."""
    if place.world == 1:
        return
    own = torch.tensor([[int(data_identity(dataset)[:15], 16)]], device=place.device)
    if len(set(place.interleave(own, place.world).flatten().tolist())) > 1:
        raise ValueError("the processes have different videos: give all of them the same dataset, whole")


def check_average(average: str) -> None:
    """Raise ValueError unless views can be averaged so."""
    if average not in get_args(Average):
        raise ValueError(f"views are averaged by their {' or '.join(get_args(Average))}, not by {average!r}")


@exact_fp32()
def evaluate(
    model: VideoModel,
    dataset: VideoDataset,
    place: Place | None = None,
    *,
    batch_size: int = 64,
    precision: torch.dtype = torch.float32,
    workers: int = 0,
    average: Average = "probabilities",
    progress: bool = False,
) -> Scores:
    """Score every video of a dataset exactly once, on however many processes, in evaluation mode.

    Args:
        model: on `place.device`.
        dataset: whose items are clips (3, T, H, W), or views of a video (views, 3, T, H, W), which are averaged.
        place: of this process.
        batch_size: clips at once on a device.
        precision: of autocast; torch.float32 for none, and then in full, not as TF32.
        workers: processes that load data.
        average: of a video's views: their probabilities, or their scores before the softmax, as the authors' code does.
        progress: show a bar.

    Raises:
        ValueError: when the model scores another number of classes, the average is not known, or the processes have
            different videos.
    """
    check_average(average)
    place = place or Place(next((parameter.device for parameter in model.parameters()), torch.device("cpu")))
    check_same_videos(dataset, place)
    mine = range(len(dataset))[place.rank :: place.world]
    first = dataset[0][0] if len(dataset) else None
    views = len(first) if first is not None and first.dim() == 5 else 1
    batches = BatchSampler(mine, max(1, batch_size // views), drop_last=False)
    loaded = Loader(dataset, batches, workers, place)
    rows = [torch.zeros(0, len(dataset.classes), device=place.device)]
    bar = tqdm(
        loaded,
        desc="testing",
        unit="batch",
        disable=not (progress and place.first),
        leave=False,
        mininterval=interval(),
    )
    with closing(loaded), evaluating(model), torch.inference_mode():
        for clips, _ in bar:
            with torch.autocast(place.device.type, precision, enabled=precision != torch.float32):
                scores = model(clips.flatten(0, -5))  # (N * views, classes)
            if scores.shape[1] != len(dataset.classes):
                raise ValueError(
                    f"the network scores {scores.shape[1]} classes, the dataset has {len(dataset.classes)}"
                )
            found = scores.float().unflatten(0, (len(clips), -1))
            rows.append(found.softmax(-1).mean(1) if average == "probabilities" else found.mean(1).softmax(-1))
    probabilities = place.interleave(torch.cat(rows), len(dataset)).cpu().numpy()
    return Scores(probabilities, np.array(dataset.labels), dataset.names, dataset.classes)


def interval() -> float:
    """Seconds between two states of a bar: short where somebody looks at it, and long in a file, which keeps them."""
    in_notebook = any(kind.__name__ == "tqdm_notebook" for kind in tqdm.__mro__)
    return 0.1 if in_notebook or sys.stderr.isatty() else 60


def predict(
    model: VideoModel,
    recipe: Recipe,
    videos: Sequence[PathLike],
    view: View | None = None,
    *,
    batch_size: int = 8,
    workers: int = 0,
    progress: bool = False,
) -> Scores:
    """Score any video files, sampled and cropped as the recipe that trained the model says.

    None of them is skipped, whatever the recipe left out. Their labels are all 0, and their names as they are given.

    Args:
        model: on the device that is to score them.
        recipe: that trained it.
        videos: files, or folders of pictures.
        view: one clip and one crop unless given.
        batch_size: clips at once.
        workers: processes that read videos.
        progress: show a bar.

    Raises:
        FileNotFoundError: when there is no such video.
        VideoError: when one cannot be read.
        ValueError: when there is no video, or the model does not know the names of its classes.
    """
    if model.classes is None:
        raise ValueError("the network does not know its classes: save it with their names")
    if isinstance(videos, str | os.PathLike):
        raise ValueError(f"videos are given as a list: [{os.fspath(videos)!r}]")
    if not videos:
        raise ValueError("name a video")
    paths = [Path(video).absolute() for video in videos]
    listed = VideoList("videos", Path(paths[0].anchor), model.classes, paths, [0] * len(paths), [])
    dataset = eval_data(recipe.override({"skip": ""}), model, view, listed)
    scores = evaluate(model, dataset, batch_size=batch_size, workers=workers, progress=progress)
    return replace(scores, names=[os.fspath(video) for video in videos])

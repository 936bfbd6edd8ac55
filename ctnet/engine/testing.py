"""Testing: several networks or kept scores, several ways to look at a video, and ensembles (Table 6)."""

import hashlib
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ctnet.analysis import count_cost
from ctnet.data import VideoDataset
from ctnet.engine.checkpoint import behaviour, load_model, load_recipe
from ctnet.engine.evaluation import Average, Scores, check_alike, check_average, data_identity, evaluate, fuse
from ctnet.engine.loading import View, eval_data
from ctnet.engine.place import Place, distributed
from ctnet.engine.preparation import choose_precision
from ctnet.engine.recipe import BATCH, Recipe
from ctnet.files import check_folder
from ctnet.models import VideoModel


@dataclass(frozen=True)
class Tested:
    """What one network, kept scores or an ensemble got.

    Attributes:
        model: the file, or a description of the ensemble.
        frames: frames x crops x clips, such as "8x3x2"; "" where kept scores do not tell.
        gmacs: multiply-adds for a video in 1e9, over all its views; None where nothing tells.
        scores: of all videos.
    """

    model: str
    frames: str
    gmacs: float | None
    scores: Scores


@dataclass(frozen=True)
class Network:
    """A file of weights to be tested: its recipe with the fields that are changed, and the network itself."""

    path: Path
    recipe: Recipe
    changed: tuple[str, ...]
    model: VideoModel


def score_files(
    files: Sequence[Path],
    changes: Sequence[str] = (),
    views: Sequence[View] = (),
    keep: Path | None = None,
    average: Average = "probabilities",
    progress: bool = False,
) -> list[Tested]:
    """Test networks on their validation splits; under `torchrun`, together with its other processes.

    Everything that can be refused is refused before the first video is read.

    Args:
        files: weights, or scores (.npz) that were kept; several are fused too.
        changes: to fields of the recipes that trained the networks, as `Recipe.parse` reads them.
        views: ways to look at a video; one crop of one clip unless given.
        keep: folder for the scores of each network and view, which tell where they come from: `Scores.about`.
        average: of a video's views, see `evaluate`. Networks are always averaged by their probabilities.
        progress: show a bar.

    Returns:
        A line for each of the kept scores, then for each view one for each network, and one for the ensemble.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a file is damaged, or networks and scores are of different videos or classes.
        OSError: when `keep` cannot be written to.
    """
    if not files:
        raise ValueError("name a checkpoint to test")
    check_average(average)
    kept = [Tested(str(path), "", None, Scores.load(path)) for path in files if path.suffix == ".npz"]
    if len(kept) == len(files) and (views or changes):
        raise ValueError("kept scores are of videos as they were looked at: leave out --view and fields of recipes")
    changed = tuple(text.partition("=")[0] for text in changes)
    recipes = {path: load_recipe(path, changes) for path in files if path.suffix != ".npz"}
    networks = [Network(path, recipe, changed, load_model(path)) for path, recipe in recipes.items()]
    if keep:
        check_folder(keep)
    looked = {view: [eval_data(n.recipe, n.model, view) for n in networks] for view in views or [View()]}
    check_alike([*(line.scores for line in kept), *(dataset for datasets in looked.values() for dataset in datasets)])
    names = distinct_names([network.path for network in networks])
    described = [describe_network(network) for network in networks]
    lines = list(kept)
    with distributed() as place:
        notes = dict.fromkeys(note for datasets in looked.values() for dataset in datasets for note in dataset.notes)
        for note in notes if progress and place.first else ():
            tqdm.write(f"validation: {note}", file=sys.stderr)
        for view, datasets in looked.items() if networks else ():
            found = []
            for name, network, about, dataset in zip(names, networks, described, datasets, strict=True):
                found.append(_test(network, about, dataset, view, place, average, progress))
                if keep and place.first:  # at once: the next one may fail
                    found[-1].scores.save(keep / f"{name}-{view}.npz")
            lines += found
            if len(kept) + len(found) > 1:
                lines.append(_ensemble(kept, found, view))
    if not networks and len(kept) > 1:
        lines.append(_ensemble(kept, [], View()))
    return lines


def _test(
    network: Network,
    described: Mapping[str, Any],
    dataset: VideoDataset,
    view: View,
    place: Place,
    average: Average,
    progress: bool,
) -> Tested:
    """Test one network in one view; its scores tell what is `described`, and how they came about."""
    recipe, start = network.recipe, time.perf_counter()
    size = view.size or recipe.eval_size
    gmacs = count_cost(network.model, size=size, frames=recipe.frames).gmacs * view.crops * view.clips
    precision = choose_precision(recipe.precision, place.device, testing=True)
    scores = evaluate(
        network.model.to(place.device),
        dataset,
        place,
        batch_size=recipe.clips_per_device or min(recipe.batch_size, BATCH),
        precision=precision,
        workers=recipe.workers,
        average=average,
        progress=progress,
    )
    about = {
        **described,
        "view": str(view),
        "average": average,
        "precision": str(precision).removeprefix("torch."),
        "devices": f"{place.world} x {_name(place.device)}",
        "seconds": round(time.perf_counter() - start, 2),
        "data": data_identity(scores),
        "left_out": dataset.left_out,
    }
    return Tested(str(network.path), f"{recipe.frames}x{view}", gmacs, replace(scores, about=about))


def describe_network(network: Network) -> dict[str, Any]:
    """What scores tell of the network that they are of, and of the packages that computed them."""
    with network.path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    packages = ("ctnet", "torch", "torchvision", "av", "numpy")
    assert network.model.config is not None  # it was loaded from a file
    return {
        "weights": weights,
        "recipe": network.recipe.to_dict(),
        "changed": list(network.changed),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
        "behaviour": behaviour(network.recipe, network.model.config["name"]),
    }


def _ensemble(kept: Sequence[Tested], tested: Sequence[Tested], view: View) -> Tested:
    lines = [*kept, *tested]
    gmacs = None if kept else sum(line.gmacs or 0 for line in tested)  # kept scores do not tell what they cost
    fused = fuse([line.scores for line in lines])
    return Tested(f"all {len(lines)}, fused", "" if kept else f"x{view}", gmacs, fused)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its stem behind as many of the folders above it as tell all files apart, at least one.

    No name begins with a hyphen, which a command line would take for an option.
    """
    parts = [[*path.resolve().parts[1:-1], path.stem] for path in paths]
    for length in range(2, max([2, *map(len, parts)]) + 1):
        names = ["-".join(each[-length:]).lstrip("-.") for each in parts]
        if len(set(names)) == len({path.resolve() for path in paths}):
            return names
    return [f"{number}-{name}" for number, name in enumerate(names, 1)]

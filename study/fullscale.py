"""Accuracies of full-scale runs: written by `ctnet test --record`, kept in `results/full-scale`, shown by the tables.

Only a test of a row's own networks, on the whole validation split of the row's own dataset, is let in.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ctnet.engine import RECIPES, Place, Recipe, Scores, View, choose_precision
from ctnet.engine.recipe import EXECUTION
from ctnet.errors import did_you_mean
from study.claims import Claim
from study.paper import DATASETS, Table, all_rows, half_a_digit, table
from study.store import damaged, provenance, read, results_dir, write

_RULE = "the printed digits lie within the 95 % interval of a run on the real dataset (`ctnet test --record`)"


@dataclass(frozen=True)
class Size:
    """How large a dataset is when it is whole: classes, and videos to train and to test on."""

    classes: int
    train: int
    val: int


SIZES = {
    "somethingv1": Size(174, 86_017, 11_522),
    "somethingv2": Size(174, 168_913, 24_777),
    "kinetics": Size(400, 246_245, 20_000),
    "mini-kinetics": Size(200, 80_000, 5_000),
}
"""The datasets of the tables that full-scale runs can fill."""
PARTS = ("data", "engine")
"""What such an accuracy depends on besides its networks."""
LEAST = 0.9
"""Share of a validation split that must be there: some of Kinetics' videos are gone from the web."""

_OWN = frozenset({"model", "options", "frames", "test_size", "seed", "skip", "missing"})  # of the row, or of the copy


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval (Wilson, 1927) of a share that was observed on `count` independent videos."""
    from scipy.stats import binomtest  # takes a second to import

    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


SEVERAL_CLIPS = {("7", "mini-kinetics")}
"""Table and dataset of accuracies from several clips of each video, of which the paper does not say how many (A.5)."""


@dataclass(frozen=True)
class Target:
    """What a full-scale test stands for: a row of a table, on one dataset."""

    table: str
    row: str
    dataset: str

    @property
    def file(self) -> str:
        """Where under `results` it is kept."""
        return f"full-scale/{self.table}-{self.row}-{self.dataset}.json"

    def check_videos(self, classes: int, videos: int) -> None:
        """Refuse a part of the dataset, or a rehearsal in its layout; raises ValueError."""
        whole = SIZES[self.dataset]
        if classes != whole.classes or not LEAST * whole.val <= videos <= whole.val:
            raise ValueError(
                f"a row of the paper is filled from all of {self.dataset}: {whole.val} videos of {whole.classes} "
                f"classes to test on, not {videos} of {classes}"
            )


def find_target(name: str, recipes: Sequence[Recipe], views: Sequence[View], changed: Iterable[str] = ()) -> Target:
    """The row that a test of networks fills, which must be a test of that very row.

    Args:
        name: table and row, such as "3/ct-net-8x3x2".
        recipes: that trained the networks, one or those of an ensemble.
        views: how videos are looked at; one.
        changed: fields of the recipes that are others than in training.

    Raises:
        ValueError: for an unknown row, or one that is about other networks, another dataset or other views.
    """
    if others := set(changed) - EXECUTION - {"test_size", "skip", "missing"}:
        raise ValueError(f"--record takes networks as they were trained: leave out {', '.join(sorted(others))}")
    if len(views) > 1:
        raise ValueError("--record fills one row: give one --view")
    (view,) = views
    known = {f"{row.table}/{row.id}": row for row in all_rows() if row.networks}
    if name not in known:
        raise ValueError(f"no row {name!r} that a run could fill; {did_you_mean(name, known)}")
    row = known[name]

    def wrong(what: str, there: object, here: object) -> ValueError:
        return ValueError(f"row {name} is about {what} {there}, and this is a test of {here}")

    datasets = {column.dataset for column in table(row.table).accuracies.values()}
    found = {recipe.dataset for recipe in recipes}
    if len(found) != 1 or not found <= datasets:
        raise wrong("the dataset", " or ".join(sorted(map(str, datasets))), " and ".join(sorted(found)))
    theirs = [_network(n.model, n.options, n.frames, n.size) for n in row.networks]
    ours = [_network(r.model, r.options, r.frames, view.size or r.test_size or r.size) for r in recipes]
    if sorted(theirs) != sorted(ours):
        raise wrong("the network", " + ".join(theirs), " + ".join(ours))
    sides, trained = {recipe.size for recipe in recipes}, row.printed.get("train")
    if trained is not None and sides != {trained}:
        raise wrong("training at", f"{trained} pixels", " + ".join(map(str, sorted(sides))))
    looked = f"{view.crops}x{view.clips}"
    if (row.table, *found) in SEVERAL_CLIPS:
        if looked == "1x1":
            raise wrong("crops x clips", "of more than 1x1", looked)
    elif looked != row.view:
        raise wrong("crops x clips", row.view, looked)
    return Target(row.table, row.id, found.pop())


def _network(model: str, options: Mapping[str, Any], frames: int, size: int) -> str:
    words = [f"{frames} frames", f"{size} pixels", *(f"{name} {options[name]}" for name in sorted(options))]
    return f"{model} ({', '.join(words)})"


def keep(
    target: Target, scores: Scores, networks: Mapping[Path, Recipe], view: View, place: Place, seconds: float
) -> Path:
    """Write the result of a full-scale test, with all that tells where it comes from.

    Args:
        target: from `find_target`.
        scores: of the network, or of the ensemble.
        networks: file of weights -> recipe that trained it.
        view: how videos were looked at.
        place: of this process.
        seconds: that the test took.

    Returns:
        The file.

    Raises:
        ValueError: when the scores are of a part of the dataset.
    """
    target.check_videos(len(scores.classes), len(scores.labels))
    recipes = list(networks.values())
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "CPU"
    shares = {f"top{k}": scores.accuracy(k) for k in (1, 5)}
    precisions = {choose_precision(recipe.precision, place.device, testing=True) for recipe in recipes}
    content = {
        **asdict(target),
        "view": str(view),
        "videos": len(scores.labels),
        "metrics": shares,
        "interval": {name: wilson(share, len(scores.labels)) for name, share in shares.items()},
        "networks": [
            {"weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16], "recipe": recipe.to_dict()}
            for path, recipe in networks.items()
        ],
        "precision": " + ".join(sorted(str(precision).removeprefix("torch.") for precision in precisions)),
        "provenance": provenance(PARTS, {recipe.model for recipe in recipes}, seconds)
        | {"devices": f"{place.world} x {device}"},
    }
    return write(target.file, content)


@dataclass(frozen=True)
class Accuracy:
    """A full-scale accuracy in percent beside the printed one.

    Attributes:
        value, low, high: measured, and its 95 % interval.
        verdict: "within interval" if the printed digits are compatible with the interval, else "differs".
        changes: what the recipe had otherwise than this package's recipe for the dataset, in words.
    """

    value: float
    low: float
    high: float
    verdict: str
    changes: str = ""

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


def accuracies(about: Table) -> dict[tuple[str, str], Accuracy]:
    """The full-scale accuracies that are kept for a table, by row and column.

    Raises:
        ValueError: when a file is damaged.
    """
    found = {}
    for name, column in about.accuracies.items():
        for row in about.rows.values():
            target = Target(about.id, row.id, column.dataset or "")
            if row.networks and (content := read(target.file)) is not None:
                found[row.id, name] = _accuracy(target, content, column.k, row.printed[name])
    return found


def _accuracy(target: Target, content: Mapping[str, Any], k: int, printed: float | None) -> Accuracy:
    try:
        if Target(*(content[key] for key in ("table", "row", "dataset"))) != target:
            raise ValueError("it is about another row")
        target.check_videos(SIZES[target.dataset].classes, content["videos"])
        value = 100 * content["metrics"][f"top{k}"]
        low, high = (100 * bound for bound in content["interval"][f"top{k}"])
        changes = {change for network in content["networks"] for change in _changes(network["recipe"])}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(results_dir() / target.file, error) from error
    near = printed is not None and low - half_a_digit(printed) <= printed <= high + half_a_digit(printed)
    verdict = "not printed" if printed is None else "within interval" if near else "differs"
    return Accuracy(value, low, high, verdict, ", ".join(sorted(changes)))


def accuracy_claims(name: str) -> Iterator[Claim]:
    """Every accuracy that a table prints, beside that of a full-scale run where there is one."""
    about = table(name)
    found = accuracies(about)
    for column, told in about.accuracies.items():
        for row in about.rows.values():
            value, run, dataset = row.printed[column], found.get((row.id, column)), told.dataset or ""
            if value is not None:
                yield Claim(
                    "full size",
                    name,
                    row.id,
                    column,
                    f"Table {name}, {row.label}: {value} % top-{told.k} on {DATASETS[dataset]}",
                    value,
                    run and {"value": run.value, "low": run.low, "high": run.high},
                    run.verdict if run else "not run here",
                    run.changes if run else "",
                    _RULE,
                    (Target(name, row.id, dataset).file,) if run else (),
                )


def _changes(recipe: Mapping[str, Any]) -> list[str]:
    """The fields that a run learnt with otherwise than the package's recipe for its dataset."""
    usual = RECIPES[recipe["dataset"]].to_dict()
    names = usual.keys() - EXECUTION - _OWN
    theirs = {**usual, **recipe}  # a field that there was not yet had today's default
    return [f"{name} {theirs[name]}, not {usual[name]}" for name in names if theirs[name] != usual[name]]

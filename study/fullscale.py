"""Accuracies of full-scale runs: written by `ctnet test --record`, kept in `results/full-scale`, shown by the tables.

Only a test of a row's own networks, on the whole validation split of the row's own dataset, is let in.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ctnet.engine import RECIPES, Place, Recipe, Scores, View, choose_precision
from ctnet.engine.recipe import EXECUTION
from ctnet.errors import did_you_mean
from study.claims import Claim
from study.experiments import ROWS
from study.provenance import code_hash, code_of, provenance, write_json
from study.published import (
    DATASETS,
    accuracy_columns,
    dataset_of,
    half_a_digit,
    published_table,
    results_dir,
    row_label,
)
from study.runner import CODE

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
    def file(self) -> Path:
        """Where the result is kept."""
        return results_dir() / "full-scale" / f"{self.table}-{self.row}-{self.dataset}.json"

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
    table, _, row_id = name.partition("/")
    known = [f"{each}/{row}" for each, rows in ROWS.items() for row in rows]
    if name not in known:
        raise ValueError(f"no row {name!r} that a run could fill; {did_you_mean(name, known)}")
    row = ROWS[table][row_id]

    def wrong(what: str, there: object, here: object) -> ValueError:
        return ValueError(f"row {name} is about {what} {there}, and this is a test of {here}")

    printed = published_table(table)
    datasets = {dataset_of(table, column) for column in accuracy_columns(printed)}
    found = {recipe.dataset for recipe in recipes}
    if len(found) != 1 or not found <= datasets:
        raise wrong("the dataset", " or ".join(sorted(datasets)), " and ".join(sorted(found)))
    theirs = [_network(n.model, n.options, n.frames, n.size) for n in row.networks]
    ours = [_network(r.model, r.options, r.frames, view.size or r.test_size or r.size) for r in recipes]
    if sorted(theirs) != sorted(ours):
        raise wrong("the network", " + ".join(theirs), " + ".join(ours))
    sides, trained = {recipe.size for recipe in recipes}, printed.loc[row_id].get("train")
    if trained is not None and sides != {trained}:
        raise wrong("training at", f"{trained} pixels", " + ".join(map(str, sorted(sides))))
    looked = f"{view.crops}x{view.clips}"
    if (table, *found) in SEVERAL_CLIPS:
        if looked == "1x1":
            raise wrong("crops x clips", "of more than 1x1", looked)
    elif looked != row.view:
        raise wrong("crops x clips", row.view, looked)
    return Target(table, row_id, found.pop())


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
        "provenance": provenance(_code(recipes), seconds) | {"devices": f"{place.world} x {device}"},
    }
    write_json(target.file, content)
    return target.file


@dataclass(frozen=True)
class Accuracy:
    """A full-scale accuracy in percent beside the printed one.

    Attributes:
        value, low, high: measured, and its 95 % interval.
        verdict: "within interval" if the printed digits are compatible with the interval, else "differs".
        changes: what the recipe had otherwise than this package's recipe for the dataset, in words.
        stale: whether it was tested by other code than today's.
    """

    value: float
    low: float
    high: float
    verdict: str
    changes: str = ""
    stale: bool = False

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


def accuracies(table: str) -> dict[tuple[str, str], Accuracy]:
    """The full-scale accuracies that are kept for a table, by row and column.

    Raises:
        ValueError: when a file is damaged.
    """
    printed, found = published_table(table), {}
    for column in accuracy_columns(printed):
        for row_id in ROWS.get(table, ()):
            target = Target(table, row_id, dataset_of(table, column))
            if target.file.is_file():
                found[row_id, column] = _read(target, column[-4:], printed[column][row_id])
    return found


def _read(target: Target, metric: str, printed: float | None) -> Accuracy:
    try:
        content = json.loads(target.file.read_text())
        if Target(*(content[key] for key in ("table", "row", "dataset"))) != target:
            raise ValueError("it is about another row")
        target.check_videos(SIZES[target.dataset].classes, content["videos"])
        value = 100 * content["metrics"][metric]
        low, high = (100 * bound for bound in content["interval"][metric])
        changes = {change for network in content["networks"] for change in _changes(network["recipe"])}
        code = _code([Recipe(**network["recipe"]) for network in content["networks"]])
        stale = content["provenance"]["code"] != code_hash(*code)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{target.file} cannot be used ({error}): delete it, or test again with --record") from error
    near = printed is not None and low - half_a_digit(printed) <= printed <= high + half_a_digit(printed)
    verdict = "not printed" if printed is None else "within interval" if near else "differs"
    return Accuracy(value, low, high, verdict, ", ".join(sorted(changes)), stale)


def _code(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """Parts of the package that an accuracy depends on."""
    videos = "data/layouts.py", "data/video.py"
    return tuple(sorted({part for recipe in recipes for part in code_of(recipe.model, *CODE, *videos)}))


def accuracy_claims(table: str) -> Iterator[Claim]:
    """Every accuracy that a table prints, beside that of a full-scale run where there is one."""
    printed, found = published_table(table), accuracies(table)
    for column in accuracy_columns(printed):
        dataset = dataset_of(table, column)
        metric = column[-4:] if column.endswith(("top1", "top5")) else "top1"
        for row_id, value in printed[column].items():
            if value is None:
                continue
            run = found.get((str(row_id), column))
            file = Target(table, str(row_id), dataset).file
            where = f"{metric.replace('top', 'top-')} on {DATASETS[dataset]}"
            yield Claim(
                f"{table}/{row_id}/{column}",
                "full size",
                f"Table {table}, {row_label(printed, str(row_id))}: {value} % {where}",
                value,
                run and {"value": run.value, "low": run.low, "high": run.high},
                run.verdict if run else "not run here",
                run.changes if run else "",
                _RULE,
                (f"full-scale/{file.name}",) if run else (),
                run.stale if run else False,
            )


def _changes(recipe: Mapping[str, Any]) -> list[str]:
    """The fields that a run learnt with otherwise than the package's recipe for its dataset."""
    usual = RECIPES[recipe["dataset"]].to_dict()
    names = usual.keys() - EXECUTION - _OWN
    theirs = {**usual, **recipe}  # a field that there was not yet had today's default
    return [f"{name} {theirs[name]}, not {usual[name]}" for name in names if theirs[name] != usual[name]]

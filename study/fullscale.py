"""Accuracies of full-scale runs: filed by `python -m study record` in `results/full-scale`, shown by the tables.

Only a test of a row's own networks, on the whole validation split of the row's own dataset, is let in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ctnet.engine.recipe import EXECUTION, RECIPES
from study.claims import Claim
from study.paper import DATASET_NAMES, Table, half_a_digit, table
from study.store import damaged, read, results_dir

_RULE = "the printed digits lie within the 95 % interval of a run on the real dataset (`python -m study record`)"


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
                    f"Table {name}, {row.label}: {value} % top-{told.k} on {DATASET_NAMES[dataset]}",
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

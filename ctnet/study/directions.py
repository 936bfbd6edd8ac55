"""Directions: what the paper says is better than what, held against trained twins."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctnet.analysis.statistics import Difference, holm, mean_accuracy, paired_difference
from ctnet.data import MICRO_DATASETS
from ctnet.study.published import published_table, row_label
from ctnet.study.runner import decode, is_stale, run_file
from ctnet.study.twins import TWINS, Run, TwinRow, ensemble_name, seeds_of

LEVEL = 0.05  # of the errors that all verdicts of the study together may make


@dataclass(frozen=True)
class Direction:
    """One row of a table is said to be better than another, in one column of accuracies.

    Attributes:
        table: id of the table.
        better, worse: ids of its rows.
        column: of the published table.
    """

    table: str
    better: str
    worse: str
    column: str = "top1"

    @property
    def id(self) -> str:
        """Name of the claim in the ledger."""
        return f"{self.table}/{self.better} > {self.worse}/{self.column}"

    def row(self, which: str) -> TwinRow:
        """The twins of one of the two rows."""
        datasets = {"mini_kinetics_top1": "/kinetics", "v2_top1": "/v2" if self.table == "7" else ""}
        suffix = datasets.get(self.column, f"/{self.column}" if self.table == "5" else "")
        return TWINS[self.table][f"{which}{suffix}"]

    @property
    def published(self) -> float | None:
        """The printed difference, in points."""
        printed = published_table(self.table)[self.column]
        values = printed[self.better], printed[self.worse]
        return None if None in values else round(float(values[0] - values[1]), 1)

    @property
    def statement(self) -> str:
        """The claim in words."""
        printed = published_table(self.table)
        better, worse = (row_label(printed, row) for row in (self.better, self.worse))
        where = {"ucf101": " on UCF101", "hmdb51": " on HMDB51", "mini_kinetics_top1": " on Mini-Kinetics"}
        return f"Table {self.table}: {better} is more accurate than {worse}{where.get(self.column, '')}"


def _all_over(table: str, best: str, *others: str, columns: tuple[str, ...] = ("top1",)) -> list[Direction]:
    return [Direction(table, best, other, column) for column in columns for other in others]


def _rising(table: str, *rows: str, column: str = "top1") -> list[Direction]:
    return [Direction(table, better, worse, column) for worse, better in pairwise(rows)]


_OTHER_MODULES = ("c3d-module", "r-2-1-d-module", "csn-module")

DIRECTIONS: list[Direction] = [
    *_all_over("2a", "ct-module", *_OTHER_MODULES),
    *_all_over("2b", "k2", "k1", "k3", "k4"),
    *_all_over("2c", "parallel", "coupling", "serial"),
    Direction("2c", "serial", "coupling"),
    *_all_over("2d", "c2-sqrt", "c2-1", "c2-4", "c2-16"),
    *_rising("2e", "blocks-0", "blocks-1", "blocks-4", "blocks-6", "blocks-7"),
    Direction("2e", "blocks-7", "blocks-12"),
    *_rising("2f", "kernels-1-3", "kernels-3-3", "kernels-3-5", "kernels-5-5"),
    Direction("2f", "kernels-3-3", "kernels-1-5"),
    *_rising("2g", "baseline-tsn", "ct-module", "ct-module-pwconv", "ct-module-pwconv-te"),
    Direction("2g", "ct-module-pwconv-te", "ct-module-pwconv-se"),
    *_rising("2h", "train-224-test-224", "train-224-test-256", "train-256-test-256"),
    Direction("3", "ct-net-8", "tsn-8", "v1_top1"),
    Direction("3", "ct-net-16", "tsn-16", "v1_top1"),
    Direction("3", "ct-net-16", "ct-net-8", "v1_top1"),
    *_all_over("5", "ct-net", "tsn", columns=("ucf101", "hmdb51")),
    *_rising("6", "8", "12", "16", column="v1_top1"),
    *_rising("6", "8", "8x1x2", "8x3x2", column="v1_top1"),
    *_rising("6", "16", "16x1x2", "16x3x2", column="v1_top1"),
    *_all_over("6", "8-12-16-24-x1x1", "8-16", "16", "24", columns=("v1_top1",)),
    *_all_over("7", "ct-module", *_OTHER_MODULES, columns=("mini_kinetics_top1", "v2_top1")),
    *_rising("8", "tsn-resnet-50", "ct-net-resnet-50"),
    *_rising("8", "tsn-inceptionv3", "ct-net-inceptionv3"),
]
"""Every direction that the paper claims and twins can test."""


@cache
def _read(name: str, stamp: int) -> dict[str, Any]:
    return json.loads(run_file(name).read_text())


def outcome(name: str) -> dict[str, Any] | None:
    """What a run or an ensemble has left in `results/runs`; None when it was not run."""
    path = run_file(name)
    return _read(name, path.stat().st_mtime_ns) if path.exists() else None


def labels_of(run: Run) -> NDArray[np.int64]:
    """Labels of the clips that a run is tested on, (clips,)."""
    kind = MICRO_DATASETS[run.recipe.dataset]
    split = kind.split("val", run.recipe.val_clips, fold=run.recipe.fold)
    return np.array([split.label(number) for number in split.members])


def correct(row: TwinRow, seed: int) -> NDArray[np.bool_] | None:
    """Whether a row's twin was right on every clip, (clips,); None when it was not run.

    Clips of several parts, such as folds, stand one behind the other.
    """
    names = [ensemble_name(row, seed)] if row.fused else [run.seeded(seed).name for run in row.runs]
    found = [outcome(name) for name in names]
    if None in found:
        return None
    parts = [
        decode(content["predictions"][row.view]) == labels_of(run)
        for content, run in zip(found, row.runs, strict=False)  # an ensemble has one content, and the labels of any run
        if content is not None
    ]
    return np.concatenate(parts)


def correct_by_seed(table: str, row: TwinRow) -> dict[int, NDArray[np.bool_]]:
    """`correct` for every seed of a table that was run."""
    found = {seed: correct(row, seed) for seed in seeds_of(table)}
    return {seed: right for seed, right in found.items() if right is not None}


def difference(direction: Direction) -> Difference | None:
    """The measured difference of a direction; None before two seeds of both rows were run."""
    better, worse = (
        correct_by_seed(direction.table, direction.row(row)) for row in (direction.better, direction.worse)
    )
    seeds = sorted(better.keys() & worse.keys())
    if len(seeds) < 2:
        return None
    return paired_difference([better[seed] for seed in seeds], [worse[seed] for seed in seeds])


def verdict(found: Difference | None, adjusted_p: float) -> str:
    """What follows: "supported" or "contradicted" if the difference is resolved among all that are tested."""
    if found is None:
        return "not run yet"
    if adjusted_p >= LEVEL or not found.resolved:
        return "inconclusive"
    return "supported" if found.mean > 0 else "contradicted"


def decide() -> Iterator[tuple[Direction, Difference | None, str]]:
    """Every direction with its difference and its verdict, error rate kept over all of them (Holm, 1979)."""
    found = {direction: difference(direction) for direction in DIRECTIONS}
    adjusted = holm({d.id: measured.p for d, measured in found.items() if measured})
    for direction, measured in found.items():
        yield direction, measured, verdict(measured, adjusted.get(direction.id, 1.0))


def stale_runs(row: TwinRow, table: str) -> list[str]:
    """Names of a row's runs that were made by other code than today's."""
    names = [run.seeded(seed).name for seed in seeds_of(table) for run in row.runs]
    return [name for name in names if (content := outcome(name)) and is_stale(content)]


def accuracy_table(table: str, rows: Mapping[str, TwinRow] | None = None) -> pd.DataFrame:
    """Mean accuracy of a table's twins in points, its 95 % interval, and the number of seeds that were run."""
    lines = []
    for row_id, row in (rows or TWINS[table]).items():
        right = list(correct_by_seed(table, row).values())
        mean = low = high = None
        if len(right) >= 2:
            mean, low, high = mean_accuracy(right)
        elif right:
            mean = 100 * float(right[0].mean())
        lines.append({"row": row_id, "accuracy": mean, "low": low, "high": high, "seeds": len(right)})
    return pd.DataFrame(lines).set_index("row")

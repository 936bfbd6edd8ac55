"""Directions: what the paper says is better than what, held against trained twins."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from study.outcomes import names_of, paired, read_result
from study.published import DATASETS, dataset_of, published_table, row_label
from study.runner import is_stale
from study.statistics import (
    Difference,
    difference_of_differences,
    paired_difference,
)
from study.twins import TWINS, TwinRow, seeds_of

LEVEL = 0.05  # of the errors that all verdicts on a table together may make


_RULE = "the 95 % interval of the {} excludes 0, and p < 5 % after Holm's correction over the table's directions"


@dataclass(frozen=True)
class Direction:
    """Something that the paper says of accuracies, and that twins can be asked about.

    Attributes:
        id: name of the claim in the ledger.
        table: id of the table, or of the figure.
        label: what is subtracted from what.
        statement: the claim in words.
        published: the printed difference in points, if there is one.
        measure: the twins' difference; None as long as it cannot be told.
        files: under `results`, that it is measured on. A verdict takes all of them.
        compared: what the interval is of.
        stale: whether what such a file holds was made by other code than today's.
    """

    id: str
    table: str
    label: str
    statement: str
    published: float | None
    measure: Callable[[], Difference | None]
    files: tuple[str, ...]
    compared: str = "paired difference"
    stale: Callable[[dict[str, Any]], bool] = is_stale

    @property
    def rule(self) -> str:
        """How the verdict follows."""
        return _RULE.format(self.compared)

    def is_complete(self) -> bool:
        """Whether all seeds were run. Fewer tell where a difference tends, and may still turn."""
        return all(read_result(file) for file in self.files)

    def verdict(self, found: Difference | None, adjusted_p: float) -> str:
        """What follows from the difference and its p-value, adjusted for all that is tested on the table."""
        if found is None or not self.is_complete():
            return "under way" if found else "not run yet"
        if adjusted_p >= LEVEL:
            return "inconclusive"
        return "supported" if found.mean > 0 else "contradicted"


def _better(table: str, better: str, worse: str, column: str = "top1") -> Direction:
    """One row of a table is more accurate than another in one column."""
    printed = published_table(table)
    *names, shared = _names_apart(*(twin_label(table, row) for row in (better, worse)))
    values = [printed[column][row] for row in (better, worse)]
    end = _ENDS.get((table, column), "")
    name = DATASETS[dataset_of(table, column)] if end else ""
    where = f" on {name}" if name else shared
    rows = [(table, TWINS[table][row + end]) for row in (better, worse)]
    return Direction(
        f"{table}/{better} > {worse}/{column}",
        table,
        " − ".join(names) + (f" ({name})" if name else shared),
        f"Table {table}: accuracy is higher with {names[0]} than with {names[1]}{where}",
        None if None in values else round(float(values[0] - values[1]), 1),
        lambda: paired_difference(right[0], right[1]) if (right := paired(rows)) else None,
        _files(rows),
    )


def twin_label(table: str, row_id: str) -> str:
    """What the twin of a row is of, as `row_label` has it; but the TSN of Table 5 is not on its printed backbone."""
    printed = published_table(table)
    return str(printed["method"][row_id]) if table == "5" else row_label(printed, row_id)


def _names_apart(one: str, other: str) -> tuple[str, str, str]:
    """Two labels of rows without what they have in common, and that in brackets: it follows both."""
    parts = one.split(", "), other.split(", ")
    common = [part for part in parts[0] if part in parts[1]]
    own = [", ".join(part for part in each if part not in common) for each in parts]
    return (own[0], own[1], f" ({', '.join(common)})") if common and all(own) else (one, other, "")


_ENDS = {
    ("5", "ucf101"): "/ucf101",
    ("5", "hmdb51"): "/hmdb51",
    ("7", "mini_kinetics_top1"): "/kinetics",
    ("7", "v2_top1"): "/v2",
}
"""Table and column -> what the ids of its twins end in, where a table has twins on several datasets."""


def _all_over(table: str, best: str, *others: str, column: str = "top1") -> list[Direction]:
    return [_better(table, best, other, column) for other in others]


def _rising(table: str, *rows: str, column: str = "top1") -> list[Direction]:
    return [_better(table, better, worse, column) for worse, better in pairwise(rows)]


_OTHER_MODULES = ("c3d-module", "r-2-1-d-module", "csn-module")


def _smaller_lead() -> Direction:
    """Appendix A.5: modules differ less on Mini-Kinetics than on Something-Something V1."""
    leads, printed = [], []
    for table, column, dataset in (("2a", "top1", ""), ("7", "mini_kinetics_top1", "/kinetics")):
        values = published_table(table)[column]
        printed.append(values["ct-module"] - np.mean([values[row] for row in _OTHER_MODULES]))
        leads.append([(table, TWINS[table][f"{row}{dataset}"]) for row in ("ct-module", *_OTHER_MODULES)])

    def measure() -> Difference | None:
        found = [paired_difference(right[0], np.mean(right[1:], axis=0)) for rows in leads if (right := paired(rows))]
        return difference_of_differences(*found) if len(found) == 2 else None

    return Direction(
        "7/smaller lead on Mini-Kinetics",
        "7",
        "lead of the CT-Module on SSv1 − on Mini-Kinetics",
        "Table 7: the CT-Module leads the mean of the other modules by less on Mini-Kinetics than on SSv1 (Table 2a)",
        round(float(printed[0] - printed[1]), 1),
        measure,
        _files(leads[0] + leads[1]),
        compared="difference of the two leads",
    )


def _files(rows: list[tuple[str, TwinRow]]) -> tuple[str, ...]:
    """The files of some rows' runs or ensembles, for all seeds of their tables."""
    names = (name for table, row in rows for seed in seeds_of(table) for name in names_of(row, seed))
    return tuple(f"runs/{name}.json" for name in names)


def directions() -> list[Direction]:
    """Every ordering that the paper's text claims, or its Tables 3 and 5 show, and twins can test; and, asked by this
    study alone, Table 5's on HMDB51, where the paper has no TSN."""
    return [
        *_all_over("2a", "ct-module", *_OTHER_MODULES),
        *_all_over("2b", "k2", "k1", "k3", "k4"),
        _better("2b", "k3", "k4"),
        *_all_over("2c", "parallel", "coupling", "serial"),
        _better("2c", "serial", "coupling"),
        *_all_over("2d", "c2-sqrt", "c2-1", "c2-4", "c2-16"),
        *_rising("2e", "blocks-0", "blocks-1", "blocks-4", "blocks-6", "blocks-7"),
        _better("2e", "blocks-7", "blocks-12"),
        *_rising("2f", "kernels-1-3", "kernels-1-5", "kernels-3-3", "kernels-3-5", "kernels-5-5"),
        *_rising("2g", "baseline-tsn", "ct-module", "ct-module-pwconv", "ct-module-pwconv-te"),
        _better("2g", "ct-module-pwconv-te", "ct-module-pwconv-se"),
        *_rising("2h", "train-224-test-224", "train-224-test-256", "train-256-test-256"),
        *_all_over("3", "ct-net-8", "tsn-8", "tsm-8", "teinet-8", "tea-8", column="v1_top1"),
        *_rising("3", "tsn-8", "tsm-8", "teinet-8", "tea-8", column="v1_top1"),
        _better("3", "ct-net-16", "tsn-16", "v1_top1"),
        _better("3", "ct-net-16", "ct-net-8", "v1_top1"),
        *[_better("5", "ct-net", "tsn", column) for column in ("ucf101", "hmdb51")],
        *_rising("6", "8", "12", "16", column="v1_top1"),
        _better("6", "16", "24", "v1_top1"),
        *_rising("6", "8", "8x1x2", "8x3x2", column="v1_top1"),
        *_rising("6", "16", "16x1x2", "16x3x2", column="v1_top1"),
        *_all_over("6", "8-12-16-24-x1x1", "8-16", "16", "24", column="v1_top1"),
        *_all_over("7", "ct-module", *_OTHER_MODULES, column="mini_kinetics_top1"),
        *_all_over("7", "ct-module", *_OTHER_MODULES, column="v2_top1"),
        _smaller_lead(),
        *_rising("8", "tsn-resnet-50", "ct-net-resnet-50"),
        *_rising("8", "tsn-inceptionv3", "ct-net-inceptionv3"),
    ]

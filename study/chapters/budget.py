"""What a row's full-scale runs would take: GPU hours, disk and money, from measured costs and stated assumptions.

An estimate is a range, since its assumptions are: nothing here was timed on a GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pandas.io.formats.style import Styler

from ctnet.engine import get_recipe
from study.chapters.tables import styled
from study.costs import kept
from study.fullscale import SIZES
from study.paper import DATASET_NAMES, Row, table

Range = tuple[float, float]
"""The least and the most."""

FLOPS = 2  # in a multiply-add
PASSES = 3  # a step of training costs three forward passes: the backward pass makes two gradients


@dataclass(frozen=True)
class Assumptions:
    """What an estimate assumes, besides the costs that were measured.

    Attributes:
        peak_tflops: that the GPU can do in the precision of the run, 1e12 FLOPs a second.
        sustained: share of the peak that training reaches, the least and the most.
        dollars_per_hour: of one GPU.
        megabytes_per_video: by dataset.
    """

    peak_tflops: float
    sustained: Range
    dollars_per_hour: Range
    megabytes_per_video: Mapping[str, Range]


@dataclass(frozen=True)
class Budget:
    """What a row takes on one dataset, each as the least and the most."""

    train_hours: Range
    test_hours: Range
    gigabytes: Range
    dollars: Range


def estimate(row: Row, dataset: str, assumed: Assumptions) -> Budget:
    """What it takes to train a row's networks by the dataset's recipe, and to test them with the row's views.

    Args:
        row: whose networks' costs are kept in `results/cost`.
        dataset: a name from `study.fullscale.SIZES`.
        assumed: what cannot be measured here.
    """
    size, epochs = SIZES[dataset], get_recipe(dataset).epochs
    gmacs = sum(kept(network).gmacs for network in row.networks)
    clips = epochs * (PASSES * size.train + size.val)  # forward passes of training, a validation after each epoch
    train, test = (_hours(gmacs * passes, assumed) for passes in (clips, row.views * size.val))
    stored = assumed.megabytes_per_video[dataset]
    return Budget(
        train,
        test,
        (stored[0] * (size.train + size.val) / 1e3, stored[1] * (size.train + size.val) / 1e3),
        tuple(price * (a + b) for price, a, b in zip(assumed.dollars_per_hour, train, test, strict=True)),  # type: ignore[arg-type]
    )


def _hours(gmacs: float, assumed: Assumptions) -> Range:
    """GPU hours of so many multiply-adds, fewest where the GPU is used best."""
    least, most = (FLOPS * gmacs / (1e3 * assumed.peak_tflops * share * 3600) for share in assumed.sustained[::-1])
    return least, most


def span(bounds: Range) -> str:
    """A range as it is printed, without digits that it does not have: "40 to 160"."""
    low, high = (f"{float(f'{bound:.{1 if bound < 10 else 2}g}'):g}" for bound in bounds)
    return low if low == high else f"{low} to {high}"


def budget_table(tables: Sequence[str], assumed: Assumptions) -> Styler:
    """Estimates for the rows of CT-Net in some tables, a line for each row and dataset.

    Args:
        tables: such as "3".
        assumed: what cannot be measured here.
    """
    lines = []
    for about in map(table, tables):
        for dataset in dict.fromkeys(column.dataset or "" for column in about.accuracies.values()):
            for row in about.rows.values():
                if row.networks and all(network.model.startswith("ctnet") for network in row.networks):
                    found = estimate(row, dataset, assumed)
                    lines.append(
                        {
                            f"Row of Table {' or '.join(tables)}": row.label,
                            "Dataset": DATASET_NAMES[dataset],
                            "Training, GPU hours": span(found.train_hours),
                            "Testing, GPU hours": span(found.test_hours),
                            "Videos, GB": span(found.gigabytes),
                            "Dollars": span(found.dollars),
                        }
                    )
    caption = "Estimates under the assumptions above, not measurements. Rows of one table share networks and videos."
    return styled(pd.DataFrame(lines), caption)

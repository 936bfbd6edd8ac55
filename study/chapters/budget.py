"""What a row's full-scale runs would take: GPU hours, disk and money, from measured costs and stated assumptions.

An estimate is a range, since its assumptions are: nothing here was timed on a GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ctnet.engine import get_recipe
from study.chapters.markup import BookTable
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


def estimate(row: Row, dataset: str, assumed: Assumptions) -> dict[str, Range]:
    """What it takes to train a row's networks by the dataset's recipe, and to test them with the row's views.

    Args:
        row: whose networks' costs are kept in `results/cost`.
        dataset: a name from `study.fullscale.SIZES`.
        assumed: what cannot be measured here.

    Returns:
        GPU hours of training and of testing, gigabytes of videos and dollars, by their headings.
    """
    size, epochs = SIZES[dataset], get_recipe(dataset).epochs
    gmacs = sum(kept(network).gmacs for network in row.networks)
    clips = epochs * (PASSES * size.train + size.val)  # forward passes of training, a validation after each epoch
    hours = np.array([clips, row.views * size.val]) * gmacs * FLOPS / (1e3 * assumed.peak_tflops * 3600)
    train, test = np.outer(hours, [1 / share for share in assumed.sustained[::-1]])  # least where it is used best
    return {
        "Training, GPU hours": tuple(train),
        "Testing, GPU hours": tuple(test),
        "Videos, GB": tuple(np.array(assumed.megabytes_per_video[dataset]) * (size.train + size.val) / 1e3),
        "Dollars": tuple((train + test) * assumed.dollars_per_hour),
    }


def span(bounds: Range) -> str:
    """A range as it is printed, without digits that it does not have: "40 to 160"."""
    low, high = (f"{float(f'{bound:.{1 if bound < 10 else 2}g}'):g}" for bound in bounds)
    return low if low == high else f"{low} to {high}"


def budget_table(tables: Sequence[str], assumed: Assumptions) -> BookTable:
    """Estimates for the rows of CT-Net in some tables, a line for each row and dataset.

    Args:
        tables: such as "3".
        assumed: what cannot be measured here.
    """
    lines = [
        {f"Row of Table {' or '.join(tables)}": row.label, "Dataset": DATASET_NAMES[dataset]}
        | {heading: span(bounds) for heading, bounds in estimate(row, dataset, assumed).items()}
        for about in map(table, tables)
        for dataset in dict.fromkeys(column.dataset or "" for column in about.accuracies.values())
        for row in about.rows.values()
        if row.networks and all(network.model.startswith("ctnet") for network in row.networks)
    ]
    caption = "Estimates under the assumptions above, not measurements. Rows of one table share networks and videos."
    return BookTable(pd.DataFrame(lines), caption)

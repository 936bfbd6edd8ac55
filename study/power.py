"""What a planned study will be able to see: its whole analysis, many times over, on runs that are made up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from study.statistics import MARGIN, decide_in_looks, paired_difference


@dataclass(frozen=True)
class Plan:
    """How a table's rows are run, and how their accuracies scatter.

    Attributes:
        seeds: runs of each row.
        clips: that each run is tested on.
        deviation: standard deviation of accuracy from seed to seed of one row, in points.
        hard: how much clips differ in difficulty, which all runs share: its standard deviation on the probit scale.
        later: runs of each row in a second look at all orders that are open, the first ones included; 0 without one.
    """

    seeds: int
    clips: int
    deviation: float
    hard: float = 1.0
    later: int = 0

    def __post_init__(self) -> None:
        if not np.isfinite(self.deviation):
            raise ValueError(f"the deviation must be a number of points, got {self.deviation}")


def simulate(
    plan: Plan, accuracies: Sequence[float], orders: Sequence[tuple[int, int]], studies: int = 200, seed: int = 0
) -> list[Counter[str]]:
    """How often each order of a table gets each verdict, in studies whose true accuracies are known.

    Args:
        plan: seeds, clips and scatter.
        accuracies: true ones of the table's rows, in points.
        orders: pairs of rows, by place, of which the first is claimed to be better.
        studies: how many are made up.
        seed: of everything random.

    Returns:
        For each order the verdicts of `study.statistics.decide_in_looks` and their numbers.
    """
    rng = np.random.default_rng(seed)
    counts: list[Counter[str]] = [Counter() for _ in orders]
    for _ in range(studies):
        right = _runs(rng, plan, np.asarray(accuracies))
        first, second = (
            [
                paired_difference(right[better, :seeds], right[worse, :seeds]) if seeds else None
                for better, worse in orders
            ]
            for seeds in (plan.seeds, plan.later)
        )
        for count, decision in zip(counts, decide_in_looks(first, second, MARGIN), strict=True):
            count[decision.verdict] += 1
    return counts


def _runs(rng: np.random.Generator, plan: Plan, accuracies: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row's runs are right on the clips, (rows, seeds, clips)."""
    shape = len(accuracies), max(plan.seeds, plan.later), 1
    of_seeds = accuracies[:, None, None] + plan.deviation * rng.standard_normal(shape)
    own = ndtri((of_seeds / 100).clip(0.001, 0.999)) * np.hypot(1, plan.hard)  # so that clips leave the mean as it is
    chance = ndtr(own + plan.hard * rng.standard_normal((1, 1, plan.clips)))
    drawn: NDArray[np.bool_] = rng.random(chance.shape) < chance
    return drawn

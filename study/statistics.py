"""What a few training runs allow to be said: paired differences of accuracy with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

LEVEL = 0.05
"""Chance of even one false "supported" or "contradicted" on a table, in one look; of each "equivalent" that is none."""
MARGIN = 2.0
"""Accuracies, or shares of saliency, that differ by less are as good as equal, in points."""


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies between two networks, in points (0 to 100).

    Attributes:
        mean: over seeds and clips.
        error: standard error of the mean.
        seeds: number of pairs of runs.
        clips: number of clips.
        by_seed: mean over clips for each pair of runs, where the runs are paired.
    """

    mean: float
    error: float
    seeds: int
    clips: int
    by_seed: tuple[float, ...] = ()

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.interval(0.05)[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.interval(0.05)[1]

    @property
    def p(self) -> float:
        """Two-sided, of a difference of zero."""
        return 2 * float(stdtr(self.seeds - 1, -abs(self.mean) / self.error)) if self.error else float(self.mean == 0)

    @property
    def likely(self) -> tuple[float, float]:
        """The 90 % interval, which two one-sided tests at 5 % each look at."""
        return self.interval(0.1)

    def interval(self, left_out: float) -> tuple[float, float]:
        """The interval that leaves out a share of Student's distribution, half of it on either side."""
        reach = _quantile(left_out, self.seeds - 1) * self.error
        return self.mean - reach, self.mean + reach

    def is_within(self, margin: float, level: float = LEVEL) -> bool:
        """Whether the true difference is shown to be smaller than a margin, either way: two one-sided tests at a level
        each (Schuirmann, 1987)."""
        low, high = self.interval(2 * level)
        return -margin < low and high < margin

    def detectable(self, level: float = 0.05) -> float:
        """The smallest true difference that such a comparison finds four times out of five, at a level of p."""
        return float(nctdtrinc(self.seeds - 1, 0.2, _quantile(level, self.seeds - 1))) * self.error


def paired_difference(one: ArrayLike, other: ArrayLike) -> Difference:
    """How much more accurate `one` is than `other`, with what seeds and clips add to the uncertainty.

    Runs of the same seed saw the same clips in the same order, so the difference is taken run by run and clip by clip:
    a table of seeds and clips, both drawn at random. The variance of its mean is that of its rows' means, plus that of
    its columns' means, less what both contain (a two-way analysis of variance with random effects; never less than
    either). The interval is Student's, with as many degrees of freedom as seeds allow, S - 1: the seeds are few and
    decide most. A bootstrap over so few of them is far too sure: with three of one sign it never sees the other.

    Args:
        one: whether a run was right on a clip, (seeds, clips).
        other: likewise.

    Raises:
        ValueError: when the shapes differ, or there are less than two seeds.
    """
    shapes = np.shape(one), np.shape(other)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] < 2:
        raise ValueError(f"arrays (seeds, clips) of equal shape and two seeds or more are needed, not {shapes}")
    gain: NDArray[np.float64] = 100 * (np.asarray(one, np.float64) - np.asarray(other, np.float64))
    seeds, clips = gain.shape
    by_seed, by_clip, mean = gain.mean(1), gain.mean(0), gain.mean()
    rest = gain - by_seed[:, None] - by_clip + mean
    of_seeds, of_clips = by_seed.var(ddof=1) / seeds, by_clip.var(ddof=1) / clips
    of_both = (rest**2).sum() / ((seeds - 1) * (clips - 1)) / (seeds * clips)
    variance = max(of_seeds + of_clips - of_both, of_seeds, of_clips)
    return Difference(float(mean), float(np.sqrt(variance)), seeds, clips, tuple(by_seed.tolist()))


def difference_of_differences(first: Difference, second: Difference) -> Difference:
    """How much larger the first difference is than the second, which is of other runs on other clips.

    Where both have as many pairs of runs these are paired by seed, since a seed draws the same weights to begin from.
    What clips add to the variance adds up, as all does where the numbers differ.
    """
    variance = first.error**2 + second.error**2
    if len(first.by_seed) == len(second.by_seed) >= 2:
        leads = np.array([first.by_seed, second.by_seed])
        of_seeds = np.array([leads[0], leads[1], leads[0] - leads[1]]).var(1, ddof=1) / len(first.by_seed)
        variance += of_seeds[2] - of_seeds[0] - of_seeds[1]
    error = float(np.sqrt(variance))
    return Difference(first.mean - second.mean, error, min(first.seeds, second.seeds), min(first.clips, second.clips))


def mean_accuracy(correct: ArrayLike) -> tuple[float, float, float]:
    """Accuracy in points, and its 95 % interval over seeds and clips; `correct` is (seeds, clips)."""
    found = paired_difference(correct, np.zeros(np.shape(correct)))
    return found.mean, found.low, found.high


def decide(found: Sequence[Difference | None], margin: float = MARGIN, level: float = LEVEL) -> list[str]:
    """The verdicts on all differences that a table claims to be positive.

    A difference is "supported" or "contradicted", by its sign, when p < 5 % after Holm's correction over the table.
    Else it is "equivalent" when its 90 % interval lies within the margin, and "inconclusive" when not.

    Args:
        found: None for what is not known yet. It counts in the correction: what is supported or contradicted stays so
            when more is known, and what is neither may become it.
        margin: in points.
        level: in the place of 5 %; the interval is then the one that leaves out twice as much.
    """
    known = zip(found, corrected(found), strict=True)
    return ["" if one is None else _verdict(one, p, margin, level) for one, p in known]


@dataclass(frozen=True)
class Decision:
    """What is made of a difference.

    Attributes:
        verdict: of `decide`; "" of what is not known.
        p: corrected for all that is tested together, and for there being a second look where it is of that.
        look: 1, or 2 where more seeds decided.
        tested: differences that were tested together.
    """

    verdict: str
    p: float
    look: int
    tested: int


def decide_in_looks(
    first: Sequence[Difference | None], second: Sequence[Difference | None], margin: float = MARGIN
) -> list[Decision]:
    """What `decide` says of a table; and once more, at half the level, of what is inconclusive and was given seeds.

    The second look corrects for every difference that the first left neither supported nor contradicted: if the first
    was wrong of none, all that are truly zero are among these. So both looks together are wrong of even one with a
    probability of at most 5 + 2.5 %.

    Args:
        first: by the table's own seeds; None for what is not known yet, which counts in both looks.
        second: by these and more; None where there are no more.
        margin: in points.
    """
    once = zip(decide(first, margin), corrected(first), strict=True)
    decided = [Decision(verdict, p, 1, len(first)) for verdict, p in once]
    left = [place for place, found in enumerate(decided) if found.verdict not in ("supported", "contradicted")]
    again = [second[place] if decided[place].verdict == "inconclusive" else None for place in left]
    for place, verdict, p in zip(left, decide(again, margin, LEVEL / 2), corrected(again), strict=True):
        if verdict:
            decided[place] = Decision(verdict, min(1.0, 2 * p), 2, len(left))
    return decided


def corrected(found: Sequence[Difference | None]) -> list[float]:
    """The p-values of differences that a table tests together, by Holm's correction; 1 of what is not known yet."""
    return holm([one.p if one else 1.0 for one in found])


def _verdict(found: Difference, adjusted_p: float, margin: float, level: float) -> str:
    if adjusted_p < level:
        return "supported" if found.mean > 0 else "contradicted"
    return "equivalent" if found.is_within(margin, level) else "inconclusive"


def _quantile(p: float, freedom: int) -> float:
    """The value that Student's distribution exceeds, on either side, with probability p."""
    return -float(stdtrit(freedom, p / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the number of claims that are tested together (Holm, 1979).

    Rejecting those below 5 % errs on even one claim with a probability of at most 5 %.
    """
    p = np.asarray(p_values, float)
    order, adjusted = np.argsort(p, kind="stable"), np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(len(p), 0, -1)))
    return [float(each) for each in adjusted]

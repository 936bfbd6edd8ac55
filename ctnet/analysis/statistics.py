"""What a few training runs allow to be said: paired differences of accuracy with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 4000


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies between two networks, in points (0 to 100).

    Attributes:
        mean: over seeds and clips.
        low, high: 95 % interval.
        p: two-sided, of a difference of zero.
        detectable: the smallest difference that a study of this size would have found with a power of 80 %.
        seeds: number of pairs of runs.
        clips: number of clips.
    """

    mean: float
    low: float
    high: float
    p: float
    detectable: float
    seeds: int
    clips: int

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_difference(one: ArrayLike, other: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """How much more accurate `one` is than `other`, by a hierarchical bootstrap over seeds and clips.

    Runs of the same seed saw the same clips in the same order, so the difference is taken run by run and clip by clip.
    Each resample draws seeds and, independently, clips with replacement. A sample of S values spreads less than what
    it is drawn from, by a factor (S - 1) / S in variance: deviations of seeds are enlarged to make up for it. What is
    particular to a run and a clip together is counted with both, so intervals are rather too wide than too narrow.

    Args:
        one: whether a run was right on a clip, (seeds, clips).
        other: likewise.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: when the shapes differ, or there are less than two seeds.
    """
    gain = _gains(one, other)
    return _interval(float(gain.mean()), _resampled(gain, resamples, seed), *gain.shape)


def difference_of_differences(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """How much larger the first paired difference is than the second, which is of other runs on other clips.

    Args:
        first, second: each (one, other) as for `paired_difference`; values may be means over several networks.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: as `paired_difference`.
    """
    parts = [_gains(*pair) for pair in (first, second)]
    means = [_resampled(gain, resamples, seed + 2 * number) for number, gain in enumerate(parts)]
    mean = float(parts[0].mean() - parts[1].mean())
    return _interval(mean, means[0] - means[1], *(min(sizes) for sizes in zip(*(g.shape for g in parts), strict=True)))


def _gains(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Points that `one` gains on `other`, run by run and clip by clip: (seeds, clips)."""
    shapes = np.shape(one), np.shape(other)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] < 2:
        raise ValueError(f"arrays (seeds, clips) of equal shape and two seeds or more are needed, not {shapes}")
    return 100.0 * (np.asarray(one, np.float64) - np.asarray(other, np.float64))


def _resampled(gain: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean gain of every resample, (resamples,)."""
    seeds, clips = gain.shape
    gain = gain + (np.sqrt(seeds / (seeds - 1)) - 1) * (gain.mean(1, keepdims=True) - gain.mean())
    drawn_seeds, drawn_clips = _draws(seeds, resamples, seed), _draws(clips, resamples, seed + 1)
    return np.einsum("bs,sb->b", drawn_seeds, gain @ drawn_clips.T)


def _interval(mean: float, means: NDArray[np.float64], seeds: int, clips: int) -> Difference:
    """What the resamples of a difference say."""
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return Difference(
        mean=mean,
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * (tail + 1 / (len(means) + 1)))),
        detectable=float((1.960 + 0.842) * means.std()),
        seeds=seeds,
        clips=clips,
    )


@lru_cache(maxsize=8)
def _draws(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of `count` things is drawn with replacement, as shares: (resamples, count)."""
    rng = np.random.default_rng([seed, count])
    return rng.multinomial(count, np.full(count, 1 / count), resamples) / count


def mean_accuracy(correct: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """Accuracy in points, and its 95 % interval over seeds and clips; `correct` is (seeds, clips)."""
    right = np.asarray(correct, np.float64)
    found = paired_difference(right, np.zeros_like(right), resamples, seed)
    return found.mean, found.low, found.high


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for the number of claims that are tested together (Holm, 1979).

    Rejecting those below 5 % errs on even one claim with a probability of at most 5 %.
    """
    adjusted, largest = {}, 0.0
    ranked = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, p) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}

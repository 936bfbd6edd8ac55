import numpy as np
import pytest

from ctnet.analysis.statistics import holm, mean_accuracy, paired_difference


def runs(rng, accuracy, seeds, clips, between=0.0):
    """Right answers of runs whose accuracies spread by `between` from seed to seed."""
    own = np.clip(accuracy + between * rng.standard_normal((seeds, 1)), 0, 1)
    return rng.random((seeds, clips)) < own


def test_the_mean_is_the_difference_of_accuracies():
    rng = np.random.default_rng(0)
    one, other = runs(rng, 0.7, 4, 500), runs(rng, 0.6, 4, 500)
    found = paired_difference(one, other)
    assert found.mean == pytest.approx(100 * (one.mean() - other.mean()))
    assert found.low < found.mean < found.high
    assert (found.seeds, found.clips) == (4, 500)


def test_it_is_antisymmetric():
    rng = np.random.default_rng(1)
    one, other = runs(rng, 0.7, 3, 400), runs(rng, 0.6, 3, 400)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))


@pytest.mark.parametrize(("seeds", "between"), [(3, 0.0), (3, 0.03), (5, 0.03)])
def test_intervals_cover_a_known_difference(seeds, between):
    """Of 100 studies with a true difference of 5 points, most find it, as far as 3 or 5 seeds allow."""
    rng, hits = np.random.default_rng(2), 0
    for study in range(100):
        one, other = runs(rng, 0.65, seeds, 300, between), runs(rng, 0.60, seeds, 300, between)
        found = paired_difference(one, other, resamples=500, seed=study)
        hits += found.low <= 5 <= found.high
    assert hits >= 84


def test_without_a_difference_it_is_seldom_resolved():
    rng = np.random.default_rng(3)
    found = [paired_difference(runs(rng, 0.6, 5, 300), runs(rng, 0.6, 5, 300), resamples=500) for _ in range(100)]
    assert sum(one.resolved for one in found) <= 12
    assert np.median([one.p for one in found]) > 0.2


def test_seeds_that_disagree_widen_the_interval():
    steady, shaky = np.zeros((3, 600)), np.zeros((3, 600))
    steady[:, :60] = 1
    shaky[0, :180] = 1
    zero = np.zeros((3, 600))
    one, other = paired_difference(steady, zero), paired_difference(shaky, zero)
    assert one.mean == pytest.approx(other.mean) == pytest.approx(10)
    assert other.high - other.low > 3 * (one.high - one.low)


def test_pairing_takes_out_what_clips_have_in_common():
    """Hard clips are hard for both: the difference is known far better than either accuracy."""
    rng = np.random.default_rng(4)
    easy = rng.random((1, 800)) < 0.6
    one, other = np.repeat(easy, 3, 0), np.repeat(easy, 3, 0).copy()
    other[:, np.flatnonzero(easy[0])[:40]] = False
    paired = paired_difference(one, other)
    apart = paired_difference(one, rng.permuted(other, axis=1))
    assert paired.mean == pytest.approx(5)
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)
    assert paired.detectable < apart.detectable


def test_accuracy_with_interval():
    rng = np.random.default_rng(5)
    mean, low, high = mean_accuracy(runs(rng, 0.7, 5, 1000))
    assert low < mean < high
    assert 0.9 < (high - low) / (2 * 1.96 * 100 * np.sqrt(0.21 / 5000)) < 2


@pytest.mark.parametrize("shapes", [((3, 5), (3, 6)), ((1, 5), (1, 5)), ((5,), (5,))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(ValueError, match="two seeds or more"):
        paired_difference(*map(np.zeros, shapes))


def test_holm():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9})
    assert holm({}) == {}

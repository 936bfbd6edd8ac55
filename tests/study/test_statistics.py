import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from study.statistics import (
    LEVEL,
    MARGIN,
    Difference,
    corrected,
    decide,
    decide_in_looks,
    difference_of_differences,
    holm,
    mean_accuracy,
    paired_difference,
)


def runs(rng, accuracy, seeds, clips, between=0.0, hard=0.0):
    """Right answers of runs whose accuracies spread by `between` from seed to seed, by `hard` from clip to clip."""
    own = accuracy + between * rng.standard_normal((seeds, 1)) + hard * rng.standard_normal((1, clips))
    return rng.random((seeds, clips)) < np.clip(own, 0, 1)


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


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("between", "hard"), [(0.0, 0.0), (0.03, 0.1), (0.08, 0.0)])
def test_intervals_cover_a_known_difference(seeds, between, hard):
    """Of 400 studies with a true difference of 5 points, nine in ten or more cover it, however few the seeds."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        one, other = (runs(rng, accuracy, seeds, 300, between, hard) for accuracy in (0.6, 0.55))
        found = paired_difference(one, other)
        hits += found.low <= 5 <= found.high
    assert hits >= 0.925 * 400


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("tested", "most"), [(1, 0.075), (10, 0.0125)])
def test_seeds_that_differ_by_much_are_no_difference(seeds, tested, most):
    """No true difference between networks whose seeds differ by 8 points: few false finds, corrected or not."""
    rng = np.random.default_rng(3)
    found = [
        paired_difference(*(runs(rng, 0.6, seeds, 300, between=0.08, hard=0.1) for _ in range(2))) for _ in range(800)
    ]
    assert np.mean([one.p < 0.05 / tested for one in found]) <= most
    assert np.median([one.p for one in found]) > 0.35


def test_with_many_clips_it_is_the_t_test_of_the_seeds():
    rng = np.random.default_rng(6)
    one, other = runs(rng, 0.7, 5, 20_000, 0.1), runs(rng, 0.6, 5, 20_000, 0.1)
    found, known = paired_difference(one, other), ttest_rel(100 * one.mean(1), 100 * other.mean(1))
    assert found.p == pytest.approx(known.pvalue, rel=0.01)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval()), rel=0.01)


def test_seeds_that_agree_leave_what_clips_add():
    """The same networks each time: only the choice of clips is left, and a test over clips has the same error."""
    rng = np.random.default_rng(7)
    one, other = np.repeat(rng.random((1, 900)) < 0.7, 3, 0), np.repeat(rng.random((1, 900)) < 0.6, 3, 0)
    error = ttest_1samp(100.0 * one[0] - 100.0 * other[0], 0)
    assert paired_difference(one, other).error == pytest.approx(paired_difference(one, other).mean / error.statistic)


def test_the_error_is_that_of_seeds_and_clips_together():
    """Effects of known size: three parts of the variance are of seeds, two of clips, one of neither alone."""
    rng, errors = np.random.default_rng(9), []
    for _ in range(600):
        seeds, clips, rest = (rng.standard_normal(shape) for shape in ((6, 1), (1, 40), (6, 40)))
        gains = (3 * 6) ** 0.5 * seeds + (2 * 40) ** 0.5 * clips + (6 * 40) ** 0.5 * rest
        errors.append(paired_difference(gains / 100, np.zeros((6, 40))).error)
    assert np.square(errors).mean() == pytest.approx(6, rel=0.06)


@pytest.mark.parametrize("of_seeds", [True, False])
def test_the_error_is_never_less_than_that_of_seeds_or_of_clips_alone(of_seeds):
    """Means of 75, 50 and 75 points one way, which all are equal the other way: less than the rest would leave."""
    gains = np.array([[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 1, 1]])
    gains = gains if of_seeds else gains.T
    found = paired_difference(gains, np.zeros(gains.shape))
    assert found.error**2 == pytest.approx(np.var([75, 50, 75], ddof=1) / 3)


def test_detectable_differences_are_found_four_times_out_of_five():
    rng = np.random.default_rng(8)
    planned = Difference(0.0, 1.0, 5, 2000)
    for level in (0.05, 0.05 / 8):
        true = planned.detectable(level)
        gains = true + np.sqrt(5) * rng.standard_normal((4000, 5))
        assert 0.78 < np.mean(ttest_1samp(gains, 0, axis=1).pvalue < level) < 0.82


def test_a_difference_of_differences_is_as_unsure_as_both():
    both = difference_of_differences(Difference(9.0, 3.0, 5, 2016), Difference(2.0, 4.0, 3, 2000))
    assert both == Difference(7.0, 5.0, 3, 2000)


@pytest.mark.parametrize(("shared", "least", "most"), [(1, 0, 0.5), (0, 0.6, 1.4), (-1, 1.1, 2)])
def test_differences_of_the_same_seeds_are_compared_seed_by_seed(shared, least, most):
    """What a seed does to both at once falls out of their difference; what it does to each the other way adds up."""
    rng = np.random.default_rng(3)
    luck = rng.normal(0, 0.1, (6, 1))
    rates = (0.6 + luck, 0.5 + 0 * luck, 0.55 + shared * luck, 0.5 + 0 * luck)
    one, other, third, fourth = (rng.random((6, 4000)) < rate for rate in rates)
    first, second = paired_difference(one, other), paired_difference(third, fourth)
    found = difference_of_differences(first, second)
    assert found.mean == pytest.approx(first.mean - second.mean)
    assert least < found.error / np.hypot(first.error, second.error) < most


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
    assert paired.detectable() < apart.detectable()


def test_accuracy_with_interval():
    rng = np.random.default_rng(5)
    mean, low, high = mean_accuracy(runs(rng, 0.7, 5, 1000))
    assert low < mean < high
    assert 0.9 < (high - low) / (2 * 2.776 * 100 * np.sqrt(0.21 / 5000)) < 2


@pytest.mark.parametrize("shapes", [((3, 5), (3, 6)), ((1, 5), (1, 5)), ((5,), (5,))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(ValueError, match="two seeds or more"):
        paired_difference(*map(np.zeros, shapes))


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("mean", "error", "verdict"),
    [
        (1.6, 0.3, "supported"),
        (-1.6, 0.3, "contradicted"),
        (0.4, 0.3, "equivalent"),
        (-0.4, 0.3, "equivalent"),
        (0.4, 1.0, "inconclusive"),  # too unsure for either
        (1.2, 0.6, "inconclusive"),  # 90 % of it reach beyond the margin
        (5.0, 1.9, "supported"),
        (5.0, 2.4, "inconclusive"),
    ],
)
def test_one_difference_is_decided(mean, error, verdict):
    found = Difference(mean, error, 8, 4000)
    assert decide([found]) == [verdict]
    assert decide([found], margin=0.1) == [verdict.replace("equivalent", "inconclusive")]
    assert decide([found, None, None, None]) == [{"5.0": "inconclusive"}.get(str(mean), verdict), "", "", ""]


SURE, OPEN, SMALL = (Difference(mean, error, 6, 4000) for mean, error in ((9.0, 0.5), (2.0, 0.8), (0.1, 0.5)))


@pytest.mark.parametrize(
    ("more", "verdict", "p"),
    [
        (Difference(2.0, 0.5, 12, 4000), "supported", 2 * 2 * Difference(2.0, 0.5, 12, 4000).p),
        (Difference(-2.0, 0.5, 12, 4000), "contradicted", 2 * 2 * Difference(-2.0, 0.5, 12, 4000).p),
        (Difference(2.0, 0.76, 12, 4000), "inconclusive", 2 * 2 * Difference(2.0, 0.76, 12, 4000).p),  # p < 2.5 % alone
        (Difference(0.2, 0.8, 12, 4000), "equivalent", 1),
        (Difference(0.4, 0.8, 12, 4000), "inconclusive", 1),  # 90 % of it, but not 95 %, lie within the margin
    ],
)
def test_a_second_look_judges_what_is_open_at_half_the_level(more, verdict, p):
    """Beside it in the correction is what was equivalent, but not what was supported."""
    decided = decide_in_looks([SURE, OPEN, SMALL], [Difference(0.0, 1.0, 12, 4000), more, SURE])
    assert [found.verdict for found in decided] == ["supported", verdict, "equivalent"]
    assert [found.look for found in decided] == [1, 2, 1]
    assert [found.tested for found in decided] == [3, 2, 3]
    assert decided[1].p == pytest.approx(p)
    assert (decided[1].p < LEVEL) == (verdict in ("supported", "contradicted"))


def test_without_more_seeds_there_is_no_second_look():
    first = [SURE, OPEN, None]
    decided = decide_in_looks(first, [None] * 3)
    assert {found.look for found in decided} == {1}
    assert [found.verdict for found in decided] == decide(first) == ["supported", "inconclusive", ""]
    assert [found.p for found in decided] == corrected(first)
    assert decide_in_looks([], []) == []


def test_what_is_not_known_yet_counts_in_both_looks_and_takes_no_verdict_back():
    more = Difference(2.0, 0.5, 12, 4000)
    known, wider = (decide_in_looks([SURE, OPEN, *rest], [None, more, *rest]) for rest in ([], [None]))
    assert [found.verdict for found in known] == [found.verdict for found in wider[:2]] == ["supported", "supported"]
    assert [(found.look, found.tested) for found in wider] == [(1, 3), (2, 2), (1, 3)]
    assert (known[1].p, wider[1].p) == pytest.approx((2 * more.p, 2 * 2 * more.p))


def test_the_margin_is_held_against_two_one_sided_tests():
    rng = np.random.default_rng(10)
    for _ in range(50):
        gains = rng.normal(0.5, 1.5, 6)
        found = Difference(gains.mean(), gains.std(ddof=1) / np.sqrt(6), 6, 4000)
        known = [
            ttest_1samp(gains, -MARGIN, alternative="greater").pvalue,
            ttest_1samp(gains, MARGIN, alternative="less").pvalue,
        ]
        assert found.is_within(MARGIN) == (max(known) < LEVEL)
        assert found.is_within(MARGIN, 0.01) == (max(known) < 0.01)


@pytest.mark.parametrize(("mean", "p"), [(3.0, 0), (-3.0, 0), (0.0, 1)])
def test_a_difference_without_any_spread_is_certain(mean, p):
    assert Difference(mean, 0.0, 3, 9).p == p

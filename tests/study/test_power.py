"""Error rates of the whole analysis: Holm's correction, two one-sided tests and all, on studies that are made up."""

from dataclasses import replace

import pytest

from study.power import Plan, simulate
from study.statistics import MARGIN

FIVE = [(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)]
WRONG = {"supported", "contradicted"}


def test_a_plan_without_a_deviation_is_refused():
    with pytest.raises(ValueError, match="deviation must be a number of points, got nan"):
        Plan(6, 200, float("nan"))


def share(count, *verdicts):
    return sum(count[verdict] for verdict in verdicts) / count.total()


@pytest.mark.parametrize("deviation", [1.0, 4.0])
def test_where_nothing_differs_at_most_one_table_in_twenty_says_otherwise(deviation):
    """Of the verdicts on one order the share of false ones is far smaller: five are asked together."""
    counts = simulate(Plan(8, 1000, deviation), [70.0] * 4, FIVE, studies=300)
    assert sum(share(count, *WRONG) for count in counts) < 0.075


@pytest.mark.parametrize("accuracies", [[70.0] * 4, [70.0, 70.0, 70.0, 40.0]])
def test_two_looks_are_wrong_of_few_tables(accuracies):
    """Of 7.5 % at most, whether or not the first look settles some orders; here of the verdicts on a table together."""
    counts = simulate(Plan(6, 500, 2.0, later=12), accuracies, FIVE, studies=300)
    same = [accuracies[better] == accuracies[worse] for better, worse in FIVE]
    assert sum(share(count, *WRONG) for count, alike in zip(counts, same, strict=True) if alike) < 0.1


def test_a_second_look_finds_more():
    plan = Plan(6, 2000, 1.5)
    once, twice = (simulate(each, [72.5, 70.0], [(0, 1)], 200)[0] for each in (plan, replace(plan, later=12)))
    assert share(twice, "supported") > share(once, "supported") + 0.15


def test_equal_accuracies_are_called_equivalent_where_runs_are_steady_and_undecided_where_not():
    steady, shaky = (simulate(Plan(8, 4000, deviation), [70.0] * 4, FIVE, 40) for deviation in (1.0, 8.0))
    assert min(share(count, "equivalent") for count in steady) > 0.8
    assert max(share(count, "equivalent") for count in shaky) < 0.1


def test_accuracies_a_margin_apart_are_rarely_called_equivalent():
    """A false equivalence: each order errs at most once in twenty."""
    counts = simulate(Plan(8, 2000, 1.5), [70.0 + MARGIN, 70.0], [(0, 1), (1, 0)], studies=200)
    assert all(share(count, "equivalent") < 0.08 for count in counts)
    assert share(counts[0], "contradicted") == share(counts[1], "supported") == 0


@pytest.mark.parametrize(("gap", "least", "most"), [(4.0, 0.95, 1.0), (1.2, 0.1, 0.9)])
def test_a_true_difference_is_found_the_more_often_the_larger_it_is(gap, least, most):
    counts = simulate(Plan(8, 2000, 1.0), [70.0 + gap, 70.0], [(0, 1), (1, 0)], studies=100)
    assert least <= share(counts[0], "supported") <= most
    assert share(counts[0], "supported") == share(counts[1], "contradicted")


def test_more_seeds_find_more():
    few, many = (simulate(Plan(seeds, 1000, 2.0), [73.0, 70.0], [(0, 1)], 100)[0] for seeds in (3, 8))
    assert share(many, "supported") > share(few, "supported") + 0.2

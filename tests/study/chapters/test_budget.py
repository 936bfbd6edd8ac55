from dataclasses import replace

import pytest

from ctnet.engine import get_recipe
from study.chapters.budget import Assumptions, budget_table, estimate, span
from study.costs import kept
from study.fullscale import SIZES
from study.paper import table

ASSUMED = Assumptions(
    peak_tflops=100,
    sustained=(0.1, 0.5),
    dollars_per_hour=(2, 3),
    megabytes_per_video={"somethingv1": (0.2, 0.3), "somethingv2": (0.1, 0.2), "kinetics": (1, 2)},
)


def test_an_estimate_is_what_its_assumptions_make_of_the_measured_cost():
    """Table 3, 8 frames, Something-Something V1, by hand."""
    gmacs = kept(table("3").rows["ct-net-8"].networks[0]).gmacs
    flops = 2 * gmacs * 1e9 * 45 * (3 * 86_017 + 11_522)
    train, test, videos, dollars = estimate(table("3").rows["ct-net-8"], "somethingv1", ASSUMED).values()
    assert train == pytest.approx((flops / 50e12 / 3600, flops / 10e12 / 3600))
    assert test == pytest.approx([2 * gmacs * 1e9 * 11_522 / tflops / 3600 for tflops in (50e12, 10e12)])
    assert videos == pytest.approx((19.5, 29.3), abs=0.05)
    assert dollars == pytest.approx((2 * (train[0] + test[0]), 3 * (train[1] + test[1])))


def test_views_cost_in_testing_only_and_ensembles_add_up():
    rows = table("3").rows
    one, six = (estimate(rows[row], "somethingv2", ASSUMED) for row in ("ct-net-8", "ct-net-8x3x2"))
    assert six["Training, GPU hours"] == one["Training, GPU hours"]
    assert six["Testing, GPU hours"][0] == pytest.approx(6 * one["Testing, GPU hours"][0])
    whole = estimate(rows["ct-net-en-8-12-16-24"], "somethingv2", ASSUMED)
    parts = [estimate(table("6").rows[frames], "somethingv2", ASSUMED) for frames in ("8", "12", "16", "24")]
    assert whole["Training, GPU hours"][1] == pytest.approx(sum(part["Training, GPU hours"][1] for part in parts))
    assert whole["Videos, GB"] == one["Videos, GB"]


def test_epochs_are_the_recipes():
    row = table("4").rows["ct-net-r50-16x3x4"]
    hours = estimate(row, "kinetics", ASSUMED)["Training, GPU hours"][0]
    clips = 3 * SIZES["kinetics"].train + SIZES["kinetics"].val
    assert hours == pytest.approx(2 * kept(row.networks[0]).gmacs * get_recipe("kinetics").epochs * clips / 5e4 / 3600)
    faster = estimate(row, "kinetics", replace(ASSUMED, peak_tflops=200))["Training, GPU hours"][0]
    assert faster == pytest.approx(hours / 2)


@pytest.mark.parametrize(
    ("bounds", "text"),
    [((8.04, 32.2), "8 to 32"), ((0.0042, 0.017), "0.004 to 0.02"), ((111, 434), "110 to 430"), ((9.96, 10.4), "10")],
)
def test_ranges_have_no_false_digits(bounds, text):
    assert span(bounds) == text


def test_the_table_has_a_line_for_each_row_of_ct_net_and_dataset():
    frame = budget_table(["3", "4"], ASSUMED).data
    assert frame["Dataset"].value_counts().to_dict() == {"SSv1": 5, "SSv2": 5, "Kinetics-400": 3}
    assert frame["Row of Table 3 or 4"].str.contains("CT-Net").all()
    first = estimate(table("3").rows["ct-net-8"], "somethingv1", ASSUMED)
    for heading, bounds in first.items():
        assert frame.loc[0, heading] == span(bounds)

"""A claim has a name that follows from what it is about, one of the verdicts, and figures of a few characters."""

import pytest

from study.claims import AGAINST, HOLDS, VERDICTS, Claim, figure


def test_a_claim_is_called_by_its_table_subject_and_column():
    def name(*place):
        return Claim("exact", *place, "it is so", 1, 1, "reproduced").id

    assert name("2g", "ct-module", "gflops") == "2g/ct-module/gflops"
    assert name("2d", "text", "") == "2d/text"
    assert name("text", "3", "") == "text/3"


def test_verdicts_are_ranked_from_standing_to_fallen():
    assert len(set(VERDICTS)) == len(VERDICTS)
    assert set(HOLDS) == {"reproduced", "consistent", "within interval", "supported"}
    assert AGAINST[0] == "not reproduced"
    assert {"differs", "contradicted", "inconsistent"} < set(AGAINST)
    assert set(HOLDS).isdisjoint(AGAINST)
    assert HOLDS + VERDICTS[len(HOLDS) : -len(AGAINST)] + AGAINST == VERDICTS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (37.3, "37.3"),
        (37.3204, "37.32"),
        (9999.4, "9999"),
        (10803.68, "10804"),
        (1e-7, "1e-07"),
        (4.77e-7, "5e-07"),
        (0.0, "0"),
        ([3, 5], "3, 5"),
        ("7x7x7", "7x7x7"),
        ({"mean": 3.21, "low": 1.0, "high": 5.5, "p": 0.01}, "+3.2 (1.0 to 5.5)"),
        ({"mean": -0.01, "low": -0.04, "high": 0.02}, "+0.0 (0.0 to 0.0)"),
        ({"value": 50.3, "low": 49.4, "high": 51.2}, "50.3 (49.4 to 51.2)"),
    ],
)
def test_figures_are_short(value, text):
    assert figure(value) == text

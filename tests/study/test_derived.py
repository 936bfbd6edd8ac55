"""What the paper says of its own numbers follows from the tables, and turns when a printed number changes."""

import pytest

from study.derived import SECTIONS, derived_claims
from study.paper import TABLES, table


def verdicts():
    return {claim.id: claim.verdict for claim in derived_claims()}


def turned(edited, name, change):
    """The claims whose verdict another print of a table would change."""
    before = verdicts()
    with edited(f"published/table_{name}.json") as content:
        change({row["id"]: row["printed"] for row in content["rows"]})
    return {name for name, verdict in verdicts().items() if verdict != before[name]}


def test_one_statement_contradicts_the_papers_own_numbers():
    found = list(derived_claims())
    assert {claim.id for claim in found if claim.verdict != "consistent"} == {"4.2/ensemble: very low computation"}
    assert {claim.kind for claim in found} == {"derived"}
    assert {claim.table for claim in found} == {*SECTIONS, "4"}
    assert len({claim.id for claim in found}) == len(found)
    assert all(claim.rule and set(claim.topics) < {*TABLES, "views"} for claim in found)


def test_a_factor_is_recomputed_to_the_printed_digit(own_results, edited):
    def change(rows):
        rows["nl-i3d-gcn-32x3x2"]["gflops"] = 1828

    assert turned(edited, "3", change) == {"4.2/49.1x fewer GFLOPs than NL I3D + GCN"}


def test_a_rival_that_becomes_better_turns_what_is_said_of_all(own_results, edited):
    def change(rows):
        rows["tsm-8"]["v1_top1"] = 1 + max(row["v1_top1"] for row in rows.values() if row["v1_top1"] is not None)

    assert turned(edited, "3", change) == {
        "4.2/16 frames: more accurate on V1 than all with one clip",
        "4.2/ensemble: more accurate on V1 than all",
        "A.4/the ensemble of four is the best on V1",
    }


def test_a_majority_is_more_than_half(own_results, edited):
    def change(rows):
        for row in rows.values():
            if not row["method"].startswith("CT-Net"):
                row["top1"] = 99.0

    lost = turned(edited, "4", change)
    assert "A.7/better trade-off than most methods on Kinetics-400" in lost
    assert "4.2/R50: more accurate than SlowFast R50" in lost


def test_the_points_of_figure_5_are_told_beside_those_of_its_table(own_results, edited):
    (claim,) = (claim for claim in derived_claims() if claim.table == "A.7")
    assert "of the 10 that Figure 5 draws, 4: TSM, CorrNet, ip-CSN, CorrNet." in claim.note
    with edited("published/table_4.json") as content:
        rows = {row["id"]: row["printed"] for row in content["rows"]}
        rows["tsm-16x3x10"]["clip_gflops"] = 74
    (claim,) = (claim for claim in derived_claims() if claim.table == "A.7")
    assert "Figure 5 draws, 3: CorrNet, ip-CSN, CorrNet." in claim.note


def test_the_ensemble_is_cheap_when_most_rows_cost_more(own_results, edited):
    def change(rows):
        rows["ct-net-en-8-12-16-24"]["gflops"] = 65

    assert "4.2/ensemble: very low computation" in turned(edited, "3", change)


@pytest.mark.parametrize(
    ("name", "row", "column", "value", "claim"),
    [
        ("2b", "k4", "top1", 45.9, "4.1/K = 4: accuracy comparable to K = 1"),
        ("4", "x3d-xl-16x3x10", "top1", 79.4, "4.2/R101: accuracy comparable to X3D-XL"),
        ("4", "x3d-xl-16x3x10", "gflops", 1390, "4.2/R101: GFLOPs similar to X3D-XL's"),
        ("2a", "csn-module", "gflops", 48.5, "4.1/CT-Module: computation similar to the CSN-Module's"),
        ("2a", "r-2-1-d-module", "gflops", 45.0, "4.1/CT-Module: much lower computation than the R(2+1)D-Module's"),
        ("7", "csn-module", "v2_top1", 58.9, "A.5/Table 7 has the modules in the order of Table 2a"),
    ],
)
def test_words_for_how_much_have_bounds(own_results, edited, name, row, column, value, claim):
    def change(rows):
        rows[row][column] = value

    assert claim in turned(edited, name, change)


@pytest.mark.parametrize(("view", "column"), [("x1x2", "v1_top1"), ("x3x2", "v2_top5"), ("", "v2_top5")])
def test_24_frames_are_worse_in_more_than_half_of_all_printed_pairs(own_results, edited, view, column):
    """Seven of twelve: with one fewer they are not."""
    claim = "A.4/24 frames are worse than 16"

    def as_good(rows):
        rows[f"24{view}"][column] = rows[f"16{view}"][column]

    def worse(rows):
        rows[f"24{view}"][column] -= 1

    assert claim not in turned(edited, "6", worse)
    assert claim in turned(edited, "6", as_good)


@pytest.mark.parametrize("step", [("8x1x2", "8"), ("24x3x2", "24x1x2")])
def test_every_step_of_views_must_raise_the_accuracy(own_results, edited, step):
    more, fewer = step

    def change(rows):
        rows[more]["v2_top1"] = rows[fewer]["v2_top1"]

    assert "A.4/more crops and clips raise accuracy" in turned(edited, "6", change)


def test_the_best_on_a_2d_resnet_is_of_each_dataset(own_results, edited):
    def change(rows):
        rows["tsm"]["hmdb51"] = 73.3

    assert turned(edited, "5", change) == {"A.3/hmdb51"}


def test_gflops_of_a_clip_times_views_are_those_of_a_row(own_results, edited):
    views = {claim.subject: claim for claim in derived_claims() if "views" in claim.topics}
    assert views.keys() == {row.id for row in table("4").rows.values() if row.printed["views"] is not None}
    assert views["tsm-16x3x10"].measured == 2580

    def change(rows):
        rows["tsm-16x3x10"]["views"] = 29

    assert turned(edited, "4", change) == {"4/tsm-16x3x10/views"}

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
    assert [claim.id for claim in found if claim.verdict != "consistent"] == ["A.4/24 frames are worse than 16"]
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


@pytest.mark.parametrize("dataset", ["v1_top1", "v2_top1"])
def test_24_frames_must_be_worse_on_both_datasets(own_results, edited, dataset):
    claim = "A.4/24 frames are worse than 16"

    def worse(rows):
        rows["24"][dataset] -= 1

    def both(rows):
        rows["24"] |= {"v1_top1": 52.4, "v2_top1": 64.4}

    assert claim not in turned(edited, "6", worse)
    assert claim in turned(edited, "6", both)


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

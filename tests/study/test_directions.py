"""Verdicts follow from files: made-up runs must turn the claims that are about them, and no others."""

import json

import pytest
from study.decisions import decide, detectable, direction_claims
from study.outcomes import accuracy_table, correct, labels_of
from study.runner import encode, run_file
from study.twins import TWINS, ensembles, runs_of, seeds_of

from study import decisions
from study.chapters.accuracy import direction_table, plot_directions, twin_table
from study.directions import directions as all_directions
from study.statistics import Difference


def verdicts():
    return {direction.id: verdict for direction, _, verdict in decide()}


def test_every_direction_is_the_papers_own_and_measured_on_runs_that_exist():
    found = all_directions()
    for direction in found:
        # Appendix A.4 says that 24 frames are worse than 16; its table prints the same accuracy.
        assert direction.published is None or direction.published > 0 or direction.id == "6/16 > 24/v1_top1"
    known = {f"runs/{name}.json" for name in (*runs_of(), *ensembles())}
    assert all(direction.files and set(direction.files) <= known for direction in found)
    assert len({direction.id for direction in found}) == len(found)


def test_without_runs_nothing_is_decided(results):
    assert set(verdicts().values()) == {"not run yet"}


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(1, "not run yet"), (2, "under way"), (4, "under way"), (5, "supported")]
)
def test_a_verdict_takes_all_seeds_of_the_table(results, seeds, verdict):
    for row, accuracy in (("baseline-tsn", 0.3), ("ct-module", 0.7)):
        results("2g", row, accuracy, seeds=range(seeds))
    decided = verdicts()
    assert decided.pop("2g/ct-module > baseline-tsn/top1") == verdict
    assert set(decided.values()) == {"not run yet"}


def test_comparisons_that_are_not_complete_count_all_the_same(results, monkeypatch):
    counted = {}
    monkeypatch.setattr(decisions, "holm", lambda p: counted.update(p) or p)
    results("2g", "baseline-tsn", 0.3)
    results("2g", "ct-module", 0.7)
    results("2b", "k2", 0.7, seeds=[0, 1])
    results("2b", "k1", 0.3, seeds=[0, 1])
    decided = decide()
    assert len(counted) == len(decided) > len(all_directions())
    assert [name for name, p in counted.items() if p < 1] == ["2g/ct-module > baseline-tsn/top1"]


@pytest.mark.parametrize(
    ("better", "worse", "expected"), [(0.7, 0.3, "supported"), (0.3, 0.7, "contradicted"), (0.5, 0.5, "inconclusive")]
)
def test_a_verdict_follows_the_runs_and_touches_no_other(results, better, worse, expected):
    results("2g", "ct-module", better)
    results("2g", "baseline-tsn", worse)
    decided = verdicts()
    assert decided.pop("2g/ct-module > baseline-tsn/top1") == expected
    assert decided.pop("2e/blocks-7 > blocks-6/top1") == "not run yet"
    assert set(decided.values()) == {"not run yet"}


def test_a_small_change_of_one_file_turns_its_verdict(results):
    """Two accuracies that differ by a clear margin, then one file that takes the margin away."""
    results("2b", "k2", 0.66)
    results("2b", "k1", 0.56)
    assert verdicts()["2b/k2 > k1/top1"] == "supported"
    results("2b", "k2", 0.56, seeds=[1])
    assert verdicts()["2b/k2 > k1/top1"] == "inconclusive"


def test_many_directions_together_ask_for_more(results, monkeypatch):
    """What a single comparison would just resolve is not enough among all those of its table."""
    for row, accuracy in (("ct-net-8", 0.62), ("tsn-8", 0.55)):
        results("3", row, accuracy, spread=0.016)
    decided = {d.id: (found, verdict) for d, found, verdict in decide()}
    found, verdict = decided["3/ct-net-8 > tsn-8/v1_top1"]
    assert 0.05 / 4 < found.p < 0.05
    assert verdict == "inconclusive"
    monkeypatch.setattr(decisions, "holm", lambda p: p)
    decisions._decide.cache_clear()
    assert verdicts()["3/ct-net-8 > tsn-8/v1_top1"] == "supported"


def test_only_the_directions_of_one_table_are_corrected_together(results):
    results("8", "tsn-resnet-50", 0.5, spread=0.02)
    results("8", "ct-net-resnet-50", 0.62, spread=0.02)
    decided = {d.id: (found, verdict) for d, found, verdict in decide()}
    found, verdict = decided["8/ct-net-resnet-50 > tsn-resnet-50/top1"]
    assert 0.05 / len(decided) < found.p < 0.05 / 2
    assert verdict == "supported"
    same_runs, verdict = decided["3/ct-net-8 > tsn-8/v1_top1"]
    assert same_runs == found
    assert verdict == "inconclusive"
    assert detectable("3")["3/ct-net-8 > tsn-8/v1_top1"] > detectable("8")["8/ct-net-resnet-50 > tsn-resnet-50/top1"]


@pytest.mark.parametrize(
    ("mean", "p", "expected"),
    [(1.6, 0.01, "supported"), (1.6, 0.05, "inconclusive"), (-2.0, 0.001, "contradicted"), (-2.0, 0.9, "inconclusive")],
)
def test_verdicts_by_p(results, mean, p, expected):
    results("6", "16", 0.5)
    results("6", "12", 0.5)
    (better,) = [d for d in all_directions() if d.id == "6/16 > 12/v1_top1"]
    assert better.verdict(Difference(mean, 1.0, 3, 2016), p) == expected


def test_a_smaller_lead_is_a_difference_of_two(results):
    for table, suffix, lead in (("2a", "", 0.1), ("7", "/kinetics", 0.02)):
        for row in ("c3d-module", "r-2-1-d-module", "csn-module"):
            results(table, f"{row}{suffix}", 0.5)
        results(table, f"ct-module{suffix}", 0.5 + lead)
    found = {direction.id: measured for direction, measured, _ in decide()}["7/smaller lead on Mini-Kinetics"]
    assert found.mean == pytest.approx(8, abs=0.2)
    assert found.seeds == 3
    assert verdicts()["7/smaller lead on Mini-Kinetics"] == "supported"


def test_a_direction_is_a_claim_with_its_evidence(results):
    results("2b", "k2", 0.62)
    results("2b", "k1", 0.56)
    (claim,) = [claim for claim in direction_claims() if claim.id == "2b/k2 > k1/top1"]
    assert claim.kind == "direction"
    assert claim.measured["mean"] == pytest.approx(6, abs=0.1)
    assert claim.measured["low"] < 6 < claim.measured["high"]
    assert len(claim.evidence) == 2 * len(seeds_of("2b"))
    assert claim.stale, "these runs name no code"
    assert "Holm" in claim.rule


def test_a_comparison_that_two_tables_make_is_called_the_same():
    notes = {claim.id: claim.note for claim in direction_claims() if claim.note}
    assert notes == {"8/ct-net-resnet-50 > tsn-resnet-50/top1": "the same runs as 3/ct-net-8 > tsn-8/v1_top1"}


def test_folds_and_ensembles(results):
    results("5", "ct-net/ucf101", 0.8)
    results("6", "8-16", 0.7)
    assert correct(TWINS["5"]["ct-net/ucf101"], 0).mean() == pytest.approx(0.8, abs=0.01)
    assert len(correct(TWINS["5"]["ct-net/ucf101"], 0)) == 3 * 480
    assert correct(TWINS["6"]["8-16"], 1).mean() == pytest.approx(0.7, abs=0.01)
    assert correct(TWINS["6"]["16"], 0) is None


def test_tables_and_figure(results):
    for row, accuracy in (("c3d-module", 0.5), ("r-2-1-d-module", 0.6), ("ct-module", 0.7)):
        results("2a", row, accuracy)
    accuracies = accuracy_table("2a")
    assert accuracies.loc["ct-module", "accuracy"] == pytest.approx(70, abs=0.1)
    assert accuracies.loc["ct-module", "low"] < 70 < accuracies.loc["ct-module", "high"]
    assert accuracies.loc["csn-module", "seeds"] == 0
    html = twin_table("2a").to_html()
    assert "not run yet" in html
    assert "70.0" in html
    html = direction_table("2a").to_html()
    assert "verdict-supported" in html
    assert "+20.0" in html
    figure = plot_directions("2a")
    printed, twins = figure.axes
    assert len(printed.collections[0].get_offsets()) == 3
    assert len(twins.containers[0].lines[0].get_xdata()) == 2


def test_a_lead_needs_all_seeds_of_both_tables(results):
    for table, suffix, lead in (("2a", "", 0.2), ("7", "/kinetics", 0.02)):
        for row in ("c3d-module", "r-2-1-d-module", "csn-module"):
            results(table, f"{row}{suffix}", 0.5, seeds=range(3))
        results(table, f"ct-module{suffix}", 0.5 + lead, seeds=range(3))
    assert verdicts()["7/smaller lead on Mini-Kinetics"] == "under way"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"val": "others"}}, "differ in validation clips MicroSomething 0.6"),
        ({"init": "others"}, "differ in weights of tsn_r50_twin-MicroPictures-0"),
    ],
)
def test_runs_on_other_clips_or_from_other_weights_are_not_compared(results, change, message):
    for row in ("k1", "k2"):
        results("2b", row, 0.6)
    for seed in range(3):
        for row in ("k1", "k2"):
            path = run_file(TWINS["2b"][row].runs[0].seeded(seed).name)
            same = {"data": {"val": "these"}, "init": "these"}
            old = change if (row, seed) == ("k2", 2) else {}
            path.write_text(json.dumps(json.loads(path.read_text()) | same | old))
    old = TWINS["2b"]["k2"].runs[0].seeded(2).name
    with pytest.raises(ValueError, match=f"{message}.*: delete those that are old of .* \\| {old}$"):
        decide()


def test_predictions_of_other_clips_are_refused(results):
    results("2b", "k1", 0.6)
    run = TWINS["2b"]["k1"].runs[0].seeded(1)
    content = json.loads(run_file(run.name).read_text()) | {"predictions": {"1x1": encode(labels_of(run)[:100])}}
    run_file(run.name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{run.name}: predictions of other clips"):
        correct(TWINS["2b"]["k1"], 1)


def test_what_two_rows_share_is_said_once():
    labels = {d.id: (d.label, d.statement) for d in all_directions()}
    assert labels["3/ct-net-8 > tsm-8/v1_top1"] == (
        "CT-Net − TSM (2D R50, 8 frames)",
        "Table 3: accuracy is higher with CT-Net than with TSM (2D R50, 8 frames)",
    )
    assert labels["2h/train-224-test-256 > train-224-test-224/top1"][0] == "test = 256 − test = 224 (train = 224)"
    assert labels["7/ct-module > csn-module/v2_top1"][0] == "CT-Module − CSN-Module (SSv2)"
    assert labels["5/ct-net > tsn/ucf101"][1] == "Table 5: accuracy is higher with CT-Net than with TSN on UCF101"
    for table in {d.table for d in all_directions()}:
        inside = [d.label for d in all_directions() if d.table == table]
        assert len(set(inside)) == len(inside)

"""Verdicts follow from files: made-up runs must turn the claims that are about them, and no others."""

import pytest

from study import saliency
from study.directions import decide_together, direction_claims, directions
from study.paper import table
from study.runs import ensembles, run_file, runs_of, seeds_of, twins_of
from study.statistics import LEVEL, MARGIN
from study.store import read

MODULES = ("c3d-module", "r-2-1-d-module", "csn-module")


@pytest.fixture
def shared(results, edited):
    """The function `results`; Table 8 is by Table 3's protocol, so CT-Net against TSN is one set of runs in both."""
    other = read("published/table_3.json")
    with edited("published/table_8.json") as content:
        content |= {"seeds": other["seeds"], "twins": {"top1": other["twins"]["v1_top1"]}}
    return results


def found(table, subject, column="top1"):
    (direction,) = [d for d in directions() if (d.table, d.subject, d.column) == (table, subject, column)]
    return direction


def verdicts(but=None):
    """The verdicts on all directions but one."""
    return {direction.verdict for direction in directions() if direction is not but}


def test_every_direction_is_the_papers_own_and_measured_on_runs_that_exist():
    asked = directions()
    for direction in asked:
        # Appendix A.4 says that 24 frames are worse than 16; its table prints the same accuracy.
        same = (direction.table, direction.subject, direction.column) == ("6", "16 > 24", "v1_top1")
        assert direction.published is None or direction.published > 0 or same
    known = {run_file(name) for name in (*runs_of(), *ensembles())} | {saliency.FILE}
    assert all(direction.files and set(direction.files) <= known for direction in asked)
    assert len({claim.id for claim in direction_claims()}) == len(asked)


@pytest.mark.parametrize(("measure", "told"), [("action_share", "not on what acts"), ("scatter", "how wide a map is")])
def test_what_a_measure_does_not_tell_stands_beside_its_verdicts(measure, told):
    notes = {claim.column: [] for claim in direction_claims()}
    for claim in direction_claims():
        notes[claim.column].append(told in claim.note)
    assert all(notes.pop(measure))
    assert not any(any(of_others) for of_others in notes.values())


def test_every_declared_order_is_a_direction():
    declared = {
        (name, f"{better} > {worse}", column)
        for name in ("2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h", "3", "5", "6", "7", "8", "fig3")
        for column, pairs in table(name).orders.items()
        for better, worse in pairs
    }
    leads = {(name, lead.subject, "") for name in ("2a", "7") for lead in table(name).leads}
    assert len(leads) == 1
    assert {(d.table, d.subject, d.column) for d in directions()} == declared | leads


def test_an_order_is_declared_in_one_place(results, edited):
    """Two lines in the file of a table: its own rows, and two more, are compared and corrected with the others."""
    before = found("2b", "k2 > k1").tested
    with edited("published/table_2b.json") as content:
        content["orders"]["top1"].append(["k3", "k1"])
    results("2b", "k3", 0.7)
    results("2b", "k1", 0.3)
    new = found("2b", "k3 > k1")
    assert (new.verdict, new.label, new.published) == ("supported", "K = 3 − K = 1", 0.6)
    assert new.tested == found("2b", "k2 > k1").tested == before + 1
    assert verdicts(but=new) == {"not run yet"}


def test_without_runs_nothing_is_decided(results):
    assert verdicts() == {"not run yet"}


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(1, "not run yet"), (2, "under way"), (5, "under way"), (6, "supported")]
)
def test_a_verdict_takes_all_seeds_of_the_table(results, seeds, verdict):
    for row, accuracy in (("baseline-tsn", 0.3), ("ct-module", 0.7)):
        results("2g", row, accuracy, seeds=range(seeds))
    decided = found("2g", "ct-module > baseline-tsn")
    assert decided.verdict == verdict
    assert decided.is_complete == (seeds == 6)
    assert decided.tendency == ("leans towards the paper" if seeds in (2, 5) else "")
    assert verdicts(but=decided) == {"not run yet"}


def test_a_run_that_lacks_the_view_of_a_row_is_a_seed_less(results, edited):
    for row, accuracy in (("8x1x2", 0.3), ("8x3x2", 0.7)):
        results("6", row, accuracy)
    asked = "6", "8x3x2 > 8x1x2", "v1_top1"
    assert found(*asked).verdict == "supported"
    run = twins_of("6")["8x3x2", "v1_top1"].names(1)[0]
    with edited(run_file(run)) as content:
        del content["predictions"]["3x2"]
    assert (found(*asked).verdict, found(*asked).found.seeds) == ("under way", len(seeds_of("6")) - 1)


def test_comparisons_that_are_not_complete_count_all_the_same(shared):
    """The same runs are enough among the two comparisons of Table 8, but not among the nine of Table 3."""
    for row, accuracy in (("ct-net-resnet-50", 0.62), ("tsn-resnet-50", 0.55)):
        shared("8", row, accuracy, spread=0.055)
    shared("3", "tsm-8", 0.3, seeds=[0, 1])
    few, many = found("8", "ct-net-resnet-50 > tsn-resnet-50"), found("3", "ct-net-8 > tsn-8", "v1_top1")
    assert few.found == many.found
    assert (few.tested, many.tested) == (2, 9)
    assert LEVEL / 9 < many.found.p < LEVEL / 2
    assert (few.verdict, many.verdict) == ("supported", "inconclusive")
    decided = {direction.verdict for direction in directions() if direction not in (few, many)}
    assert decided == {"not run yet", "under way"}


def test_what_is_not_complete_makes_no_room_for_others(results):
    """Four clear differences of which a seed is missing, and one that is clear alone, but not among five."""
    for row, accuracy in (("blocks-12", 0.5), ("blocks-7", 0.51)):
        results("2e", row, accuracy, spread=0.008)
    for row, accuracy in (("blocks-0", 0.1), ("blocks-1", 0.2), ("blocks-4", 0.3), ("blocks-6", 0.4)):
        results("2e", row, accuracy, seeds=range(4))
    complete = found("2e", "blocks-7 > blocks-12")
    others = [direction for direction in directions() if direction.table == "2e" and direction is not complete]
    assert {direction.verdict for direction in others} == {"under way"}
    assert all(direction.found.p < complete.found.p for direction in others)
    assert LEVEL / 5 < complete.found.p < LEVEL
    assert complete.verdict == "equivalent"


@pytest.mark.parametrize(
    ("better", "worse", "expected"), [(0.7, 0.3, "supported"), (0.3, 0.7, "contradicted"), (0.5, 0.5, "equivalent")]
)
def test_a_verdict_follows_the_runs_and_touches_no_other(results, better, worse, expected):
    results("2g", "ct-module", better)
    results("2g", "baseline-tsn", worse)
    decided = found("2g", "ct-module > baseline-tsn")
    assert decided.verdict == expected
    assert verdicts(but=decided) == {"not run yet"}


def test_the_evidence_of_an_ensemble_is_its_own_and_that_of_its_members():
    asked = found("6", "8-12-16-24-x1x1 > 16", "v1_top1")
    twins = twins_of("6")
    fused, single = (twins[row, "v1_top1"] for row in ("8-12-16-24-x1x1", "16"))
    assert len(fused.runs) == 4
    expected = {run_file(fused.ensemble(seed)) for seed in seeds_of("6")}
    expected |= {run_file(run.seeded(seed).name) for run in (*fused.runs, *single.runs) for seed in seeds_of("6")}
    assert set(asked.files) == expected


def test_a_change_of_two_seeds_turns_a_verdict(results):
    """Two accuracies that differ by a clear margin, then two seeds that take the margin away."""
    results("2b", "k2", 0.66)
    results("2b", "k1", 0.56)
    assert found("2b", "k2 > k1").verdict == "supported"
    results("2b", "k2", 0.56, seeds=[1, 2])
    assert found("2b", "k2 > k1").verdict == "inconclusive"


def twice(results, later, seeds=range(6, 12)):
    """Table 2c with an order that six seeds leave open, and what it is when more have other accuracies."""
    results("2c", "serial", 0.6)
    results("2c", "parallel", 0.6, spread=0.006)
    results("2c", "coupling", 0.3)
    first = found("2c", "parallel > serial")
    assert (first.verdict, first.look) == ("inconclusive", 1)
    results("2c", "serial", 0.6, seeds=seeds)
    results("2c", "parallel", later, seeds=seeds)
    return first, found("2c", "parallel > serial")


@pytest.mark.parametrize(("later", "verdict"), [(0.7, "supported"), (0.5, "contradicted"), (0.6, "equivalent")])
def test_what_six_seeds_leave_open_is_judged_once_more_over_twelve(results, later, verdict):
    """By the declared second look; the other order stays as six seeds of it decided it, and so does its correction."""
    first, decided = twice(results, later)
    assert (decided.verdict, decided.look, decided.found.seeds, decided.tested) == (verdict, 2, 12, 1)
    assert decided.before == first.found
    assert decided.visible == decided.found.detectable(0.025)
    assert first.visible == first.found.detectable(0.05 / 3)
    assert decided.found.by_seed[:6] == first.found.by_seed
    assert decided.found.by_seed[6:] == pytest.approx([100 * (later - 0.6)] * 6, abs=0.1)
    assert (len(first.files), len(decided.files)) == (12, 24)
    other = found("2c", "parallel > coupling")
    assert (other.look, other.found.seeds, other.tested, other.before) == (1, 6, 3, None)
    (claim,) = [claim for claim in direction_claims() if claim.id == decided.id]
    assert "2.5 %" in claim.rule
    assert claim.measured["seeds"] == 12
    assert len(claim.evidence) == 24


def test_a_second_look_takes_all_its_seeds(results):
    first, decided = twice(results, 0.7, seeds=range(6, 11))
    assert decided == first


def test_other_rules_judge_both_looks(results):
    twice(results, 0.6)
    asked = [direction for direction in directions() if direction.table == "2c"]
    verdicts = [direction.verdict for direction in asked]
    assert decide_together(asked) == verdicts
    assert verdicts.count("equivalent") == 1
    narrow = decide_together(asked, margin=1e-9)
    assert narrow == [verdict.replace("equivalent", "inconclusive") for verdict in verdicts]


def test_many_directions_together_ask_for_more(results, edited):
    """What a single comparison would just resolve is not enough among all those of its table."""
    for row, accuracy in (("ct-net-8", 0.62), ("tsn-8", 0.55)):
        results("3", row, accuracy, spread=0.055)
    among = found("3", "ct-net-8 > tsn-8", "v1_top1")
    assert LEVEL / 4 < among.found.p < LEVEL
    assert among.verdict == "inconclusive"
    with edited("published/table_3.json") as content:
        content |= {"orders": {"v1_top1": [["ct-net-8", "tsn-8"]]}, "second_look": None}
    alone = found("3", "ct-net-8 > tsn-8", "v1_top1")
    assert alone.found == among.found
    assert alone.verdict == "supported"
    assert alone.visible < among.visible


def test_only_the_directions_of_one_table_are_corrected_together(shared):
    shared("8", "tsn-resnet-50", 0.5, spread=0.084)
    shared("8", "ct-net-resnet-50", 0.62, spread=0.084)
    alone, same_runs = found("8", "ct-net-resnet-50 > tsn-resnet-50"), found("3", "ct-net-8 > tsn-8", "v1_top1")
    assert LEVEL / len(directions()) < alone.found.p < LEVEL / 2
    assert alone.verdict == "supported"
    assert same_runs.found == alone.found
    assert same_runs.verdict == "inconclusive"
    assert same_runs.visible > alone.visible


def test_what_leans_without_being_decided_says_so(results):
    for row, accuracy in (("k2", 0.62), ("k1", 0.55), ("k3", 0.6), ("k4", 0.75)):
        results("2b", row, accuracy, spread=0.12 if row == "k2" else 0.0)
    tendencies = {d.subject: d.tendency for d in directions() if d.table == "2b"}
    assert tendencies["k2 > k1"] == "leans towards the paper"
    assert tendencies["k2 > k4"] == "leans against the paper"
    notes = {claim.subject: claim.note for claim in direction_claims() if claim.table == "2b"}
    assert notes == tendencies


def test_accuracies_that_are_as_good_as_equal_are_equivalent(results):
    for row in ("k2", "k1"):
        results("2b", row, 0.6, spread=0.002 if row == "k2" else 0.0)
    same = found("2b", "k2 > k1")
    assert (same.verdict, same.tendency) == ("equivalent", "")
    (claim,) = [claim for claim in direction_claims() if (claim.table, claim.subject) == ("2b", "k2 > k1")]
    assert -MARGIN < claim.measured["low90"] < claim.measured["high90"] < MARGIN
    assert "90 % interval" in claim.rule


def leads(results, in_2a, in_7, seeds_of_2a=6, seeds_of_7=6):
    asked = (("2a", "top1", in_2a, seeds_of_2a), ("7", "mini_kinetics_top1", in_7, seeds_of_7))
    for name, column, lead, seeds in asked:
        for row in MODULES:
            results(name, row, 0.5, column=column, seeds=range(seeds))
        results(name, "ct-module", 0.5 + lead, column=column, seeds=range(seeds))
    return found("7", "smaller lead on Mini-Kinetics", "")


def test_a_smaller_lead_is_a_difference_of_two(results):
    lead = leads(results, 0.1, 0.02)
    assert lead.found.mean == pytest.approx(8, abs=0.2)
    assert lead.found.seeds == 6
    assert lead.verdict == "supported"
    assert lead.published == 0.3


@pytest.mark.parametrize("seeds", [(3, 3), (3, 6), (6, 3)])
def test_a_lead_needs_all_seeds_of_both_tables(results, seeds):
    assert leads(results, 0.2, 0.02, *seeds).verdict == "under way"


def test_a_direction_is_a_claim_with_its_evidence(results):
    results("2b", "k2", 0.62)
    results("2b", "k1", 0.56)
    (claim,) = [claim for claim in direction_claims() if claim.id == "2b/k2 > k1/top1"]
    assert (claim.kind, claim.table, claim.subject, claim.column) == ("direction", "2b", "k2 > k1", "top1")
    assert claim.measured["mean"] == pytest.approx(6, abs=0.1)
    assert claim.measured["low"] < 6 < claim.measured["high"]
    assert claim.evidence == found("2b", "k2 > k1").files
    assert len(claim.evidence) == 2 * len(seeds_of("2b"))
    assert "Holm" in claim.rule
    assert all(set(other.evidence) <= set(claim.evidence) for other in direction_claims()), "files that are there"


def test_a_comparison_that_two_tables_make_is_told_of(shared, edited):
    def notes(words):
        return {claim.id: claim.note for claim in direction_claims() if words in claim.note}

    again = "8/ct-net-resnet-50 > tsn-resnet-50/top1"
    assert notes("the same runs as") == {again: "the same runs as 3/ct-net-8 > tsn-8/v1_top1"}
    with edited("published/table_8.json") as content:
        content["seeds"] -= 1
    assert notes("shares runs with") == {again: "shares runs with 3/ct-net-8 > tsn-8/v1_top1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"val": "others"}}, "differ in validation clips MicroSomething 0.3"),
        ({"init": "others"}, "differ in weights of tsn_r26_twin-MicroPictures-0"),
    ],
)
def test_runs_on_other_clips_or_from_other_weights_are_not_compared(results, edited, change, message):
    names = {row: [run.seeded(seed).name for seed in range(3)] for row, run in first_runs("2b", "k1", "k2").items()}
    for row in names:
        results("2b", row, 0.6)
    for name in names["k1"] + names["k2"]:
        with edited(run_file(name)) as content:
            content |= {"data": {"val": "these"}, "init": "these"} | (change if name == names["k2"][2] else {})
    with pytest.raises(ValueError, match=f"{message}.*: delete those that are old of .* \\| {names['k2'][2]}$"):
        directions()


def first_runs(name, *rows):
    return {row: twins_of(name)[row, "top1"].runs[0] for row in rows}


def test_what_two_rows_share_is_said_once():
    def told(*direction):
        return found(*direction).label, found(*direction).statement

    assert told("3", "ct-net-8 > tsm-8", "v1_top1") == (
        "CT-Net − TSM (2D R50, 8 frames)",
        "Table 3: accuracy is higher with CT-Net than with TSM (2D R50, 8 frames)",
    )
    assert told("2h", "train-224-test-256 > train-224-test-224")[0] == "test = 256 − test = 224 (train = 224)"
    assert told("7", "ct-module > csn-module", "v2_top1")[0] == "CT-Module − CSN-Module (SSv2)"
    assert told("5", "ct-net > tsn", "ucf101")[1] == "Table 5: accuracy is higher with CT-Net than with TSN on UCF101"
    for name in {direction.table for direction in directions()}:
        inside = [direction.label + direction.column for direction in directions() if direction.table == name]
        assert len(set(inside)) == len(inside)


def test_where_networks_look_is_compared_by_the_rows_of_figure_3():
    asked = [direction for direction in directions() if direction.table == "fig3"]
    assert {direction.column for direction in asked} == table("fig3").orders.keys()
    assert {direction.files for direction in asked} == {(saliency.FILE,)}
    assert {direction.tested for direction in asked} == {len(asked)}
    assert all(direction.statement.startswith("Figure 3: ") for direction in asked)
    energy = found("fig3", "ct-module-pwconv-te > csn-module", "energy_share")
    content = saliency.content()
    one, other = (saliency.measured(content, row, "energy_share") for row in ("ct-module-pwconv-te", "csn-module"))
    assert energy.found.mean == pytest.approx(100 * (one.mean() - other.mean()))


def test_saliency_of_other_runs_is_not_read(own_results, edited):
    with edited(saliency.FILE) as content:
        content["runs"]["csn-module"][0] = "of-old"
    assert {direction.verdict for direction in directions() if direction.table == "fig3"} == {"not run yet"}


def test_an_order_of_accuracies_passes_few_modules_on_its_way_to_a_verdict(unread_results, edited, passed):
    with edited("published/figure_3.json") as content:
        content["orders"] = {}
    files = passed(directions)
    assert {direction.verdict for direction in directions()} & {"supported", "inconclusive"}
    of_study = {f"study/{module}.py" for module in ("paper", "store", "runs", "statistics", "directions")}
    assert of_study <= files <= of_study | {"ctnet/engine/recipe.py", "ctnet/micro/datasets.py"}

"""The ledger is complete, follows from the files, and notices when one of them changes."""

from collections import Counter
from dataclasses import replace

import pytest

from ctnet.engine import get_recipe
from study import saliency
from study.claims import VERDICTS, Claim
from study.directions import direction_claims
from study.fullscale import SIZES, Target
from study.ledger import claims, fallen, ledger_verdicts, sentences, vanished, write_ledger
from study.paper import TABLES, table, text_claims, training_settings
from study.store import read, stale, write


@pytest.fixture(scope="module")
def decided():
    return {claim.id: claim for claim in claims()}


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_number_has_an_entry(name, decided):
    for column, about in table(name).columns.items():
        for row in table(name).rows.values():
            if about.unit and row.printed[column] is not None:
                claim = decided[f"{name}/{row.id}/{column}"]
                if column != "views":  # of these the claim is that they multiply
                    assert (claim.published, claim.subject, claim.column) == (row.printed[column], row.id, column)


def test_the_tables_print_417_numbers(decided):
    units = {(name, column): about.unit for name in TABLES for column, about in table(name).columns.items()}
    found = Counter(
        claim.kind
        for claim in decided.values()
        if claim.kind in ("cost", "full size") and units.get((claim.table, claim.column))
    )
    assert found.total() == 417
    assert found["full size"] == 276


def test_every_entry_says_what_it_is(decided):
    assert len(decided) == len(claims())
    assert {claim.verdict for claim in decided.values()} <= set(VERDICTS)
    assert {claim.kind for claim in decided.values()} == {"cost", "exact", "derived", "direction", "full size", "text"}
    assert all(claim.rule and claim.statement for claim in decided.values())
    assert {claim.verdict for claim in decided.values() if claim.kind == "full size"} == {"not run here"}


def test_evidence_is_there_and_tells_what_made_it(decided):
    files = {file for claim in decided.values() for file in claim.evidence}
    assert all(read(file)["provenance"]["behaviour"] for file in files)
    assert {file.partition("/")[0] for file in files} == {"cost", "runs", saliency.FILE}


def test_the_ledger_holds_what_the_results_say(decided):
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in decided.values()}


def test_claims_of_tables_are_those_of_all_claims(decided):
    for name in (*TABLES, "fig3", "3.3", "A.4"):
        found = claims([name])
        assert {claim.id for claim in found} == {claim.id for claim in decided.values() if claim.table == name}


def test_every_sentence_of_the_text_is_decided(decided):
    found = [claim for claim in decided.values() if claim.kind == "text"]
    assert len(found) == len(text_claims())
    assert all(set(sentence["decided_by"]) <= decided.keys() for sentence in text_claims())


def sentence(write_claims, decided_by):
    """Put one sentence in the place of all that the text says."""
    with write_claims("published/text_claims.json") as content:
        content["claims"] = [{"where": "4.1", "claim": "all is well", "decided_by": decided_by}]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (("reproduced", "consistent"), "consistent"),
        (("consistent", "supported"), "supported"),
        (("supported", "not run yet"), "not run yet"),
        (("equivalent", "inconclusive", "supported"), "inconclusive"),
        (("supported", "equivalent"), "equivalent"),
        (("inconclusive", "contradicted", "supported"), "contradicted"),
    ],
)
def test_a_sentence_is_as_good_as_its_weakest_part(own_results, edited, parts, verdict):
    given = [
        Claim("derived", "4.1", f"part {n}", "", "", 1, 1, part, evidence=("same", f"{n}"))
        for n, part in enumerate(parts)
    ]
    sentence(edited, [claim.id for claim in given])
    (found,) = sentences({claim.id: claim for claim in given})
    assert (found.id, found.kind, found.statement) == ("text/1", "text", "4.1: all is well")
    assert found.verdict == verdict
    assert found.evidence == ("same", *(str(n) for n in range(len(parts))))
    weakest = [claim.id for claim in given if claim.verdict == verdict]
    assert found.note == f"{len(weakest)} of {len(parts)} entries that decide it: {'; '.join(weakest)}"


def test_a_direction_and_the_sentence_on_it_turn_with_one_file(results, edited):
    """Two rows that differ clearly, then one run that takes the difference away."""

    def found():
        asked = {claim.id: claim for claim in direction_claims()}
        of_table = [claim.verdict for claim in asked.values() if claim.table == "2h"]
        return [next(sentences(asked)).verdict, *of_table]

    sentence(edited, ["2h/train-256-test-256 > train-224-test-256/top1"])
    results("2h", "train-256-test-256", 0.66)
    results("2h", "train-224-test-256", 0.60)
    results("2h", "train-224-test-224", 0.60)
    assert found() == ["supported", "equivalent", "supported"]
    results("2h", "train-256-test-256", 0.57, seeds=[2])
    assert found() == ["inconclusive", "equivalent", "inconclusive"]


@pytest.mark.parametrize("kind", ["cost", "runs", "saliency"])
def test_results_of_older_behaviour_decide_as_before_and_are_told(own_results, edited, run_study, decided, kind):
    files = {file for claim in decided.values() for file in claim.evidence if file.startswith(kind)}
    old = min(files)
    with edited(old) as content:
        part = next(iter(content["provenance"]["behaviour"]))
        content["provenance"]["behaviour"][part] = 0
    names = [
        claim.table
        for claim in decided.values()
        if old in claim.evidence and claim.kind in ("cost", "exact", "direction")
    ]
    code, _, errors = run_study("verify", "--table", names[0])
    assert code == 0
    assert old in set(stale(files))
    assert f"{names.count(names[0])} claims rest on results of older versions of behaviour" in errors


def test_a_full_scale_result_decides_its_number_and_a_small_change_turns_it(own_results, edited):
    target = Target("3", "ct-net-8", "somethingv1")
    content = {
        "table": target.table,
        "row": target.row,
        "dataset": target.dataset,
        "videos": SIZES["somethingv1"].val,
        "metrics": {"top1": 0.503, "top5": 0.79},
        "interval": {"top1": [0.494, 0.512], "top5": [0.782, 0.798]},
        "networks": [{"weights": "0", "recipe": get_recipe("somethingv1").to_dict()}],
        "provenance": {"behaviour": {"data": 0, "engine": 1, "networks": {"ctnet_r50": 1}}},
    }
    (own_results / "full-scale").mkdir()
    write(target.file, content)
    before = {claim.id: claim.verdict for claim in claims(["3"])}
    assert before["3/ct-net-8/v1_top1"] == "within interval"
    with edited(target.file) as content:
        content["interval"]["top1"] = [0.502, 0.520]
    (lost,) = fallen(claims(["3"]), before)
    assert (lost.id, lost.verdict) == ("3/ct-net-8/v1_top1", "differs")
    assert lost.evidence == (target.file,)
    assert list(stale(lost.evidence)) == [target.file]


def test_a_published_number_that_changes_turns_what_is_derived_from_it(own_results, edited):
    with edited("published/table_3.json") as content:
        (row,) = (row for row in content["rows"] if row["id"] == "nl-i3d-gcn-32x3x2")
        row["printed"]["gflops"] += 10
    lost = {claim.id for claim in fallen(claims(), ledger_verdicts())}
    assert lost == {"4.2/49.1x fewer GFLOPs than NL I3D + GCN", "text/1"}


def test_the_command_writes_the_ledger_when_asked(run_study, own_results):
    write_ledger([replace(claims(["2b"])[0], verdict="differs")])
    assert run_study("verify")[0] == 0
    assert len(ledger_verdicts()) == 1
    assert run_study("verify", "--update")[0] == 0
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in claims()}
    assert run_study("verify", "--update", "--table", "2b")[0] == 2


def test_an_entry_that_is_gone_is_missed(run_study, own_results):
    every = claims()
    stood = next(claim for claim in every if claim.verdict == "reproduced")
    assert vanished(every, ledger_verdicts()) == []
    assert vanished([claim for claim in every if claim is not stood], ledger_verdicts()) == [stood.id]
    write_ledger([*every, replace(stood, table="9", subject="of-old", column="")])
    code, _, errors = run_study("verify")
    assert code == 1
    assert "fallen: 9/of-old is no entry any more" in errors
    assert run_study("verify", "--table", "2b")[0] == 0


def test_a_table_without_costs_has_no_claims_of_other_tables():
    assert {claim.table for claim in claims(["5"])} == {"5"}
    assert {claim.kind for claim in claims(["5"])} == {"full size", "direction"}


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match=r"no claims on 9; there are some on 1, .*, fig3, 3\.3"):
        claims(["2a", "9"])


def test_the_ledger_round_trips(own_results):
    found = claims(["2b"])
    write_ledger(found)
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in found}
    assert {claim.kind for claim in found} == {"cost", "exact", "direction", "full size"}
    (own_results / "ledger.json").unlink()
    assert ledger_verdicts() == {}


@pytest.mark.parametrize("name", ["ledger", "saliency", "published/table_3", "published/training"])
def test_damaged_files_are_named(own_results, name):
    (own_results / f"{name}.json").write_text('{"claims": [')
    with pytest.raises(ValueError, match=f"{name}.json is damaged .*: restore it with git"):
        claims(), ledger_verdicts(), training_settings()

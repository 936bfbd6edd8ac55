"""The ledger is complete, follows from the files, and notices when one of them changes."""

import json
import re
from dataclasses import asdict, replace

import pytest
from study.provenance import write_json
from study.published import TABLES, published_table, results_dir, text_claims, training_settings

from study import ledger
from study.claims import HOLDS, VERDICTS, Claim, figure
from study.fullscale import SIZES, Target
from study.ledger import (
    claims,
    fallen,
    ledger_verdicts,
    sentences,
    vanished,
    write_ledger,
)

PRINTED = ("percent", "giga multiply-adds", "millions")


@pytest.fixture(scope="module")
def decided():
    return {claim.id: claim for claim in claims()}


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_has_an_entry(table, decided):
    frame = published_table(table)
    for column, unit in frame.attrs["units"].items():
        for row_id, value in frame[column].items():
            if unit.startswith(PRINTED) and value is not None:
                assert decided[f"{table}/{row_id}/{column}"].published == value


def test_the_tables_print_417_numbers(decided):
    numbers = [
        claim for claim in decided.values() if re.search(r"/[a-z0-9_]*(gflops|params|top[15]|101|51)$", claim.id)
    ]
    assert len([claim for claim in numbers if claim.kind in ("exact", "full size")]) == 417


def test_every_entry_says_what_it_is(decided):
    assert len(decided) == len(claims())
    assert {claim.verdict for claim in decided.values()} <= set(VERDICTS)
    assert {claim.kind for claim in decided.values()} == {"exact", "derived", "direction", "full size", "text"}
    assert all(claim.rule and claim.statement for claim in decided.values())
    assert {claim.verdict for claim in decided.values() if claim.kind == "full size"} == {"not run here"}


def test_the_ledger_holds_what_the_results_say(decided):
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in decided.values()}
    kept = {entry["id"]: entry for entry in json.loads((results_dir() / "ledger.json").read_text())["claims"]}
    for name, entry in kept.items():
        claim = json.loads(json.dumps(asdict(decided[name])))
        measured = claim.pop("measured")
        if isinstance(measured, float | dict):  # of small ones, such as rounding errors, only the size is the same
            measured = pytest.approx(measured, abs=1e-5)
        assert entry.pop("measured") == measured
        assert entry == claim


def test_every_sentence_of_the_text_is_decided(decided):
    found = [claim for claim in decided.values() if claim.kind == "text"]
    assert len(found) == len(text_claims())
    assert all(sentence["decided_by"] for sentence in text_claims())


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (("reproduced", "consistent"), "consistent"),
        (("consistent", "supported"), "supported"),
        (("supported", "not run yet"), "not run yet"),
        (("inconclusive", "contradicted", "supported"), "contradicted"),
    ],
)
def test_a_sentence_is_as_good_as_its_weakest_part(monkeypatch, parts, verdict):
    names = [f"part {number}" for number in range(len(parts))]
    sentence = {"where": "4.1", "claim": "all is well", "decided_by": names}
    monkeypatch.setattr(ledger, "text_claims", lambda: [sentence])
    given = {
        name: Claim(name, "derived", "", 1, 1, part, evidence=("same", name), stale=name == "part 1")
        for name, part in zip(names, parts, strict=True)
    }
    (found,) = sentences(given)
    assert found.verdict == verdict
    assert found.evidence == ("same", *names)
    weakest = [name for name, part in zip(names, parts, strict=True) if part == verdict]
    assert found.note.endswith(f"entries that decide it: {'; '.join(weakest)}")
    assert found.stale


def test_a_direction_and_the_sentence_on_it_turn_with_one_file(results, monkeypatch):
    """Two rows that differ clearly, then one run that takes the difference away."""

    def found():
        directions = {claim.id: claim for claim in ledger.direction_claims()}
        sentence = {
            "where": "4.1",
            "claim": "one is better",
            "decided_by": ["2h/train-256-test-256 > train-224-test-256/top1"],
        }
        monkeypatch.setattr(ledger, "text_claims", lambda: [sentence])
        return [next(sentences(directions)).verdict] + [
            claim.verdict for claim in directions.values() if claim.id.startswith("2h")
        ]

    results("2h", "train-256-test-256", 0.66)
    results("2h", "train-224-test-256", 0.60)
    results("2h", "train-224-test-224", 0.60)
    assert found() == ["supported", "inconclusive", "supported"]
    results("2h", "train-256-test-256", 0.57, seeds=[2])
    assert found() == ["inconclusive", "inconclusive", "inconclusive"]


def test_a_full_scale_result_decides_its_number_and_a_small_change_turns_it(own_results):
    target = Target("3", "ct-net-8", "somethingv1")
    recipe = {**ledger_recipe(), "dataset": "somethingv1"}
    content = {
        "table": target.table,
        "row": target.row,
        "dataset": target.dataset,
        "videos": SIZES["somethingv1"].val,
        "metrics": {"top1": 0.503, "top5": 0.79},
        "interval": {"top1": [0.494, 0.512], "top5": [0.782, 0.798]},
        "networks": [{"weights": "0", "recipe": recipe}],
        "provenance": {"code": "of long ago"},
    }
    write_json(target.file, content)
    before = {claim.id: claim.verdict for claim in claims(["3"])}
    assert before["3/ct-net-8/v1_top1"] == "within interval"
    content["interval"]["top1"] = [0.502, 0.520]
    write_json(target.file, content)
    lost = fallen(claims(["3"]), before)
    assert [claim.id for claim in lost] == ["3/ct-net-8/v1_top1"]
    assert lost[0].verdict == "differs"
    assert lost[0].stale
    assert lost[0].evidence == ("full-scale/3-ct-net-8-somethingv1.json",)


def ledger_recipe():
    from ctnet.engine import get_recipe

    return get_recipe("somethingv1").to_dict()


def test_a_published_number_that_changes_turns_what_is_derived_from_it(own_results):
    before = ledger_verdicts()
    path = own_results / "published" / "table_3.json"
    text = path.read_text()
    changed = text.replace('"gflops": 1818', '"gflops": 1828')
    assert changed != text
    path.write_text(changed)
    lost = {claim.id for claim in fallen(claims(), before)}
    assert lost == {"4.2/49.1x fewer GFLOPs than NL I3D + GCN", "text/1"}


def test_a_rival_that_becomes_better_turns_what_is_said_of_all(own_results):
    before = ledger_verdicts()
    path = own_results / "published" / "table_3.json"
    content = json.loads(path.read_text())
    best = max(row["v1_top1"] for row in content["rows"] if row["v1_top1"] is not None)
    next(row for row in content["rows"] if row["id"] == "tsm-8")["v1_top1"] = best + 1
    path.write_text(json.dumps(content))
    lost = {claim.id for claim in fallen(claims(), before) if claim.kind == "derived"}
    assert lost == {
        "4.2/16 frames: more accurate on V1 than all with one clip",
        "4.2/ensemble: more accurate on V1 than all",
        "A.4/the ensemble of four is the best on V1",
    }


def test_the_command_writes_the_ledger_when_asked(run_study, own_results):
    write_ledger([replace(claims(["2b"])[0], verdict="differs")])
    assert run_study("verify")[0] == 0
    assert len(ledger_verdicts()) == 1
    assert run_study("verify", "--update")[0] == 0
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in claims()}


def test_an_entry_that_is_gone_is_missed(run_study, own_results):
    decided = claims()
    stood = next(claim for claim in decided if claim.verdict == "reproduced")
    assert vanished(decided, ledger_verdicts()) == []
    assert vanished([claim for claim in decided if claim is not stood], ledger_verdicts()) == [stood.id]
    write_ledger([*decided, replace(stood, id="9/of-old")])
    code, _, errors = run_study("verify")
    assert code == 1
    assert "fallen: 9/of-old is no entry any more" in errors
    assert run_study("verify", "--table", "2b")[0] == 0


def test_a_table_without_costs_has_no_claims_of_other_tables():
    assert {claim.id.split("/")[0] for claim in claims(["5"])} == {"5"}
    assert {claim.kind for claim in claims(["5"])} == {"full size", "direction"}


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match="no claims on 9"):
        claims(["9"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (37.3, "37.3"),
        (1e-7, "1e-07"),
        ([3, 5], "3, 5"),
        ({"mean": 3.21, "low": 1.0, "high": 5.5, "p": 0.01}, "+3.2 (1.0 to 5.5)"),
        ({"value": 50.3, "low": 49.4, "high": 51.2}, "50.3 (49.4 to 51.2)"),
    ],
)
def test_figure(value, text):
    assert figure(value) == text


def test_the_ledger_round_trips(own_results):
    decided = claims(["2b"])
    write_ledger(decided)
    assert ledger_verdicts() == {claim.id: claim.verdict for claim in decided}
    assert set(HOLDS) < set(VERDICTS)
    assert {entry["kind"] for entry in json.loads((own_results / "ledger.json").read_text())["claims"]} == {
        "exact",
        "direction",
        "full size",
    }


@pytest.mark.parametrize("name", ["ledger", "localisation", "published/table_3", "published/training"])
def test_damaged_files_are_named(own_results, name):
    (own_results / f"{name}.json").write_text('{"claims": [')
    with pytest.raises(ValueError, match=f"{name}.json is damaged .*: restore it with git"):
        claims(), ledger_verdicts(), training_settings()

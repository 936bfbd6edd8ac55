import json
import math
import shutil
import subprocess
import sys

import pytest

from study.exact import networks_of
from study.store import results_dir


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--table", "9"], "no claims on 9"),
        (["verify", "--table", "2a", "--update"], "without --table"),
        (["veryfy"], "No such command"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(run_study, arguments, message):
    code, out, err = run_study(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("study: ")
    assert message in err


def test_verify_stands(run_study):
    code, out, err = run_study("verify")
    assert code == 0
    assert "fallen" not in err
    assert "2 paper inconsistent" in out


def test_verify_exits_with_1_when_a_claim_has_fallen(own_results, edited, run_study):
    for path in own_results.glob("cost/csn_r50-*.json"):
        with edited(path.relative_to(own_results)) as content:
            content["cost"]["gmacs"] += 0.2
    code, out, err = run_study("verify", "--table", "2a", "--json")
    assert code == 1
    assert "fallen: Table 2a, CSN-Module" in err
    assert [claim["verdict"] for claim in json.loads(out)].count("differs") == 1


def test_verify_reports_a_missing_result_in_one_line(run_study, tmp_path, monkeypatch):
    shutil.copytree(results_dir() / "published", tmp_path / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    code, _, err = run_study("verify")
    assert code == 2
    assert err.count("\n") == 1
    assert "python -m study verify --live" in err


def test_claims_are_decided_without_the_packages_of_the_book():
    blocked = "import sys; sys.modules |= dict.fromkeys(('matplotlib', 'seaborn', 'IPython')); "
    command = [sys.executable, "-c", blocked + "from study.__main__ import main; main()", "verify", "--table", "2a"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("live", [False, True])
def test_verify_measures_costs_again_when_it_is_told_to(live, run_study, monkeypatch):
    measured = []
    monkeypatch.setattr("study.costs.measure_and_keep", measured.append)
    assert run_study("verify", "--table", "2a", *(["--live"] if live else []))[0] == 0
    assert measured == (list(networks_of(["2a"]).values()) if live else [])
    assert bool(measured) == live


@pytest.mark.parametrize(
    ("outcome", "why"),
    [({"difference": 0.5}, "differs by 0.5"), ({"difference": math.nan}, "differs by nan"), ({"error": "no"}, "no")],
)
def test_exports_that_fail_or_differ_are_named_and_counted(outcome, why, run_study, monkeypatch):
    kept = {"a": {"difference": 1e-5}, "b": outcome, "c": {"error": "TypeError: too new"}}
    asked = []
    monkeypatch.setattr("study.speed.try_exports", lambda *arguments: asked.append(arguments) or kept)
    code, out, _ = run_study("exports", "a", "b", "c", "--again")
    assert (code, asked) == (1, [(["a", "b", "c"], True)])
    assert "1 of 3 networks give the same scores" in out
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == ["b", "c"]
    assert why in out
    assert "TypeError: too new" in out
    assert json.loads(run_study("exports", "a", "--json")[1]).keys() == kept.keys()
    del kept["b"], kept["c"]
    assert run_study("exports", "a")[:1] == (0,)


def test_status_names_the_kept_runs_that_no_table_asks_for(own_results, run_study):
    assert run_study("status", "--unused") == (0, "no run is unused\n", "")
    (own_results / "runs" / "odd.json").touch()
    assert run_study("status", "--unused") == (0, "odd\n", "")
    assert json.loads(run_study("status", "--unused", "--json")[1]) == ["odd"]

import json
import shutil
import subprocess
import sys

import pytest

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

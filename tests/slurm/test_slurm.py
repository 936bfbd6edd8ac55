"""Runs on a real Slurm: tests/slurm/setup.sh makes one of this machine, `CTNET_SLURM=1 pytest tests/slurm` uses it."""

import json
import os
import re
import subprocess
import time
from dataclasses import replace

import pytest
from study.runner import decode, failure_of, left_of, run_file, state_of, submit, weights_file
from study.twins import Run, TwinRow, with_starts

from ctnet.engine import Scores
from study import twins

pytestmark = pytest.mark.skipif(
    os.environ.get("CTNET_SLURM") != "1", reason="needs a Slurm: run tests/slurm/setup.sh and set CTNET_SLURM=1"
)
PATIENCE = 900  # seconds, on busy cores


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def job(number):
    """What Slurm knows of a job."""
    return dict(re.findall(r"(\w+)=(\S+)", slurm("scontrol", "show", "job", number)))


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, slurm("squeue")
        time.sleep(0.5)


def ended(numbers):
    wait_for(lambda: all(job(number)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING") for number in numbers))
    return {number: job(number) for number in numbers}


@pytest.fixture
def results(tmp_path, monkeypatch):
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def short(tiny):
    return tiny.override({"model": "tsn_r50_twin", "frames": 1, "epochs": 1, "init": "none"})


def test_runs_go_through_slurm(run_study, results, short, monkeypatch):
    """A run, one that starts from it, one on its own, one that fails, and one that starts from that."""
    start, alone = Run(short, keep=True), Run(replace(short, seed=2))
    bad = Run(replace(short, lr=1e25, clip_grad=None))
    child, orphan = (Run(replace(short, seed=1), start=run) for run in (start, bad))
    runs = with_starts([alone, child, orphan])
    work = results / "work"
    monkeypatch.setattr(twins, "TWINS", {"x": {name: TwinRow((found,)) for name, found in runs.items()}})
    monkeypatch.setattr(twins, "SEEDS", {"x": 1})
    monkeypatch.setattr(Run, "seeded", lambda run, seed: run)

    code, out, _ = run_study("run", "--slurm", "--jobs", "2", "--work", str(work))
    assert code == 0
    first, last = re.fullmatch(r"5 runs submitted: jobs (\d+)_0 to (\d+)_1\n", out).groups()
    names = [*(name for name in runs if runs[name].start is None), child.name, orphan.name]
    numbers = dict(zip(names, [*(f"{first}_{i}" for i in range(3)), f"{last}_0", f"{last}_1"], strict=True))
    jobs = ended(numbers.values())

    states = {name: jobs[number]["JobState"] for name, number in numbers.items()}
    assert states == dict.fromkeys(names, "COMPLETED") | {bad.name: "FAILED", orphan.name: "FAILED"}
    for done in (start, alone, child):
        content, scores = json.loads(run_file(done.name).read_text()), Scores.load(work / done.name / "scores-1x1.npz")
        assert decode(content["predictions"]["1x1"]).tolist() == scores.predictions.tolist()
        assert content["provenance"]["threads"] == 1
    assert weights_file(start, work).exists()
    begun = jobs[numbers[child.name]]["StartTime"]
    assert begun >= max(jobs[numbers[name]]["EndTime"] for name in (start.name, bad.name))

    log = work / bad.name / "log.txt"
    assert failure_of(bad, work).startswith("RuntimeError: the loss is ")
    assert failure_of(bad, work).endswith(f"see {log}")
    assert "Traceback" in log.read_text()
    assert f"starts from {weights_file(bad, work)}, which is not there" in failure_of(orphan, work)
    code, out, _ = run_study("status", "--work", str(work), "--json")
    assert json.loads(out)["all"] == {"done": 3, "stale": 0, "failed": 2, "started": 0, "left": 0}

    assert list(left_of(runs, work)) == [bad.name, orphan.name]
    again = submit(runs, work, 16, timeout_min=5)
    assert len(again) == 2
    assert {found["JobState"] for found in ended(again).values()} == {"FAILED"}


def test_a_run_at_its_time_limit_is_queued_again_and_goes_on(results, short, tiny):
    """Slurm's warning before the limit, sent by hand."""
    long = Run(short.override({"epochs": 12, "warmup_epochs": 1, "save_every": 1}))
    work = results / "work"
    (number,) = submit({long.name: long}, work, 1, timeout_min=5)
    log = work / long.name / "log.txt"
    wait_for(lambda: log.exists() and "epoch 1/12: loss" in log.read_text())
    slurm("scancel", "--signal=USR2", number)
    wait_for(lambda: job(number)["Restarts"] != "0")
    assert state_of(long, work) == "started"
    assert ended([number])[number]["JobState"] == "COMPLETED"
    assert state_of(long, work) == "done"
    assert log.read_text().count("epoch 1/12: loss") == 1


def test_a_refusal_of_slurm_is_one_line(run_study, results, short, monkeypatch):
    monkeypatch.setattr(twins, "TWINS", {"x": {"y": TwinRow((Run(short),))}})
    code, _, errors = run_study("run", "--slurm", "--partition", "no-such", "--work", str(results / "work"))
    assert code == 2
    assert errors.splitlines()[-1].startswith("ctnet: Slurm refuses the jobs: ")
    assert "Traceback" not in errors

"""Runs on a real Slurm: tests/slurm/setup.sh makes one of this machine, `CTNET_SLURM=1 pytest tests/slurm` uses it."""

import os
import re
import subprocess
import time
from dataclasses import replace

import pytest

from ctnet.engine import Scores
from study.runs import TwinRun, outcome, weights_file, with_starts
from study.store import decode, results_dir
from study.sweep import failure_of, left_of, state_of, submit

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
    """A folder of results without runs."""
    (tmp_path / "published").symlink_to(results_dir() / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def short(tiny):
    return tiny.override({"model": "tsn_r50_twin", "frames": 1, "epochs": 1, "init": "none"})


def test_runs_go_through_slurm(results, short):
    """A run, one that starts from it, one on its own, one that fails, and one that starts from that."""
    start, alone = TwinRun(short, keep=True), TwinRun(replace(short, seed=2))
    bad = TwinRun(replace(short, lr=1e25, clip_grad=None))
    child, orphan = (TwinRun(replace(short, seed=1), start=run) for run in (start, bad))
    runs = with_starts([alone, child, orphan])
    work = results / "work"

    ids = submit(runs, work, 2, timeout_min=120, cpus_per_task=1)
    first, last = ids[0].partition("_")[0], ids[-1].partition("_")[0]
    assert ids == [*(f"{first}_{i}" for i in range(3)), *(f"{last}_{i}" for i in range(2))]
    names = [*(name for name in runs if runs[name].start is None), child.name, orphan.name]
    numbers = dict(zip(names, ids, strict=True))
    jobs = ended(numbers.values())

    states = {name: jobs[number]["JobState"] for name, number in numbers.items()}
    assert states == dict.fromkeys(names, "COMPLETED") | {bad.name: "FAILED", orphan.name: "FAILED"}
    for done in (start, alone, child):
        content, scores = outcome(done.name), Scores.load(work / done.name / "scores-1x1.npz")
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
    states = {name: state_of(run, work) for name, run in runs.items()}
    assert states == dict.fromkeys(runs, "done") | {bad.name: "failed", orphan.name: "failed"}

    assert list(left_of(runs, work)) == [bad.name, orphan.name]
    again = submit(runs, work, 16, timeout_min=5)
    assert len(again) == 2
    assert {found["JobState"] for found in ended(again).values()} == {"FAILED"}


def test_a_run_at_its_time_limit_is_queued_again_and_goes_on(results, short, tiny):
    """Slurm's warning before the limit, sent by hand."""
    long = TwinRun(short.override({"epochs": 12, "warmup_epochs": 1, "save_every": 1}))
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


def test_a_refusal_of_slurm_is_one_line(run_study, results):
    arguments = ("--table", "2a", "--seeds", "1", "--work", str(results / "work"))
    code, _, errors = run_study("run", "--slurm", "--partition", "no-such", *arguments)
    assert code == 2
    assert errors.splitlines()[-1].startswith("study: Slurm refuses the jobs: ")
    assert "Traceback" not in errors

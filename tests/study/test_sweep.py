import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from study.provenance import write_json
from study.published import results_dir
from study.runner import (
    confirm,
    decode,
    encode,
    execute,
    failure_of,
    fuse_done,
    left_of,
    repeat,
    run_file,
    state_of,
    submit,
    sweep,
    weights_file,
)
from study.twins import Run, TwinRow, runs_of, with_starts

from ctnet.engine import Scores, load_model, load_recipe, training
from ctnet.engine.checkpoint import read_tensors
from ctnet.micro import MicroSomething
from study import provenance, runner, twins
from study.chapters.protocol import repeats_table


def results_in(folder, monkeypatch):
    (folder / "published").mkdir(exist_ok=True)
    monkeypatch.setenv("CTNET_RESULTS", str(folder))
    return folder


@pytest.fixture
def results(tmp_path_factory, monkeypatch):
    """An empty folder of results."""
    return results_in(tmp_path_factory.mktemp("results"), monkeypatch)


@pytest.fixture(scope="module")
def runs(tiny):
    """A kept run, and one that starts from it and is looked at with two views."""
    start = Run(tiny.override({"model": "tsn_r50_twin", "frames": 1, "epochs": 1}), keep=True)
    return with_starts([Run(tiny.override({"model": "tsn_r50_twin", "init": "none", "save_every": 1}), start=start)])


@pytest.fixture(scope="module")
def swept(runs, tmp_path_factory):
    """Both of them, executed by processes of their own; with the work directory."""
    with pytest.MonkeyPatch.context() as patch:
        folder = results_in(tmp_path_factory.mktemp("results"), patch)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        work = folder / "work"
        assert sweep(runs, work) == {}
        yield runs, work


@pytest.fixture
def done(swept, tmp_path, monkeypatch):
    """A copy of what they left."""
    runs, work = swept
    copied = results_in(Path(shutil.copytree(work.parent, tmp_path / "done")), monkeypatch)
    return runs, copied / "work"


def content_of(run):
    return json.loads(run_file(run.name).read_text())


# -- What a run leaves -------------------------------------------------------------------------------------------------


def test_predictions_survive_as_text():
    predictions = np.array([0, 3, 255, 23])
    assert decode(encode(predictions)).tolist() == [0, 3, 255, 23]
    assert len(encode(np.zeros(2016, np.int64))) < 2700


def test_a_runs_file_agrees_with_the_scores_that_it_leaves(done):
    runs, work = done
    for run in runs.values():
        content, scores = content_of(run), Scores.load(work / run.name / "scores-1x1.npz")
        assert content["config"] == run.config()
        assert content["metrics"] == {"1x1": {"top1": scores.accuracy(1), "top5": scores.accuracy(5)}}
        assert decode(content["predictions"]["1x1"]).tolist() == scores.predictions.tolist()
        assert len(content["epochs"]) == run.recipe.epochs
        assert content["epochs"][-1]["val_top1"] == scores.accuracy()
        assert len(content["first_losses"]) == min(runner.PROBE, 4 * run.recipe.epochs)


def test_a_runs_file_tells_the_data_and_the_circumstances(done):
    runs, work = done
    start, run = runs.values()
    content = content_of(run)
    for split, count in (("train", 34), ("val", 25)):
        drawn = MicroSomething(run.recipe.root, split, count=count, difficulty=run.recipe.difficulty)
        assert content["data"][split] == drawn.config.fingerprint[:16]
    assert content["init"] == hashlib.sha256(weights_file(start, work).read_bytes()).hexdigest()[:16]
    assert content_of(start)["init"] is None
    made = content["provenance"]
    assert made["code"] == provenance.code_hash(*runner.code(run.recipe.model))
    assert (made["precision"], made["device"]) == ("float32", "cuda" if torch.cuda.is_available() else "cpu")
    assert made["threads"] == 1, "a process of its own has one thread unless OMP_NUM_THREADS is set"
    assert 0 < made["seconds"] < 600


def test_kept_weights_go_to_the_results_in_16_bits(done):
    (start, run), work = done[0].values(), done[1]
    assert weights_file(start, work) == work.parent / "checkpoints" / f"{start.name}.safetensors"
    assert weights_file(run, work) == work / run.name / "model.safetensors"
    kept, trained = (
        read_tensors(path)[0] for path in (weights_file(start, work), work / start.name / "model.safetensors")
    )
    for name, tensor in trained.items():
        assert torch.equal(kept[name], tensor.half() if tensor.is_floating_point() else tensor)
    assert load_model(weights_file(start, work)).classes


def test_what_is_done_is_not_done_again(done, monkeypatch):
    runs, work = done
    monkeypatch.setattr(runner, "_COMMAND", ("false",))
    reports = []
    assert sweep(runs, work, report=lambda *line: reports.append(line)) == {}
    assert reports == []
    monkeypatch.setattr(runner, "train", None)
    assert [execute(run, work) for run in runs.values()] == [content_of(run) for run in runs.values()]


def test_kept_weights_tell_the_runs_own_recipe_and_no_path_of_the_machine(done):
    runs, work = done
    kept = replace(list(runs.values())[1], keep=True)
    execute(kept, work)
    assert load_recipe(weights_file(kept, work)) == kept.recipe


@pytest.mark.parametrize("path", sorted((results_dir() / "checkpoints").iterdir()), ids=lambda path: path.stem)
def test_the_committed_weights_are_those_of_a_declared_run(path):
    assert load_recipe(path) == runs_of()[path.stem].recipe


def test_a_repeated_run_notes_how_equal_it_is(done, run_study):
    runs, work = done
    trained = list(runs.values())[1]
    assert repeat(trained, work) == 1.0, "one machine gives the same bits"
    content = content_of(trained)
    assert content["repeated"]["top1"] == content["metrics"]["1x1"]["top1"]
    other = (decode(content["predictions"]["1x1"]).astype(int) + (np.arange(25) < 5)) % 24
    write_json(run_file(trained.name), content | {"predictions": {"1x1": encode(other)}})
    assert repeat(trained, work) == 0.8
    assert "80.00%" in repeats_table().to_html()
    code, _, err = run_study("repeat", "nothing")
    assert code == 2
    assert "no run is called nothing" in err
    run_file(trained.name).unlink()
    with pytest.raises(FileNotFoundError, match="is not done: there is nothing to compare it with"):
        repeat(trained, work)


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.01, False)])
def test_a_stale_run_is_confirmed_by_its_first_losses(done, factor, same):
    runs, work = done
    for run in runs.values():
        content = content_of(run)
        content["provenance"]["code"] = "of long ago"
        content["first_losses"][-1 if run.keep else 2] *= factor
        run_file(run.name).write_text(json.dumps(content))
        assert state_of(run, work) == "stale"
        assert confirm(run, work) == same
        assert state_of(run, work) == ("done" if same else "stale")
        assert content_of(run)["provenance"]["code"] == "of long ago"


def test_the_command_confirms_what_is_stale_and_names_what_differs(done, run_study, monkeypatch):
    runs, work = done
    monkeypatch.setattr(twins, "runs_of", lambda *arguments: runs)
    confirmed, differing = runs.values()
    for each in runs.values():
        content = content_of(each)
        content["provenance"]["code"] = "of long ago"
        content["first_losses"][0] *= 1.01 if each is differing else 1
        run_file(each.name).write_text(json.dumps(content))
    code, out, err = run_study("confirm", "--work", str(work))
    assert (code, out) == (1, "1 of 2 stale runs confirmed\n")
    assert f"differs: {differing.name}: delete" in err
    assert [state_of(each, work) for each in (confirmed, differing)] == ["done", "stale"]


def test_weights_are_made_again_when_another_run_needs_them(runs, results, tmp_path):
    start, run = runs.values()
    plain = replace(start, keep=False)
    later = replace(run, start=plain)
    write_json(run_file(plain.name), {})
    assert left_of({plain.name: plain}, tmp_path) == {}
    assert list(left_of(with_starts([later]), tmp_path)) == [plain.name, later.name]
    assert list(left_of(runs, tmp_path)) == [start.name, run.name], "what is kept belongs to the outcome"
    weights_file(plain, tmp_path).parent.mkdir()
    weights_file(plain, tmp_path).touch()
    assert list(left_of(with_starts([later]), tmp_path)) == [later.name]
    write_json(run_file(later.name), {})
    weights_file(plain, tmp_path).unlink()
    assert left_of(with_starts([later]), tmp_path) == {}
    assert list(left_of(with_starts([later]), tmp_path, weights=True)) == [plain.name, later.name]


def test_a_run_whose_start_has_left_no_weights_says_so(runs, results, tmp_path):
    start, run = runs.values()
    message = f"{run.name} starts from .*{start.name}.safetensors, which is not there: `python -m study run --weights`"
    for action in (execute, confirm, runner._main):
        write_json(run_file(run.name), {"predictions": {}, "provenance": {}}) if action is confirm else None
        with pytest.raises(FileNotFoundError, match=message):
            action(run, tmp_path)
        run_file(run.name).unlink(missing_ok=True)
    assert "is not there" in failure_of(run, tmp_path)


def test_a_failure_is_marked_in_one_line(runs, results, tmp_path, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no luck\n  today")

    monkeypatch.setattr(runner, "train", fails)
    with pytest.raises(RuntimeError):
        runner._main(next(iter(runs.values())), tmp_path)
    assert failure_of(next(iter(runs.values())), tmp_path) == "RuntimeError: no luck today"


def test_a_run_is_looked_at_with_every_view_of_its_rows(done, monkeypatch, tmp_path):
    """And rows whose runs are fused get their file as soon as the last of these is done, anew when one is redone."""
    (start, run), work = done[0].values(), done[1]
    monkeypatch.setattr(twins, "TWINS", {"x": {"fused": TwinRow((start, run), "1x2", fused=True)}})
    monkeypatch.setattr(twins, "SEEDS", {"x": 1})
    for redone in (start, run):
        assert fuse_done(work) == []
        run_file(redone.name).unlink()
        found = execute(redone, work)
        scores = Scores.load(work / redone.name / "scores-1x2.npz")
        assert found["metrics"]["1x2"] == {"top1": scores.accuracy(1), "top5": scores.accuracy(5)}
        assert decode(found["predictions"]["1x2"]).tolist() == scores.predictions.tolist()
    (name,) = twins.ensembles()
    fused = json.loads(run_file(name).read_text())
    several = [Scores.load(work / member.name / "scores-1x2.npz") for member in (start, run)]
    mean = (several[0].probabilities + several[1].probabilities) / 2
    assert decode(fused["predictions"]["1x2"]).tolist() == mean.argmax(1).tolist()
    assert fused["members"] == [start.name, run.name]
    write_json(run_file(name), {})
    assert fuse_done(work) == []
    assert fuse_done(work, run.name) == [name]
    assert json.loads(run_file(name).read_text())["predictions"] == fused["predictions"]


# -- Interruptions -----------------------------------------------------------------------------------------------------


HANGS = """
import time
from ctnet.engine import training
from study.runner import *
seed_step = training.seed_step
training.seed_step = lambda seed, step, rank: time.sleep(99) if step == 5 else seed_step(seed, step, rank)
execute(Run.load(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_and_no_second_process_is_at_it(done, monkeypatch, results):
    """kill -9; what was trained before is not trained again, and the outcome is that of an uninterrupted run."""
    (start, run), work = done[0].values(), done[1]
    uninterrupted = json.loads((work.parent / "runs" / f"{run.name}.json").read_text())
    for name in (f"runs/{start.name}.json", f"checkpoints/{start.name}.safetensors"):
        (results / name).parent.mkdir()
        (results / name).symlink_to(work.parent / name)
    work = results / "work"
    out = work / run.name
    log = (results / "log.txt").open("w")
    command = [sys.executable, "-c", HANGS, json.dumps(run.dump()), str(work)]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=log) as process:
        try:
            while not (out / "state.safetensors").exists() or training_step(out) != (1, 1):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.02)
            with (out / "lock").open() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert state_of(run, work) == "started"
        finally:
            process.kill()
    steps, seed_step = [], training.seed_step

    def noted(seed, step, rank):
        steps.append(step)
        seed_step(seed, step, rank)

    monkeypatch.setattr(training, "seed_step", noted)
    monkeypatch.chdir(results)
    monkeypatch.setenv("CTNET_RESULTS", ".")
    content = execute(run, Path("work"))  # the same places, named otherwise
    assert steps == [5, 6, 7]
    assert content["predictions"] == uninterrupted["predictions"]
    assert content["first_losses"] == uninterrupted["first_losses"]
    assert not (out / "state.safetensors").exists()


def training_step(out):
    progress = read_tensors(out / "state.safetensors")[1]["progress"]
    return progress["epoch"], progress["step"]


def test_the_code_that_is_recorded_is_that_at_the_start(runs, results, monkeypatch, tmp_path):
    def changes_code(*arguments):
        monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
        provenance.code_hash.cache_clear()
        return training.train(*arguments)

    before = provenance.code_hash(*runner.CODE)
    monkeypatch.setattr(runner, "train", changes_code)
    start = next(iter(runs.values()))
    assert execute(start, tmp_path / "work")["provenance"]["code"] == before
    monkeypatch.undo()
    provenance.code_hash.cache_clear()


# -- Many runs: with a stand-in for the process of a run ---------------------------------------------------------------

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
run, work = json.loads(sys.argv[1]), Path(sys.argv[2])
plan = json.loads((work / "plan.json").read_text())[run["recipe"]["seed"]]
events = work / "events"
with events.open("a") as file:
    file.write(f"begin {plan['name']} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")


def fail(reason):
    (work / plan["name"] / "failed").write_text(reason)
    sys.exit(reason)


exec(plan["does"])
Path(plan["weights"]).parent.mkdir(parents=True, exist_ok=True)
Path(plan["weights"]).touch()
Path(plan["file"]).parent.mkdir(parents=True, exist_ok=True)
Path(plan["file"]).write_text("{}")
with events.open("a") as file:
    file.write(f"end {plan['name']}\\n")
"""

MEET = """
deadline = time.monotonic() + 20
while events.read_text().count("begin ") < {0}:
    assert time.monotonic() < deadline, "alone"
    time.sleep(0.01)
"""


@pytest.fixture
def planned(runs, results, tmp_path, monkeypatch):
    """Make runs from what their stand-ins do, and from their numbers' starts."""
    monkeypatch.setattr(runner, "_COMMAND", (sys.executable, "-c", STAND_IN))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recipe = next(iter(runs.values())).recipe

    def plan(*does, starts=None):
        made = []
        for seed in range(len(does)):
            start = (starts or {}).get(seed)
            made.append(Run(replace(recipe, seed=seed), start=None if start is None else made[start]))
        lines = [
            {
                "does": text,
                "name": run.name,
                "file": str(run_file(run.name)),
                "weights": str(weights_file(run, tmp_path)),
            }
            for run, text in zip(made, does, strict=True)
        ]
        (tmp_path / "plan.json").write_text(json.dumps(lines))
        return {run.name: run for run in made}

    return plan


def events_in(work):
    return [line.split() for line in (work / "events").read_text().splitlines()]


def test_runs_go_side_by_side_in_processes_of_their_own(planned, tmp_path, monkeypatch):
    under_way, begin = [], runner._begin

    def counted(run, work):
        under_way[:] = [process for process in under_way if process.poll() is None]
        under_way.append(begin(run, work))
        assert len(under_way) <= 2
        return under_way[-1]

    monkeypatch.setattr(runner, "_begin", counted)
    runs = planned(MEET.format(2), MEET.format(2), MEET.format(4), MEET.format(4))
    assert sweep(runs, tmp_path, jobs=2) == {}
    begun = [event for event in events_in(tmp_path) if event[0] == "begin"]
    assert len({pid for _, _, pid, _ in begun} | {str(os.getpid())}) == 5
    assert {threads for *_, threads in begun} == {"1"}


def test_threads_are_those_of_the_environment_if_it_says(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    sweep(planned(""), tmp_path)
    assert events_in(tmp_path)[0][3] == "3"


def test_a_run_begins_as_soon_as_its_start_is_done_and_a_process_is_free(planned, tmp_path):
    """The first run waits until the third has begun, which starts from the second."""
    runs = planned(MEET.format(3), "", "", starts={2: 1})
    assert sweep(runs, tmp_path, jobs=2) == {}
    order = [tuple(event[:2]) for event in events_in(tmp_path)]
    first, second, third = runs
    assert order.index(("end", second)) < order.index(("begin", third)) < order.index(("end", first))


def test_a_run_that_fails_stops_only_those_that_start_from_it(planned, tmp_path):
    runs = planned("fail('too bad')", "", "", "", "", starts={1: 0, 2: 1, 4: 3})
    bad, orphan, grandchild, *good = runs
    reports = {}
    failed = sweep(runs, tmp_path, jobs=2, report=reports.setdefault)
    log = tmp_path / bad / "log.txt"
    assert failed == {
        bad: f"too bad; see {log}",
        orphan: f"{bad}, which it starts from, failed",
        grandchild: f"{orphan}, which it starts from, failed",
    }
    assert log.read_text() == "too bad\n"
    assert reports == {name: f"failed: {reason}" for name, reason in failed.items()} | dict.fromkeys(good, "done")
    assert [failure_of(run, tmp_path) for run in runs.values()] == [failed.get(name) for name in runs]
    assert {event[1] for event in events_in(tmp_path)} == {bad, *good}
    planned(*[""] * 5, starts={1: 0, 2: 1, 4: 3})
    assert sweep(runs, tmp_path) == {}, "a second attempt may succeed"
    assert all(failure_of(run, tmp_path) is None for run in runs.values())
    begun = [event[1] for event in events_in(tmp_path) if event[0] == "begin"]
    assert [begun.count(name) for name in runs] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("sys.exit(7)", "exit code 7"),
        ("fail('out of luck')", "out of luck"),
    ],
)
def test_the_reason_of_a_failure_is_told(planned, tmp_path, does, reason):
    runs = planned(does)
    (name,) = runs
    assert sweep(runs, tmp_path) == {name: f"{reason}; see {tmp_path / name / 'log.txt'}"}


def test_an_interrupted_sweep_ends_its_processes_and_calls_nothing_failed(planned, tmp_path):
    runs = planned("time.sleep(99)", MEET.format(3), MEET.format(3), "")

    def interrupt(name, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(runs, tmp_path, jobs=3, report=interrupt)
    for kind, _, *details in events_in(tmp_path):
        if kind == "begin":
            with pytest.raises(ProcessLookupError):
                os.kill(int(details[0]), 0)
    states = [state_of(run, tmp_path) for run in runs.values() if not run_file(run.name).exists()]
    assert states[0] == "started"
    assert states[-1] == "left"
    assert "failed" not in states


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "Expecting"), ("[]", "are missing"), ('{"config": {}, "predictions": {}}', "are missing")],
)
def test_a_damaged_file_is_named_with_what_to_do(results, run_study, content, reason):
    path = run_file(list(runs_of(["2a"], seeds=1))[-1])
    path.parent.mkdir()
    path.write_text(content)
    code, out, errors = run_study("status")
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert f"{path} is damaged" in errors
    assert reason in errors
    assert "delete it and run it again" in errors


def test_no_processes_are_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="jobs must be positive"):
        sweep(runs, tmp_path, jobs=0)


# -- States ------------------------------------------------------------------------------------------------------------


def test_states(runs, results, tmp_path, monkeypatch):
    start, run = runs.values()
    assert state_of(run, tmp_path) == "left"
    (tmp_path / run.name).mkdir()
    assert state_of(run, tmp_path) == "started"
    (tmp_path / run.name / "failed").touch()
    assert state_of(run, tmp_path) == "failed"
    content = {"predictions": {}, "provenance": {"code": provenance.code_hash(*runner.CODE)}}
    write_json(run_file(run.name), content)
    assert state_of(run, tmp_path) == "done"
    fused = {"members": [run.name], "provenance": {"code": ""}}
    assert not runner.is_stale(fused)
    assert runner.is_stale(fused | {"members": [run.name, "another"]})
    monkeypatch.setattr(runner, "CODE", (*runner.CODE, "cli.py"))
    assert state_of(run, tmp_path) == "stale"
    assert runner.is_stale(fused), "an ensemble is as old as its runs"
    write_json(run_file(start.name), {"provenance": {}})
    assert state_of(start, tmp_path) == "left", "weights that are to be kept are missing"
    assert runner.STATES == ("done", "stale", "failed", "started", "left")


@pytest.mark.parametrize("model", ["ctnet_r50_twin", "tsm_r50_twin"])
def test_all_code_that_a_run_goes_through_makes_it_stale(tiny, results, tmp_path, model):
    recipe = tiny.override({"train_clips": 16, "val_clips": 8, "epochs": 1, "workers": 0})
    start = Run(recipe.override({"model": "tsn_r50_twin", "frames": 1}), keep=True)
    run = Run(recipe.override({"model": model, "init": "none"}), start=start)
    files = set()
    execute(start, tmp_path)
    sys.setprofile(lambda frame, event, _: files.add(frame.f_code.co_filename) if event == "call" else None)
    try:
        execute(run, tmp_path)
    finally:
        sys.setprofile(None)
    used = {Path(file).relative_to(provenance.PACKAGE) for file in files if file.startswith(str(provenance.PACKAGE))}
    assert Path("engine/training.py") in used
    hashed = {Path(part) for part in runner.code(model)}
    assert {file for file in used if not hashed & {file, file.parent}} == {
        Path("study") / f"{name}.py" for name in ("provenance", "published", "runner", "twins")
    }, "these name and keep what a run has found"


def test_code_of_peers_makes_runs_of_peers_stale_alone():
    def written_with(model, *parts):
        return {"config": {"model": model}, "provenance": {"code": provenance.code_hash(*parts)}}

    assert not runner.is_stale(written_with("ctnet_r50_twin", *runner.CODE))
    assert runner.is_stale(written_with("tsm_r50_twin", *runner.CODE))
    assert not runner.is_stale(written_with("tsm_r50_twin", *runner.CODE, "models/peers"))


# -- The command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def table(planned, tmp_path, monkeypatch):
    """A table of three rows: one that fails, one that starts from it, and a good one."""

    def declare(*does, starts=None):
        runs = planned(*does, starts=starts)
        monkeypatch.setattr(twins, "TWINS", {"2a": {name: TwinRow((run,)) for name, run in runs.items()}})
        monkeypatch.setattr(twins, "SEEDS", {})
        monkeypatch.setattr(twins, "seeds_of", lambda table: range(1))
        monkeypatch.setattr(Run, "seeded", lambda run, seed: run)
        return runs

    return declare


def test_a_sweep_from_the_command_line(table, run_study, tmp_path):
    runs = table("fail('too bad')", "", "", starts={1: 0})
    bad, orphan, good = runs
    work = ["--work", str(tmp_path)]
    code, out, errors = run_study("run", *work)
    assert code == 1
    assert f"{good}: done\n" in out
    for name, reason in ((bad, "too bad; see"), (orphan, f"{bad}, which it starts from, failed")):
        assert f"{name}: failed: {reason}" in out
        assert f"failed: {name}: {reason}" in errors
    write_json(run_file(good), {"predictions": {}, "provenance": {"code": provenance.code_hash(*runner.CODE)}})
    code, out, _ = run_study("status", *work, "--json")
    assert code == 0
    counts = {"done": 1, "stale": 0, "failed": 2, "started": 0, "left": 0}
    assert json.loads(out) == {"2a": counts, "all": counts}
    assert f"failed: {bad}: too bad; see" in run_study("status", *work)[1]
    listed = json.loads(run_study("list", *work, "--json")[1])
    assert [line["run"] for line in listed] == list(runs)
    assert [line["state"] for line in listed] == ["failed", "failed", "done"]
    assert listed[1]["failure"] == f"{bad}, which it starts from, failed"
    assert "failed" in run_study("list", *work)[1]


def test_weights_that_are_missing_are_made_when_asked_for(table, run_study, tmp_path):
    runs = table("", "")
    run_study("run", "--work", str(tmp_path))
    lost = list(runs.values())[1]
    weights_file(lost, tmp_path).unlink()
    for asked, begun in (([], list(runs)), (["--weights"], [*runs, lost.name])):
        assert run_study("run", "--work", str(tmp_path), *asked)[0] == 0
        assert [event[1] for event in events_in(tmp_path) if event[0] == "begin"] == begun


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--table", "9z"], "no twins are trained for 9z"),
        (["run", "--jobs", "0"], "--jobs"),
        (["list", "--seeds", "0"], "--seeds"),
    ],
)
def test_mistakes_are_one_line(table, run_study, tmp_path, arguments, message):
    table("", "", "", "")
    code, out, errors = run_study(*arguments, "--work", str(tmp_path))
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("missing", ["submitit", "srun"])
def test_slurm_that_is_missing_is_one_line(table, run_study, tmp_path, missing, monkeypatch):
    pytest.importorskip("submitit")
    if missing == "submitit":
        monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    table("")
    code, _, errors = run_study("run", "--slurm", "--work", str(tmp_path))
    assert code == 2
    assert errors.count("\n") == 1
    assert ("ctnet[cluster]" if missing == "submitit" else "srun") in errors


# -- Slurm, as far as it goes without one ------------------------------------------------------------------------------


def test_array_jobs_wait_for_the_runs_that_they_start_from(planned, tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    waves = []

    class Executor:
        def __init__(self, folder, cluster):
            assert cluster == "slurm"

        def update_parameters(self, **parameters):
            self.parameters = parameters

        def map_array(self, function, runs, works):
            waves.append(([Run.load(run).name for run in runs], self.parameters))
            assert set(works) == {str(tmp_path.resolve())}
            return [type("Job", (), {"job_id": f"{len(waves)}_{i}"}) for i in range(len(runs))]

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    runs = planned("", "", "", "", "", starts={2: 0, 3: 0, 4: 3})
    names = list(runs)
    assert submit(runs, tmp_path, jobs=3, slurm_partition="cpu") == ["1_0", "1_1", "2_0", "2_1", "3_0"]
    assert [wave[0] for wave in waves] == [names[:2], names[2:4], names[4:]]
    assert [wave[1].get("slurm_dependency") for wave in waves] == [None, "afterany:1_0", "afterany:2_1"]
    assert all(wave[1]["slurm_array_parallelism"] == 3 for wave in waves)
    assert all(wave[1]["slurm_partition"] == "cpu" for wave in waves)
    sweep({name: runs[name] for name in names[:3]}, tmp_path)
    assert len(submit(runs, tmp_path, jobs=3)) == 2


def test_what_a_node_does_is_marked_and_logged_too(planned, tmp_path):
    runs = planned("fail('too bad')", "")
    bad, good = runs.values()
    runner._Attempt()(good.dump(), str(tmp_path))
    assert run_file(good.name).exists()
    with pytest.raises(RuntimeError, match="too bad; see .*log.txt"):
        runner._Attempt()(bad.dump(), str(tmp_path))
    assert state_of(bad, tmp_path) == "failed"

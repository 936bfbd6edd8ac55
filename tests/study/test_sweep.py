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
from filelock import FileLock, Timeout
from forks import Fork
from trained import stopped_at

from ctnet.engine import Scores, get_recipe, load_model, load_recipe, save_model, train, training
from ctnet.engine.checkpoint import read_tensors
from ctnet.micro import MICRO_DATASETS, MicroSomething
from study.chapters.protocol import repeats_table
from study.runs import TwinRun, ensembles, run_file, runs_of, twins_of, weights_file, with_starts
from study.store import KERNELS, behaviour, decode, encode, is_stale, read, results_dir, write
from study.sweep import (
    ENVIRONMENT,
    PARTS,
    PROBE,
    STATES,
    clip_seconds,
    confirm,
    execute,
    failure_of,
    first_losses,
    fuse_done,
    hours_left,
    left_of,
    networks_of,
    repeat,
    state_of,
    submit,
    sweep,
)

OLD = {"drawing": 1, "data": 1, "engine": 1}


@pytest.fixture
def results(declare, tmp_path_factory, monkeypatch):
    """A folder of results without twins."""
    folder = declare(tmp_path_factory.mktemp("results"))
    monkeypatch.setenv("CTNET_RESULTS", str(folder))
    return folder


@pytest.fixture(scope="module")
def runs(tiny):
    """A kept run, and one that starts from it."""
    start = TwinRun(tiny.override({"model": "tsn_r50_twin", "frames": 1, "epochs": 1}), keep=True)
    return with_starts(
        [TwinRun(tiny.override({"model": "tsn_r50_twin", "init": "none", "save_every": 1}), start=start)]
    )


@pytest.fixture(scope="module")
def swept(declare, runs, tmp_path_factory):
    """Where both of them were executed by processes of their own."""
    folder = declare(tmp_path_factory.mktemp("results"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTNET_RESULTS", str(folder))
        patch.delenv("OMP_NUM_THREADS", raising=False)
        patch.setattr("study.sweep.ENVIRONMENT", {"OMP_NUM_THREADS": "1"})  # they compute as this process does
        assert sweep(runs, folder / "work") == {}
    return folder


@pytest.fixture
def done(swept, runs, tmp_path, monkeypatch):
    """The runs, and the work directory in a copy of what they left."""
    copied = Path(shutil.copytree(swept, tmp_path / "done"))
    monkeypatch.setenv("CTNET_RESULTS", str(copied))
    return runs, copied / "work"


@pytest.fixture(scope="session")
def changes(tiny):
    """What makes twins tiny."""
    usual = get_recipe("micro-something").to_dict()
    own = ("model", "frames", "options", "init")
    return {name: value for name, value in tiny.to_dict().items() if value != usual[name] and name not in own}


def rows(*twins, **network):
    """Rows of Table 2a that differ in how their twins are trained."""
    printed = {"method": "a", "gflops": 1.0, "top1": 1.0, "top5": 1.0}
    network = network or {"network": {"model": "tsn_r50", "frames": 1}}
    return [{"id": f"row-{i}", "printed": printed, "twin": twin} | network for i, twin in enumerate(twins)]


@pytest.fixture(scope="module")
def fused(declare, changes, tmp_path_factory):
    """Where a row was executed whose network is an ensemble of two, each looked at with two clips."""
    networks = [{"model": "tsn_r50", "frames": frames} for frames in (1, 2)]
    declared = {"seeds": 1, "twins": {"top1": changes | {"epochs": 1}}, "orders": {}}
    declared["rows"] = rows({}, networks=networks, view="1x2")
    folder = declare(tmp_path_factory.mktemp("results"), table_2a=declared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTNET_RESULTS", str(folder))
        for run in runs_of().values():
            execute(run, folder / "work")
    return folder


@pytest.fixture
def ensemble(fused, tmp_path, monkeypatch):
    """The name of the ensemble, its two runs, and the work directory in a copy of what they left."""
    copied = Path(shutil.copytree(fused, tmp_path / "fused"))
    monkeypatch.setenv("CTNET_RESULTS", str(copied))
    ((name, (twin, _)),) = ensembles().items()
    return name, twin.runs, copied / "work"


def content_of(name):
    """What a file says now, as a copy that may be changed."""
    return json.loads((results_dir() / run_file(name)).read_text())


def make_old(name, at=0, factor=1.0):
    """Let a run be one of older versions of behaviour, one of whose first losses was another."""
    content = content_of(name)
    content["provenance"]["behaviour"] |= OLD
    if "first_losses" in content:
        content["first_losses"][at] *= factor
    write(run_file(name), content)


# -- What a run leaves -------------------------------------------------------------------------------------------------


def test_a_runs_file_agrees_with_the_scores_that_it_leaves(done):
    runs, work = done
    for run in runs.values():
        content, scores = content_of(run.name), Scores.load(work / run.name / "scores-1x1.npz")
        assert content["config"] == run.config()
        assert content["metrics"] == {"1x1": {"top1": scores.accuracy()}}
        assert decode(content["predictions"]["1x1"]).tolist() == scores.predictions.tolist()
        assert len(content["epochs"]) == run.recipe.epochs
        assert content["epochs"][-1]["val_top1"] == scores.accuracy()
        assert len(content["first_losses"]) == min(PROBE, 4 * run.recipe.epochs)


def test_a_runs_file_tells_how_its_losses_went_part_by_part(done, monkeypatch):
    """The run is made once more, so that a part has several steps."""
    *_, run = done[0].values()
    monkeypatch.setattr("study.sweep.CURVE", 3)
    (results_dir() / run_file(run.name)).unlink()
    content = execute(run, done[1])
    losses = json.loads((done[1] / run.name / "metrics.json").read_text())["losses"]
    assert len(losses) == 8
    parts = (losses[:3], losses[3:6], losses[6:])
    assert content["curve"] == pytest.approx([np.mean(part) for part in parts], abs=1e-4)
    assert content["first_losses"] == losses


def test_a_runs_file_tells_the_data_and_the_circumstances(done):
    runs, work = done
    start, run = runs.values()
    content = content_of(run.name)
    for split, count in (("train", 34), ("val", 25)):
        drawn = MicroSomething(run.recipe.root, split, count=count, difficulty=run.recipe.difficulty)
        assert content["data"][split] == drawn.config.fingerprint[:16]
    assert content["init"] == hashlib.sha256(weights_file(start, work).read_bytes()).hexdigest()[:16]
    assert content_of(start.name)["init"] is None
    made = content["provenance"]
    assert made["behaviour"] == behaviour(("drawing", "data", "engine"), ["tsn_r50_twin"])
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


def test_what_is_done_is_not_done_again(done):
    runs, work = done
    kept = [content_of(name) for name in runs]
    files = {path: path.stat().st_mtime_ns for path in work.parent.rglob("*") if path.is_file() and path.name != "lock"}
    reports = []
    assert sweep(runs, work, report=lambda *line: reports.append(line)) == {}
    assert reports == []
    assert [execute(run, work) for run in runs.values()] == kept
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_kept_weights_tell_the_runs_own_recipe_and_no_path_of_the_machine(done):
    runs, work = done
    kept = replace(list(runs.values())[1], keep=True)
    execute(kept, work)
    assert load_recipe(weights_file(kept, work)) == kept.recipe


@pytest.mark.parametrize("path", sorted((results_dir() / "checkpoints").iterdir()), ids=lambda path: path.stem)
def test_the_committed_weights_are_those_of_a_declared_run(path):
    assert load_recipe(path) == runs_of()[path.stem].recipe


def test_a_repeated_run_notes_how_equal_it_is(done, run_study, monkeypatch):
    runs, work = done
    trained = list(runs.values())[1]
    assert repeat(trained, work) == 1.0, "one machine gives the same bits"
    content = content_of(trained.name)
    assert [again["top1"] for again in content["repeated"]] == [content["metrics"]["1x1"]["top1"]]
    other = (decode(content["predictions"]["1x1"]).astype(int) + (np.arange(25) < 5)) % 24
    write(run_file(trained.name), content | {"predictions": {"1x1": encode(other)}})
    assert repeat(trained, work) == 0.8
    assert "80.00%" in repeats_table().to_html()
    (here,) = content_of(trained.name)["repeated"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")  # too late for this process, which says so all the same
    assert repeat(trained, work) == 0.8
    kept, other = content_of(trained.name)["repeated"]
    assert kept == here
    assert other["provenance"]["hardware"]["kernels"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    frame = repeats_table().data
    assert frame[frame["Run"] == trained.name]["Again"].tolist() == ["same kind of machine", "kernels for SSE4.1"]
    code, _, err = run_study("repeat", "nothing")
    assert code == 2
    assert "no run is called nothing" in err
    (results_dir() / run_file(trained.name)).unlink()
    with pytest.raises(FileNotFoundError, match="is not done: `python -m study run` trains it"):
        repeat(trained, work)


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.01, False)])
def test_a_stale_run_is_confirmed_by_its_first_losses(done, factor, same):
    runs, work = done
    for run in runs.values():
        make_old(run.name, -1 if run.keep else 2, factor)
        old = content_of(run.name)
        assert state_of(run, work) == "stale"
        assert confirm(run, work) == same
        assert state_of(run, work) == ("done" if same else "stale")
        today = {"behaviour": behaviour(PARTS, [run.recipe.model])} if same else {}
        assert content_of(run.name) == old | {"provenance": old["provenance"] | today}


def test_a_confirmed_run_names_its_clips_as_todays_drawing_does(done):
    runs, work = done
    run = list(runs.values())[-1]
    kept = content_of(run.name)
    write(run_file(run.name), kept | {"data": {"train": "0" * 16, "val": "1" * 16}})
    make_old(run.name)
    assert confirm(run, work)
    assert content_of(run.name)["data"] == kept["data"]


def test_the_command_confirms_what_is_stale_and_names_what_differs(ensemble, run_study):
    """An ensemble is confirmed with the last of its runs."""
    name, (confirmed, differing), work = ensemble
    for each, factor in ((confirmed.name, 1), (differing.name, 1.01), (name, 1)):
        make_old(each, factor=factor)
    code, out, err = run_study("confirm", "--work", str(work))
    assert (code, out) == (1, "1 of 2 stale runs confirmed\n")
    assert f"differs: {differing.name}: delete" in err
    assert [state_of(each, work) for each in (confirmed, differing)] == ["done", "stale"]
    assert is_stale(read(run_file(name)))
    make_old(differing.name, factor=1 / 1.01)
    assert run_study("confirm", "--work", str(work))[:2] == (0, "1 of 1 stale runs confirmed\n")
    assert not is_stale(read(run_file(name)))


def test_weights_are_made_again_when_another_run_needs_them(runs, results, tmp_path):
    start, run = runs.values()
    plain = replace(start, keep=False)
    later = replace(run, start=plain)
    empty = {"predictions": {"1x1": ""}, "provenance": {}}
    write(run_file(plain.name), empty)
    assert left_of({plain.name: plain}, tmp_path) == {}
    assert list(left_of(with_starts([later]), tmp_path)) == [plain.name, later.name]
    assert list(left_of(runs, tmp_path)) == [start.name, run.name], "what is kept belongs to the outcome"
    weights_file(plain, tmp_path).parent.mkdir()
    weights_file(plain, tmp_path).touch()
    assert list(left_of(with_starts([later]), tmp_path)) == [later.name]
    write(run_file(later.name), empty)
    weights_file(plain, tmp_path).unlink()
    assert left_of(with_starts([later]), tmp_path) == {}
    assert list(left_of(with_starts([later]), tmp_path, weights=True)) == [plain.name, later.name]


def test_weights_that_are_made_again_leave_the_outcome_and_note_how_equal_it_is(done):
    runs, work = done
    run = list(runs.values())[-1]
    before = content_of(run.name) | {"predictions": {"1x1": encode(np.full(25, 3))}}
    write(run_file(run.name), before)
    shutil.rmtree(work / run.name)
    (again,) = execute(run, work)["repeated"]
    assert again["top1"] == before["metrics"]["1x1"]["top1"]
    assert (work / run.name / "model.safetensors").exists()
    after = content_of(run.name)
    equal = (Scores.load(work / run.name / "scores-1x1.npz").predictions == 3).mean()
    assert [noted["equal_predictions"] for noted in after.pop("repeated")] == [equal]
    assert after == before


def test_a_run_that_is_tested_with_more_views_is_of_one_network(done, monkeypatch):
    """It is trained anew, and none of its older predictions stay but for how equal they were."""
    runs, work = done
    run = list(runs.values())[-1]
    before = content_of(run.name) | {"predictions": {"1x1": encode(np.full(25, 3))}, "metrics": {"1x1": {"top1": 0.5}}}
    write(run_file(run.name), before)
    shutil.rmtree(work / run.name)
    monkeypatch.setattr("study.sweep.views_of", lambda run: ["1x1", "1x2"])
    content = execute(run, work)
    assert content == content_of(run.name)
    for view in ("1x1", "1x2"):
        found = Scores.load(work / run.name / f"scores-{view}.npz").predictions
        assert decode(content["predictions"][view]).tolist() == found.tolist()
    equal = (decode(content["predictions"]["1x1"]) == 3).mean()
    noted = {"top1": 0.5, "equal_predictions": equal, "provenance": before["provenance"]}
    assert content["repeated"] == [noted]


def test_what_is_noted_of_a_run_holds_for_one_that_predicts_the_same(done, monkeypatch):
    runs, work = done
    run = list(runs.values())[-1]
    before = content_of(run.name)
    elsewhere = before["provenance"] | {"hardware": {"cpu": "Another"}}
    noted = {"top1": 0.4, "equal_predictions": 0.7, "provenance": elsewhere}
    write(run_file(run.name), before | {"repeated": [noted]})
    shutil.rmtree(work / run.name)
    monkeypatch.setattr("study.sweep.views_of", lambda run: ["1x1", "1x2"])
    kept, own = execute(run, work)["repeated"]
    assert kept == noted
    assert (own["equal_predictions"], own["provenance"]) == (1.0, before["provenance"])


def test_weights_that_are_made_again_from_another_start_are_no_repeat(done, monkeypatch):
    runs, work = done
    run = list(runs.values())[-1]
    write(run_file(run.name), content_of(run.name) | {"init": "0" * 16})
    shutil.rmtree(work / run.name)
    assert "repeated" not in execute(run, work)
    with pytest.raises(ValueError, match="started from other weights of tsn_r50_twin-"):
        repeat(run, work)
    shutil.rmtree(work / run.name)
    monkeypatch.setattr("study.sweep.views_of", lambda run: ["1x1", "1x2"])
    assert "repeated" not in execute(run, work)


def test_what_is_written_while_weights_are_made_again_stays(done, monkeypatch):
    runs, work = done
    run = list(runs.values())[-1]
    shutil.rmtree(work / run.name)

    def busy(*arguments):
        scores = train(*arguments)
        write(run_file(run.name), content_of(run.name) | {"note": "of somebody else"})
        return scores

    monkeypatch.setattr("study.sweep.train", busy)
    assert execute(run, work)["note"] == "of somebody else"


def test_a_run_that_goes_on_from_a_kept_state_is_no_repeat(done):
    runs, work = done
    run = list(runs.values())[-1]
    shutil.rmtree(work / run.name)
    with stopped_at(3):
        execute(run, work)
    assert (work / run.name / "state.safetensors").exists()
    assert "repeated" not in execute(run, work)


def test_a_run_that_another_version_began_begins_anew(done, monkeypatch):
    """And what is left of an older one is not taken for it."""
    runs, work = done
    run = list(runs.values())[-1]
    kept = content_of(run.name)
    (results_dir() / run_file(run.name)).unlink()
    left = (work / run.name / "scores.npz", work / run.name / "model.safetensors")
    for path in left:
        path.write_bytes(b"of an older run")
    with monkeypatch.context() as patch:
        patch.setattr("ctnet.engine.checkpoint.VERSION", 0)
        with stopped_at(3):
            execute(run, work)
    assert not any(path.exists() for path in left)
    assert (work / run.name / "state.safetensors").exists()
    step, seen = training.train_step, []
    monkeypatch.setattr(training, "train_step", lambda *args: seen.append(args[1]) or step(*args))
    content = execute(run, work)
    assert seen[0] == 0
    assert content["predictions"] == kept["predictions"]


def test_a_run_whose_start_has_left_no_weights_says_so(runs, results, tmp_path):
    start, run = runs.values()
    message = f"{run.name} starts from .*{start.name}.safetensors, which is not there: `python -m study run --weights`"
    write(run_file(run.name), {"predictions": {"1x1": ""}, "provenance": {}})
    for action in (confirm, repeat):
        with pytest.raises(FileNotFoundError, match=message):
            action(run, tmp_path)
    (results / run_file(run.name)).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        execute(run, tmp_path)


def test_a_failure_is_told_and_marked_in_one_line(runs, results, tmp_path):
    start, run = runs.values()
    later, work = replace(run, start=replace(start, keep=False)), tmp_path / "two\nlines"
    marked = f"FileNotFoundError: {later.name} starts from {tmp_path}/two lines/"
    failed = sweep({later.name: later}, work)
    assert failed[later.name].startswith(marked)
    assert failure_of(later, work) == failed[later.name]
    assert "Traceback" in (work / later.name / "log.txt").read_text()


def test_a_run_that_began_with_other_weights_begins_anew(done):
    runs, work = done
    start, run = runs.values()
    (results_dir() / run_file(run.name)).unlink()
    shutil.rmtree(work / run.name)
    with stopped_at(3):
        execute(run, work)
    weights = weights_file(start, work)
    model = load_model(weights)
    with torch.no_grad():
        model.head.weight.add_(1)
        next(model.backbone.parameters()).mul_(0.5)
    save_model(weights, model, recipe=start.recipe, dtype=torch.float16)
    content = execute(run, work)
    assert content["init"] == hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    assert content["first_losses"][:1] == pytest.approx(first_losses(run, work)[:1])


def test_a_run_is_looked_at_with_every_view_of_its_rows(ensemble):
    _, members, work = ensemble
    for run in members:
        found, scores = content_of(run.name), Scores.load(work / run.name / "scores-1x2.npz")
        assert list(found["metrics"]) == list(found["predictions"]) == ["1x1", "1x2"]
        assert found["metrics"]["1x2"] == {"top1": scores.accuracy()}
        assert decode(found["predictions"]["1x2"]).tolist() == scores.predictions.tolist()


def test_a_run_without_a_view_that_a_row_asks_for_is_to_be_done(ensemble):
    _, (first, second), work = ensemble
    content = content_of(first.name)
    del content["predictions"]["1x2"]
    write(run_file(first.name), content)
    assert list(left_of({run.name: run for run in (first, second)}, work)) == [first.name]


def test_rows_whose_runs_are_fused_get_their_file_with_the_last_of_these(ensemble):
    """And anew when one is redone."""
    name, (first, second), work = ensemble
    (results_dir() / run_file(name)).unlink()
    (results_dir() / run_file(second.name)).unlink()
    assert fuse_done(work) == []
    execute(second, work)
    fused = content_of(name)
    several = [Scores.load(work / member.name / "scores-1x2.npz") for member in (first, second)]
    mean = (several[0].probabilities + several[1].probabilities) / 2
    assert decode(fused["predictions"]["1x2"]).tolist() == mean.argmax(1).tolist()
    assert fused["members"] == [first.name, second.name]
    assert fused["provenance"]["behaviour"] == behaviour(PARTS, ["tsn_r50_twin"])
    write(run_file(name), {})
    assert fuse_done(work) == []
    assert fuse_done(work, second.name) == [name]
    assert content_of(name)["predictions"] == fused["predictions"]

    (work / first.name / "scores-1x2.npz").unlink()  # as in a fresh clone, in which a member is run anew
    assert fuse_done(work) == []
    assert content_of(name)["predictions"] == fused["predictions"]
    assert fuse_done(work, second.name) == []
    assert not (results_dir() / run_file(name)).exists()


def test_a_missing_ensemble_is_fused_by_the_next_sweep(ensemble):
    name, members, work = ensemble
    (results_dir() / run_file(name)).unlink()
    runs = {run.name: run for run in members}
    assert left_of(runs, work) == {}
    assert sweep(runs, work) == {}
    assert content_of(name)["members"] == list(runs)


def test_members_whose_scores_a_missing_ensemble_needs_are_run_again(ensemble):
    """As in a fresh clone. What they left stays, and is held against the new scores."""
    name, (first, second), work = ensemble
    fused, kept = content_of(name), content_of(first.name)
    runs = {run.name: run for run in (first, second)}
    shutil.rmtree(work / first.name)
    assert left_of(runs, work) == {}
    (results_dir() / run_file(name)).unlink()
    assert list(left_of(runs, work)) == [first.name]
    assert state_of(first, work) == "left"
    assert [noted["equal_predictions"] for noted in execute(first, work)["repeated"]] == [1.0]
    assert content_of(name)["predictions"] == fused["predictions"]
    assert content_of(first.name) | {"repeated": []} == kept | {"repeated": []}


def test_an_outcome_depends_on_the_network_that_its_weights_come_from_too():
    (run,) = twins_of("2g")["ct-module", "top1"].runs
    assert networks_of(run) == ["ctnet_r26_twin", "tsn_r26_twin"]


def test_members_that_are_stale_are_not_fused(ensemble):
    name, (first, _), work = ensemble
    (results_dir() / run_file(name)).unlink()
    make_old(first.name)
    assert fuse_done(work) == []


# -- Interruptions -----------------------------------------------------------------------------------------------------


def execute_until_it_hangs(run, work):
    seed_step = training.seed_step
    training.seed_step = lambda seed, step, rank: time.sleep(99) if step == 5 else seed_step(seed, step, rank)
    execute(run, work)


def test_a_killed_run_goes_on_and_no_second_process_is_at_it(done, monkeypatch, results):
    """kill -9; what was trained before is not trained again, and the outcome is that of an uninterrupted run."""
    (start, run), work = done[0].values(), done[1]
    uninterrupted = json.loads((work.parent / "runs" / f"{run.name}.json").read_text())
    for name in (f"runs/{start.name}.json", f"checkpoints/{start.name}.safetensors"):
        (results / name).symlink_to(work.parent / name)
    work = results / "work"
    out = work / run.name
    process = Fork(execute_until_it_hangs, run, work)
    try:
        while not (out / "state.safetensors").exists() or training_step(out) != (1, 1):
            assert process.is_alive(), process.end().stderr
            time.sleep(0.02)
        with pytest.raises(Timeout):
            FileLock(out / "lock", timeout=0).acquire()
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


# -- Many runs: with a stand-in for the process of a run ---------------------------------------------------------------

STAND_IN = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
run, work = sys.argv[-2], Path(sys.argv[-1])
plan = json.loads((work / "plan.json").read_text())[run]
events = work / "events"
asked = (os.environ["OMP_NUM_THREADS"], os.environ["ONEDNN_MAX_CPU_ISA"])
with events.open("a") as file:
    file.write(f"begin {{plan['name']}} {{os.getpid()}} {{' '.join(asked)}}\\n")


def fail(reason):
    (work / plan["name"] / "failed").write_text(reason)
    sys.exit(reason)


exec(plan["does"])
Path(plan["weights"]).parent.mkdir(parents=True, exist_ok=True)
Path(plan["weights"]).touch()
Path(plan["file"]).write_text(plan["content"])
with events.open("a") as file:
    file.write(f"end {{plan['name']}}\\n")
"""

MEET = """
deadline = time.monotonic() + 120
while events.read_text().count("begin ") < {0}:
    assert time.monotonic() < deadline, "alone"
    time.sleep(0.01)
"""


@pytest.fixture
def planned(declare, changes, tmp_path, tmp_path_factory, monkeypatch):
    """A function that makes the rows of a table from what stand-ins of their runs do, and from their numbers' starts.

    It returns the runs by name. They are all that the table takes but for the pretraining, which is done.
    """
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    for name in ("OMP_NUM_THREADS", *KERNELS):
        monkeypatch.delenv(name, raising=False)

    def plan(*does, starts=None):
        twins = []
        for number in range(len(does)):
            start = (starts or {}).get(number)
            twins.append({"epochs": number + 1} | ({} if start is None else {"start": changes | twins[start]}))
        declared = {"seeds": 1, "twins": {"top1": changes}, "orders": {}, "rows": rows(*twins)}
        folder = declare(tmp_path_factory.mktemp("results"), table_2a=declared)
        monkeypatch.setenv("CTNET_RESULTS", str(folder))
        runs = [twin.runs[0] for twin in twins_of("2a").values()]
        made = {"seconds": 6e5, "behaviour": behaviour(PARTS, ["tsn_r50_twin"])}
        content = {"predictions": {"1x1": ""}, "provenance": made}
        planned = {
            json.dumps(run.dump()): {
                "does": text,
                "name": run.name,
                "file": str(folder / run_file(run.name)),
                "content": json.dumps(content),
                "weights": str(weights_file(run, tmp_path)),
            }
            for run, text in zip(runs, does, strict=True)
        }
        (tmp_path / "plan.json").write_text(json.dumps(planned))
        return {run.name: run for run in runs}

    return plan


def events_in(work):
    return [line.split() for line in (work / "events").read_text().splitlines()]


def test_runs_go_side_by_side_in_processes_of_their_own(planned, tmp_path):
    stay = "time.sleep(1)"  # so that a third would be noticed
    runs = planned(MEET.format(2) + stay, MEET.format(2) + stay, MEET.format(4), MEET.format(4))
    assert sweep(runs, tmp_path, jobs=2) == {}
    begun = [event for event in events_in(tmp_path) if event[0] == "begin"]
    assert len({pid for _, _, pid, *_ in begun} | {str(os.getpid())}) == 5
    assert {threads for *_, threads, _ in begun} == {"1"}
    under_way = np.cumsum([1 if event[0] == "begin" else -1 for event in events_in(tmp_path)])
    assert under_way.max() == 2


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, ["1", "AVX2"]),
        ({"OMP_NUM_THREADS": "3"}, ["3", "AVX2"]),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, ["1", "SSE41"]),
    ],
)
def test_threads_and_kernels_are_those_of_the_environment_if_it_says(planned, tmp_path, monkeypatch, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sweep(planned(""), tmp_path)
    assert events_in(tmp_path)[0][3:] == told


def test_a_run_is_repeated_with_the_kernels_of_runs(runs, run_study, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    asked = []

    def called(command, env):
        asked.append((command[1:], {name: env[name] for name in ENVIRONMENT}))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", called)
    name = next(iter(runs_of(["2g"])))
    assert run_study("repeat", name, "--work", "here")[0] == 3
    assert asked == [(["-m", "study", "repeat", name, "--work", "here"], ENVIRONMENT)]


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with AVX2")
def test_a_wider_processor_computes_as_one_with_avx2():
    show = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run([sys.executable, "-c", show], env=KERNELS | os.environ, capture_output=True, text=True)
    assert done.stdout == "AVX2\n"


def test_a_run_begins_as_soon_as_its_start_is_done_and_a_process_is_free(planned, tmp_path):
    """The first run waits until the third has begun, which starts from the second."""
    runs = planned(MEET.format(3), "", "", starts={2: 1})
    assert sweep(runs, tmp_path, jobs=2) == {}
    order = [tuple(event[:2]) for event in events_in(tmp_path)]
    first, second, third = runs
    assert order.index(("end", second)) < order.index(("begin", third)) < order.index(("end", first))


def test_a_run_that_fails_stops_only_those_that_start_from_it(planned, tmp_path):
    runs = planned("(work / 'luck').exists() or fail('too bad')", "", "", "", "", starts={1: 0, 2: 1, 4: 3})
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
    (tmp_path / "luck").touch()
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_run_that_was_asked_to_stop_has_not_failed(planned, tmp_path, name):
    """Its process saves how far it came, and ends as a shell says that a signal ended it."""
    runs = planned(f"sys.exit(128 + signal.{name})")
    (run,) = runs.values()
    assert sweep(runs, tmp_path) == {run.name: f"stopped by {name}; run again to go on"}
    assert failure_of(run, tmp_path) is None
    assert state_of(run, tmp_path) == "started"


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
    states = [state_of(run, tmp_path) for run in runs.values() if read(run_file(run.name)) is None]
    assert states[0] == "started"
    assert states[-1] == "left"
    assert "failed" not in states


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "Expecting"), ("[]", "no object"), ('{"config": {}, "predictions": {}}', "are missing")],
)
@pytest.mark.parametrize("command", ["status", "list", "confirm"])
def test_a_damaged_file_is_named_with_what_to_do(planned, run_study, command, content, reason):
    (name,) = planned("")
    path = results_dir() / run_file(name)
    path.write_text(content)
    code, out, errors = run_study(command)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert f"{path} is damaged" in errors
    assert reason in errors
    assert "delete it and make it again" in errors


def test_no_processes_are_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="jobs must be positive"):
        sweep(runs, tmp_path, jobs=0)


# -- States ------------------------------------------------------------------------------------------------------------


def test_states(runs, results, tmp_path):
    start, run = runs.values()
    assert state_of(run, tmp_path) == "left"
    (tmp_path / run.name).mkdir()
    assert state_of(run, tmp_path) == "started"
    (tmp_path / run.name / "failed").touch()
    assert state_of(run, tmp_path) == "failed"
    today = behaviour(PARTS, ["tsn_r50_twin"])
    write(run_file(run.name), {"predictions": {"1x1": ""}, "provenance": {"behaviour": today}})
    assert state_of(run, tmp_path) == "done"
    write(run_file(start.name), content_of(run.name))
    assert state_of(start, tmp_path) == "left", "weights that are to be kept are missing"
    make_old(run.name)
    assert state_of(run, tmp_path) == "stale"
    write(run_file(run.name), {"predictions": {"1x1": ""}, "provenance": {}})
    assert state_of(run, tmp_path) == "stale", "no versions are those of old"
    assert STATES == ("done", "stale", "failed", "started", "left")


# -- The command line --------------------------------------------------------------------------------------------------


def test_the_time_left_is_told_from_what_runs_of_the_network_took(done):
    runs, work = done
    *_, last = runs.values()
    longer = replace(last, recipe=replace(last.recipe, seed=5, epochs=3 * last.recipe.epochs))
    assert hours_left(runs, work, clip_seconds()) == 0
    assert np.isnan(hours_left({longer.name: longer}, work, clip_seconds()))  # no table's run is done


def test_the_time_left_follows_the_clips_of_a_run(ensemble):
    _, members, work = ensemble
    first, second = members
    for name, run in runs_of().items():
        content = content_of(name)
        clips = run.recipe.train_clips or len(MICRO_DATASETS[run.recipe.dataset].split("train").members)
        content["provenance"]["seconds"] = 10.0 * clips * run.recipe.epochs
        write(run_file(name), content)
    longer = replace(first, recipe=replace(first.recipe, seed=5, epochs=3))
    left = 3 * 10.0 * first.recipe.train_clips
    assert hours_left({run.name: run for run in (longer, second)}, work, clip_seconds()) == pytest.approx(left / 3600)


def test_a_clip_costs_what_it_did_in_runs_of_the_same_network(declare, changes, tmp_path, monkeypatch):
    """Networks without a run cost what the usual run did."""
    declared = {"seeds": 1, "twins": {"top1": changes}, "orders": {}}
    declared["rows"] = [
        row | {"id": name, "network": {"model": name, "frames": 2}}
        for name, (row,) in ((name, rows({})) for name in ("tsn_r50", "ctnet_r50"))
    ]
    monkeypatch.setenv("CTNET_RESULTS", str(declare(tmp_path, table_2a=declared)))
    seconds = {"tsn_r50_twin": 1, "ctnet_r50_twin": 3}
    for name, run in runs_of().items():
        recipe = run.recipe
        clips = recipe.train_clips or MICRO_DATASETS[recipe.dataset].counts["train"]
        made = {"seconds": seconds[recipe.model] * clips * recipe.epochs}
        write(run_file(name), {"predictions": {}, "provenance": made})
    cost = clip_seconds()
    assert [cost(model) for model in (*seconds, "csn_r50_twin")] == [1, 3, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_begins_as_a_cpu_does(done):
    *_, run = done[0].values()
    on_gpu, on_cpu = (first_losses(run, done[1], device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3)


def test_a_sweep_from_the_command_line(planned, run_study, tmp_path):
    runs = planned("fail('too bad')", "", "", starts={1: 0})
    bad, orphan, good = runs
    (pretraining,) = runs_of().keys() - runs.keys()
    work = ["--work", str(tmp_path)]
    code, out, errors = run_study("run", *work)
    assert code == 1
    assert f"{good}: done\n" in out
    assert pretraining not in out
    for name, reason in ((bad, "too bad; see"), (orphan, f"{bad}, which it starts from, failed")):
        assert f"{name}: failed: {reason}" in out
        assert f"failed: {name}: {reason}" in errors
    code, out, _ = run_study("status", *work, "--json")
    assert code == 0
    counts = {"done": 2, "stale": 0, "failed": 2, "started": 0, "left": 0}
    found = json.loads(out)
    assert [found[name].pop("hours") > 0 for name in ("2a", "all")] == [True, True]
    assert found == {"2a": counts, "all": counts}
    assert f"failed: {bad}: too bad; see" in run_study("status", *work)[1]
    listed = json.loads(run_study("list", *work, "--json")[1])
    assert [line["run"] for line in listed] == [pretraining, *runs]
    assert [line["state"] for line in listed] == ["done", "failed", "failed", "done"]
    assert listed[2]["failure"] == f"{bad}, which it starts from, failed"
    assert "failed" in run_study("list", *work)[1]


def test_weights_that_are_missing_are_made_when_asked_for(planned, run_study, tmp_path):
    runs = planned("", "")
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
def test_mistakes_are_one_line(planned, run_study, tmp_path, arguments, message):
    planned("", "", "", "")
    code, out, errors = run_study(*arguments, "--work", str(tmp_path))
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("missing", ["submitit", "srun"])
def test_slurm_that_is_missing_is_one_line(planned, run_study, tmp_path, missing, monkeypatch):
    pytest.importorskip("submitit")
    if missing == "submitit":
        monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    planned("")
    code, _, errors = run_study("run", "--slurm", "--work", str(tmp_path))
    assert code == 2
    assert errors.count("\n") == 1
    assert ("ctnet[cluster]" if missing == "submitit" else "srun") in errors


# -- Slurm, as far as it goes without one ------------------------------------------------------------------------------


@pytest.fixture
def arrays(monkeypatch):
    """Arrays that were submitted: what a node calls, with what, and Slurm's parameters."""
    submitit = pytest.importorskip("submitit")
    found = []

    class Executor:
        def __init__(self, folder, cluster):
            assert cluster == "slurm"

        def update_parameters(self, **parameters):
            self.parameters = parameters

        def map_array(self, function, runs, works):
            found.append((function, list(zip(runs, works, strict=True)), self.parameters))
            return [type("Job", (), {"job_id": f"{len(found)}_{i}"}) for i in range(len(runs))]

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    return found


def test_array_jobs_wait_for_the_runs_that_they_start_from(planned, arrays, run_study, tmp_path):
    runs = planned("", "", "", "", "", starts={2: 0, 3: 0, 4: 3})
    names = list(runs)
    code, out, _ = run_study("run", "--slurm", "--partition", "cpu", "--jobs", "3", "--work", str(tmp_path))
    assert (code, out) == (0, "5 runs submitted: jobs 1_0 to 3_0\n")
    submitted = [[TwinRun.load(run).name for run, _ in tasks] for _, tasks, _ in arrays]
    assert submitted == [names[:2], names[2:4], names[4:]]
    assert {work for _, tasks, _ in arrays for _, work in tasks} == {str(tmp_path.resolve())}
    parameters = [found for *_, found in arrays]
    assert [found.get("slurm_dependency") for found in parameters] == [None, "afterany:1_0", "afterany:2_1"]
    assert {found["slurm_array_parallelism"] for found in parameters} == {3}
    assert {found["slurm_partition"] for found in parameters} == {"cpu"}
    sweep({name: runs[name] for name in names[:3]}, tmp_path)
    assert submit(runs, tmp_path, jobs=3) == ["4_0", "5_0"]
    assert "slurm_partition" not in arrays[-1][2]


def test_what_a_node_does_is_marked_and_logged_too(planned, arrays, tmp_path):
    runs = planned("fail('too bad')", "")
    submit(runs, tmp_path, jobs=2)
    ((function, (bad, good), _),) = arrays
    function(*good)
    with pytest.raises(RuntimeError, match="too bad; see .*log.txt"):
        function(*bad)
    assert [state_of(run, tmp_path) for run in runs.values()] == ["failed", "done"]

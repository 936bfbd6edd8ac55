"""Executes the study's runs: one by one, side by side, or on a cluster; what is done is never done again."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from ctnet.engine import (
    Place,
    Recipe,
    Scores,
    View,
    choose_precision,
    distributed,
    eval_data,
    evaluate,
    fuse,
    load_model,
    save_model,
    train,
)
from ctnet.engine.checkpoint import read_about
from ctnet.engine.loading import load_split
from ctnet.engine.run import MODEL, SCORES, STATE
from ctnet.engine.run import Run as TrainingRun
from ctnet.engine.training import train_step
from ctnet.micro import MICRO_DATASETS, MicroDataset
from ctnet.processes import cores
from study.runs import (
    TwinRun,
    all_seeds_of,
    all_twins,
    ensembles,
    outcome,
    run_file,
    runs_of,
    views_of,
    weights_file,
    with_starts,
)
from study.store import (
    KERNELS,
    behaviour,
    commit,
    decode,
    encode,
    is_stale,
    kind_of_machine,
    provenance,
    results_dir,
    write,
)

PARTS = ("drawing", "data", "engine")
"""What the outcome of a run depends on besides its network."""
PROBE = 10  # first losses that a run's file keeps with all digits
CURVE = 20  # parts of a run, of equal numbers of steps, whose mean losses its file keeps
LOG, FAILED = "log.txt", "failed"  # of a run's directory; the second holds the reason
INIT = "init"  # of the same: the hash of the weights that a run has begun with

ENVIRONMENT = {"OMP_NUM_THREADS": "1"} | KERNELS
"""Of a run's process, unless it is set otherwise: two runs with a thread each are faster than one with two."""


def _kept(name: str) -> dict[str, Any]:
    """What a run has left.

    Raises:
        FileNotFoundError: when it was not run.
    """
    content = outcome(name)
    if content is None:
        raise FileNotFoundError(f"{name} is not done: `python -m study run` trains it")
    return content


def _is_kept(name: str) -> bool:
    return (results_dir() / run_file(name)).exists()


def is_done(run: TwinRun, work: Path, needed: bool = False) -> bool:
    """Whether a run's outcome is there, tested with every view that a row asks for today, its weights too if another
    run needs them, and its scores if an ensemble does that is not there."""
    content = outcome(run.name)
    tested = content is not None and content["predictions"].keys() >= set(views_of(run))
    weighed = tested and (not (needed or run.keep) or weights_file(run, work).exists())
    return weighed and all(_scores_file(run, work, view).exists() for view in _unfused(run))


def _unfused(run: TwinRun) -> set[str]:
    """Views of the ensembles that a run is a member of and that are not there."""
    name, seed = run.seeded(0).name, run.recipe.seed
    joint = [twin for twin in all_twins() if twin.fused and name in [member.name for member in twin.runs]]
    return {twin.view for twin in joint if seed in all_seeds_of(twin) and not _is_kept(twin.ensemble(seed))}


def _scores_file(run: TwinRun, work: Path, view: str) -> Path:
    return work / run.name / f"scores-{view}.npz"


STATES = ("done", "stale", "failed", "started", "left")


def state_of(run: TwinRun, work: Path) -> str:
    """What has become of a run, one of `STATES`; a stale one was made by older versions of behaviour.

    A run that is under way is "started", and so is one that was cut off.
    """
    if is_done(run, work):
        return "stale" if is_stale(_kept(run.name)) else "done"
    if failure_of(run, work) is not None:
        return "failed"
    return "started" if (work / run.name).exists() else "left"


def failure_of(run: TwinRun, work: Path) -> str | None:
    """Why the last attempt at a run failed; None unless it did."""
    mark = work / run.name / FAILED
    return mark.read_text() if mark.exists() else None


def left_of(runs: dict[str, TwinRun], work: Path, weights: bool = False) -> dict[str, TwinRun]:
    """Those of some runs (from `runs_of`) that have to be executed: not done, or without weights that others need.

    With `weights`, those without weights in the results or in `work` too.
    """
    left: dict[str, TwinRun] = {}
    needed: set[str] = set()
    for name, run in reversed(runs.items()):  # behind a run come those that start from it
        if not is_done(run, work, weights or name in needed):
            left[name] = run
            needed |= {run.start.name} if run.start else set()
    return dict(reversed(left.items()))


def clip_seconds() -> Callable[[str], float]:
    """What a clip of training has cost, in seconds of one process, by the name of the network.

    It is the median over the runs of the network that are done, or of any if there are none; NaN if none are.
    """
    spent: dict[str, list[float]] = {}
    for name, run in runs_of().items():
        if content := outcome(name):
            spent.setdefault(run.recipe.model, []).append(content["provenance"]["seconds"] / _clips(run))
    usual = np.median([seconds for each in spent.values() for seconds in each]) if spent else np.nan
    return lambda model: float(np.median(spent.get(model, [usual])))


def hours_left(runs: dict[str, TwinRun], work: Path, cost: Callable[[str], float]) -> float:
    """Hours of one process that some runs still take, at a `cost` as `clip_seconds` tells it."""
    return sum(cost(run.recipe.model) * _clips(run) for run in left_of(runs, work).values()) / 3600


def _clips(run: TwinRun) -> int:
    """How many clips a run trains on, each as often as it is seen."""
    return (run.recipe.train_clips or MICRO_DATASETS[run.recipe.dataset].counts["train"]) * run.recipe.epochs


def side_by_side() -> int:
    """How many runs one machine trains at the same time unless told: a GPU takes one for every core, up to 16."""
    return min(cores(), 16) if torch.cuda.is_available() else 1


def execute(run: TwinRun, work: Path) -> dict[str, Any]:
    """Train and test a run in this process, going on where an earlier attempt stopped, and write its file.

    Where another process is at this run it is waited for; what that has done is not done again.

    Args:
        run: what to do; the run that it starts from must be done.
        work: directory for the state and the scores of runs.

    Returns:
        The content of the run's file.

    Raises:
        FileNotFoundError: when the weights that the run starts from are not there.
    """
    out = work / run.name
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "lock"), distributed() as place:
        if is_done(run, work, needed=True):
            return _kept(run.name)
        commit()  # is asked now, and so is that of the code which runs, whatever is committed meanwhile
        began = time.perf_counter()
        recipe = _started(run, work)
        init = _weights_hash(run, recipe)
        anew = _make_anew(run, out, init)
        scores = {"1x1": train(recipe, out)}
        trained = time.perf_counter() - began
        model = load_model(out / MODEL).to(place.device)
        exact = choose_precision(recipe.precision, place.device, testing=True)
        for view in views_of(run):
            if view != "1x1":
                dataset = eval_data(recipe, model, View.parse(view))
                scores[view] = evaluate(
                    model, dataset, place, batch_size=2 * recipe.batch_size, precision=exact, progress=True
                )
        for view, found in scores.items():
            found.save(_scores_file(run, work, view))
        if run.keep:
            # With the run's own recipe: today's names the path of the weights on this machine.
            save_model(weights_file(run, work), model, recipe=run.recipe, dtype=torch.float16)
        if is_done(run, work) and not is_stale(kept := _kept(run.name)):
            if anew and kept.get("init") == init:  # its weights were missing: what verdicts rest on stays
                again = scores["1x1"]
                noted = _repeated(kept, again.predictions, again.accuracy(), _made(run, place, trained))
                write(run_file(run.name), kept | noted)
            fuse_done(work)
            (out / STATE).unlink(missing_ok=True)
            return _kept(run.name)
        history = json.loads((out / "metrics.json").read_text())
        content = {
            "name": run.name,
            "config": run.config(),
            "metrics": {view: {"top1": found.accuracy()} for view, found in scores.items()},
            "epochs": history["epochs"],
            "first_losses": history["losses"][:PROBE],
            "curve": [round(float(part.mean()), 4) for part in np.array_split(history["losses"], CURVE) if len(part)],
            "predictions": {view: encode(found.predictions) for view, found in scores.items()},
            "data": {split: _fingerprint(recipe, split) for split in ("train", "val")},
            "init": init,
            "provenance": _made(run, place, time.perf_counter() - began),
        }
        earlier = outcome(run.name)
        if anew and earlier and not is_stale(earlier) and earlier.get("init") == init:  # other views were asked for
            predicted, top1 = decode(earlier["predictions"]["1x1"]), earlier["metrics"]["1x1"]["top1"]
            if np.array_equal(predicted, scores["1x1"].predictions):  # what it notes of others holds here too
                content["repeated"] = earlier.get("repeated", [])
            content |= _repeated(content, predicted, top1, earlier["provenance"])
        write(run_file(run.name), content)
        fuse_done(work, run.name)
        (out / STATE).unlink(missing_ok=True)
    return content


def _make_anew(run: TwinRun, out: Path, init: str | None) -> bool:
    """Whether a run begins at its first step; what another attempt left is removed, unless it can go on from there.

    It cannot where its state is gone, was made by other versions of behaviour, or began with other weights than `init`.
    """
    state, began_with = out / STATE, out / INIT
    if state.exists():
        same = read_about(state).get("behaviour") == behaviour(PARTS, [run.recipe.model])
        if same and began_with.exists() and began_with.read_text() == str(init):
            return False
        state.unlink()
    for name in (MODEL, SCORES):
        (out / name).unlink(missing_ok=True)
    began_with.write_text(str(init))
    return True


def networks_of(run: TwinRun) -> list[str]:
    """Names of the networks that a run's outcome depends on: its own, and those that its weights come from."""
    return sorted({each.recipe.model for each in with_starts([run]).values()})


def fuse_done(work: Path, member: str | None = None) -> list[str]:
    """Write the file of every ensemble whose runs have all left their scores; returns the names of those written.

    What is there is kept, unless `member` is a run of it, whose scores are new: it is then written anew, or removed
    where the other scores are not at hand.
    """
    new = []
    for name, (twin, seed) in ensembles().items():
        members = [run.seeded(seed).name for run in twin.runs]
        kept = [_scores_file(run.seeded(seed), work, twin.view) for run in twin.runs]
        if _is_kept(name) and member not in members:
            continue
        current = [content for content in map(outcome, members) if content and not is_stale(content)]
        if len(current) < len(members) or not all(path.exists() for path in kept):
            (results_dir() / run_file(name)).unlink(missing_ok=True)
            continue
        fused = fuse([Scores.load(path) for path in kept])
        content = {
            "name": name,
            "members": members,
            "metrics": {twin.view: {"top1": fused.accuracy()}},
            "predictions": {twin.view: encode(fused.predictions)},
            "provenance": provenance(PARTS, {network for run in twin.runs for network in networks_of(run)}, 0.0),
        }
        write(run_file(name), content)
        new.append(name)
    return new


def first_losses(run: TwinRun, work: Path, device: str = "cpu") -> list[float]:
    """The losses of a run's first `PROBE` steps, trained anew; nothing is written."""
    with tempfile.TemporaryDirectory() as scratch:
        training = TrainingRun(_started(run, work), Path(scratch), Place(torch.device(device)), resume=False)
        batches = training.start_epoch()
        return [float(train_step(training, step, batches)) for step in range(min(PROBE, training.batches.steps))]


def confirm(run: TwinRun, work: Path) -> bool:
    """Train a stale run's first steps anew; if the losses are the old ones, today's versions may stand for the old.

    The file then names today's versions of behaviour, and so does that of an ensemble whose runs all do. What comes
    after training, such as testing, is not looked at.

    Raises:
        FileNotFoundError: when the weights that the run starts from are not there.
    """
    content = _kept(run.name)
    losses = first_losses(run, work)
    same = np.allclose(losses, content["first_losses"][: len(losses)], rtol=1e-3)
    if same:
        # Versions of the drawing are part of what names the clips.
        drawn = {split: _fingerprint(run.recipe, split) for split in content["data"]}
        _confirmed(run.name, content | {"data": drawn}, networks_of(run))
        for name, (twin, seed) in ensembles().items():
            members = [member.seeded(seed).name for member in twin.runs]
            fused, kept = outcome(name), [outcome(member) for member in members]
            if fused and run.name in members and all(found and not is_stale(found) for found in kept):
                _confirmed(name, fused, [network for member in twin.runs for network in networks_of(member)])
    return bool(same)


def _confirmed(name: str, content: dict[str, Any], networks: list[str]) -> None:
    """Write the file of a run or an ensemble once more, as one of today's versions of behaviour."""
    made = content["provenance"] | {"behaviour": behaviour(PARTS, networks)}
    write(run_file(name), content | {"provenance": made})


def repeat(run: TwinRun, work: Path) -> float:
    """Train a finished run once more, from its start to its end, and note in its file how equal the outcome is.

    Machines of several kinds round otherwise, and so does this one with other `study.store.KERNELS`: each is noted.

    Returns:
        The share of validation clips for which both networks predict the same class.

    Raises:
        FileNotFoundError: when the run is not done, or the weights that it starts from are not there.
        ValueError: when these are not those that it started from.
    """
    content = _kept(run.name)
    commit()  # as in `execute`
    began = time.perf_counter()
    recipe = _started(run, work)
    if content.get("init") != _weights_hash(run, recipe):
        raise ValueError(f"{run.name} started from other weights of {run.start and run.start.name} than are there now")
    with tempfile.TemporaryDirectory() as scratch, distributed() as place:
        scores = train(recipe, scratch)
        made = _made(run, place, time.perf_counter() - began)
        again = _repeated(content, scores.predictions, scores.accuracy(), made)
    write(run_file(run.name), _kept(run.name) | again)
    return float(again["repeated"][-1]["equal_predictions"])


def _repeated(content: dict[str, Any], predicted: NDArray[Any], top1: float, made: dict[str, Any]) -> dict[str, Any]:
    """What the file of a run notes of training it another time: how equal the predictions are to what it holds.

    One repeat is kept of each kind of machine, the last.
    """
    equal = float((predicted == decode(content["predictions"]["1x1"])).mean())
    kind = kind_of_machine(made)
    others = [noted for noted in content.get("repeated", ()) if kind_of_machine(noted["provenance"]) != kind]
    return {"repeated": [*others, {"top1": top1, "equal_predictions": equal, "provenance": made}]}


def _made(run: TwinRun, place: Place, seconds: float) -> dict[str, Any]:
    """Where the outcome of a run comes from."""
    return provenance(PARTS, networks_of(run), seconds) | {
        "precision": str(choose_precision(run.recipe.precision, place.device)).removeprefix("torch."),
        "device": place.device.type,
        "threads": torch.get_num_threads(),
    }


def _weights_hash(run: TwinRun, recipe: Recipe) -> str | None:
    """Sixteen hexadecimal digits of the weights that a run starts from."""
    return hashlib.sha256(Path(recipe.init).read_bytes()).hexdigest()[:16] if run.start else None


def _started(run: TwinRun, work: Path) -> Recipe:
    """The recipe of a run, starting from the weights of the run before it."""
    if run.start is None:
        return run.recipe
    weights = weights_file(run.start, work)
    if not weights.exists():
        raise FileNotFoundError(
            f"{run.name} starts from {weights}, which is not there: `python -m study run --weights` trains it again"
        )
    return run.recipe.override({"init": str(weights.resolve())})


def _fingerprint(recipe: Recipe, split: str) -> str:
    videos = load_split(recipe, split)
    assert isinstance(videos, MicroDataset)
    return videos.config.fingerprint[:16]


def sweep(
    runs: dict[str, TwinRun],
    work: Path,
    jobs: int = 1,
    report: Callable[[str, str], object] = lambda name, text: None,
    weights: bool = False,
) -> dict[str, str]:
    """Execute every run that is not done, `jobs` at a time, each in a process of its own.

    A run that fails does not stop the others; those that start from it fail with it. Processes that are under way when
    this one is interrupted are ended.

    Args:
        runs: from `runs_of`.
        work: directory for the state and the logs of runs.
        jobs: number of processes.
        report: called with a run's name and what became of it.
        weights: whether to execute what left no weights too.

    Returns:
        Why each run failed that did.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be positive, got {jobs}")
    left = left_of(runs, work, weights)
    failed: dict[str, str] = {}
    started: dict[str, subprocess.Popen[bytes]] = {}

    def close(name: str, reason: str | None) -> None:
        del left[name]
        if reason:
            failed[name] = reason
        report(name, f"failed: {reason}" if reason else "done")

    try:
        while left:
            for name, run in list(left.items()):
                if run.start and run.start.name in failed:
                    close(name, _mark(run, work, f"{run.start.name}, which it starts from, failed"))
                elif name not in started and len(started) < jobs and not _starts_from(run, left):
                    started[name] = _begin(run, work)
            time.sleep(0.1)
            for name in [name for name, process in started.items() if process.poll() is not None]:
                close(name, _end(left[name], work, started.pop(name).returncode))
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()
    fuse_done(work)
    return failed


def _starts_from(run: TwinRun, names: Container[str]) -> bool:
    return run.start is not None and run.start.name in names


def _begin(run: TwinRun, work: Path) -> subprocess.Popen[bytes]:
    """Start a process that executes a run."""
    out = work / run.name
    out.mkdir(parents=True, exist_ok=True)
    (out / FAILED).unlink(missing_ok=True)
    with (out / LOG).open("a") as log:
        command = [sys.executable, "-m", "study.sweep", json.dumps(run.dump()), str(work)]
        return subprocess.Popen(command, env=ENVIRONMENT | os.environ, stdout=log, stderr=log)


def _end(run: TwinRun, work: Path, code: int) -> str | None:
    """Why a run's process failed, by its own mark or else its exit code; None if it did not."""
    if code == 0:
        return None
    if code in (128 + signal.SIGTERM, 128 + signal.SIGUSR1):  # it has saved how far it came
        return f"stopped by {signal.Signals(code - 128).name}; run again to go on"
    reason = failure_of(run, work) or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
    return _mark(run, work, f"{reason}; see {work / run.name / LOG}")


def _mark(run: TwinRun, work: Path, reason: str) -> str:
    out = work / run.name
    out.mkdir(parents=True, exist_ok=True)
    (out / FAILED).write_text(reason)
    return reason


def submit(runs: dict[str, TwinRun], work: Path, jobs: int, weights: bool = False, **slurm: Any) -> list[str]:
    """Hand every run that is not done to Slurm, as array jobs through submitit; returns their ids.

    Runs that others start from go first; the others wait for them. What fails is marked and logged as in `sweep`.

    Args:
        runs: from `runs_of`.
        work: directory for states and logs, on a file system that the nodes share.
        jobs: of an array that run at the same time.
        weights: as in `sweep`.
        slurm: parameters of `submitit.AutoExecutor`, such as slurm_partition or timeout_min.

    Raises:
        RuntimeError: when submitit or Slurm is missing, or Slurm refuses the jobs.
    """
    try:
        import submitit
    except ImportError as error:
        raise RuntimeError("Slurm needs a package: pip install 'ctnet[cluster]'") from error
    work = work.resolve()
    fuse_done(work)
    left = left_of(runs, work, weights)
    ids: dict[str, str] = {}
    while pending := left.keys() - ids.keys():
        ready = [run for name, run in left.items() if name in pending and not _starts_from(run, pending)]
        before = sorted({ids[run.start.name] for run in ready if run.start and run.start.name in ids})
        # A run whose start has failed is to start too, and to say so; after "afterok" it would wait for ever.
        dependency = {"slurm_dependency": "afterany:" + ":".join(before)} if before else {}
        executor = submitit.AutoExecutor(folder=work / "slurm" / "%j", cluster="slurm")
        executor.update_parameters(name="ctnet", slurm_array_parallelism=jobs, **dependency, **slurm)
        try:
            handles = executor.map_array(_Attempt(), [run.dump() for run in ready], [str(work)] * len(ready))
        except RuntimeError as error:
            raise RuntimeError(f"Slurm refuses the jobs: {str(error).strip().splitlines()[-1]}") from error
        ids |= {run.name: handle.job_id for run, handle in zip(ready, handles, strict=True)}
    return list(ids.values())


class _Attempt:
    """What a node of a cluster does for a run. At its time limit it is queued again, and goes on where it was."""

    def __call__(self, run: dict[str, Any], work: str) -> None:
        todo, folder = TwinRun.load(run), Path(work)
        if reason := _end(todo, folder, _begin(todo, folder).wait()):
            raise RuntimeError(reason)

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _main(run: TwinRun, work: Path) -> None:
    """What a process of a run's own does."""
    try:
        execute(run, work)
    except Exception as error:
        _mark(run, work, " ".join(f"{type(error).__name__}: {error}".split()))
        raise


if __name__ == "__main__":
    _main(TwinRun.load(json.loads(sys.argv[1])), Path(sys.argv[2]))

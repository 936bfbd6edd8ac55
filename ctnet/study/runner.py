"""Executes the study's runs: one by one, side by side, or on a cluster; what is done is never done again."""

import base64
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctnet.data import MicroDataset
from ctnet.engine import Scores, View, choose_precision, eval_data, evaluate, fuse, load_model, save_model, train
from ctnet.engine.distributed import Place
from ctnet.engine.loading import load_split
from ctnet.engine.training import Run as TrainingRun
from ctnet.engine.training import train_step
from ctnet.study.provenance import code_hash, provenance, write_json
from ctnet.study.published import results_dir
from ctnet.study.twins import Run, ensembles, views_of

CODE = (
    "models",
    *(f"data/{part}.py" for part in ("dataset", "micro", "micro_datasets", "sampling", "transforms")),
    *(f"engine/{part}.py" for part in ("evaluation", "loading", "recipe", "training")),
)
"""Parts of the package that the outcome of a run depends on."""
PROBE = 10  # first losses that a run's file keeps with all digits

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # two runs with a thread each are faster than one with two
    # glibc hands large blocks back to the kernel after every step unless told otherwise, and page faults eat the time.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


def run_file(name: str) -> Path:
    """Where the outcome of a run is kept."""
    return results_dir() / "runs" / f"{name}.json"


def weights_file(run: Run, work: Path) -> Path:
    """Where the weights of a run are: kept ones in the results, others among the work."""
    kept = results_dir() / "checkpoints" / f"{run.name}.safetensors"
    return kept if run.keep else work / run.name / "model.safetensors"


def is_done(run: Run, work: Path, needed: bool = False) -> bool:
    """Whether a run's outcome is there, and its weights too if another run needs them."""
    return run_file(run.name).exists() and (not (needed or run.keep) or weights_file(run, work).exists())


STATES = ("done", "stale", "failed", "started", "left")


def state_of(run: Run, work: Path) -> str:
    """What has become of a run, one of `STATES`; a stale one was made by other code than today's."""
    if run_file(run.name).exists():
        return "stale" if is_stale(json.loads(run_file(run.name).read_text())) else "done"
    out = work / run.name
    if (out / "failed").exists():
        return "failed"
    return "started" if out.exists() else "left"


def execute(run: Run, work: Path) -> dict[str, Any]:
    """Train and test a run in this process, going on where an earlier attempt stopped, and write its file.

    Args:
        run: what to do; the run that it starts from must be done.
        work: directory for the state and the scores of runs.

    Returns:
        The content of the run's file.

    Raises:
        FileNotFoundError: when the run to start from has left no weights.
        RuntimeError: when another process is at this run.
    """
    out, recipe = work / run.name, run.recipe
    out.mkdir(parents=True, exist_ok=True)
    init = "none"
    if run.start:
        init = str(weights_file(run.start, work))
        recipe = recipe.override({"init": init})
    with _locked(out):
        start = time.perf_counter()
        scores = {"1x1": train(recipe, out)}
        model = load_model(out / "model.safetensors")
        precision = choose_precision(recipe.precision, torch.device("cpu"))
        for view in views_of(run.name):
            if view != "1x1":
                dataset = eval_data(recipe, model, View.parse(view))
                scores[view] = evaluate(
                    model, dataset, batch_size=2 * recipe.batch_size, precision=precision, progress=True
                )
        for view, found in scores.items():
            found.save(out / f"scores-{view}.npz")
        if run.keep:
            save_model(weights_file(run, work), model, recipe=recipe, dtype=torch.float16)
        history = json.loads((out / "metrics.json").read_text())
        content = {
            "name": run.name,
            "config": run.config(),
            "metrics": {view: {f"top{k}": found.accuracy(k) for k in (1, 5)} for view, found in scores.items()},
            "epochs": history["epochs"],
            "first_losses": history["losses"][:PROBE],
            "predictions": {view: encode(found.predictions) for view, found in scores.items()},
            "data": {split: _fingerprint(recipe, split) for split in ("train", "val")},
            "init": hashlib.sha256(Path(init).read_bytes()).hexdigest()[:16] if run.start else None,
            "provenance": provenance(CODE, time.perf_counter() - start)
            | {"precision": str(precision).removeprefix("torch."), "threads": torch.get_num_threads()},
        }
        write_json(run_file(run.name), content)
        fuse_done(work)
        (out / "state.safetensors").unlink(missing_ok=True)
    return content


def fuse_done(work: Path) -> list[str]:
    """Write the file of every ensemble whose members have all left their scores; returns the names of the new ones."""
    new = []
    for name, (row, seed) in ensembles().items():
        members = [run.seeded(seed).name for run in row.runs]
        kept = [work / member / f"scores-{row.view}.npz" for member in members]
        if run_file(name).exists() or not all(path.exists() and run_file(path.parent.name).exists() for path in kept):
            continue
        fused = fuse([Scores.load(path) for path in kept])
        content = {
            "name": name,
            "members": members,
            "metrics": {row.view: {f"top{k}": fused.accuracy(k) for k in (1, 5)}},
            "predictions": {row.view: encode(fused.predictions)},
            "provenance": provenance(CODE, 0.0),
        }
        write_json(run_file(name), content)
        new.append(name)
    return new


def first_losses(run: Run, work: Path, steps: int = PROBE) -> list[float]:
    """The losses of a run's first steps, trained anew; nothing is written."""
    recipe = run.recipe.override({"init": str(weights_file(run.start, work))}) if run.start else run.recipe
    with tempfile.TemporaryDirectory() as scratch:
        training = TrainingRun(recipe, Path(scratch), Place(torch.device("cpu")), resume=False)
        batches = training.start_epoch()
        return [float(train_step(training, step, batches)) for step in range(steps)]


def confirm(run: Run, work: Path) -> bool:
    """Train a stale run's first steps anew; if the losses are the old ones, today's code may stand for the old.

    The file then names today's code as one that gave the same losses. What comes after training, such as testing, is
    not looked at.

    Raises:
        FileNotFoundError: when the weights that the run starts from are not there.
    """
    content = json.loads(run_file(run.name).read_text())
    same = np.allclose(first_losses(run, work), content["first_losses"], rtol=1e-3)
    if same:
        content["provenance"]["confirmed"] = code_hash(*CODE)
        write_json(run_file(run.name), content)
    return bool(same)


def encode(predictions: NDArray[np.int64]) -> str:
    """Predicted classes, below 256, as a short text."""
    return base64.b64encode(predictions.astype(np.uint8).tobytes()).decode()


def decode(text: str) -> NDArray[np.uint8]:
    """The predicted classes that `encode` wrote."""
    return np.frombuffer(base64.b64decode(text), np.uint8)


def _fingerprint(recipe: Any, split: str) -> str:
    videos = load_split(recipe, split)
    assert isinstance(videos, MicroDataset)
    return videos.config.fingerprint[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the lock goes with the process, however it ends."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"another process is at {folder}") from error
        yield


def sweep(
    runs: dict[str, Run], work: Path, jobs: int = 1, report: Callable[[str, str], object] = lambda name, text: None
) -> dict[str, Path]:
    """Execute every run that is not done, `jobs` at a time, each in a process of its own.

    A run that fails does not stop the others; those that start from it fail with it.

    Args:
        runs: from `runs_of`.
        work: directory for the state and the logs of runs.
        jobs: number of processes.
        report: called with a run's name and what became of it.

    Returns:
        The log of every run that failed.
    """
    needed = {run.start.name for run in runs.values() if run.start and not is_done(run, work)}
    left = {name: run for name, run in runs.items() if not is_done(run, work, name in needed)}
    failed: dict[str, Path] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while left:
            ready = [run for run in left.values() if run.start is None or run.start.name not in left]
            futures = {pool.submit(_in_own_process, run, work): run for run in ready}
            for future in as_completed(futures):
                run = futures[future]
                del left[run.name]
                if not future.result():
                    failed[run.name] = work / run.name / "log.txt"
                report(run.name, "failed" if run.name in failed else "done")
    return failed


def _in_own_process(run: Run, work: Path) -> bool:
    out = work / run.name
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log:
        command = [sys.executable, "-m", "ctnet.study.runner", json.dumps(run.dump()), str(work)]
        good = subprocess.run(command, env=_ENVIRONMENT | os.environ, stdout=log, stderr=log).returncode == 0
    (out / "failed").unlink(missing_ok=True) if good else (out / "failed").touch()
    return good


def submit(runs: dict[str, Run], work: Path, jobs: int = 16, **slurm: Any) -> list[str]:
    """Hand every run that is not done to Slurm, as array jobs through submitit; returns their ids.

    Runs that others start from go first; the others wait for them.

    Args:
        runs: from `runs_of`.
        work: directory for states and logs, on a file system that the nodes share.
        jobs: that run at the same time.
        slurm: parameters of `submitit.AutoExecutor`, such as slurm_partition or timeout_min.

    Raises:
        RuntimeError: when submitit or Slurm is missing.
    """
    try:
        import submitit
    except ImportError as error:
        raise RuntimeError("Slurm needs a package: pip install 'ctnet[cluster]'") from error
    needed = {run.start.name for run in runs.values() if run.start and not is_done(run, work)}
    left = {name: run for name, run in runs.items() if not is_done(run, work, name in needed)}
    submitted: dict[str, str] = {}
    while waves := [run for name, run in left.items() if name not in submitted]:
        wave = [run for run in waves if run.start is None or run.start.name not in left or run.start.name in submitted]
        executor = submitit.AutoExecutor(folder=work / "slurm" / "%j", cluster="slurm")
        before = {submitted[run.start.name] for run in wave if run.start and run.start.name in submitted}
        dependency = {"dependency": "afterok:" + ":".join(sorted(before))} if before else {}
        executor.update_parameters(
            name="ctnet", slurm_array_parallelism=jobs, slurm_additional_parameters=dependency, **slurm
        )
        handles = executor.map_array(_execute, [run.dump() for run in wave], [str(work)] * len(wave))
        submitted |= {run.name: handle.job_id for run, handle in zip(wave, handles, strict=True)}
    return list(submitted.values())


def _execute(run: dict[str, Any], work: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    execute(Run.load(run), Path(work))


def is_stale(content: dict[str, Any]) -> bool:
    """Whether a run was made by other code than today's, and not confirmed by it."""
    made = content["provenance"]
    return code_hash(*CODE) not in (made["code"], made.get("confirmed"))


if __name__ == "__main__":
    _execute(json.loads(sys.argv[1]), sys.argv[2])

"""Training under kill -9: whatever the moment, a run that goes on ends with the bits of one that nobody disturbed.

    PYTHONPATH=tests python tests/kills.py 50

kills as many processes, over as many runs as that takes, and says when they were killed and how the runs ended.
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ctnet.engine import Recipe, get_recipe, train
from ctnet.engine.checkpoint import read_about

RECIPE = get_recipe("micro-something").override(
    {
        "model": "tsn_r26_twin",
        "frames": 2,
        "train_clips": 34,
        "val_clips": 25,
        "size": 16,
        "batch_size": 8,
        "epochs": 4,
        "warmup_epochs": 0.5,
        "lr": 0.05,
        "dropout": 0.2,
        "precision": "fp32",
        "workers": 2,
        "save_every": 1,
    }
)


def kill_at_random(recipe: Recipe, out: Path, kills: int, moments: np.random.Generator) -> Counter[str]:
    """Start a run again and again, and kill it after it has saved once more; returns counts of what it was doing.

    Stops after so many kills, or when the run ends by itself.
    """
    state, found = out / "state.safetensors", Counter[str]()
    while found.total() < kills:
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = get_context("fork").Process(target=train, args=(recipe, out), kwargs={"progress": False})
        process.start()
        while process.is_alive() and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, "the run ended with an error"
            break
        progress = read_about(state)["progress"]
        tested = progress["step"] * recipe.batch_size > recipe.train_clips - recipe.batch_size
        saving = any(out.glob(".state.safetensors.*"))
        found["while saving" if saving else "in evaluation" if tested else "in training"] += 1
    return found


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits."""
    first, second = (load_file(out / "model.safetensors") for out in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def main(kills: int) -> None:
    """Kill, and report."""
    torch.set_num_threads(1)
    moments, found, runs = np.random.default_rng(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        recipe = RECIPE.override({"root": folder})
        train(recipe, Path(folder) / "whole", progress=False)
        while found.total() < kills:
            out, runs = Path(folder) / str(runs), runs + 1
            found += kill_at_random(recipe, out, kills - found.total(), moments)
            train(recipe, out, progress=False)
            if not same_weights(out, Path(folder) / "whole"):
                sys.exit(f"run {runs} ended with other weights, after {dict(found)}")
            left = [path.name for path in out.iterdir() if path.name.startswith(".")]
            assert not left, left
            print(f"{runs} runs, {found.total()} kills: {dict(found)}", flush=True)
    print("all runs ended with the same bits")


if __name__ == "__main__":
    main(int(sys.argv[1]))

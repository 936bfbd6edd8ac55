"""The same recipe, seed and data give the same losses and scores, or ctnet.engine.VERSION says that they do not."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from versions import check, record_anew

from ctnet.engine import VERSION, Scores, View, eval_data, evaluate, get_recipe, load_model, train, train_data

RECORD, NAME = Path(__file__).with_name("version.json"), "VERSION in ctnet/engine/version.py"
RECIPE = get_recipe("micro-something").override(
    {
        "frames": 2,
        "train_clips": 32,
        "val_clips": 12,
        "size": 16,
        "scales": [1, 0.75],
        "batch_size": 8,
        "clips_per_device": 4,
        "epochs": 2,
        "warmup_epochs": 0.5,
        "lr": 0.4,
        "head_lr": 2,
        "weight_decay": 0.3,
        "clip_grad": 1.0,
        "dropout": 0.2,
        "label_smoothing": 0.1,
        "precision": "fp32",
    }
)


def probe() -> dict[str, Any]:
    """Losses of a tiny training with each optimizer, and scores of the networks in one view and in six."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for optimizer, lr in (("sgd", 0.4), ("muon", 0.02)):
            out = Path(folder) / optimizer
            recipe = RECIPE.override({"optimizer": optimizer, "lr": lr, "root": folder})
            tested = train(recipe, out, progress=False)
            model = load_model(out / "model.safetensors")
            looked = evaluate(model, eval_data(recipe, model, View(3, 2)))
            found[f"losses with {optimizer}"] = losses(out)
            found[f"scores with {optimizer}"] = own(tested)
            found[f"scores with {optimizer} in six views"] = own(looked)
        clips = train_data(RECIPE.override({"root": folder}), model)
        found["clips"] = [float(clip.double().square().mean()) for clip, _ in clips]
    return found


def losses(out: Path) -> list[float]:
    """Of every step of a run."""
    return json.loads((out / "metrics.json").read_text())["losses"]


def own(scores: Scores) -> list[float]:
    """Logarithms of the probabilities of every video's own class."""
    return np.log(scores.probabilities[np.arange(len(scores.labels)), scores.labels]).tolist()


def close(kept: Any, found: Any) -> bool:
    """Whether numbers are the same but for rounding."""
    return len(kept) == len(found) and bool(np.allclose(found, kept, rtol=1e-3, atol=0))


def test_the_same_recipe_gives_the_losses_and_scores_of_this_version():
    check(RECORD, NAME, VERSION, probe(), close)


if __name__ == "__main__":
    record_anew(RECORD, NAME, VERSION, probe())

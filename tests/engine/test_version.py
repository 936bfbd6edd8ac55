"""The same recipe, seed and data give the same losses and scores, or ctnet.engine.VERSION says that they do not."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from versions import check, record_anew

from ctnet.engine import VERSION, Recipe, Scores, View, eval_data, evaluate, get_recipe, load_model, train, train_data
from ctnet.engine.optimizers import build_optimizer
from ctnet.models import create_model

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
        "freeze_bn": "all",
        "precision": "fp32",
    }
)


def probe() -> dict[str, Any]:
    """A tiny training with SGD, tested in one view and in six, what every step of it reads, and Muon's steps.

    Of a training with Muon only the first two losses: it brings every direction of a gradient to one length, those of
    rounding too, so a few steps later no two machines are equal. Of one with batch statistics, over four clips, only
    the first, for the same reason.
    """
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        recipe, out = RECIPE.override({"root": folder}), Path(folder) / "sgd"
        tested = train(recipe, out, progress=False)
        model = load_model(out / "model.safetensors")
        found["losses with sgd"] = losses(out)
        found["scores with sgd"] = own(tested)
        found["scores with sgd in six views"] = own(evaluate(model, eval_data(recipe, model, View(3, 2))))
        found["clips"] = [float(clip.double().square().mean()) for clip, _ in train_data(recipe, model)]
        muon = recipe.override({"optimizer": "muon", "lr": 0.02, "epochs": 1})
        train(muon, Path(folder) / "muon", progress=False)
        found["first losses with muon"] = losses(Path(folder) / "muon")[:2]
        found["steps of muon"] = steps(muon)
        moving = recipe.override({"freeze_bn": "none", "epochs": 1})
        train(moving, Path(folder) / "moving", progress=False)
        found["first loss with batch statistics"] = losses(Path(folder) / "moving")[:1]
    return found


def steps(recipe: Recipe, count: int = 3) -> list[float]:
    """What an optimizer makes of every parameter of a network, by gradients that a seed draws, in double precision."""
    model = create_model(recipe.model, num_classes=5).double()
    optimizer = build_optimizer(model, recipe)
    random = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
    for step in range(count):
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * group["lr_scale"] / (step + 1)
        optimizer.step()
    return [float(value.flatten() @ torch.arange(value.numel()).double().cos()) for value in parameters.values()]


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

"""The chapter on training: settings beside the paper's, learning rates, losses and accuracies of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ctnet.engine import Batches, Place, Recipe
from ctnet.engine.optimizers import build_optimizer
from ctnet.engine.preparation import build_model
from study.chapters.markup import BookTable
from study.chapters.style import COLORS, PALETTE, WIDTH, BookFigure
from study.paper import training_settings
from study.runs import outcome, seeds_of, twins_of


def recipe_table(something: Recipe, kinetics: Recipe) -> BookTable:
    """How networks are trained, setting by setting: in the paper, in the authors' scripts, and by recipes of ours."""
    ours = {"something": settings(something), "kinetics": settings(kinetics)}
    rows = []
    for told in training_settings():
        name = told["setting"]
        cells = {"Setting": name}
        for source, heading in (("paper", "Paper"), ("scripts", "Authors' scripts")):
            cells[heading] = _both(told["something"].get(source, "–"), told["kinetics"].get(source, "–"))
        rows.append(cells | {"Here": _both(ours["something"][name], ours["kinetics"][name])})
    return BookTable(
        pd.DataFrame(rows), "Two values are of Something-Something and of Kinetics. –: not told in the paper."
    )


def _both(something: str, kinetics: str) -> str:
    return something if something == kinetics else f"{something} | {kinetics}"


def settings(recipe: Recipe) -> dict[str, str]:
    """What a run by a recipe does, read off the recipe and off what the engine makes of it.

    The optimizer and the initial head are those of the recipe's twin.
    """
    twin = recipe.override({"model": "ctnet_r50_twin", "init": "none", "options": {}})
    model = build_model(twin, [str(label) for label in range(174)])
    group_of = {id(part): group for group in build_optimizer(model, twin).param_groups for part in group["params"]}
    groups = {name: group_of[id(part)] for name, part in model.named_parameters()}
    rates = {name: f"×{group['lr_scale']:g}" for name, group in groups.items()}
    biases = {rate for name, rate in rates.items() if name.endswith("bias") and name != "head.bias"}
    undecayed = {
        "biases" if name.endswith("bias") else "batch normalisation"
        for name, group in groups.items()
        if group["weight_decay"] == 0
    }
    middle = recipe.epochs // 2
    moving = recipe.lr_at(middle) != recipe.lr_at(middle + 0.5)
    batches = Batches(2 * recipe.batch_size - 1, recipe.batch_size, recipe.seed, Place(torch.device("cpu")))
    return {
        "epochs": f"{recipe.epochs}",
        "of them, warm-up": f"{recipe.warmup_epochs:g}",
        "learning rate": f"{recipe.peak_lr:g}",
        "clips of a step": f"{recipe.batch_size}",
        "momentum": f"{recipe.momentum:g}",
        "weight decay": f"{recipe.weight_decay:g}",
        "dropout": f"{recipe.dropout:g}",
        "sampling": recipe.sampling,
        "pixels": f"{recipe.size} × {recipe.size}",
        "the rate moves": "at every step" if moving else "once per epoch",
        "no weight decay on": ", ".join(sorted(undecayed)),
        "rate of the head": f"{rates['head.weight']}, bias {rates['head.bias']}",
        "rate of other biases": ", ".join(sorted(biases)),
        "initial head, standard deviation": f"{float(model.head.weight.detach().std()):.1g}",
        "largest norm of the gradient": "any" if recipe.clip_grad is None else f"{recipe.clip_grad:g}",
        "frozen batch normalisation": recipe.freeze_bn,
        "an incomplete last batch": "dropped" if batches.steps == 1 else "used",
        "flip": "yes" if recipe.flip else "no",
    }


def plot_schedules(recipes: Mapping[str, Recipe]) -> Figure:
    """The learning rate over the epochs of each recipe, its warm-up shaded.

    Args:
        recipes: label -> recipe.
    """
    figure = BookFigure(figsize=(WIDTH, 2.9))
    axes = figure.subplots()
    for color, (label, recipe) in zip(PALETTE, recipes.items(), strict=False):
        epochs = np.linspace(0, recipe.epochs, 50 * recipe.epochs + 1)
        axes.plot(epochs, [recipe.lr_at(epoch) for epoch in epochs], color=color, label=label, linewidth=2)
    warm = max(recipe.warmup_epochs for recipe in recipes.values())
    axes.axvspan(0, warm, color="#EAEAEA", zorder=0, label="warm-up")
    longest = max(recipe.epochs for recipe in recipes.values())
    axes.set(xlabel="epoch", ylabel="learning rate", xlim=(0, longest), ylim=(0, None))
    axes.locator_params(axis="y", nbins=5)
    axes.legend()
    return figure


def finished_runs() -> dict[str, list[dict[str, Any]]]:
    """What the runs of TSN's and CT-Net's twins in Table 2g have left, those of all seeds that are done."""
    rows = {"TSN": "baseline-tsn", "CT-Net": "ct-module-pwconv-te"}
    twins = {twin.row.id: twin for twin in twins_of("2g").values()}
    return {
        label: [content for seed in seeds_of("2g") if (content := outcome(twins[row].runs[0].seeded(seed).name))]
        for label, row in rows.items()
    }


def plot_runs(runs: Mapping[str, Sequence[Mapping[str, Any]]], chance: float) -> Figure:
    """Loss over the training, thin lines for runs and a thick one for their mean; accuracy at its end, a dot for a run.

    Args:
        runs: label -> contents of the runs' files, as `finished_runs` returns them; CT-Net gets its colour.
        chance: accuracy of guessing, from 0 to 1.
    """
    figure = BookFigure(figsize=(WIDTH, 3.0))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, (label, found) in enumerate(runs.items()):
        if not found:
            continue
        color = COLORS["ct"] if label.startswith("CT-Net") else COLORS["measured"]
        losses = np.array([run["curve"] for run in found])  # (seeds, parts)
        done = 100 * (np.arange(losses.shape[1]) + 0.5) / losses.shape[1]
        left.plot(done, losses.T, color=color, linewidth=0.8, alpha=0.45)
        left.plot(done, losses.mean(0), color=color, linewidth=2, label=label)
        ends = [100 * run["epochs"][-1]["val_top1"] for run in found]
        right.scatter([place] * len(ends), ends, color=color, s=22, alpha=0.7)
    right.axhline(100 * chance, color=COLORS["plain"], linestyle="--", linewidth=1)
    edge = {"transform": right.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    right.text(1, 100 * chance, "chance", color=COLORS["published"], **edge)
    left.set(xlabel="share of the training, %", ylabel="training loss", xlim=(0, 100))
    right.set(ylabel="top-1 on validation clips, %", ylim=(0, 100), xlim=(-0.6, len(runs) - 0.4))
    right.set_xticks(range(len(runs)), list(runs))
    left.legend()
    return figure

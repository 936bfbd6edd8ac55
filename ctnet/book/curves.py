"""Plots of training: learning rates over the epochs, losses and accuracies of runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ctnet.book.style import COLORS, PALETTE, WIDTH, BookFigure
from ctnet.engine import Recipe

NEW = 0.1  # weight of a step's loss in the smoothed one


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
    axes.set_xlabel("epoch")
    axes.set_ylabel("learning rate")
    axes.set_xlim(0, max(recipe.epochs for recipe in recipes.values()))
    axes.set_ylim(0)
    axes.locator_params(axis="y", nbins=5)
    axes.legend()
    return figure


def plot_runs(runs: Mapping[str, Mapping[str, Any]], chance: float) -> Figure:
    """Loss of every step, and accuracy on the validation clips after every epoch, of some runs.

    Args:
        runs: label -> content of a run's `metrics.json`; runs whose label begins with CT-Net get its colour.
        chance: accuracy of guessing, from 0 to 1.
    """
    figure = BookFigure(figsize=(WIDTH, 3.0))
    left, right = figure.subplots(1, 2)
    for label, run in runs.items():
        color = COLORS["ct"] if label.startswith("CT-Net") else COLORS["measured"]
        losses = np.array(run["losses"])
        steps = np.arange(1, len(losses) + 1)
        left.plot(steps, losses, color=color, linewidth=0.7, alpha=0.35)
        left.plot(steps, pd.Series(losses).ewm(alpha=NEW).mean(), color=color, linewidth=2, label=label)
        rows = [row for row in run["epochs"] if "val_top1" in row]
        accuracies = [100 * row["val_top1"] for row in rows]
        right.plot([row["epoch"] for row in rows], accuracies, "o-", color=color, linewidth=2, label=label)
    right.axhline(100 * chance, color=COLORS["plain"], linestyle="--", linewidth=1)
    place = (rows[-1]["epoch"], 100 * chance)
    right.annotate(
        "chance", place, (0, -3), textcoords="offset points", ha="right", va="top", color=COLORS["published"]
    )
    right.set_xticks([row["epoch"] for row in rows], [f"{row['epoch']:.0f}" for row in rows])
    left.set_xlabel("step")
    left.set_ylabel("training loss (thick: smoothed)")
    right.set_xlabel("epoch")
    right.set_ylabel("top-1 on validation clips, %")
    right.set_ylim(0)
    left.legend()
    return figure

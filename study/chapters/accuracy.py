"""What twins say about a table, as its chapter shows it: accuracies, differences with intervals, verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from ctnet.engine.recipe import get_recipe
from study.chapters.style import COLORS, WIDTH, BookFigure
from study.chapters.tables import styled
from study.directions import Direction, directions
from study.runs import PROTOCOL, Twin, accuracy_table, seeds_of, twins_of


def directions_of(table: str) -> list[Direction]:
    """The directions of a table with their verdicts."""
    return [direction for direction in directions() if direction.table == table]


def twin_table(table: str) -> Styler:
    """Accuracy of a table's twins on their Micro dataset, mean and 95 % interval over seeds and clips."""
    rows = []
    twins = twins_of(table).values()
    several = len({twin.column for twin in twins}) > 1
    for twin, (_, values) in zip(twins, accuracy_table(table).iterrows(), strict=True):
        accuracy, interval = accuracy_text(values)
        rows.append(
            {
                "Twin of": twin.label + (f", {_clips(twin)}" if several else ""),
                "Top-1 on the Micro dataset, %": accuracy,
                "95 % interval": interval,
                "Seeds": f"{values['seeds']:.0f} of {len(seeds_of(table))}",
            }
        )
    caption = f"Twins of Table {table} on drawn clips of 32×32. Not to be compared with the printed accuracies."
    return styled(pd.DataFrame(rows), caption)


def _clips(twin: Twin) -> str:
    """What a twin is trained on, with the number of clips where the protocol has another."""
    recipe, usual = twin.runs[0].recipe, get_recipe(PROTOCOL)
    more = recipe.dataset == usual.dataset and recipe.train_clips != usual.train_clips
    return recipe.dataset + (f" with {recipe.train_clips} clips" if more else "")


def accuracy_text(values: pd.Series) -> tuple[str, str]:
    """A twin's accuracy and its interval, in points, as far as runs tell them: a row of `accuracy_table` in words."""
    accuracy = "not run yet" if np.isnan(values["accuracy"]) else f"{values['accuracy']:.1f}"
    return accuracy, "–" if np.isnan(values["low"]) else f"{values['low']:.1f} to {values['high']:.1f}"


def direction_table(table: str) -> Styler:
    """The paper's directions on a table: printed difference, the twins' with its interval, and the verdict."""
    asked = directions_of(table)
    rows = [
        {
            "The paper's order": _sentence(direction.statement.partition(": ")[2].removeprefix("accuracy is ")),
            "Printed, points": "–" if direction.published is None else f"{direction.published:+z.1f}",
            "Twins, points": f"{found.mean:+z.1f}" if (found := direction.found) else "–",
            "95 % interval": f"{found.low:+z.1f} to {found.high:+z.1f}" if found else "–",
            "Smallest visible difference": _visible(direction.visible) if found else "–",
            "Verdict on the direction": direction.verdict,
        }
        for direction in asked
    ]
    frame = pd.DataFrame(rows)
    if all(direction.published is None for direction in asked):
        del frame["Printed, points"]
    caption = (
        f"Directions of {named(table)}. Smallest visible difference: a true one of this size would be found four times "
        "out of five, corrected for the number of directions here. By that correction, an interval that excludes 0 is "
        "not always enough."
    )
    return styled(frame, caption, "ctnet directions")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def named(table: str) -> str:
    """What the book calls a table or figure, by its id."""
    return f"Figure {table.removeprefix('fig')}" if table.startswith("fig") else f"Table {table}"


def plot_directions(table: str) -> Figure:
    """Differences that the paper prints, and beside them those of the twins with 95 % intervals.

    The two panels have scales of their own: the differences are of different things.
    """
    asked = directions_of(table)
    figure = BookFigure(figsize=(WIDTH, 1.1 + 0.34 * len(asked)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2])
    printed = [direction.published for direction in asked]
    left.scatter(printed, range(len(asked)), color=COLORS["published"], marker="D", s=28, zorder=3)
    left.axvline(0, color="#888888", linewidth=1)
    left.margins(x=0.15)
    left.grid(axis="y", visible=False)
    draw_differences(right, asked)
    for axes, title in ((left, "printed"), (right, "twins, 95 % interval")):
        axes.set_title(title)
        axes.set_xlabel("points")
    return figure


def draw_differences(axes: Axes, asked: Sequence[Direction]) -> None:
    """The twins' differences with 95 % intervals, from above, a line for each direction, a dot where it is known."""
    known = [(height, found) for height, direction in enumerate(asked) if (found := direction.found)]
    heights, means = [height for height, _ in known], [found.mean for _, found in known]
    ends = [[found.mean - found.low for _, found in known], [found.high - found.mean for _, found in known]]
    axes.axvline(0, color="#888888", linewidth=1)
    axes.errorbar(means, heights, xerr=ends, fmt="o", color=COLORS["measured"], capsize=3)
    axes.set_yticks(range(len(asked)), [direction.label for direction in asked])
    axes.set_ylim(len(asked) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _visible(points: float) -> str:
    return f"{points:.1f}" if points < 100 else "over 100"

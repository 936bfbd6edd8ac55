"""What twins say about a table, as its chapter shows it: accuracies, differences with intervals, verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from study.chapters.style import COLORS, WIDTH, BookFigure
from study.chapters.tables import styled
from study.decisions import Decided, decide, detectable
from study.directions import twin_label
from study.outcomes import accuracy_table
from study.statistics import Difference
from study.twins import PROTOCOL, TWINS, seeds_of


def directions_of(table: str) -> list[Decided]:
    """The directions of a table with their verdicts, which take all directions of the study into account."""
    return [found for found in decide() if found[0].table == table]


def twin_table(table: str) -> Styler:
    """Accuracy of a table's twins on their Micro dataset, mean and 95 % interval over seeds and clips."""
    rows = []
    for row_id, values in accuracy_table(table).iterrows():
        accuracy, interval = accuracy_text(values)
        rows.append(
            {
                "Twin of": _with_dataset(table, str(row_id)),
                "Top-1 on the Micro dataset, %": accuracy,
                "95 % interval": interval,
                "Seeds": f"{values['seeds']:.0f} of {len(seeds_of(table))}",
            }
        )
    caption = f"Twins of Table {table} on rendered clips of 32×32. Not to be compared with the printed accuracies."
    return styled(pd.DataFrame(rows), caption)


def _with_dataset(table: str, row_id: str) -> str:
    """`twin_label`, and the dataset where a row has several."""
    name, _, several = row_id.partition("/")
    label, recipe = twin_label(table, name), TWINS[table][row_id].runs[0].recipe
    if not several:
        return label
    more = recipe.dataset == PROTOCOL.dataset and recipe.train_clips != PROTOCOL.train_clips
    return f"{label}, {recipe.dataset}" + (f" with {recipe.train_clips} clips" if more else "")


def accuracy_text(values: pd.Series) -> tuple[str, str]:
    """A twin's accuracy and its interval, in points, as far as runs tell them: a row of `accuracy_table` in words."""
    accuracy = "not run yet" if np.isnan(values["accuracy"]) else f"{values['accuracy']:.1f}"
    return accuracy, "–" if np.isnan(values["low"]) else f"{values['low']:.1f} to {values['high']:.1f}"


def direction_table(table: str) -> Styler:
    """The paper's directions on a table: printed difference, the twins' with its interval, and the verdict."""
    decided, visible = directions_of(table), detectable(table)
    rows = [
        {
            "The paper's order": _sentence(direction.statement.partition(": ")[2].removeprefix("accuracy is ")),
            "Printed, points": "–" if direction.published is None else f"{direction.published:+z.1f}",
            "Twins, points": f"{found.mean:+z.1f}" if found else "–",
            "95 % interval": f"{found.low:+z.1f} to {found.high:+z.1f}" if found else "–",
            "Smallest visible difference": _visible(visible[direction.id]) if found else "–",
            "Verdict on the direction": verdict,
        }
        for direction, found, verdict in decided
    ]
    frame = pd.DataFrame(rows)
    if all(direction.published is None for direction, _, _ in decided):
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
    decided = directions_of(table)
    labels = [direction.label for direction, _, _ in decided]
    heights: Sequence[int] = range(len(decided))
    figure = BookFigure(figsize=(WIDTH, 1.1 + 0.34 * len(decided)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 2])
    left.scatter([d.published for d, _, _ in decided], heights, color=COLORS["published"], marker="D", s=28, zorder=3)
    measured = [(height, found) for height, (_, found, _) in zip(heights, decided, strict=True) if found]
    right.errorbar(
        [found.mean for _, found in measured],
        [height for height, _ in measured],
        xerr=[[found.mean - found.low for _, found in measured], [found.high - found.mean for _, found in measured]],
        fmt="o",
        color=COLORS["measured"],
        capsize=3,
    )
    for axes, title in ((left, "printed"), (right, "twins, 95 % interval")):
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_title(title)
        axes.set_xlabel("points")
        axes.grid(axis="y", visible=False)
    left.margins(x=0.15)
    left.set_yticks(list(heights), labels)
    left.set_ylim(len(decided) - 0.5, -0.5)
    return figure


def conclusion(table: str) -> Markdown:
    """What follows from a table's twins, and what does not, in a paragraph."""
    decided = directions_of(table)
    sentences = []
    for verdict, heading in (
        ("supported", "On rendered stand-ins for the datasets the twins support that"),
        ("contradicted", "On rendered stand-ins for the datasets the twins contradict that"),
        ("inconclusive", "On rendered stand-ins for the datasets the twins do not decide whether"),
        ("under way", "Not all seeds were run to tell whether"),
        ("not run yet", "Not run yet is whether"),
    ):
        found = [(direction, measured) for direction, measured, words in decided if words == verdict]
        if found:
            listed = "; ".join(direction.statement.partition(": ")[2] + _interval(m) for direction, m in found)
            sentences.append(f"**{heading}** {listed.replace('; accuracy is higher with', '; with')}.")
    visible = detectable(table)
    unresolved = [visible[direction.id] for direction, _, words in decided if words == "inconclusive"]
    if unresolved:
        least, most = _visible(min(unresolved)), _visible(max(unresolved))
        which = f"of {most} points" if least == most else f"of {least} to {most} points, depending on the comparison,"
        sentences.append(
            f"Where nothing is decided, only a real difference {which} would have been found four times out of five: "
            "the paper's may be there, and smaller."
        )
    return Markdown(" ".join(sentences))


def _visible(points: float) -> str:
    return f"{points:.1f}" if points < 100 else "over 100"


def _interval(found: Difference | None) -> str:
    return f" ({found.mean:+z.1f} points, {found.low:+z.1f} to {found.high:+z.1f})" if found else ""

"""What twins say about a table, as its chapter shows it: accuracies, differences with intervals, verdicts."""

import numpy as np
import pandas as pd

from ctnet.engine.recipe import get_recipe
from study.chapters.markup import BookTable, ledger_link
from study.chapters.verdicts import named
from study.directions import Direction, directions
from study.runs import PROTOCOLS, Twin, accuracy_table, protocol_of, seeds_of, twins_of
from study.statistics import MARGIN


def directions_of(table: str) -> list[Direction]:
    """The directions of a table with their verdicts."""
    return [direction for direction in directions() if direction.table == table]


def twin_table(table: str) -> BookTable:
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
    caption = f"Twins of {named(table)} on drawn clips of 32×32, by protocol {protocol_of(table)}."
    notes = ["Not to be compared with the printed accuracies."]
    if any(direction.look == 2 for direction in directions_of(table)):
        notes.append("All are of the seeds that every row has; the second look below takes more of some rows.")
    return BookTable(pd.DataFrame(rows), caption, notes=notes)


def _clips(twin: Twin) -> str:
    """What a twin is trained on, with the number of clips where the protocol has another."""
    recipe, usual = twin.runs[0].recipe, get_recipe(PROTOCOLS[protocol_of(twin.row.table)])
    more = recipe.dataset == usual.dataset and recipe.train_clips != usual.train_clips
    return recipe.dataset + (f" with {recipe.train_clips} clips" if more else "")


def accuracy_text(values: pd.Series) -> tuple[str, str]:
    """A twin's accuracy and its interval, in points, as far as runs tell them: a row of `accuracy_table` in words."""
    accuracy = "not run yet" if np.isnan(values["accuracy"]) else f"{values['accuracy']:.1f}"
    return accuracy, "–" if np.isnan(values["low"]) else f"{values['low']:.1f} to {values['high']:.1f}"


def direction_table(table: str) -> BookTable:
    """The paper's directions on a table: printed difference, the twins' with its interval, and the verdict."""
    asked = directions_of(table)
    rows = [
        {
            "The paper's order": _sentence(direction.statement.partition(": ")[2].removeprefix("accuracy is "))
            + (f" ({direction.found.seeds} seeds)" if direction.found and direction.look == 2 else "")
            + (" (asked by this study)" if direction.published is None and any(d.published for d in asked) else ""),
            "Verdict": ledger_link(direction.verdict, direction.id),
            "Printed, points": "–" if direction.published is None else f"{direction.published:+z.1f}",
            "Twins, points": f"{found.mean:+z.1f}" if (found := direction.found) else "–",
            "95 % interval": f"{found.low:+z.1f} to {found.high:+z.1f}" if found else "–",
            "p, and corrected": f"{_p(found.p)}, {_p(direction.p)}" if found and direction.is_complete else "–",
            "Smallest visible difference": _visible(direction.visible) if found else "–",
        }
        for direction in asked
    ]
    frame = pd.DataFrame(rows)
    notes = [
        "Smallest visible difference: a true one of this size would be found four times out of five, corrected for "
        "the number of directions here.",
        "p is that of a true difference of 0. Corrected for the directions here (Holm) it decides: below 0.05 an order "
        "is supported or contradicted. So an interval that excludes 0 is not always enough.",
    ]
    if same := [(direction.label, direction.narrow) for direction in asked if direction.verdict == "equivalent"]:
        told = "; ".join(f"{label}: {narrow[0]:+z.1f} to {narrow[1]:+z.1f}" for label, narrow in same if narrow)
        notes.append(
            f"Equivalent: the 90 % interval lies within ±{MARGIN:g} points, or in a second look the 95 % interval. It "
            f"is narrower than the one in the table, or the same. {told}."
        )
    if before := [(direction.label, first) for direction in asked if (first := direction.before)]:
        told = "; ".join(f"{label}: {d.mean:+z.1f} ({d.low:+z.1f} to {d.high:+z.1f})" for label, d in before)
        notes.append(
            f"Seen a second time, at half the level, as they were open after {before[0][1].seeds} seeds: {told}. Their "
            "p is corrected for the directions that the first look neither supported nor contradicted, and doubled; "
            "then it decides below 0.05 too. Their smallest visible difference is by that number and level."
        )
    if all(direction.published is None for direction in asked):
        del frame["Printed, points"]
    return BookTable(frame, f"Directions of {named(table)}.", "directions", notes)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _p(p: float) -> str:
    """A p-value with two digits that tell."""
    return "<\u00a00.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _visible(points: float) -> str:
    return f"{points:.1f}" if points < 100 else "over 100"

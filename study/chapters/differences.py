"""Differences between twins as a figure in HTML: the printed one, the interval, and every seed as a dot."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from IPython.display import HTML
from matplotlib.ticker import MaxNLocator

from study.chapters.accuracy import directions_of
from study.chapters.markup import ledger_link, verdict_class
from study.directions import Direction
from study.saliency import MEASURES


class _Scale:
    """Points as places from 0 to 100 % of a track, with ticks at round numbers; zero is always on it."""

    def __init__(self, points: Iterable[float]) -> None:
        reach = [*points, 0.0]
        low, high = min(reach), max(reach)
        margin = 0.06 * (high - low or 1)
        self.low, self.high = low - margin, high + margin
        found = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        self.ticks = [float(tick) for tick in found if self.low <= tick <= self.high]

    def place(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def mark(self, kind: str, value: float) -> str:
        return f'<i class="{kind}" style="left:{self.place(value)}"></i>'

    def grid(self) -> str:
        return "".join(self.mark("zero" if tick == 0 else "tick", tick) for tick in self.ticks)

    def axis(self) -> str:
        return "".join(f'<i style="left:{self.place(tick)}">{tick:+g}</i>'.replace("+0<", "0<") for tick in self.ticks)


def direction_figure(table: str) -> HTML:
    """Differences that the paper prints, and beside them those of the twins with 95 % intervals and all seeds.

    The two have scales of their own: the differences are of different things. The seeds of a row appear when it is
    pointed at, touched, or reached with the keyboard.
    """
    decided = directions_of(table)
    printed = _Scale(d.published for d in decided if d.published is not None)
    twins = _Scale(x for d in decided if d.found for x in (d.found.low, d.found.high, *d.found.by_seed))
    shown = any(direction.published is not None for direction in decided)
    rows = []
    for column, members in groupby(decided, key=lambda direction: direction.column):
        if heading := MEASURES.get(column):
            rows.append(f'<p class="difference-group">{escape(heading)}</p>')
        rows += [_row(direction, printed if shown else None, twins) for direction in members]
    titles = ["", "printed, points"] if shown else [""]
    head = "".join(f"<span>{title}</span>" for title in [*titles, "twins, points"])
    axes = [printed.axis(), twins.axis()] if shown else [twins.axis()]
    foot = "<span></span>" + "".join(f'<span class="axis">{axis}</span>' for axis in axes)
    return HTML(
        f'<figure class="differences{"" if shown else " twins-only"}"><div class="difference-head">{head}</div>'
        f'{"".join(rows)}<div class="difference-foot" aria-hidden="true">{foot}</div>'
        "<figcaption>Dots and lines: means over seeds, and 95 % intervals. Small dots: the seeds.</figcaption></figure>"
    )


def _row(direction: Direction, printed: _Scale | None, twins: _Scale) -> str:
    tracks, told = [], []
    if printed:
        marks, value = printed.grid(), direction.published
        if value is not None:
            marks += printed.mark("published", value)
            told.append(f"printed {value:+z.1f}")
        tracks.append(f'<span class="track">{marks}</span>')
    marks = twins.grid()
    if found := direction.found:
        width = 100 * (found.high - found.low) / (twins.high - twins.low)
        marks += f'<i class="interval" style="left:{twins.place(found.low)};width:{width:.2f}%"></i>'
        marks += "".join(twins.mark("seed", value) for value in found.by_seed) + twins.mark("mean", found.mean)
        told.append(f"twins {found.mean:+z.1f} ({found.low:+z.1f} to {found.high:+z.1f})")
        if found.by_seed:
            told.append("seeds " + _listed(found.by_seed))
    tracks.append(f'<span class="track">{marks}</span>')
    verdict = ledger_link(direction.verdict, direction.id)
    return (
        f'<div class="difference" tabindex="0"><span class="difference-name">{escape(direction.label)} '
        f'<a class="{verdict_class(verdict)}" href="{verdict.href}">{verdict}</a></span>{"".join(tracks)}'
        f'<span class="difference-told">{"; ".join(told) or "not run yet"}</span></div>'
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+z.1f}" for value in values)

"""What the book's diagrams are drawn with: boxes, arrows, and grids of cells, measured in inches."""

from collections.abc import Iterable
from typing import Any

import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import Tensor

from study.chapters.style import WIDTH, BookFigure, tint

Point = tuple[float, float]
HEADING, BODY, SMALL = 10.0, 9.0, 8.5  # points
INK, FAINT = "#222222", "#E4E4E4"
RADIUS = 0.11  # inches, of an operator


class Sheet:
    """Clear paper measured in inches from its upper left corner, cut by `finish` to the height that was used."""

    def __init__(self) -> None:
        self.figure = BookFigure(figsize=(WIDTH, 1), facecolor="none")
        self.figure.set_layout_engine("none")
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set_axis_off()

    def finish(self, height: float) -> Figure:
        """The figure, `height` inches high."""
        self.figure.set_size_inches(WIDTH, height)
        self.ax.set(xlim=(0, WIDTH), ylim=(height, 0))
        return self.figure

    def text(self, x: float, y: float, text: str, size: float = BODY, **options: Any) -> None:
        """Text around a point, unless aligned otherwise."""
        self.ax.text(x, y, text, **{"fontsize": size, "color": INK, "ha": "center", "va": "center", **options})

    def heading(self, x: float, y: float, text: str, **options: Any) -> None:
        """Bold text."""
        self.text(x, y, text, HEADING, fontweight="bold", **options)

    def box(self, x: float, y: float, width: float, height: float, color: str, fill: float = 0.25) -> None:
        """A rounded box by its upper left corner, filled with a tint of its colour."""
        shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.05")
        shape.set(facecolor=tint(color, fill), edgecolor=color, linewidth=1.1, zorder=2)
        self.ax.add_patch(shape)

    def panel(self, top: float, bottom: float, right: float = WIDTH - 0.1) -> None:
        """A pale ground behind what belongs together."""
        shape = FancyBboxPatch((0.1, top), right - 0.1, bottom - top, "round,pad=0,rounding_size=0.05")
        shape.set(facecolor="#F5F5F5", linewidth=0, zorder=0)
        self.ax.add_patch(shape)

    def arrow(self, *points: Point, head: str = "-|>", color: str = INK) -> None:
        """A line from point to point, with a head at the last."""
        shape = FancyArrowPatch(path=Path(points), arrowstyle=head, mutation_scale=8, joinstyle="miter")
        shape.set(color=color, linewidth=1.1, zorder=1.5)
        self.ax.add_patch(shape)

    def operator(self, x: float, y: float, sign: str) -> None:
        """A sum or product around a point."""
        self.ax.add_patch(Circle((x, y), RADIUS, facecolor="white", edgecolor=INK, linewidth=1.1, zorder=2))
        self.text(x, y, sign, HEADING, va="center_baseline")

    def cells(self, x: float, y: float, cell: float, color: str, strength: Tensor) -> None:
        """A grid of cells (rows, columns), the colour thinned in each to a strength from 0 (empty) to 1."""
        fill = [[to_rgb(tint(color, s) if s else FAINT) for s in row] for row in strength.tolist()]
        xs, ys = ([start + i * cell for i in range(n + 1)] for start, n in ((x, len(fill[0])), (y, len(fill))))
        self.ax.pcolormesh(xs, ys, fill, edgecolors="white", linewidth=min(1.0, 8 * cell))

    def dot(self, x: float, y: float, cell: float) -> None:
        """The mark of an output, in the middle of its cell."""
        self.ax.plot([x], [y], "o", color="white", markersize=72 * cell * 0.5, markeredgewidth=0)

    def legend(self, y: float, entries: Iterable[tuple[str, str, bool]]) -> None:
        """One line of meanings: a colour, what it means, and whether the output's dot is on it."""
        for column, (color, meaning, dotted) in enumerate(entries):
            x = 0.1 + 2.1 * column
            self.cells(x, y - 0.07, 0.14, color, torch.ones(1, 1))
            if dotted:
                self.dot(x + 0.07, y, 0.14)
            self.text(x + 0.22, y, meaning, SMALL, ha="left")

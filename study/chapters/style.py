"""The look of every figure of the book: one set of settings, and one colour for each thing that recurs."""

import io

import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

WIDTH = 6.4
"""Inches of a figure as wide as a page of text; a letter of 9 points is then 14 pixels high on 720."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's colours, which colour-blind readers tell apart too, in the order in which series take them."""

COLORS = {
    "spatial": "#56B4E9",
    "temporal": "#E69F00",
    "channel": "#009E73",
    "pointwise": "#CC79A7",
    "plain": "#999999",  # a 2D network's own layers and residual connections
    "ct": "#0072B2",
    "published": "#555555",
    "measured": "#D55E00",
}
"""What a colour stands for in every figure."""


def set_style() -> None:
    """Give every figure drawn from here on the look of the book; each chapter calls it first."""
    settings = {
        "figure.figsize": (WIDTH, 3.6),
        "figure.dpi": 150,
        "figure.facecolor": "none",  # the page's own; a dark page turns the ink light
        "axes.facecolor": "none",
        "figure.constrained_layout.use": True,
        "savefig.facecolor": "none",
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "grid.color": "#E6E6E6",
        "legend.fontsize": 9,
        "legend.frameon": False,
    }
    sns.set_theme(style="whitegrid", palette=PALETTE, font="DejaVu Sans", rc=settings)  # matplotlib brings the font


def plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10 and so on, written as such."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def tint(color: str, strength: float) -> str:
    """A colour thinned with white: of strength 0 it is white, of 1 itself."""
    r, g, b = (1 - strength * (1 - part) for part in to_rgb(color))
    return to_hex((r, g, b))


class BookFigure(Figure):
    """A figure that a notebook shows once, as the value of a cell, whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        return small_png(self)


def small_png(figure: Figure) -> bytes:
    """A figure as a PNG file of at most 256 colours: a third of the bytes, and drawings look the same."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).quantize(256, Image.Quantize.FASTOCTREE).save(small, "PNG", optimize=True)
    return small.getvalue()

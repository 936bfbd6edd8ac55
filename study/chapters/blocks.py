"""Diagrams of a block of a network, laid out from a short description: which layers, side by side or in a row."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from study.chapters.sheet import BODY, RADIUS, SMALL, Point, Sheet
from study.chapters.style import COLORS, WIDTH

if TYPE_CHECKING:
    from torch import nn


class Box(NamedTuple):
    """A box of a diagram. If it shows a layer of the block, its texts and its colour are read from that layer.

    Attributes:
        layer: name of the layer in the block.
        title, detail: texts, in which {kernel} and {sizes} are the layer's.
        color: a key of `COLORS`, where the layer's kernel does not decide.
    """

    layer: str = ""
    title: str = "{kernel}"
    detail: str = "{sizes}"
    color: str = ""


class Lanes(NamedTuple):
    """Paths beside one another, joined by an operator; an empty one passes its input on.

    Attributes:
        paths: from above to below.
        sign: of the operator; ∥ puts channels behind one another.
        cascade: in how many of the paths the output is added to the next one's input.
    """

    paths: tuple[tuple[Box, ...], ...]
    sign: str = "+"
    cascade: int = 1


Flow = tuple[Box | Lanes, ...]


class _Step(NamedTuple):
    """A box as it is drawn."""

    title: str
    detail: str
    color: str


def _step(block: "nn.Module", box: Box) -> _Step:
    from torch import nn

    from ctnet.models.tensor_conv import TensorSeparableConv

    kernel, sizes, color = "", "", "plain"
    layer = block.get_submodule(box.layer) if box.layer else None
    conv = layer.conv if isinstance(layer, TensorSeparableConv) else layer
    if isinstance(conv, nn.Linear):
        kernel, sizes, color = "linear", f"{conv.in_features} → {conv.out_features}", "pointwise"
    elif isinstance(conv, nn.Conv2d | nn.Conv3d):
        extents = layer.kernel if isinstance(layer, TensorSeparableConv) else conv.kernel_size
        kernel = " × ".join(map(str, extents))
        color = "temporal" if extents[0] > 1 and len(extents) == 3 else "spatial" if max(extents) > 1 else "pointwise"
        sizes, groups = f"{conv.in_channels} → {conv.out_channels}", conv.groups
        if groups > 1:
            of = conv.out_channels // groups
            alike = "channel-wise" if of == 1 else f"{groups} groups of {of}"
            sizes = alike if conv.in_channels == conv.out_channels else f"{sizes}, {groups} groups"
    title, detail = (text.format(kernel=kernel, sizes=sizes) for text in (box.title, box.detail))
    return _Step(title, detail, COLORS[box.color or color])


_GAP, _LANE = 0.4, 0.12  # inches: the widest gap in front of a box, the gap between paths


def _width(step: _Step) -> float:
    texts = (step.title, FontProperties(size=BODY, weight="bold")), (step.detail, FontProperties(size=SMALL))
    return 0.2 + max(text_to_path.get_text_width_height_descent(*text, ismath=False)[0] for text in texts) / 72


def _height(path: list[_Step]) -> float:
    return max((0.46 if step.detail else 0.29 for step in path), default=2 * RADIUS)


class _Item:
    """A box or lanes of a block, ready to be drawn: paths of steps, inches across, and gaps of a width yet open."""

    def __init__(self, block: "nn.Module", item: Box | Lanes) -> None:
        self.lanes = item if isinstance(item, Lanes) else Lanes(((item,),), "")
        self.paths = [[_step(block, box) for box in path] for path in self.lanes.paths]
        operators = bool(self.lanes.sign) + (self.lanes.cascade > 1)
        self.inches = max(sum(map(_width, path)) for path in self.paths) + 2 * RADIUS * operators
        self.gaps = max(map(len, self.paths)) + operators
        self.pitch = max(map(_height, self.paths)) + _LANE
        self.below = (len(self.paths) - 1) * self.pitch + _height(self.paths[-1]) / 2

    def draw(self, sheet: Sheet, x: float, y: float, gap: float) -> float:
        """Draw with the first path at y, from x on; returns where it ends."""
        end = x + self.inches + self.gaps * gap
        cascade = self.lanes.cascade
        first = x + (2 * RADIUS + gap if cascade > 1 else 0)
        for place, path in enumerate(self.paths):
            level, fork = y + place * self.pitch, x + 0.35 * gap
            way = [(fork, y), (fork, level)] if place else [(x, y)]
            if 0 < place < cascade:
                sheet.operator(first - RADIUS, level, "+")
                sheet.arrow(*way, (first - 2 * RADIUS, level))
                way = [(first, level)]
            way = _draw_path(sheet, way, first + gap, level, gap, path)
            if place + 1 < cascade:
                turn, half = way[-1][0] + gap / 2, level + self.pitch / 2
                next_sum = first - RADIUS, level + self.pitch - RADIUS
                sheet.arrow((turn, level), (turn, half), (next_sum[0], half), next_sum)
            if self.lanes.sign and place:
                sheet.arrow(*way, (end - RADIUS, level), (end - RADIUS, y + RADIUS))
            elif self.lanes.sign:
                sheet.arrow(*way, (end - 2 * RADIUS, y))
        if self.lanes.sign:
            sheet.operator(end - RADIUS, y, self.lanes.sign)
        return end


def _draw_path(sheet: Sheet, way: list[Point], left: float, y: float, gap: float, path: list[_Step]) -> list[Point]:
    """Boxes beside one another, an arrow into each, the first at `left`; returns the way from the last one on."""
    for step in path:
        width, height = _width(step), _height([step])
        sheet.arrow(*way, (left, y))
        sheet.box(left, y - height / 2, width, height, step.color)
        sheet.text(left + width / 2, y - (0.09 if step.detail else 0), step.title, fontweight="bold")
        sheet.text(left + width / 2, y + 0.095, step.detail, SMALL)
        way, left = [(left + width, y)], left + width + gap
    return way


def _draw_items(sheet: Sheet, items: list[_Item], left: float, right: float, y: float) -> tuple[float, float]:
    """Items beside one another, in the middle between left and right; returns where they start and end."""
    inches, gaps = sum(item.inches for item in items), sum(item.gaps for item in items)
    gap = min(_GAP, (right - left - inches) / gaps)
    start = x = (left + right - inches - gaps * gap) / 2
    for item in items:
        x = item.draw(sheet, x, y, gap)
    return start, x


def draw_flow(name: str, facts: str, block: "nn.Module", branch: Flow, parts: Mapping[str, Flow]) -> Figure:
    """A residual block, and on pale ground what some boxes of it are made of; a few words stand beside its name.

    Without a branch only the parts are drawn.
    """
    sheet, out = Sheet(), 0.18
    sheet.heading(0.1, 0.12, name, ha="left")
    sheet.text(WIDTH - 0.1, 0.12, facts, SMALL, ha="right")
    y = _draw_residual(sheet, [_Item(block, item) for item in branch], out) if branch else 0.3
    for name, flow in parts.items():
        items = [_Item(block, item) for item in flow]
        middle = y + 0.28 + max(_height(item.paths[0]) for item in items) / 2
        bottom = middle + max(item.below for item in items) + 0.1
        sheet.panel(y, bottom)
        sheet.text(0.2, y + 0.13, name, SMALL, ha="left")
        _, end = _draw_items(sheet, items, 0.2, WIDTH - 0.2 - out, middle)
        sheet.arrow((end, middle), (end + out, middle), head="-")
        y = bottom + 0.1
    return sheet.finish(y)


def _draw_residual(sheet: Sheet, items: list[_Item], out: float, top: float = 0.37, y: float = 0.74) -> float:
    """A branch, and the connection that passes it by and is added; returns where they end."""
    start, end = _draw_items(sheet, items, 0.1, WIDTH - 0.1 - 2 * (out + RADIUS), y)
    total = end + out + RADIUS
    sheet.arrow((end, y), (total - RADIUS, y))
    sheet.arrow((start + 0.06, y), (start + 0.06, top), (total, top), (total, y - RADIUS))
    sheet.operator(total, y, "+")
    sheet.arrow((total + RADIUS, y), (total + RADIUS + out, y), head="-")
    return y + max(item.below for item in items) + 0.12

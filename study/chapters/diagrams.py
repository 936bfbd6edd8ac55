"""The book's diagrams (after Fig. 1, 2 and 4 and Table 1), drawn from the modules and measurements that they show."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ctnet.analysis import ReceptiveField
from ctnet.models import TSN, CTModule, SqueezeExcitation, TensorExcitation
from ctnet.models.ct_module import SubOperation
from ctnet.models.excitation import temporal_pool
from ctnet.models.tensor_conv import OnClips
from study.chapters.blocks import Box, Flow, Lanes, draw_flow
from study.chapters.sheet import FAINT, SMALL, Sheet
from study.chapters.style import COLORS, WIDTH, tint

ATTENTIONS = ("spatial", "temporal", "channel")
EXPANSION = 4  # channels of a block's input and output for each of its module's, in ResNet-50
_FIELD_LEGEND = (
    (COLORS["ct"], "reaches the output", False),
    (FAINT, "does not", False),
    (COLORS["ct"], "the output", True),
)


def draw_tensorization(channels: tuple[int, int], fields: Sequence[ReceptiveField]) -> Figure:
    """Channels folded into C_1 x C_2, and what two sub-operations along them let interact (Fig. 1).

    Args:
        channels: (C_1, C_2); up to 16 of each stay legible.
        fields: measured with `ctnet.analysis.progressive_fields` on a module of these sizes.

    Raises:
        ValueError: when the fields are not those of two sub-operations of these sizes.
    """
    c1, c2 = channels
    c, green = c1 * c2, COLORS["channel"]
    if [reached.channels for reached in fields] != [c1, c]:
        raise ValueError(f"expected fields of {c1} and {c} channels, got {[reached.channels for reached in fields]}")
    sheet = Sheet()
    cell = min((WIDTH - 0.2) / c, 0.28)
    sheet.heading(0.1, 0.12, f"C = {c} channels, as they lie in memory", ha="left")
    rows_told_apart = 0.25 + 0.35 * (torch.arange(c2).repeat_interleave(c1) % 2)
    sheet.cells(0.1, 0.3, cell, green, rows_told_apart[None])

    cell, small, top = min(1.7 / c2, 2.2 / c1, 0.28), 0.095, 0.3 + cell + 0.75
    row, column = c2 // 2, c1 // 2  # of the output
    first, second = torch.zeros(c2, c1), torch.full((c2, c1), 0.35)
    first[row], second[:, column] = 1.0, 1.0
    grid_bottom = top + 0.3 + c2 * cell
    middles = (1.4, WIDTH - 1.8)
    sheet.arrow((middles[0], top - 0.65), (middles[0], top - 0.33))
    sheet.text(middles[0] + 0.12, top - 0.5, f"folded into C₂ = {c2} rows of C₁ = {c1}", ha="left")
    between = (middles[0] + c1 * cell / 2 + 0.08, middles[1] - c1 * cell / 2 - 0.08)
    sheet.arrow(*((x, (top + 0.3 + grid_bottom) / 2) for x in between))
    frames = max(reached.extent[1] for reached in fields) * small
    for k, (middle, strength, reached) in enumerate(zip(middles, (first, second), fields, strict=True)):
        x, y = middle - c1 * cell / 2, top + 0.3
        sheet.heading(middle, y - 0.48, f"Sub-operation {k + 1}: along C{_subscript(k + 1)}")
        sheet.cells(x, y, cell, green, strength)
        sheet.dot(x + (column + 0.5) * cell, y + (row + 0.5) * cell, cell)
        if k == 0:
            sheet.arrow((x, y - 0.09), (x + c1 * cell, y - 0.09), head="<|-|>")
            sheet.text(middle, y - 0.23, f"C₁ = {c1}")
        else:
            right = x + c1 * cell + 0.09
            sheet.arrow((right, y), (right, y + c2 * cell), head="<|-|>")
            sheet.text(right + 0.07, y + c2 * cell / 2, f"C₂ = {c2}", ha="left")
        sheet.text(middle, grid_bottom + 0.16, f"{reached.channels} of {c} channels interact")
        t, h, w = reached.extent
        x, y = middle - _cells_across(reached) * small / 2, grid_bottom + 0.45 + (frames - h * small) / 2
        _draw_field(sheet, x, y, small, reached)
        for frame in range(t):
            when = "t" + (f"{frame - t // 2:+d}".replace("-", "−") if frame != t // 2 else "")
            sheet.text(x + (frame * (w + 1) + w / 2) * small, grid_bottom + frames + 0.56, when, SMALL)
        caption = f"{int(reached.positions.sum())} of {t * h * w} positions in {_times(*reached.extent)}"
        sheet.text(middle, grid_bottom + frames + 0.78, caption)
    bottom = grid_bottom + frames + 1.12
    sheet.legend(bottom, ((green, "interacts here", False), (tint(green, 0.35), "interacted before", False)))
    sheet.legend(bottom + 0.22, _FIELD_LEGEND)
    return sheet.finish(bottom + 0.34)


def draw_receptive_fields(named_fields: Mapping[str, Sequence[ReceptiveField]]) -> Figure:
    """Receptive fields after each sub-operation: a row for each module, all cells of one size (Table 1).

    Args:
        named_fields: for each module's name its fields, from `ctnet.analysis.progressive_fields`.
    """
    sheet, caption, gap, left = Sheet(), 1.32, 0.14, 0.1
    depth = max(map(len, named_fields.values()))
    across = [
        max(_cells_across(fields[k]) for fields in named_fields.values() if k < len(fields)) for k in range(depth)
    ]
    cell = 0.095
    if depth * (caption + gap) > WIDTH - left:
        raise ValueError(f"{depth} sub-operations do not stand side by side on a page")
    while sum(max(caption, n * cell) + gap for n in across) > WIDTH - left:
        cell *= 0.99
    starts = [left + sum(max(caption, n * cell) + gap for n in across[:k]) for k in range(depth)]
    for k, x in enumerate(starts):
        sheet.text(x, 0.12, f"after sub-operation {k + 1}", SMALL, ha="left")
    y = 0.3
    for name, fields in named_fields.items():
        sheet.arrow((left, y), (WIDTH - left, y), head="-", color=COLORS["plain"])
        sheet.heading(left, y + 0.17, name, ha="left")
        height = max(reached.extent[1] for reached in fields) * cell
        bottom = y + 0.35 + height
        for x, reached in zip(starts, fields, strict=False):
            t, h, w = reached.extent
            _draw_field(sheet, x, bottom - (height + h * cell) / 2, cell, reached)
            many = f"{reached.channels} channel{'s' * (reached.channels > 1)}"
            sheet.text(x, bottom + 0.14, f"{many}, {t}×{h}×{w}", SMALL, ha="left")
            share = f"{int(reached.positions.sum())} of {t * h * w} ({reached.filled:.0%})"
            sheet.text(x, bottom + 0.31, share, SMALL, ha="left")
        y = bottom + 0.48
    sheet.legend(y + 0.12, _FIELD_LEGEND)
    return sheet.finish(y + 0.25)


def _cells_across(reached: ReceptiveField) -> int:
    """Cells from the left of the first frame to the right of the last."""
    t, _, w = reached.extent
    return t * (w + 1) - 1


def _draw_field(sheet: Sheet, x: float, y: float, cell: float, reached: ReceptiveField) -> None:
    """The positions in a receptive field's box, its frames side by side, one cell apart."""
    t, h, w = reached.extent
    box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in reached.positions.nonzero(as_tuple=True))
    for frame, positions in enumerate(reached.positions[box].float()):
        sheet.cells(x + frame * (w + 1) * cell, y, cell, COLORS["ct"], positions)
    sheet.dot(x + (t // 2 * (w + 1) + w / 2) * cell, y + h / 2 * cell, cell)


def draw_ct_block(module: CTModule) -> Figure:
    """A CT-Module between the 1 x 1 convolutions of its residual block, whatever its K and options (Fig. 2a, b).

    Args:
        module: drawn with its sizes, kernels, connection, excitation and PWConv.
    """
    c, first = module.channels, cast(SubOperation, module.sub_operations[0])
    inner = (first.coupled if first.connection == "coupling" else first.spatial).conv.conv.in_channels
    parts = {}
    for k, size in enumerate(module.sizes):
        path = f"sub_operations.{k}"
        operation = cast(SubOperation, module.get_submodule(path))
        before: Flow = ()
        if k > 0 and module.pointwise:
            before = (Box(f"pointwise.{k - 1}.conv", "PWConv"),)
        elif k > 0 and module.sizes[k - 1] not in (1, c):
            before = (Box(title="rotate", detail="the channels"),)
        parts[f"Sub-operation {k + 1}: {operation.connection}, C{_subscript(k + 1)} = {size}"] = (
            *before,
            *_sub_operation(operation, path),
        )
    reduce, expand = (
        Box(title="1 × 1", detail=f"{a} → {b}") for a, b in ((EXPANSION * inner, inner), (c, EXPANSION * c))
    )
    facts = f"{EXPANSION * inner} × T × H × W → {EXPANSION * c} × T × H × W"
    return draw_flow("Residual block", facts, module, (reduce, Box(title="CT-Module", color="ct"), expand), parts)


def _sub_operation(operation: SubOperation, path: str) -> Flow:
    """Convolutions and attentions of a sub-operation, which lies at `path` in its module."""

    def excited(name: str) -> tuple[Box, ...]:
        kind = {TensorExcitation: "TE", SqueezeExcitation: "SE"}.get(type(getattr(operation, f"excite_{name}")))
        return (Box(title=kind, detail=name, color=name),) if kind else ()

    spatial, temporal = ((Box(f"{path}.{name}.conv"), *excited(name)) for name in ("spatial", "temporal"))
    if operation.connection == "coupling":
        over_time, *over_space = (extent > 1 for extent in operation.coupled.conv.kernel)
        coupled = Box(f"{path}.coupled.conv", color="ct" * (over_time and any(over_space)))
        return coupled, *excited("spatial"), *excited("temporal"), *excited("channel")
    joined: Flow = (Lanes((spatial, temporal)),) if operation.connection == "parallel" else spatial + temporal
    return joined + excited("channel")


def draw_tensor_excitation(module: SubOperation) -> Figure:
    """The three attentions of Tensor Excitation, with the shape that pooling leaves (Fig. 4, Eq. 6-8).

    Raises:
        ValueError: when the sub-operation is not excited by TE.
    """
    if not isinstance(module.excite_channel, TensorExcitation):
        raise ValueError('expected a sub-operation with excitation="te"')
    inputs = {
        "parallel": ("$X^S$", "$X^T$", "$R = U + V$"),
        "serial": ("$X^S$", "$X^T$", "$R = V$"),
        "coupling": ("$X$", "$U$", "$R = V$"),
    }[module.connection]
    c, parts = module.excite_channel.expand.conv.out_channels, {}
    for number, (name, x, result) in enumerate(zip(ATTENTIONS, inputs, ("U", "V", "X"), strict=True), start=6):
        over_time = getattr(module, f"excite_{name}").pool is temporal_pool
        pool, rest = ("T-Pool", "1 × H × W") if over_time else ("S-Pool", "T × 1 × 1")
        path = (
            Box(title=pool, detail=f"{c} × {rest}"),
            Box(f"excite_{name}.reduce.conv", "TSConv {kernel}", color=name),
            Box(f"excite_{name}.expand", "TSConv {kernel}", color=name),
            Box(title="sigmoid"),
        )
        parts[f"{name.title()} attention (Eq. {number}): from {x} to ${result}$"] = (Lanes(((), path), "×"),)
    return draw_flow("Tensor Excitation", f"Features are {c} × T × H × W", module, (), parts)


@dataclass
class _Stage:
    """Blocks of a network that run at one resolution: the label of each, and how many convolutions it had replaced."""

    name: str
    shape: tuple[int, int, int]
    blocks: list[tuple[str, int]] = field(default_factory=list)


@torch.no_grad()
def _stages(model: TSN, size: int) -> list[_Stage]:
    """Follow a frame through the network without computing: a stage is a sequence of blocks, or one resolution."""
    stages: list[_Stage] = []
    backbone = copy.deepcopy(model.backbone).to("meta").eval()
    outputs: list[Tensor] = []
    for child in backbone:
        child.register_forward_hook(lambda child, inputs, output: outputs.append(output))
    backbone(torch.empty(1, 3, size, size, device="meta"), num_frames=1)
    after_sequence = True
    for (name, child), x in zip(backbone.named_children(), outputs, strict=True):
        if not any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in child.modules()):
            continue
        shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        numbered = re.fullmatch(r"(\w+?_\d+)([a-z])\w*", name)  # Mixed_5b and such
        stage, label = numbered.groups() if numbered else ("features", name) if name.isdigit() else (name, "")
        in_sequence = isinstance(child, nn.Sequential)
        if in_sequence or after_sequence or stages[-1].shape[1:] != shape[1:]:
            stages.append(_Stage(stage, shape))
        for block_label, block in child.named_children() if in_sequence else [(label, child)]:
            stages[-1].blocks.append((block_label, sum(isinstance(part, OnClips) for part in block.modules())))
        stages[-1].shape, after_sequence = shape, in_sequence
    return stages


def draw_network(model: TSN, size: int = 256) -> Figure:
    """The blocks of a network and which of them hold a CT-Module, with the output of each stage (Fig. 2c).

    Args:
        model: with a ResNet, InceptionV3 or another backbone; what `OnClips` wraps was replaced.
        size: height and width of the input.
    """
    sheet, x, left, per_line, pitch, line = Sheet(), 0.75, 1.5, 12, 0.3, 0.31
    stages = _stages(model, size)
    counts = [count for stage in stages for _, count in stage.blocks]
    blocks, convs = sum(map(bool, counts)), sum(counts)
    sheet.heading(0.1, 0.13, f"{convs} convolutions replaced, in {blocks} blocks", ha="left")
    sheet.text(0.1, 0.42, f"{model.num_frames} frames of {size} × {size}", ha="left")
    sheet.text(WIDTH - 0.22, 0.42, "channels × height × width", ha="right")
    y = 0.53
    for stage in stages:
        top, y = y + 0.18, y + 0.3 + line * -(-len(stage.blocks) // per_line)
        sheet.arrow((x, top - 0.18), (x, top))
        sheet.panel(top, y)
        sheet.text(x, (top + y) / 2, stage.name, fontweight="bold")
        for i, (label, count) in enumerate(stage.blocks):
            corner, edge = left + i % per_line * pitch, top + 0.08 + i // per_line * line
            sheet.box(corner, edge, 0.25, 0.26, COLORS["ct" if count else "plain"], 1 if count else 0.3)
            sheet.text(corner + 0.125, edge + 0.13, label, SMALL, **({"color": "white"} if count else {}))
        sheet.text(WIDTH - 0.22, (top + y) / 2, _times(*stage.shape), ha="right")
    sheet.arrow((x, y), (x, y + 0.18))
    head = f"mean over space → linear {model.head.in_features} → {model.head.out_features} → mean over frames"
    sheet.text(0.1, y + 0.3, head, ha="left")
    legend = ((COLORS["ct"], "replaced", False), (tint(COLORS["plain"], 0.3), "as in the 2D network", False))
    sheet.legend(y + 0.62, legend)
    return sheet.finish(y + 0.75)


def _times(*extents: int) -> str:
    return " × ".join(map(str, extents))


def _subscript(k: int) -> str:
    return "₀₁₂₃₄₅₆₇₈₉"[k]

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
from ctnet.models.tensor_conv import ConvBNReLU, OnClips
from study.chapters.sheet import FAINT, HEADING, RADIUS, SMALL, Point, Sheet, Step
from study.chapters.style import COLORS, WIDTH, tint

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
    sheet, x, width, right = Sheet(), WIDTH / 2 - 0.25, 2.45, WIDTH - 0.6
    c, operations = module.channels, [cast(SubOperation, operation) for operation in module.sub_operations]
    first = operations[0].coupled if operations[0].connection == "coupling" else operations[0].spatial
    inner = first.conv.conv.in_channels
    sheet.text(x, 0.12, f"{EXPANSION * inner} × T × H × W")
    reduce = Step("1 × 1 convolution", f"{EXPANSION * inner} → {inner}, BN, ReLU")
    path: list[Point] = [sheet.flow([(x, 0.22)], [reduce], width, 0.33)]
    for k, operation in enumerate(operations):
        c_k = f"C{_subscript(k + 1)}"
        if k > 0 and module.pointwise:
            pointwise = Step("PWConv 1 × 1 × 1", f"1 group of {c}, BN, ReLU", COLORS["pointwise"])
            path = [sheet.flow(path, [pointwise], width)]
        elif k > 0 and module.sizes[k - 1] not in (1, c):
            path = [sheet.flow(path, [Step("Transpose of the channels", f"brings {c_k} innermost")], width)]
        top = path[-1][1] + 0.1
        end = _draw_sub_operation(sheet, operation, [*path, (x, top + 0.14)], width)
        sheet.text(0.22, top + 0.15, f"Sub-operation {k + 1}", ha="left", fontweight="bold")
        sheet.text(right - 0.12, top + 0.15, f"{operation.connection}, {c_k} = {module.sizes[k]}", ha="right")
        sheet.panel(top, end[1] + 0.1, right=right)
        path = [end, (x, end[1] + 0.1)]
    _, bottom = sheet.flow(path, [Step("1 × 1 convolution", f"{c} → {EXPANSION * c}, BN")], width)
    y = bottom + 0.2 + RADIUS
    sheet.arrow((x, bottom), (x, y - RADIUS))
    sheet.operator(x, y, "+")
    sheet.arrow((x, 0.34), (WIDTH - 0.4, 0.34), (WIDTH - 0.4, y), (x + RADIUS, y))
    sheet.text(WIDTH - 0.24, y / 2, "residual connection", SMALL, rotation=270)
    sheet.arrow((x, y + RADIUS), (x, y + 0.35))
    sheet.text(x, y + 0.46, f"ReLU, {EXPANSION * c} × T × H × W")
    return sheet.finish(y + 0.58)


def _draw_sub_operation(sheet: Sheet, operation: SubOperation, path: list[Point], width: float) -> Point:
    """Convolutions, their attentions and sum, from where a path ends; returns where they end."""
    spatial = _attention_steps("Spatial", operation.excite_spatial)
    temporal = _attention_steps("Temporal", operation.excite_temporal)
    if operation.connection == "coupling":
        steps = [_conv_step(operation.coupled), *spatial, *temporal]
    else:
        spatial.insert(0, _conv_step(operation.spatial))
        temporal.insert(0, _conv_step(operation.temporal))
        steps = spatial + temporal
    if operation.connection != "parallel":
        end = sheet.flow(path, steps, width)
    else:
        x, y = path[-1][0], path[-1][1] + 0.14
        for side, steps in ((-1, spatial), (1, temporal)):
            branch = x + 1.35 * side
            _, bottom = sheet.flow([*path, (x, y), (branch, y)], steps, width)
            sheet.arrow((branch, bottom), (branch, bottom + 0.17), (x + RADIUS * side, bottom + 0.17))
        sheet.operator(x, bottom + 0.17, "+")
        end = (x, bottom + 0.17 + RADIUS)
    return sheet.flow([end], _attention_steps("Channel", operation.excite_channel), width)


def _conv_step(layer: ConvBNReLU) -> Step:
    t, h, w = layer.conv.kernel
    over_time, over_space = t > 1, h * w > 1
    name = ("coupled" if over_time else "spatial") if over_space else ("temporal" if over_time else "pointwise")
    channels, groups = layer.conv.conv.out_channels, layer.conv.conv.groups
    detail = f"{groups} group{'s' * (groups > 1)} of {channels // groups}, BN, ReLU"
    return Step(f"{name.title()} TSConv {_times(t, h, w)}", detail, COLORS.get(name, COLORS["ct"]))


def _attention_steps(name: str, module: nn.Module) -> list[Step]:
    kind = {TensorExcitation: "TE", SqueezeExcitation: "SE"}.get(type(module))
    return [Step(f"{name} attention ({kind})", color=COLORS[name.lower()])] if kind else []


def draw_tensor_excitation(module: SubOperation) -> Figure:
    """The three attentions of Tensor Excitation, with the shape of what passes each arrow (Fig. 4, Eq. 6-8).

    Raises:
        ValueError: when the sub-operation is not excited by TE.
    """
    if not isinstance(module.excite_channel, TensorExcitation):
        raise ValueError('expected a sub-operation with excitation="te"')
    sheet, width, gap = Sheet(), 1.4, 0.36
    inputs = {
        "parallel": ("$X^S$", "$X^T$", "$R = U + V$"),
        "serial": ("$X^S$", "$X^T$", "$R = V$"),
        "coupling": ("$X$", "$U$", "$R = V$"),
    }[module.connection]
    names, results = ("Spatial", "Temporal", "Channel"), ("$U$", "$V$", "$X$")
    excited = (module.excite_spatial, module.excite_temporal, module.excite_channel)
    for i, attention in enumerate(cast(tuple[TensorExcitation, ...], excited)):
        x, color, expand = (i + 0.5) * WIDTH / 3 - 0.1, COLORS[names[i].lower()], attention.expand.conv
        pool, over, rest = ("S-Pool", "H, W", "T × 1 × 1")
        if attention.pool is temporal_pool:
            pool, over, rest = ("T-Pool", "T", "1 × H × W")
        whole, pooled = f"{expand.out_channels} × T × H × W", f"{expand.out_channels} × {rest}"
        conv, groups = f"TSConv {_times(*attention.expand.kernel)}", f"{expand.groups} groups"
        steps = [
            Step(pool, f"mean over {over}", shape=whole),
            Step(conv, f"{groups}, BN, ReLU", color, pooled),
            Step(conv, groups, color, f"{expand.in_channels} × {rest}"),
            Step("Sigmoid", "", color, pooled),
        ]
        sheet.heading(x, 0.12, f"{names[i]} (Eq. {6 + i})")
        sheet.text(x, 0.42, inputs[i], HEADING)
        _, end = sheet.flow([(x, 0.53)], steps, width, gap)
        y, side = end + gap + RADIUS, x - width / 2 - 0.13
        sheet.arrow((x, 0.62), (side, 0.62), (side, y), (x - RADIUS, y))
        sheet.operator(x, y, "×")
        for top, shape in ((end, pooled), (y + RADIUS, whole)):
            sheet.arrow((x, top), (x, top + gap))
            sheet.text(x + 0.08, top + gap / 2 - 0.02, shape, SMALL, ha="left")
        sheet.text(x, y + RADIUS + gap + 0.12, results[i], HEADING)
    return sheet.finish(y + RADIUS + gap + 0.26)


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

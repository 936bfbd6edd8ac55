"""Receptive fields measured from gradients (Table 1, Fig. 1): what can reach an output, not what should."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctnet.models.ct_module import CTModule


@dataclass(frozen=True)
class ReceptiveField:
    """The inputs that reach the central output of one channel after some sub-operations."""

    reached: Tensor
    """Which input channels reach it, boolean (C,)."""
    extent: tuple[int, int, int]
    """Smallest box around the positions that reach it: frames x height x width, Table 1's "interact field"."""
    positions: Tensor
    """Which positions reach it, boolean (T, H, W)."""

    @property
    def channels(self) -> int:
        """How many input channels reach the output."""
        return int(self.reached.sum())

    @property
    def filled(self) -> float:
        """Share of the box's positions that reach the output."""
        t, h, w = self.extent
        return int(self.positions.sum()) / (t * h * w)


def receptive_field(module: nn.Module, channels: int, size: int = 15, channel: int = 0) -> ReceptiveField:
    """Measure the receptive field of one output of `module`.

    All parameters are made positive, and statistics of normalisations neutral, so that every ReLU passes and no two
    paths cancel: an input reaches the output when its gradient is not zero. Attention pools over whole dimensions and
    would reach everything; measure modules with ``excitation="none"`` to see the convolutions' own field.

    Args:
        module: maps (1, channels, T, H, W) to the same T, H, W. It is not changed.
        channels: of the input.
        size: T, H and W of the probe; odd, and larger than the field.
        channel: the output channel, from 0.

    Raises:
        ValueError: when the field touches the border of the probe, so that it may be larger, when nothing reaches the
            output, or when there is no such channel.
    """
    probe = copy.deepcopy(module).eval()
    with torch.no_grad():
        for tensor in probe.parameters():
            tensor.copy_(tensor.abs() + 0.1)
    for part in probe.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):  # a large mean would stop a ReLU
            part.reset_running_stats()
    like = next(probe.parameters(), torch.empty(()))
    x = torch.ones(1, channels, size, size, size, dtype=like.dtype, device=like.device, requires_grad=True)
    middle = size // 2
    outputs = probe(x)[0]
    if not 0 <= channel < len(outputs):
        raise ValueError(f"there is no output channel {channel}: there are 0 to {len(outputs) - 1}")
    (gradient,) = torch.autograd.grad(outputs[channel, middle, middle, middle], x)
    reached = gradient[0] != 0  # (C, T, H, W)
    positions = reached.any(0)
    if not positions.any():
        raise ValueError(f"no input reaches output channel {channel}")
    ends = [(int(index.min()), int(index.max())) for index in positions.nonzero(as_tuple=True)]
    if any(first == 0 or last == size - 1 for first, last in ends):
        raise ValueError(f"the field touches the border of the probe, {size} positions: measure with a larger odd size")
    spans = [last - first + 1 for first, last in ends]
    return ReceptiveField(reached.flatten(1).any(1), (spans[0], spans[1], spans[2]), positions)


def progressive_fields(module: CTModule, channels: int, size: int = 15) -> list[ReceptiveField]:
    """Receptive fields after sub-operation 1, after 2, ... up to K, each back to the module's input (Fig. 1)."""
    fields = []
    for k in range(1, len(module.sizes) + 1):
        truncated = copy.deepcopy(module)
        truncated.sub_operations = truncated.sub_operations[:k]
        fields.append(receptive_field(truncated, channels, size))
    return fields

"""Where the time of a network goes: its processor time by the size of the feature maps and the kind of operation."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.deploy.inference import FusedConv, GatedBranches, SmallGroups
from ctnet.models.ct_module import CTModule, SubOperation
from ctnet.models.excitation import TensorExcitation
from ctnet.models.modes import evaluating

DENSE, POINTWISE, GROUPED = "convolutions over all channels", "1 × 1 convolutions", "convolutions in groups"
NORM, GATES, REST = "normalisation", "gates and sums of CT-Modules", "all else"
KINDS = (DENSE, POINTWISE, GROUPED, NORM, GATES, REST)
"""Of operations; all else are residuals, ReLUs, pooling and the head."""

_CONVS = (nn.Conv2d, nn.Conv3d, FusedConv, SmallGroups)
_NORMS = (nn.modules.batchnorm._BatchNorm,)
_GATED = (CTModule, SubOperation, GatedBranches, TensorExcitation)


@dataclass(frozen=True)
class Share:
    """A part of what a clip costs.

    Attributes:
        maps: height of the feature maps that the operations give.
        kind: one of `KINDS`.
        gmacs: multiply-adds of its convolutions in 1e9.
        ms: processor time of the process, the median over the rounds.
    """

    maps: int
    kind: str
    gmacs: float
    ms: float


def profile(models: Sequence[nn.Module], clips: Tensor, rounds: int = 5) -> list[list[Share]]:
    """Measure where networks spend their time on a CPU, all in turn in every round.

    Every module's own time counts, without that of modules in it. What an operation belongs to follows from its module
    and its output; pooled features count with the maps that they are pooled from.

    Args:
        models: such as `ctnet.create_model` or `ctnet.optimize` give them; measured in evaluation mode.
        clips: (N, 3, T, H, W), on the CPU.
        rounds: that are timed; one more warms up.

    Returns:
        The shares of each network, largest maps first.

    Raises:
        ValueError: for clips that are not on the CPU, or no round.
    """
    if clips.device.type != "cpu" or rounds < 1:
        raise ValueError(f"clips on the CPU and a round or more are needed, not {clips.device} and {rounds}")
    found: list[list[_Round]] = [[] for _ in models]
    for _ in range(rounds + 1):
        for model, measured in zip(models, found, strict=True):
            with torch.inference_mode(), evaluating(model), _watched(model, len(clips)) as seen:
                model(clips)
            measured.append(seen)
    return [_shares(measured[1:]) for measured in found]


@dataclass
class _Round:
    """Seconds of every kind of operation on maps of every size, and multiply-adds, of one pass."""

    maps: int = 0
    convs: int = 0  # convolutions that are running, one in another
    open: list[float] = field(default_factory=list)  # seconds spent in the modules of every module that is running
    seconds: dict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))
    macs: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))


def _shares(rounds: Sequence[_Round]) -> list[Share]:
    keys = sorted({key for each in rounds for key in each.seconds}, key=lambda key: (-key[0], KINDS.index(key[1])))
    return [Share(*key, rounds[0].macs[key] / 1e9, 1e3 * median(each.seconds[key] for each in rounds)) for key in keys]


@contextmanager
def _watched(model: nn.Module, clips: int) -> Iterator[_Round]:
    """Note the time of every module of a network while it runs."""
    seen, hooks, began = _Round(), [], []

    def enter(module: nn.Module, inputs: Any) -> None:
        seen.open.append(0.0)
        seen.convs += isinstance(module, _CONVS)
        began.append(time.process_time())

    def leave(name: str, module: nn.Module, output: Any) -> None:
        spent = time.process_time() - began.pop()
        own = spent - seen.open.pop()
        if seen.open:
            seen.open[-1] += spent
        kind, shape = _kind(name, module), output.shape if isinstance(output, Tensor) else ()
        if len(shape) >= 4 and shape[-1] > 1 and kind is not GATES:
            seen.maps = int(shape[-2])
        seen.seconds[seen.maps, kind] += own
        seen.convs -= isinstance(module, _CONVS)
        if isinstance(module, _CONVS) and not seen.convs:  # one in another is counted with it
            weight = (module.fused if isinstance(module, SmallGroups) else module).weight
            seen.macs[seen.maps, kind] += math.prod(shape) * math.prod(weight.shape[1:]) // clips

    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(lambda m, _, output, name=name: leave(name, m, output)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _kind(name: str, module: nn.Module) -> str:
    if "excite_" in name or isinstance(module, _GATED):
        return GATES
    if isinstance(module, _NORMS):
        return NORM
    if isinstance(module, _CONVS):
        conv: Any = module.fused if isinstance(module, SmallGroups) else module
        if conv.groups > 1:
            return GROUPED
        return POINTWISE if math.prod(conv.weight.shape[2:]) == 1 else DENSE
    return REST

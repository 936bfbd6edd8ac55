"""Counting multiply-adds and parameters as the paper's tables print them."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ctnet.analysis.shapes import Call

VERSION = 1
"""Of the counting: to be raised whenever the same network gets another cost."""


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass over one clip. One multiply-add counts as 1; the paper calls it a FLOP."""

    gmacs: float
    """Giga multiply-adds, fvcore's total: convolutions, linear layers, batch normalisation, pooling."""
    conv_linear_gmacs: float
    """Giga multiply-adds of convolutions and linear layers alone."""
    params_m: float
    """Millions of parameters."""
    by_operator: Mapping[str, float]
    """Giga multiply-adds of each kind of operator; they sum to `gmacs`."""
    by_stage: Mapping[str, float]
    """Giga multiply-adds of each stage of the backbone, such as "layer1", in order."""


def count_cost(model: "nn.Module", size: int | tuple[int, int] = 256, frames: int | None = None) -> Cost:
    """Count the cost of `model` on one clip (1, 3, frames, height, width).

    The count is fvcore's, in evaluation mode, and made on shapes alone: nothing is computed, unless the model does what
    shapes do not decide. The model's mode and weights are left as they are.

    Args:
        model: a network on clips.
        size: height and width in pixels, one number for both.
        frames: T; the model's own `num_frames` unless given.

    Raises:
        ValueError: when a number is not positive, or the model fails on such a clip.
    """
    import torch

    from ctnet.analysis.shapes import without_data

    height, width = (size, size) if isinstance(size, int) else size
    frames = int(getattr(model, "num_frames", 8)) if frames is None else frames
    if min(height, width, frames) < 1:
        raise ValueError(f"size and frames must be positive, got {height} x {width} and {frames} frames")
    shape = (1, 3, frames, height, width)
    try:
        counts = _count_calls(without_data(model).eval(), torch.zeros(shape, device="meta"))
    except Exception:  # what cannot be told from shapes is run, and should that fail too, it says why
        counts = _count_executed(model, shape)
    backbone = getattr(model, "backbone", None)
    stages = [name for name, _ in backbone.named_children()] if backbone is not None else []
    by_operator, by_module = ({name: count / 1e9 for name, count in each.items()} for each in counts)
    return Cost(
        gmacs=sum(by_operator.values()),
        conv_linear_gmacs=by_operator.get("conv", 0.0) + by_operator.get("linear", 0.0),
        params_m=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        by_operator=by_operator,
        by_stage={stage: by_module.get(f"backbone.{stage}", 0.0) for stage in stages},
    )


def _count_calls(model: "nn.Module", clip: "Tensor") -> "tuple[Counter[str], Counter[str]]":
    """`_count` of a model without data, as a sum over its calls; also over those whose results nothing uses."""
    from ctnet.analysis.shapes import calls_of

    by_operator, by_module = Counter[str](), Counter[str]()
    for name, call in calls_of(model, clip):
        counted = _count_call(call)
        by_operator += counted
        for end in (place for place, letter in enumerate(f"{name}.") if letter == "."):
            by_module[name[:end]] += counted.total()
    return by_operator, by_module


def _count_call(call: "Call") -> "Counter[str]":
    """Multiply-adds of each kind of operator in a call; each call that differs is counted once in a process."""
    from ctnet.analysis.shapes import Caller, shapes_only

    if call.key not in _COUNTED:
        with shapes_only():
            _COUNTED[call.key], _ = _count(Caller(call), *call.inputs())
    return _COUNTED[call.key]


_COUNTED: dict[tuple[Any, ...], "Counter[str]"] = {}


def _count(model: "nn.Module", *inputs: "Tensor") -> "tuple[Counter[str], Counter[str]]":
    """Multiply-adds of each kind of operator and of each module, which is run once on the inputs."""
    import torch

    with warnings.catch_warnings():  # on import, fvcore calls a function that torch has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        return analysis.by_operator(), analysis.by_module()


def _count_executed(model: "nn.Module", shape: tuple[int, ...]) -> "tuple[Counter[str], Counter[str]]":
    """`_count` of the model itself, on a clip of zeros on the device that its parameters are on."""
    import torch

    from ctnet.models.modes import evaluating

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with evaluating(model):
            return _count(model, torch.zeros(shape, device=device))
    except (RuntimeError, TypeError) as error:
        _, _, frames, height, width = shape
        raise ValueError(f"the model cannot process a clip of {frames} x {height} x {width}: {error}") from error

"""Counting multiply-adds and parameters as the paper's tables print them."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

with warnings.catch_warnings():  # on import, fvcore calls a function that torch has deprecated
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis


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


def count_cost(model: nn.Module, size: int | tuple[int, int] = 256, frames: int | None = None) -> Cost:
    """Count the cost of `model` on one clip (1, 3, frames, height, width).

    The count is fvcore's, in evaluation mode. The model's mode and weights are left as they are.

    Args:
        model: a network on clips; it is run once, on the device that its parameters are on.
        size: height and width in pixels, one number for both.
        frames: T; the model's own `num_frames` unless given.

    Raises:
        ValueError: when a number is not positive, or the model fails on such a clip.
    """
    height, width = (size, size) if isinstance(size, int) else size
    frames = int(getattr(model, "num_frames", 8)) if frames is None else frames
    if min(height, width, frames) < 1:
        raise ValueError(f"size and frames must be positive, got {height} x {width} and {frames} frames")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    clip = torch.zeros(1, 3, frames, height, width, device=device)
    training = model.training
    analysis = FlopCountAnalysis(model.eval(), clip)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    try:
        with torch.no_grad():
            by_operator = {operator: count / 1e9 for operator, count in analysis.by_operator().items()}
            by_module = analysis.by_module()
    except RuntimeError as error:
        raise ValueError(f"the model cannot process a clip of {frames} x {height} x {width}: {error}") from error
    finally:
        model.train(training)
    stages = [name for name, _ in getattr(model, "backbone", nn.Module()).named_children()]
    return Cost(
        gmacs=sum(by_operator.values()),
        conv_linear_gmacs=by_operator.get("conv", 0.0) + by_operator.get("linear", 0.0),
        params_m=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        by_operator=by_operator,
        by_stage={stage: by_module[f"backbone.{stage}"] / 1e9 for stage in stages},
    )

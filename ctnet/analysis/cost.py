"""Counting multiply-adds and parameters as the paper's tables print them."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """Giga multiply-adds in all: convolutions, linear layers, attention, batch normalisation, pooling."""
    conv_linear_gmacs: float
    """Giga multiply-adds of convolutions and linear layers alone."""
    params_m: float
    """Millions of parameters."""
    by_operator: Mapping[str, float]
    """Giga multiply-adds of each kind of operator; they sum to `gmacs`."""
    by_stage: Mapping[str, float]
    """Giga multiply-adds of each stage of the backbone, such as "layer1", in order."""
    uncounted: Mapping[str, int] = field(default_factory=dict)
    """Operators that may hold multiply-adds and are in no count, such as one's own, and how often each occurs.

    "untraced" stands for what runs outside of the network's trace, such as steps in NumPy.
    """


def count_cost(
    model: "nn.Module",
    size: int | tuple[int, int] = 256,
    frames: int | None = None,
    *,
    shape: tuple[int, ...] | None = None,
) -> Cost:
    """Count the cost of `model` on one clip (1, 3, frames, height, width), or on an input of another shape.

    The count is fvcore's, in evaluation mode, and made on shapes alone: nothing is computed, unless the model does what
    shapes do not decide. Torch's own counter helps where fvcore has no count, as for attention, and what neither can
    count is named in the result. The model's mode and weights are left as they are.

    Args:
        model: a network on clips.
        size: height and width in pixels, one number for both.
        frames: T; the model's own `num_frames` unless given.
        shape: of the input of what takes no clips, such as (1, 64, 8, 56, 56) for a `CTModule(64)` alone; it stands
            for `size` and `frames`.

    Raises:
        ValueError: when a number is not positive, or the model fails on such an input.
    """
    import torch

    from ctnet.analysis.shapes import without_data

    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if shape is None:
        height, width = (size, size) if isinstance(size, int) else size
        frames = int(getattr(model, "num_frames", 8)) if frames is None else frames
        if min(height, width, frames) < 1:
            raise ValueError(f"size and frames must be positive, got {height} x {width} and {frames} frames")
        shape = (1, 3, frames, height, width)
    elif min(shape, default=0) < 1:
        raise ValueError(f"the numbers of a shape must be positive, got {shape}")
    try:
        counts = _count_calls(without_data(model).eval(), torch.zeros(shape, device="meta"))
    except Exception:  # what cannot be told from shapes is run, and should that fail too, it says why
        counts = _count_executed(model, shape)
    backbone = getattr(model, "backbone", None)
    stages = [name for name, _ in backbone.named_children()] if backbone is not None else []
    by_operator, by_module = ({name: count / 1e9 for name, count in each.items()} for each in counts[:2])
    return Cost(
        gmacs=sum(by_operator.values()),
        conv_linear_gmacs=by_operator.get("conv", 0.0) + by_operator.get("linear", 0.0),
        params_m=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        by_operator=by_operator,
        by_stage={stage: by_module.get(f"backbone.{stage}", 0.0) for stage in stages},
        uncounted=dict(counts[2]),
    )


_Counts = tuple[Counter[str], Counter[str], Counter[str]]  # by operator, by module, and what is uncounted


def _count_calls(model: "nn.Module", clip: "Tensor") -> _Counts:
    """`_count` of a model without data, as a sum over its calls; also over those whose results nothing uses."""
    from ctnet.analysis.shapes import calls_of

    by_operator, by_module, uncounted = Counter[str](), Counter[str](), Counter[str]()
    for name, call in calls_of(model, clip):
        counted, left_out = _count_call(call)
        by_operator += counted
        uncounted += left_out
        for end in (place for place, letter in enumerate(f"{name}.") if letter == "."):
            by_module[name[:end]] += counted.total()
    return by_operator, by_module, uncounted


def _count_call(call: "Call") -> tuple[Counter[str], Counter[str]]:
    """`_count` of a call, but for modules; each call that differs is counted once in a process."""
    from ctnet.analysis.shapes import Caller, shapes_only

    if call.key not in _COUNTED:
        with shapes_only():
            by_operator, _, uncounted = _count(Caller(call), *call.inputs())
        _COUNTED[call.key] = by_operator, uncounted
    return _COUNTED[call.key]


_COUNTED: dict[tuple[Any, ...], tuple[Counter[str], Counter[str]]] = {}


def _count(model: "nn.Module", *inputs: "Tensor") -> _Counts:
    """Multiply-adds of each kind of operator and of each module, which is run on the inputs."""
    import torch

    from ctnet.analysis.operators import by_torch, suspicious

    with warnings.catch_warnings():  # on import, fvcore calls a function that torch has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        from fvcore.nn import FlopCountAnalysis

    analysis, left_out = FlopCountAnalysis(model, inputs), Counter[str]()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    for kind in ("aten::matmul", "aten::einsum"):  # which fvcore counts short of broadcasting, or rounds
        analysis.set_op_handle(kind, by_torch(kind, left_out))
    with torch.no_grad(), _attention_in_steps():
        analysis.total()
        if unknown := [kind for kind in analysis.unsupported_ops() if suspicious(kind)]:
            left_out.clear()
            for kind in unknown:
                analysis.set_op_handle(kind, by_torch(kind, left_out))
        return analysis.by_operator(), analysis.by_module(), left_out


@contextmanager
def _attention_in_steps() -> Iterator[None]:
    """Transformer layers take the steps that they take in training, and not one operator for all of them."""
    from torch.backends import mha

    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def _count_executed(model: "nn.Module", shape: tuple[int, ...]) -> _Counts:
    """`_count` of the model itself, on a clip of zeros on the device that its parameters are on."""
    import torch

    from ctnet.analysis.operators import product_counter
    from ctnet.models.modes import evaluating

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    clip = torch.zeros(shape, device=device)
    try:
        with evaluating(model), torch.no_grad():
            by_operator, by_module, uncounted = _count(model, clip)
            with product_counter() as counter, _attention_in_steps():
                model(clip)
    except Exception as error:
        what = " x ".join(map(str, shape[2:] if len(shape) == 5 and shape[:2] == (1, 3) else shape))
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the model cannot process a clip of {what}: {reason}") from error
    if counter.get_total_flops() > 2 * by_operator.total():
        uncounted["untraced"] = 1
    return by_operator, by_module, uncounted

"""Running a network on shapes alone: what its layers would give, without computing a value.

A counter follows a network with torch's tracer, which wants one forward pass. At full size that pass costs more
than the counting, and its values matter to nobody. Tensors on torch's device "meta" have shapes and no data. The
tracer and the code that finds shapes do not go together in one thread, though: under the tracer a size is a tensor,
and code that tests sizes fails. Here each operator's shape is found in a second thread, which the tracer does not see.
"""

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


def without_data(model: nn.Module) -> nn.Module:
    """A copy of a network whose parameters and buffers have their shapes and no data."""
    stand_ins: dict[int, Any] = {}
    for parameter in model.parameters():
        stand_ins[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        stand_ins[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(model, stand_ins)  # takes the stand-ins for copies that it has made already


@contextmanager
def shapes_only() -> Iterator[None]:
    """Operators on tensors of the device "meta" can be traced by `torch.jit` in this context.

    Raises:
        RuntimeError: from an operator, when the tracer would miss it.
    """
    collecting = gc.isenabled()
    gc.disable()  # the tracer makes thousands of objects that live till its end
    try:
        with ThreadPoolExecutor(1) as thread, _ConvolutionsForTracer(), _ShapesElsewhere(thread):
            yield
    finally:
        if collecting:
            gc.enable()


class _ShapesElsewhere(TorchDispatchMode):
    """Finds the shape that an operator gives in another thread."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        super().__init__()
        self.thread = thread

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            raise RuntimeError("a convolution that the tracer does not record")
        if func.is_view:  # its shape is found without a test of sizes, and it must stay in this thread
            return func(*args, **(kwargs or {}))
        return self.thread.submit(_without_gradients, func, args, kwargs or {}).result()


def _without_gradients(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    with torch.no_grad():
        return func(*args, **kwargs)


class _ConvolutionsForTracer(TorchFunctionMode):
    """Calls what torch's convolutions end in, the operator that its tracer records.

    On the way there they pass another operator, at which a dispatch mode stops them, above the one recorded.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _CONVOLUTIONS.get(func, func)(*args, **(kwargs or {}))


def _convolution(original: Callable[..., Tensor], dims: int) -> Callable[..., Tensor]:
    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str) or input.dim() != dims + 2:  # more than this one operator
            return original(input, weight, bias, stride, padding, dilation, groups)
        s, p, d = ([each] * dims if isinstance(each, int) else list(each) for each in (stride, padding, dilation))
        return torch._convolution(
            input, weight, bias, s, p, d, False, [0] * dims, groups, False, False, False, allow_tf32=False
        )

    return convolve


_CONVOLUTIONS = {
    original: _convolution(original, dims)
    for dims, original in ((1, torch.conv1d), (2, torch.conv2d), (3, torch.conv3d))
}

"""Running a network on shapes alone: what its layers would give, without computing a value.

A counter follows a network with torch's tracer, which wants one forward pass. At full size that pass costs more
than the counting, and its values matter to nobody. Tensors on torch's device "meta" have shapes and no data.

Even then the tracer takes most of the time, while few of the calls that a network makes differ from one another:
`calls_of` tells them without a tracer, and each that differs is traced once, as a network of its own (`Caller`).
The tracer and the code that finds shapes do not go together in one thread, though: under the tracer a size is a
tensor, and code that tests sizes fails. In `shapes_only` each operator's shape is found in a second thread, which the
tracer does not see.
"""

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


def without_data(model: nn.Module) -> nn.Module:
    """A copy of a network whose parameters and buffers have their shapes and no data."""
    stand_ins: dict[int, Any] = {}
    for parameter in model.parameters():
        stand_ins[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        stand_ins[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(model, stand_ins)  # takes the stand-ins for copies that it has made already


class Shape(NamedTuple):
    """A tensor without its data."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """A tensor of this shape on the device "meta"."""
        return torch.empty_strided(self.sizes, self.strides, dtype=self.dtype, device="meta")


class Call(NamedTuple):
    """The call of one of torch's functions."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    """Those by position and those by name, with a `Shape` in the place of a tensor."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What calls that do the same have in common."""
        return self.function, repr(self.arguments)

    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it is called with, on the device "meta"."""
        leaves = tree_leaves(self.arguments, is_leaf=_is_shape)
        return tuple(leaf.tensor() for leaf in leaves if _is_shape(leaf))


class Caller(nn.Module):
    """A network that makes one call: from the tensors that the function is called with to those that it returns."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the function."""
        left = iter(tensors)
        args, kwargs = tree_map_only(Shape, lambda _: next(left), self.call.arguments, is_leaf=_is_shape)
        return tuple(leaf for leaf in tree_leaves(self.call.function(*args, **kwargs)) if isinstance(leaf, Tensor))


def _is_shape(value: Any) -> bool:
    return isinstance(value, Shape)


def calls_of(model: nn.Module, *inputs: Tensor) -> list[tuple[str, Call]]:
    """The calls of torch's functions in a forward pass that return tensors, each with the name of the calling module.

    Raises:
        RuntimeError: when the model reaches an operator otherwise than by such a call.
    """
    called: list[tuple[str, Call]] = []
    within = [""]

    def enter(name: str) -> Callable[..., None]:
        return lambda module, inputs: within.append(name)

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        within.pop()

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        with _Calls(lambda call: called.append((within[-1], call))) as calls, _NothingElse(calls):
            model(*inputs)
    return called


class _Calls(TorchFunctionMode):
    """Tells every call that returns tensors."""

    def __init__(self, tell: Callable[[Call], object]) -> None:
        super().__init__()
        self.tell, self.calling = tell, False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func.__name__ == "__get__":  # an attribute, such as a shape
            return func(*args, **kwargs)
        call = Call(func, tree_map_only(Tensor, _shape, (args, kwargs)))  # before it, for it may change a shape
        self.calling = True
        try:
            result = func(*args, **kwargs)
        finally:
            self.calling = False
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.tell(call)
        return result


def _shape(tensor: Tensor) -> Shape:
    return Shape(tuple(tensor.shape), tensor.stride(), tensor.dtype)


class _NothingElse(TorchDispatchMode):
    """Refuses operators outside of calls, such as those of a compiled function."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not self.calls.calling:
            raise RuntimeError(f"{func} outside of a call")
        return func(*args, **(kwargs or {}))


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

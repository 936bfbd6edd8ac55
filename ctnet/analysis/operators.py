"""Operators that fvcore has no count for: counted by torch's own counter, or named.

fvcore keeps silent on attention, on recurrent layers and on whatever else it does not know. Here such an operator is
run once more, on shapes alone, and the products that it consists of are counted. One that does not tell what it
consists of, such as an operator of one's own, is named; one that multiplies nothing with matrices or kernels is
passed over.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

Handle = Callable[[list[Any], list[Any]], Counter[str]]

_WITHOUT_PRODUCTS = {  # they move, choose, add up or compare numbers, or treat each one for itself
    *("adaptive_avg_pool1d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "cumsum", "prelu", "_prelu_kernel"),
    *("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "hardswish", "embedding", "one_hot"),
    *("unflatten", "movedim", "pad", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d", "constant_pad_nd", "im2col", "col2im"),
    *("cat", "stack", "flip", "roll", "repeat", "repeat_interleave", "tile", "reshape", "contiguous", "_unsafe_view"),
    *("topk", "sort", "argsort", "gather", "scatter", "scatter_add", "index", "index_select", "index_add", "index_put"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "unsafe_split", "split_with_sizes_copy", "lift_fresh"),
    *("copy", "_to_copy", "_reshape_copy", "zeros_like", "new_zeros", "fill", "zero", "tril", "triu", "expand_as"),
}


_HARMLESS_TAGS = {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.inplace_view}


def _vector_flops(matrix: Sequence[int], *rest: Any, **options: Any) -> int:
    return 2 * prod(matrix)


_VECTORS = {  # products with one vector, which torch's counter lacks
    **dict.fromkeys((torch.ops.aten.mv, torch.ops.aten.dot, torch.ops.aten.vdot), _vector_flops),
    torch.ops.aten.addmv: lambda added, matrix, *rest, **options: _vector_flops(matrix),
}


def product_counter() -> FlopCounterMode:
    """Torch's counter of products with matrices and kernels; it counts two for a multiply-add."""
    return FlopCounterMode(display=False, custom_mapping=_VECTORS)


def suspicious(kind: str) -> bool:
    """Whether an operator that fvcore does not count, such as "aten::softmax", may hold multiply-adds."""
    packet = _packet(kind)
    return packet is None or not any(_harmless(getattr(packet, overload)) for overload in packet.overloads())


def by_torch(kind: str, left_out: Counter[str]) -> Handle:
    """How fvcore is to count an operator that torch's counter decides; what neither knows goes to `left_out`."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        name = kind.split("::")[-1]
        try:
            node = outputs[0].node()
            parameters = torch._C.parse_schema(node.schema()).arguments
            values = [_value(value) for value in inputs]
            by_place = [v for v, parameter in zip(values, parameters, strict=True) if not parameter.kwarg_only]
            by_name = {p.name: v for p, v in zip(parameters, values, strict=True) if p.kwarg_only}
            with product_counter() as counter, _Unknown() as unknown:
                _packet(kind)(*by_place, **by_name)  # type: ignore[misc]
        except Exception:  # without shapes of its own, or of a size that only the run decides
            left_out[name] += 1
            return Counter()
        left_out.update(unknown.names)
        products: Counter[str] = Counter()
        for part, flops in counter.get_flop_counts().get("Global", {}).items():
            products["conv" if part is torch.ops.aten.convolution else name] += flops // 2
        return products

    return handle


class _Unknown(TorchDispatchMode):
    """Names the operators that run within it, may hold multiply-adds, and are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func._overloadpacket not in flop_registry | _VECTORS and not _harmless(func):
            self.names[func.name().split("::")[-1].split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


def _packet(kind: str) -> OpOverloadPacket | None:
    """The operator of torch by its name in a trace; None for what is none, such as a function of Python."""
    namespace, _, name = kind.partition("::")
    found = getattr(getattr(torch.ops, namespace, None), name, None)
    return found if isinstance(found, OpOverloadPacket) else None


def _harmless(operator: OpOverload) -> bool:
    """Whether an operator surely holds no products with matrices or kernels."""
    if operator.is_view or not _HARMLESS_TAGS.isdisjoint(operator.tags):
        return True
    takes_tensors = any("Tensor" in str(argument.type) for argument in operator._schema.arguments)
    name = operator._overloadpacket.__name__.removesuffix("_")
    return operator.namespace == "aten" and (not takes_tensors or name in _WITHOUT_PRODUCTS)


def _value(value: Any) -> Any:
    """What stands for an operand that a trace holds: a tensor of its shape, a list of such, or a constant.

    Raises:
        ValueError: when the trace holds no such thing.
    """
    if value.isCompleteTensor():
        return torch.empty(value.type().sizes(), dtype=value.type().dtype(), device="meta")
    node = value.node()
    if node.kind() == "prim::Constant":
        return value.toIValue()
    if node.kind() == "prim::ListConstruct":
        return [_value(item) for item in node.inputs()]
    raise ValueError("an operand that only the run decides")

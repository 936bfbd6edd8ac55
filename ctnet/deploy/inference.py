"""A network for inference: the same scores, with fewer passes over memory.

- Batch normalisation is folded into the convolution before it.
- A ReLU, and the sum of a residual block, are computed while a convolution's output is at hand.
- Weights are laid out once as the CPU's convolutions read them.
- Convolutions in small groups, and the gates of a CT-Module, are computed by kernels of their own (`kernels.cpp`).
"""

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import relu
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ctnet.deploy import kernels
from ctnet.engine.preparation import keep_freed_memory
from ctnet.models import VideoModel
from ctnet.models.ct_module import SubOperation
from ctnet.models.excitation import TensorExcitation, temporal_pool
from ctnet.models.tensor_conv import OnClips, TensorSeparableConv
from ctnet.models.tsn import traced

Model = TypeVar("Model", bound=nn.Module)
WIDEST = 32
"""Channels of a group up to which the own kernel is used: beyond, the library's reaches its dense rate."""

CONVS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
"""Plain layers are these themselves: a subclass may compute something else."""
RELUS: tuple[Any, ...] = (torch.relu, torch.relu_, relu, "relu", "relu_")
SUMS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add)


def optimize(model: Model) -> Model:
    """A copy of a network for inference, in evaluation mode and without gradients; the same scores to rounding.

    It takes clips of any T and size, as the network does, and it can be moved to a GPU or cast. The process keeps the
    memory that it frees from now on: on a CPU, fresh pages for every feature took a quarter of the time. A network that
    holds parts of such a copy is copied as it is.

    Returns:
        The copy. Its attribute `left` lists what was left as it was: names of batch normalisations that no convolution
        took in, and "kernels" where no compiler could build them.
    """
    keep_freed_memory()
    optimized: nn.Module = copy.deepcopy(model).eval().requires_grad_(False)
    if not any(isinstance(module, Packed | GatedBranches) for module in optimized.modules()):
        optimized = _rewritten(optimized)
    left = [name for name, module in optimized.named_modules() if isinstance(module, NORMS)]
    if kernels.library() is None:
        left.append("kernels")
    optimized.left = left  # type: ignore[assignment]
    return optimized  # type: ignore[return-value]


class Packed(nn.Module):
    """A layer that lays its weights out, when it is first called, as the CPU's convolutions read them.

    Weights of another place, type or file are laid out anew, and copies and files hold the weights alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.packed: Any = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Packed":
        self.packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.packed = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": None}


class FusedConv(Packed):
    """A convolution with its normalisation folded in, then a residual is added, then a ReLU, as far as there are any.

    Args:
        conv: the convolution.
        bn: what follows it.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, bn: nn.Module | None = None) -> None:
        super().__init__()
        weight, bias = conv.weight, conv.bias
        if bn is not None:
            statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
            weight, bias = fuse_conv_bn_weights(weight, bias, *statistics)  # type: ignore[arg-type]
        bias = torch.zeros_like(weight[:, 0].flatten(1)[:, 0]) if bias is None else bias
        self.weight, self.bias = (nn.Parameter(each.detach(), requires_grad=False) for each in (weight, bias))
        self.convolve = nn.functional.conv3d if isinstance(conv, nn.Conv3d) else nn.functional.conv2d
        self.padding = [0] * (weight.dim() - 2) if conv.padding == "valid" else [int(p) for p in conv.padding]
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.relu = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) or (N, C, T, H, W), and a residual of the output's shape."""
        if not _eager(x) or not (residual is None or residual.shape == self.shape(x)):
            out = self.convolve(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            out = out if residual is None else out + residual
            return relu(out) if self.relu else out
        settings = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *settings, list(x.shape))
        after: tuple[Any, ...] = ("relu", [], "") if self.relu else ("none", [], "")
        if residual is None:
            return torch.ops.mkldnn._convolution_pointwise(x, self.packed, self.bias, *settings, *after)
        after = ("relu", [], "") if self.relu else (None, [], None)
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, residual, self.packed, self.bias, *settings, "add", 1.0, *after
        )

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Of the output for an input x."""
        extents = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, p, d, k, s in zip(
                x.shape[2:], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
            )
        ]
        return (x.shape[0], self.weight.shape[0], *extents)


class SmallGroups(Packed):
    """A spatial or temporal TSConv in small groups, with its normalisation folded in, by the own kernel.

    Where that cannot be used, on a GPU or in another precision, `plain` computes the same.
    """

    packed: tuple[Tensor, Tensor] | None

    def __init__(self, plain: TensorSeparableConv) -> None:
        super().__init__()
        self.plain = plain

    @property
    def fused(self) -> FusedConv:
        """The convolution that the kernel stands for."""
        return self.plain.conv  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T, H, W)."""
        if not (_eager(x) and kernels.usable(x)):
            return self.plain(x)
        if self.packed is None:
            self.packed = kernels.pack(self.fused.weight, self.fused.bias, self.fused.groups)
        return kernels.ts_conv(x, *self.packed, len(self.fused.bias), self.plain.kernel, self.fused.relu)


class GatedBranches(nn.Module):
    """A parallel sub-operation with TE (Eq. 3-8) in four passes over its features, where eleven are written down.

    The channel gate needs the mean over space of r = s u + t v. That is mean(s u) + t mean(v), and mean(v) is known
    from the temporal gate. So all gates are known before the features are multiplied by any.
    """

    def __init__(self, plain: SubOperation) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, out_channels, T, H, W)."""
        plain = self.plain
        if not (_eager(x) and kernels.usable(x)):
            return plain(x)
        u, v = plain.spatial(x), plain.temporal(x)
        pooled = kernels.spatial_mean(v)
        s = _gate(plain.excite_spatial, temporal_pool(u))
        t = _gate(plain.excite_temporal, pooled)
        c = _gate(plain.excite_channel, kernels.spatial_mean(u, s) + t * pooled)
        return kernels.gated_sum(u, s, c, v, t * c)


def _gate(excitation: nn.Module, pooled: Tensor) -> Tensor:
    return excitation.expand(excitation.reduce(pooled)).sigmoid_()  # type: ignore[operator]


def _eager(x: Tensor) -> bool:
    """Whether a tensor is computed with here and now, in float32 on a CPU."""
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and x.dtype == torch.float32 and not traced and torch.backends.mkldnn.is_available()


class _Tracer(fx.Tracer):
    """Follows the forward of modules down to torch's own, and those that are rewritten by themselves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        apart = (OnClips, SubOperation, TensorExcitation, TensorSeparableConv)
        return isinstance(m, apart) or super().is_leaf_module(m, module_qualified_name)


def _rewritten(module: nn.Module) -> nn.Module:
    """The module with everything in it fused; itself where nothing can be."""
    if _is_conv(module):
        return _fused(module)
    if not any(True for _ in module.children()):
        return module
    graph = None if isinstance(module, VideoModel | OnClips | SubOperation | TensorExcitation) else _traced(module)
    if graph is None:  # its forward stays as it is
        for name, child in module.named_children():
            made = _rewritten(child)
            wrapped = type(child) is nn.Sequential and made is not child  # its length may be asked for
            setattr(module, name, nn.Sequential(made) if wrapped else made)
        gated = isinstance(module, SubOperation) and module.connection == "parallel"
        gates = (module.excite_spatial, module.excite_temporal, module.excite_channel) if gated else ()
        if gates and all(isinstance(gate, TensorExcitation) for gate in gates):
            return GatedBranches(module)  # type: ignore[arg-type]
        return module
    return _fuse(fx.GraphModule(module, graph, type(module).__name__))


def _traced(module: nn.Module) -> fx.Graph | None:
    """What a module's forward does; None where that depends on its input."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.default is not p.empty or p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return traced(_Tracer(), module)


def _fuse(module: fx.GraphModule) -> nn.Module:
    """Fuse convolution, normalisation, sum and ReLU where nothing else sees what lies between."""
    graph = module.graph
    called: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        part = module.get_submodule(str(node.target))
        if _is_conv(part):
            after = _only_user(node)
            norm = module.get_submodule(str(after.target)) if after and _calls(after, module, *NORMS) else None
            norm = norm if norm and norm.track_running_stats else None
            fused = _fused(part, norm)
            name = f"fused_{len(called)}"
            called[name] = fused
            node.target = name
            module.add_submodule(name, fused)
            if after and norm:
                _replace(graph, after, node)
        elif str(node.target) not in called:
            rewritten = _rewritten(part)
            called[str(node.target)] = rewritten
            parent, _, child = str(node.target).rpartition(".")
            setattr(module.get_submodule(parent), child, rewritten)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in SUMS and len(node.args) == 2 and not node.kwargs:
            _add_residual(module, node)
    for node in list(graph.nodes):
        after = _only_user(node)
        conv = _conv_of(node, module)
        if conv is not None and after is not None and _is_relu(after, module):
            conv.relu = True
            _replace(graph, after, node)
    graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()
    calls = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(calls) == 1 and calls[0].op == "call_module" and list(calls[0].args) == inputs and not calls[0].kwargs:
        return module.get_submodule(str(calls[0].target))
    return module


def _fused(part: nn.Module, bn: nn.Module | None = None) -> nn.Module:
    """A convolution, with the normalisation after it."""
    if not isinstance(part, TensorSeparableConv):
        conv: Any = part
        if conv.padding_mode != "zeros" or conv.padding == "same":
            return nn.Sequential(part, bn) if bn else part
        return FusedConv(conv, bn)
    fused = FusedConv(part.conv, bn)
    part = copy.copy(part)
    part._modules = {"conv": fused}
    size, (t, h, w) = fused.weight.shape[0] // fused.groups, part.kernel
    flat = t == 1 or h == w == 1
    return SmallGroups(part) if flat and fused.groups > 1 and 1 < max(size, fused.weight.shape[1]) <= WIDEST else part


def _conv_of(node: fx.Node, module: fx.GraphModule) -> FusedConv | None:
    """The fused convolution that a node calls."""
    part = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(part, SmallGroups):
        return part.fused
    if isinstance(part, TensorSeparableConv):
        return part.conv  # type: ignore[return-value]
    return part if isinstance(part, FusedConv) else None


def _add_residual(module: fx.GraphModule, node: fx.Node) -> None:
    """Let the later one of two summands, if it is a convolution that nobody else sees, add the other one."""
    order = list(module.graph.nodes)
    summands = [arg for arg in node.args if isinstance(arg, fx.Node)]
    if len(summands) != 2 or summands[0] is summands[1]:
        return
    for conv in sorted(summands, key=order.index, reverse=True):
        fused = module.get_submodule(str(conv.target)) if conv.op == "call_module" else None
        if isinstance(fused, FusedConv) and len(conv.users) == 1 and len(conv.args) == 1 and not conv.kwargs:
            (other,) = [each for each in summands if each is not conv]
            node.op, node.target = "call_module", conv.target
            node.args = (conv.args[0], other)
            module.graph.erase_node(conv)
            return


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _is_conv(module: nn.Module) -> bool:
    return type(module) in CONVS or isinstance(module, TensorSeparableConv)


def _calls(node: fx.Node, module: fx.GraphModule, *kinds: type[nn.Module]) -> bool:
    return node.op == "call_module" and type(module.get_submodule(str(node.target))) in kinds


def _is_relu(node: fx.Node, module: fx.GraphModule) -> bool:
    return _calls(node, module, nn.ReLU) or (node.op.startswith("call_") and node.target in RELUS)


def _replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)

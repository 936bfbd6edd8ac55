"""The Temporal Segment Network around every backbone: frames through a 2D CNN, frame scores averaged over the clip."""

import inspect
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ctnet.models.backbones import IMAGENET_MEAN, IMAGENET_STD, RGB
from ctnet.models.modes import evaluating, in_mode
from ctnet.models.tensor_conv import OnClips, as_clips, as_frames


class VideoModel(nn.Module):
    """What all classifiers of clips here have in common: (N, 3, T, H, W) -> scores (N, num_classes).

    A subclass sets `head` and defines `forward_features` and `forward_head`.

    Args:
        num_frames: T of the clips this network is meant for, the default of `ctnet.count_cost` and of samplers.
        input_mean, input_std: of the RGB values in [0, 1], the normalisation that the input must have had.

    Attributes:
        head: the linear layer that gives the scores.
        config: the arguments of `ctnet.create_model` that build this network again, but for a head that was changed;
            None if it was built otherwise.
        classes: names of the classes, in the order of the scores, once they are known.
    """

    head: nn.Linear

    def __init__(
        self,
        num_frames: int = 8,
        input_mean: RGB = IMAGENET_MEAN,
        input_std: RGB = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.num_frames, self.input_mean, self.input_std = num_frames, input_mean, input_std
        self.config: dict[str, Any] | None = None
        self.classes: list[str] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> scores (N, num_classes).

        Raises:
            ValueError: when the input has another shape.
        """
        check_clips(x)
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T', h, w)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations of the last stage (N, C, T', h, w) -> scores (N, num_classes)."""
        raise NotImplementedError


def check_clips(x: Tensor) -> None:
    """Raise ValueError unless `x` has the shape (N, 3, T, H, W) of clips, T at least 1, and numbers with a point."""
    if x.dim() != 5 or x.shape[1] != 3 or x.shape[2] == 0:
        raise ValueError(f"expected clips of shape (N, 3, T, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected RGB values normalised by input_mean and input_std, got {x.dtype}")


class TSN(VideoModel):
    """Temporal Segment Network (Wang et al., 2016): a classifier of clips from a CNN for pictures.

    T is read from the input and handed down to the modules in the backbone that mix frames, which are wrapped in
    `OnClips`; without any, this is the TSN baseline.

    Args:
        cnn: a classifier of pictures whose children run one after the other up to a pooling layer named `avgpool`
            (torchvision's ResNets and InceptionV3) or `global_pool` (timm's), or that has `features` (torchvision's VGG
            and others).
        num_classes: of the new head.
        num_frames: T of the clips this network is meant for, the default of `ctnet.count_cost` and of samplers.
        dropout: probability, before the head.
    """

    def __init__(self, cnn: nn.Module, num_classes: int, num_frames: int = 8, dropout: float = 0.5) -> None:
        super().__init__(num_frames)
        self.backbone = Stages(trunk(cnn))
        self.dropout = nn.Dropout(dropout)
        self.head = with_small_weights(nn.Linear(_num_features(cnn, self.backbone), num_classes))

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T, h, w)."""
        frames = as_frames(x).contiguous(memory_format=torch.channels_last)
        return as_clips(self.backbone(frames, x.shape[2]), x.shape[2])

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Clips (N, 3, T, H, W) -> activations (N, C, T, h, w) of every child of the backbone, by its name.

        In a ResNet "layer1" to "layer4" are the paper's stages 2 to 5. These are copies: a layer may write over its
        input.

        Raises:
            ValueError: when the input has another shape.
        """
        check_clips(x)
        frames = as_frames(x).contiguous(memory_format=torch.channels_last)
        return {name: as_clips(found.clone(), x.shape[2]) for name, found in self.backbone.each(frames, x.shape[2])}

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations (N, C, T, h, w) -> scores (N, num_classes): pooled, scored for each frame, averaged over T."""
        pooled = nn.functional.adaptive_avg_pool2d(as_frames(features), 1).flatten(1)  # (N*T, C)
        scores = self.head(self.dropout(pooled))  # (N*T, num_classes)
        return scores.unflatten(0, (-1, features.shape[2])).mean(1)


def with_small_weights(head: nn.Linear) -> nn.Linear:
    """A head, drawn anew with small weights."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


class Stages(nn.Sequential):
    """Layers of a CNN for pictures one after the other, which tells T to those that mix frames.

    Such a layer is, or holds, an `OnClips`. It takes (frames, num_frames) already, or its forward is written anew so
    that it does: `torch.fx` hands the number on to every `OnClips` in it.

    Args:
        layers: whose names and weights these stages take over.

    Raises:
        ValueError: when the forward of a layer depends on its input or its mode, so that nothing can write it anew.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__(OrderedDict((name, _told(layer)) for name, layer in layers.named_children()))
        self.mixing = frozenset(name for name, layer in self.named_children() if _mixes_frames(layer))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:  # type: ignore[override]
        """(N*T, C, H, W), of clips of T = `num_frames` frames -> (N*T, C', H', W')."""
        for _, found in self.each(x, num_frames):
            x = found
        return x

    def each(self, x: Tensor, num_frames: int) -> Iterator[tuple[str, Tensor]]:
        """Name and output (N*T, C', H', W') of one stage after the other."""
        for name, layer in self.named_children():
            x = layer(x, num_frames) if name in self.mixing else layer(x)
            yield name, x


def _mixes_frames(module: nn.Module) -> bool:
    return any(isinstance(part, OnClips) for part in module.modules())


def _told(layer: nn.Module) -> nn.Module:
    """`layer` from (frames, num_frames) to frames if it mixes frames, otherwise as it is."""
    if not _mixes_frames(layer) or "num_frames" in inspect.signature(layer.forward).parameters:
        return layer
    if isinstance(layer, nn.Sequential):
        return Stages(layer)
    told, constants = _traced_with_frames(layer)
    kinds = {type(part).__module__ for part in layer.modules() if _mixes_frames(part)}
    if any(not kind.startswith(_MODELESS) for kind in kinds):
        with in_mode(layer, training=not layer.training):
            other, others = _traced_with_frames(layer)
        if told.code != other.code or any(not torch.equal(*pair) for pair in zip(constants, others, strict=True)):
            raise ValueError(_UNTOLD.format(type(layer).__name__, "its mode"))
    return told


_MODELESS = ("ctnet.models.", "torch.nn.", "torchvision.models.resnet", "torchvision.models.inception")
"""Where blocks are defined whose forward is known to do the same in either mode: they need not be traced twice."""


_UNTOLD = (
    "cannot tell the parts of {0} that mix frames how many there are: its forward depends on {1}. Make a module of "
    "what does, or let the forward take (x, num_frames) and call those parts with both"
)


def _traced_with_frames(layer: nn.Module) -> tuple[fx.GraphModule, list[Tensor]]:
    """`layer` in its present mode, from (frames, num_frames) to frames, and the tensors that its forward makes."""
    own = set(vars(layer))
    try:
        graph = _Tracer().trace(layer)
    except Exception as error:  # whatever a forward does with what is no tensor
        raise ValueError(_UNTOLD.format(type(layer).__name__, f"its input ({error})")) from error
    (frames,) = graph.find_nodes(op="placeholder")
    with graph.inserting_after(frames):
        num_frames = graph.placeholder("num_frames")
    for node in graph.find_nodes(op="call_module"):
        if isinstance(layer.get_submodule(node.target), OnClips):
            node.args = (*node.args, num_frames)
    module = _with_dropout_as_modules(fx.GraphModule(layer, graph, type(layer).__name__))
    return module, [vars(layer).pop(name) for name in list(vars(layer)) if name not in own]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, OnClips) or not _mixes_frames(m)


def _with_dropout_as_modules(module: fx.GraphModule) -> fx.GraphModule:
    """Dropout that a forward calls as a function was traced in one mode; as a module it follows the network's."""
    for number, node in enumerate(module.graph.find_nodes(op="call_function", target=nn.functional.dropout)):
        name = f"dropout_{number}"
        module.add_submodule(name, nn.Dropout(node.kwargs["p"]))
        node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1], {}
    if fixed := [str(node.target) for node in module.graph.nodes if "training" in node.kwargs]:
        raise ValueError(f"a block that mixes frames calls {fixed[0]}, which depends on its mode: use its module")
    module.recompile()
    return module


class _Children(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def traced(tracer: fx.Tracer, module: nn.Module) -> fx.Graph | None:
    """What a module's forward does, down to the leaves of a tracer; None where that depends on its input."""
    own = set(vars(module))
    try:
        return tracer.trace(module)
    except Exception:  # whatever a forward does with what is no tensor
        return None
    finally:
        for name in set(vars(module)) - own:  # tensors that its forward makes
            del vars(module)[name]


def calls_of_children(module: nn.Module) -> fx.Graph | None:
    """What a module's forward does with its children; None where that depends on its input."""
    return traced(_Children(), module)


_POOLS = ("avgpool", "global_pool")
"""Names of the pooling layer behind the features: torchvision's, and timm's."""


def trunk(cnn: nn.Module) -> nn.Sequential:
    """The stages of a CNN for pictures up to its last feature map, under their own names.

    A ReLU that DenseNet's forward applies to its `features` becomes a stage.

    Raises:
        ValueError: when it has neither children up to one named `avgpool` or `global_pool` nor a sequential child named
            `features`, or its forward does more between these children than to call one after the other.
    """
    graph = calls_of_children(cnn)
    features = getattr(cnn, "features", None)
    if isinstance(features, nn.Sequential):
        stages = OrderedDict(features.named_children())
        ends = graph.find_nodes(op="call_module", target="features") if graph else ()
        if any(user.target in (torch.relu, nn.functional.relu) for end in ends for user in end.users):
            stages["relu"] = nn.ReLU()
        return nn.Sequential(stages)
    stages = OrderedDict()
    for name, child in cnn.named_children():
        if name in _POOLS:
            if graph:
                _check_order(graph, list(stages), name, cnn)
            return nn.Sequential(stages)
        if not name.lower().startswith("aux"):
            stages[name] = child
    raise ValueError(
        f"cannot find where the features of {type(cnn).__name__} end: "
        "expected children up to one named 'avgpool' or 'global_pool', or a sequential child named 'features'"
    )


def _check_order(graph: fx.Graph, stages: list[str], pool: str, cnn: nn.Module) -> None:
    """Raise ValueError unless the stages are called one after the other, and their end goes to the pooling layer.

    What does nothing may stand between them.
    """

    at: Any = next(iter(graph.find_nodes(op="call_module", target=pool)), None)
    for name in reversed(stages):
        at = _input(at)
        while _calls(at) and at.target != name and isinstance(cnn.get_submodule(at.target), nn.Identity):
            at = _input(at)
        if not _calls(at) or at.target != name:
            does = f"calls {at.name}" if isinstance(at, fx.Node) else "does something else"
            raise ValueError(
                f"cannot take {type(cnn).__name__} apart: its forward {does} where its children would have {name} "
                "called: make a module of whatever happens between its children, and list them in the order of calls"
            )


def _calls(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_module"


def _input(node: Any) -> Any:
    return node.args[0] if isinstance(node, fx.Node) and node.args else None


@torch.no_grad()
def _num_features(cnn: nn.Module, stages: Stages) -> int:
    """Channels of the stages' feature map: what the classifier behind their average takes, or from an empty picture."""
    children = dict(cnn.named_children())
    pool, behind = next((children[name] for name in _POOLS if name in children), None), [*children.values()][-1]
    if isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1)) and isinstance(behind, nn.Linear):
        return behind.in_features
    with evaluating(stages):
        like = next(stages.parameters())
        return int(stages(torch.zeros(1, 3, 96, 96, device=like.device, dtype=like.dtype), 1).shape[1])

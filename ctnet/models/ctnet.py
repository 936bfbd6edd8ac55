"""CT-Net (section 3.3, Fig. 2): a CNN for pictures whose 3 x 3 convolutions become CT-Modules."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import nn
from torchvision.models.inception import BasicConv2d

from ctnet.models.backbones import (
    BACKBONES,
    BLOCKS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_NORMALISATION,
    RGB,
    Backbone,
    Rule,
    create_backbone,
    with_last_stride,
)
from ctnet.models.ct_module import CTModule, c3d_module, csn_module, r2plus1d_module
from ctnet.models.registry import register
from ctnet.models.tensor_conv import OnClips
from ctnet.models.tsn import TSN, calls_of_children


def select_convs(cnn: nn.Module, rule: Rule) -> list[str]:
    """Names of the convolutions of `cnn` that a rule picks.

    In each stage (child of the network) the 3 x 3 convolutions over all channels are numbered from 0: in a ResNet
    of bottlenecks the numbers are those of the blocks. "odd" picks the odd numbers ("we replace one of every two
    ResBlocks", section 3.3) and "after_first" those above 0; both pass over what a module cannot replace.

    Raises:
        ValueError: when the rule is unknown or picks nothing, or names a convolution that does not exist, or that has
            groups, a stride, a dilation, or a padding which changes the size.
    """
    stages: dict[str, list[str]] = {}
    replaceable: dict[str, bool] = {}
    for name, module in cnn.named_modules():
        if isinstance(module, nn.Conv2d):
            replaceable[name] = _keeps_size(module) and module.groups == 1
            if module.kernel_size == (3, 3) and module.groups == 1:
                stages.setdefault(name.split(".")[0], []).append(name)
    if isinstance(rule, str):
        if rule not in ("none", "odd", "after_first"):
            raise ValueError(f'unknown rule {rule!r}: give "none", "odd", "after_first", {{stage: numbers}} or names')
        first, step = {"none": (0, 0), "odd": (1, 2), "after_first": (1, 1)}[rule]
        picked = [name for convs in stages.values() for name in convs[first::step]] if step else []
        if step and not any(replaceable[name] for name in picked):
            raise ValueError(f'{rule!r} finds no dense 3 x 3 convolution of stride 1: name some, or give "none"')
        return [name for name in picked if replaceable[name]]
    if isinstance(rule, Mapping):
        try:
            picked = [stages[stage][number] for stage, numbers in rule.items() for number in numbers]
        except (KeyError, IndexError):
            counts = {stage: len(convs) for stage, convs in stages.items()}
            raise ValueError(f"{dict(rule)} names convolutions that are not there: the stages have {counts}") from None
        except TypeError:
            raise ValueError(f"{dict(rule)} is no rule: give each stage a list of numbers, such as [0, 2]") from None
    else:
        picked = list(rule)
    if len(set(picked)) < len(picked):
        raise ValueError(f"{rule} names a convolution twice")
    unfit = [name for name in picked if not replaceable.get(name)]
    if unfit:
        needed = "a dense convolution in this network, of stride and dilation 1, whose map has its input's size"
        raise ValueError(f"cannot replace {', '.join(unfit)}: not {needed}")
    return picked


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution reads close neighbours and gives a map of its input's size, as the modules do."""
    padding = tuple(extent // 2 for extent in conv.kernel_size)
    odd = all(extent % 2 for extent in conv.kernel_size)
    return conv.stride == conv.dilation == (1, 1) and (conv.padding == "same" or (odd and conv.padding == padding))


def replace_convs(cnn: nn.Module, names: Sequence[str], module: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """A copy of `cnn` with `module(in_channels, out_channels, **options)` in the place of the named convolutions.

    The modules normalise and rectify their own output. So a batch normalisation that a replaced convolution feeds is
    dropped, as is the rest of torchvision's BasicConv2d. (It stays in a block whose forward depends on its input, since
    nothing can tell what is fed there.) Activations beside and behind it no longer write over their input, which the
    module's own last ReLU needs for its gradient. A module with a parameter `conv` is also given the convolution.
    """
    cnn = copy.deepcopy(cnn)
    takes_conv = "conv" in _arguments(module)
    for name in names:
        conv = cnn.get_submodule(name)
        given = options | {"conv": conv} if takes_conv else options
        replacement = OnClips(module(conv.in_channels, conv.out_channels, **given))
        parent_name, _, child = name.rpartition(".")
        parent = cnn.get_submodule(parent_name)
        if isinstance(parent, BasicConv2d):
            outer, _, child = parent_name.rpartition(".")
            setattr(cnn.get_submodule(outer), child, replacement)
            continue
        setattr(parent, child, replacement)
        following = _following(parent, child)
        if following and isinstance(parent.get_submodule(following), nn.BatchNorm2d):
            outer, _, leaf = following.rpartition(".")
            setattr(parent.get_submodule(outer), leaf, nn.Identity())
        for following_layer in (*parent.children(), *_behind(cnn, parent_name)):
            if hasattr(following_layer, "inplace"):
                following_layer.inplace = False  # type: ignore[assignment]
    return cnn


def _arguments(module: Callable[..., nn.Module]) -> list[str]:
    """Names of a module's arguments behind the two numbers of channels; "*" where any are taken."""
    channels, further = 2, []
    for each in inspect.signature(module).parameters.values():
        if channels and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            channels -= 1
        elif each.kind is not each.VAR_POSITIONAL:
            further.append("*" if each.kind is each.VAR_KEYWORD else each.name)
    return further


def _behind(cnn: nn.Module, name: str) -> Iterator[nn.Module]:
    """The layers that stand behind the module of this name, on every level up to the network itself."""
    while name:
        name, _, child = name.rpartition(".")
        holder = cnn.get_submodule(name)
        names = [other for other, _ in holder.named_children()]
        for other in names[names.index(child) + 1 :]:
            layer = holder.get_submodule(other)
            while isinstance(layer, nn.Sequential) and len(layer):
                layer = layer[0]
            yield layer


def _following(parent: nn.Module, child: str) -> str | None:
    """The only child of `parent` that is called with what another gives, where that can be told."""
    graph = calls_of_children(parent)
    calls = graph.find_nodes(op="call_module", target=child) if graph else ()
    users = [user for call in calls for user in call.users]
    return users[0].target if len(users) == 1 and users[0].op == "call_module" else None


def tensorize(
    cnn: nn.Module,
    rule: Rule = "odd",
    *,
    num_classes: int | None = None,
    num_frames: int = 8,
    dropout: float = 0.5,
    module: Callable[..., nn.Module] = CTModule,
    **options: Any,
) -> TSN:
    """Make a CT-Net of any CNN with 3 x 3 convolutions (section 3.3, A.6); `cnn` itself is left as it is.

    Args:
        cnn: a classifier of pictures, torchvision's ResNets, InceptionV3, VGGs and others built like them.
        rule: which convolutions become CT-Modules, see `select_convs`. The modules end in a ReLU: best where another
            convolution follows, as in bottlenecks; a block of ResNet-18 or 34 can then only add to its input.
        num_classes: of the new head; as many as the CNN's own unless given.
        num_frames: T that the network is meant for; it accepts any.
        dropout: before the head.
        module: what replaces a convolution, called with its input and output channels, see `register_module`.
        options: passed on to `module`; for a `CTModule` its sizes, kernels, connection, excitation, pointwise.

    Raises:
        ValueError: when the CNN cannot be taken apart into stages, a block's forward depends on its input or its mode,
            or no dense convolution of stride 1 is found.

    Returns:
        A network from clips (N, 3, T, H, W) to scores (N, num_classes). Its `input_mean` and `input_std` are those of
        ImageNet, or of torchvision's InceptionV3 where `cnn` has its weights.
    """
    if num_classes is None:
        heads = [layer.out_features for layer in cnn.modules() if isinstance(layer, nn.Linear)]
        if not heads:
            raise ValueError(f"{type(cnn).__name__} has no linear head: give num_classes")
        num_classes = heads[-1]
    model = TSN(replace_convs(cnn, select_convs(cnn, rule), module, **options), num_classes, num_frames, dropout)
    if getattr(cnn, "transform_input", False):
        model.input_mean = model.input_std = INCEPTION_NORMALISATION
    return model


Module = TypeVar("Module", bound=Callable[..., nn.Module])


def register_module(prefix: str, version: int = 1) -> Callable[[Module], Module]:
    """Decorator: let a module take the place of 3 x 3 convolutions, as "<prefix>_<backbone>" in every backbone.

    The module is called with the input and output channels and the model's options, which are its further arguments;
    with `**options` any are passed on. The weights of the convolution that it replaces are not handed on, and the batch
    normalisation behind that is dropped, so the module must normalise its own output. One with a parameter `conv` is
    given the convolution there, and may keep its pretrained weights.

    Register one of your own, and `create_model`, training, checkpoints and costs know it in every backbone.

    Args:
        prefix: first part of the models' names.
        version: of the module's behaviour, see `register`.
    """

    def add(module: Module) -> Module:
        MODULES[prefix] = (module, version)
        for name, backbone in BACKBONES.items():
            if backbone.rule is not None:
                _register_pair(prefix, name)
        return module

    return add


Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


def register_backbone(
    name: str,
    rule: Rule = "odd",
    *,
    mean: RGB = IMAGENET_MEAN,
    std: RGB = IMAGENET_STD,
    version: int = 1,
) -> Callable[[Builder], Builder]:
    """Decorator: let a CNN for pictures carry every module, as "<module>_<name>": "ctnet_mine", "csn_mine", "tsn_mine".

    What is decorated builds the CNN, see `TSN` for those that can be taken apart. If it has an argument `weights`, None
    or "imagenet", it is called with it, and the networks can start from those weights. A ResNet, whose last stage is
    named `layer4`, has the option `last_stride`.

    Args:
        name: last part of the models' names.
        rule: which of its convolutions become CT-Modules unless the option `blocks` says otherwise, see
            `select_convs`.
        mean, std: of the RGB values in [0, 1] that the CNN was trained with.
        version: of its behaviour, see `register`.
    """

    def add(build: Builder) -> Builder:
        BACKBONES[name] = Backbone(build, rule, (mean, std), version)
        _register_on(name)
        return build

    return add


def _register_on(name: str) -> None:
    backbone = BACKBONES[name]
    known = register(f"tsn_{name}", version=backbone.version, pretrained=backbone.has_weights, options=("last_stride",))
    known(partial(_tsn, name))
    for prefix in MODULES:
        _register_pair(prefix, name)


MODULES: dict[str, tuple[Callable[..., nn.Module], int]] = {}
"""First part of models' names -> the module that takes the place of their convolutions, and its version."""


def _register_pair(prefix: str, name: str) -> None:
    (module, version), backbone = MODULES[prefix], BACKBONES[name]
    options = [option for option in _arguments(module) if option != "conv"]
    register(
        f"{prefix}_{name}",
        version=version + backbone.version - 1,
        pretrained=backbone.has_weights,
        options=(*options, "blocks", "last_stride"),
    )(partial(_with_module, module, name))


def _with_module(
    module: Callable[..., nn.Module],
    backbone: str,
    *,
    num_classes: int,
    num_frames: int,
    dropout: float,
    weights: str | None = None,
    blocks: int | Rule | None = None,
    last_stride: int = 2,
    **options: Any,
) -> TSN:
    cnn = create_backbone(backbone, weights)
    cnn = replace_convs(cnn, select_convs(cnn, rule_of(backbone, blocks)), module, **options)
    return _on_backbone(cnn, backbone, last_stride, num_classes, num_frames, dropout)


def _tsn(
    backbone: str,
    *,
    num_classes: int,
    num_frames: int,
    dropout: float,
    weights: str | None = None,
    last_stride: int = 2,
) -> TSN:
    return _on_backbone(create_backbone(backbone, weights), backbone, last_stride, num_classes, num_frames, dropout)


def _on_backbone(
    cnn: nn.Module, backbone: str, last_stride: int, num_classes: int, num_frames: int, dropout: float
) -> TSN:
    """The network on a backbone, whose input is normalised as the backbone's was."""
    model = TSN(with_last_stride(cnn, last_stride), num_classes, num_frames, dropout)
    model.input_mean, model.input_std = BACKBONES[backbone].normalisation
    return model


def rule_of(backbone: str, blocks: int | Rule | None = None) -> Rule:
    """Which convolutions of a backbone of `BACKBONES` become CT-Modules, by the option `blocks` of `create_model`."""
    if blocks is None:
        rule = BACKBONES[backbone].rule
        assert rule is not None, "only backbones with a rule carry modules"
        return rule
    if not isinstance(blocks, int):
        return blocks
    if blocks not in BLOCKS or backbone not in ("r50", "r50_twin"):
        known = ", ".join(map(str, BLOCKS))
        raise ValueError(f"no rule for {blocks} blocks of {backbone}; for ResNet-50 there are rules for {known}")
    return BLOCKS[blocks]


for _name, _backbone in BACKBONES.items():
    if _backbone.rule is not None:
        _register_on(_name)
register_module("ctnet")(CTModule)
register_module("c3d")(c3d_module)
register_module("r2plus1d")(r2plus1d_module)
register_module("csn")(csn_module)

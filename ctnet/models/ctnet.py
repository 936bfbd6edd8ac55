"""CT-Net (section 3.3, Fig. 2): a CNN for pictures whose 3 x 3 convolutions become CT-Modules."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torchvision.models.inception import BasicConv2d

from ctnet.errors import did_you_mean
from ctnet.models.backbones import create_backbone
from ctnet.models.ct_module import CTModule, c3d_module, csn_module, r2plus1d_module
from ctnet.models.official import load_official_checkpoint
from ctnet.models.peers import PEERS
from ctnet.models.tensor_conv import OnClips
from ctnet.models.tsn import TSN, VideoModel

Rule = str | Mapping[str, Sequence[int]] | Sequence[str]
"""Which 3 x 3 convolutions to replace: "none", "odd", "after_first", {stage: numbers}, or names of the convolutions."""

MODULES: dict[str, Callable[..., nn.Module] | None] = {
    "tsn": None,
    "ctnet": CTModule,
    "c3d": c3d_module,
    "r2plus1d": r2plus1d_module,
    "csn": csn_module,
}
"""What takes the place of the 3 x 3 convolutions, by the first part of a model's name.

It is called with the input and output channels and the model's options. Add a module of your own under a new name, and
`create_model`, training, checkpoints and costs know it in every backbone.
"""

BLOCKS: dict[int, dict[str, tuple[int, ...]]] = {
    0: {},
    1: {"layer4": (1,)},
    4: {"layer3": (1, 3, 5), "layer4": (1,)},
    6: {"layer2": (1, 3), "layer3": (1, 3, 5), "layer4": (1,)},
    7: {"layer1": (1,), "layer2": (1, 3), "layer3": (1, 3, 5), "layer4": (1,)},
    12: {"layer1": (1, 2), "layer2": (1, 2, 3), "layer3": (1, 2, 3, 4, 5), "layer4": (1, 2)},
}
"""Table 2e: the blocks of ResNet-50 that are replaced, by their number. Stage s of the paper is layer s - 1 here."""

R101_BLOCKS = {"layer1": (1,), "layer2": (1, 3), "layer3": (1, 3, 5, 7, 9, 11, 13), "layer4": (1,)}
"""1, 2, 7 and 1 blocks of ResNet-101. Inferred: the paper does not tell, these fit Table 4's 145.5 GFLOPs."""

INCEPTION_CONVS = (
    "Mixed_5c.branch5x5_2.conv",
    "Mixed_5c.branch3x3dbl_2.conv",
    "Mixed_5c.branch3x3dbl_3.conv",
    "Mixed_7c.branch3x3dbl_2.conv",
)
"""Convolutions of InceptionV3. Inferred: no code was released, these fit Table 8's 43.9 GFLOPs and 20.9 M."""

INCEPTION_NORMALISATION = (0.5, 0.5, 0.5)
"""Mean and deviation of RGB for torchvision's InceptionV3: its weights expect values from -1 to 1."""

_RULES: dict[str, Rule] = {
    "r50": BLOCKS[7],
    "r50_twin": BLOCKS[7],
    "r101": R101_BLOCKS,
    "r101_twin": R101_BLOCKS,
    "inceptionv3": INCEPTION_CONVS,
    "inceptionv3_twin": INCEPTION_CONVS,
}


def select_convs(cnn: nn.Module, rule: Rule) -> list[str]:
    """Names of the convolutions of `cnn` that a rule picks.

    In each stage (child of the network) the 3 x 3 convolutions over all channels are numbered from 0: in a ResNet
    of bottlenecks the numbers are those of the blocks. "odd" picks the odd numbers ("we replace one of every two
    ResBlocks", section 3.3) and "after_first" those above 0; both pass over strided convolutions.

    Raises:
        ValueError: when the rule is unknown or picks nothing, or names a convolution that does not exist or has a
            stride.
    """
    stages: dict[str, list[str]] = {}
    replaceable: dict[str, bool] = {}
    for name, module in cnn.named_modules():
        if isinstance(module, nn.Conv2d):
            replaceable[name] = module.stride == (1, 1) and module.groups == 1
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
    else:
        picked = list(rule)
    unfit = [name for name in picked if not replaceable.get(name)]
    if unfit:
        raise ValueError(f"cannot replace {', '.join(unfit)}: not a dense convolution of stride 1 in this network")
    return picked


def replace_convs(cnn: nn.Module, names: Sequence[str], module: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """A copy of `cnn` with `module(in_channels, out_channels, **options)` in the place of the named convolutions.

    The modules normalise and rectify their own output. So a batch normalisation that follows a replaced convolution is
    dropped, as is the rest of torchvision's BasicConv2d; a ReLU that follows no longer writes over its input, which
    the module's own last ReLU needs for its gradient.
    """
    cnn = copy.deepcopy(cnn)
    for name in names:
        conv = cnn.get_submodule(name)
        replacement = OnClips(module(conv.in_channels, conv.out_channels, **options))
        parent_name, _, child = name.rpartition(".")
        parent = cnn.get_submodule(parent_name)
        if isinstance(parent, BasicConv2d):
            outer, _, child = parent_name.rpartition(".")
            setattr(cnn.get_submodule(outer), child, replacement)
            continue
        setattr(parent, child, replacement)
        siblings = list(parent.named_children())
        following = siblings[[sibling for sibling, _ in siblings].index(child) + 1 :]
        if following and isinstance(following[0][1], nn.BatchNorm2d):
            setattr(parent, following[0][0], nn.Identity())
        for _, sibling in siblings:
            if isinstance(sibling, nn.ReLU):
                sibling.inplace = False
    return cnn


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
        module: what replaces a convolution, called with its input and output channels.
        options: passed on to `module`; for a `CTModule` its sizes, kernels, connection, excitation, pointwise.

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


def list_models() -> list[str]:
    """Names that `create_model` knows: every module of `MODULES` in every backbone, and the peers."""
    return [f"{module}_{backbone}" for backbone in _RULES for module in MODULES] + list(PEERS)


VERSIONS: dict[str, int] = {}
"""Network -> version of its behaviour, where that is not 1. Raise it when the same weights give other scores, when a
fresh network starts from other weights, or when its cost changes: results of older versions are then stale."""


def network_version(name: str) -> int:
    """Version of a network's behaviour, by a name of `list_models`; results record it."""
    return VERSIONS.get(name, 1)


def _rule(backbone: str, blocks: int | Rule | None) -> Rule:
    if blocks is None:
        return _RULES[backbone]
    if not isinstance(blocks, int):
        return blocks
    if blocks not in BLOCKS or not backbone.startswith("r50"):
        known = ", ".join(map(str, BLOCKS))
        raise ValueError(f"no rule for {blocks} blocks of {backbone}; for ResNet-50 there are rules for {known}")
    return BLOCKS[blocks]


def create_model(
    name: str,
    num_classes: int = 174,
    num_frames: int = 8,
    *,
    weights: str | None = None,
    checkpoint: str | None = None,
    dropout: float = 0.5,
    blocks: int | Rule | None = None,
    **options: Any,
) -> VideoModel:
    """Build a network by name, such as "ctnet_r50", "tsn_r101", "csn_r50" or "ctnet_inceptionv3".

    Args:
        name: one of `list_models()`.
        num_classes: of the head; 174 in Something-Something, 400 in Kinetics-400.
        num_frames: T of the clips the network is meant for; it accepts any.
        weights: "imagenet" starts the backbone from torchvision's weights; everything else, and all without it, is
            random.
        checkpoint: a file of the authors' code to load, see `load_official_checkpoint`.
        dropout: before the head; 0.3 for Something-Something and 0.5 for Kinetics in the paper (A.1).
        blocks: how many blocks of a ResNet-50 to replace (Table 2e: 0, 1, 4, 6, 7 or 12), or a rule of
            `select_convs`; the paper's choice for the backbone unless given.
        options: of the module; for the `CTModule` sizes, kernels, connection, excitation, pointwise.

    Returns:
        A network from clips (N, 3, T, H, W) to scores (N, num_classes).

    Raises:
        ValueError: for an unknown name or option.
        RuntimeError: when ImageNet weights cannot be downloaded.
    """
    prefix, _, backbone = name.partition("_")
    if name not in list_models():
        raise ValueError(f"unknown model {name!r}; {did_you_mean(name, list_models())} `ctnet models` lists all")
    module = MODULES.get(prefix)
    known = list(inspect.signature(module).parameters)[2:] if module else []
    if unknown := [option for option in options if option not in known]:
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise ValueError(f"{name} has no option {', '.join(unknown)}; {there}")
    if module is None and blocks is not None:
        raise ValueError(f"{name} replaces no blocks: leave out blocks={blocks!r}")
    model: VideoModel
    if name in PEERS:
        model = PEERS[name](num_classes=num_classes, num_frames=num_frames, dropout=dropout, weights=weights)
    else:
        cnn = create_backbone(backbone, weights)
        if module is not None:
            cnn = replace_convs(cnn, select_convs(cnn, _rule(backbone, blocks)), module, **options)
        model = TSN(cnn, num_classes, num_frames, dropout)
    model.config = {"name": name, "num_classes": num_classes, "num_frames": num_frames, "dropout": dropout} | options
    if blocks is not None:
        model.config["blocks"] = blocks
    if backbone.startswith("inceptionv3"):
        model.input_mean = model.input_std = INCEPTION_NORMALISATION
    if checkpoint is not None:
        load_official_checkpoint(model, checkpoint)
    return model

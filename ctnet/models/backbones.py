"""The 2D CNNs that become CT-Net: torchvision's, and narrow twins of them for small-scale studies."""

import inspect
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import nn
from torchvision.models.inception import BasicConv2d
from torchvision.models.resnet import Bottleneck

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)

Rule = str | Mapping[str, Sequence[int]] | Sequence[str]
"""Which 3 x 3 convolutions to replace: "none", "odd", "after_first", {stage: numbers}, or names of the convolutions."""

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

INCEPTION_NORMALISATION: RGB = (0.5, 0.5, 0.5)
"""Mean and deviation of RGB for torchvision's InceptionV3: its weights expect values from -1 to 1."""


def resnet_twin(
    layers: tuple[int, int, int, int] = (3, 4, 6, 3), width: int = 16, num_classes: int = 1000
) -> nn.Module:
    """A narrow ResNet-50 (or -26, -101) for pictures of 32 x 32: same blocks, stem of stride 2, no max-pool.

    Args:
        layers: bottleneck blocks of the four stages; (2, 2, 2, 2) of ResNet-26.
        width: channels of the stem and of the first stage's 3 x 3 convolutions, 64 in ResNet-50.
        num_classes: of the head.
    """
    children: OrderedDict[str, nn.Module] = OrderedDict()
    children["conv1"] = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    children["bn1"] = nn.BatchNorm2d(width)
    children["relu"] = nn.ReLU(inplace=True)
    channels = width
    for stage, blocks in enumerate(layers):
        planes, stride = width * 2**stage, 1 if stage == 0 else 2
        shortcut = nn.Sequential(
            nn.Conv2d(channels, 4 * planes, 1, stride=stride, bias=False), nn.BatchNorm2d(4 * planes)
        )
        stack = [Bottleneck(channels, planes, stride, shortcut)]
        channels = 4 * planes
        stack += [Bottleneck(channels, planes) for _ in range(blocks - 1)]
        children[f"layer{stage + 1}"] = nn.Sequential(*stack)
    children |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(channels, num_classes)}
    for module in nn.Sequential(children).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(children)


def inceptionv3_twin(num_classes: int = 1000) -> nn.Module:
    """A narrow InceptionV3 for pictures of 32 x 32: same blocks, every width a quarter, stem of stride 2, no max-pool.

    Args:
        num_classes: of the head.
    """
    cnn = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=False)
    for module in cnn.modules():
        if isinstance(module, BasicConv2d):
            conv, first = module.conv, module.conv.in_channels == 3
            into, out = conv.in_channels // (1 if first else 4), conv.out_channels // 4
            module.conv = nn.Conv2d(into, out, conv.kernel_size, conv.stride, conv.padding, bias=False)
            module.bn = nn.BatchNorm2d(out, eps=0.001)
            nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
    for stem in (cnn.Conv2d_1a_3x3, cnn.Conv2d_2a_3x3, cnn.Conv2d_4a_3x3):
        stem.conv.padding = (1, 1)
    cnn.maxpool1 = cnn.maxpool2 = nn.Identity()
    cnn.fc = nn.Linear(cnn.fc.in_features // 4, num_classes)
    cnn.transform_input = False
    return cnn


def with_last_stride(cnn: nn.Module, stride: int) -> nn.Module:
    """Let the last stage of a ResNet halve its maps, as it does (2), or leave their size as it is (1); returns `cnn`.

    With 1 the last maps have four times as many positions, and the weights are the same.

    Raises:
        ValueError: for another stride, or 1 where no stage is named `layer4`.
    """
    if stride not in (1, 2):
        raise ValueError(f"last_stride must be 1 or 2, got {stride!r}")
    if stride == 1:
        stages = dict(cnn.named_children())
        if "layer4" not in stages:
            raise ValueError(f"last_stride is an option of ResNets: {type(cnn).__name__} has no stage named layer4")
        for module in stages["layer4"].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    return cnn


def create_backbone(name: str, weights: str | None = None) -> nn.Module:
    """Build a 2D CNN by name: r18, r34, r50, r101, inceptionv3, googlenet (torchvision's), r26_twin, r50_twin,
    r101_twin, inceptionv3_twin, or one of `ctnet.models.register_backbone`.

    Args:
        name: of the network.
        weights: "imagenet" for torchvision's IMAGENET1K_V1 weights, downloaded once into torch's hub folder.

    Raises:
        ValueError: for an unknown name, or for weights that do not exist.
        RuntimeError: when the weights cannot be downloaded.
    """
    if weights not in (None, "imagenet"):
        raise ValueError(f'weights must be None or "imagenet", got {weights!r}')
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; known are {', '.join(BACKBONES)}")
    backbone = BACKBONES[name]
    if weights is None:
        return backbone.build()
    if not backbone.has_weights:
        raise ValueError(f"there are no ImageNet weights for the backbone {name!r}")
    return backbone.build(weights=weights)


@dataclass(frozen=True)
class Backbone:
    """A CNN for pictures that video networks are made of.

    Attributes:
        build: without arguments; with `weights`, None or "imagenet", where there are ImageNet's.
        rule: which of its convolutions become CT-Modules; None where it carries no modules by name.
        normalisation: mean and deviation of the RGB values in [0, 1] that it is trained with.
        version: of its behaviour, see `ctnet.models.register`.
    """

    build: Callable[..., nn.Module]
    rule: Rule | None = None
    normalisation: tuple[RGB, RGB] = (IMAGENET_MEAN, IMAGENET_STD)
    version: int = 1

    @property
    def has_weights(self) -> bool:
        """Whether it comes with ImageNet weights."""
        return "weights" in inspect.signature(self.build).parameters


def _torchvisions(name: str, weights: str | None = None, **fresh: Any) -> nn.Module:
    """One of torchvision's networks; `fresh` are arguments of its builder where weights are random."""
    builder = torchvision.models.get_model_builder(name)
    try:
        return builder(weights="IMAGENET1K_V1") if weights else builder(**fresh)
    except (URLError, OSError) as error:
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        raise RuntimeError(
            f"cannot download the ImageNet weights of {name} ({error}): "
            f"put torchvision's file into {folder}, or build the model with weights=None"
        ) from error


_INCEPTIONS = (INCEPTION_NORMALISATION, INCEPTION_NORMALISATION)
BACKBONES: dict[str, Backbone] = {
    "r18": Backbone(partial(_torchvisions, "resnet18")),
    "r34": Backbone(partial(_torchvisions, "resnet34")),
    "r50": Backbone(partial(_torchvisions, "resnet50"), BLOCKS[7]),
    "r101": Backbone(partial(_torchvisions, "resnet101"), R101_BLOCKS),
    "inceptionv3": Backbone(partial(_torchvisions, "inception_v3", init_weights=True), INCEPTION_CONVS, _INCEPTIONS),
    "googlenet": Backbone(partial(_torchvisions, "googlenet", init_weights=True, aux_logits=False)),
    "r26_twin": Backbone(lambda: resnet_twin((2, 2, 2, 2)), "odd"),
    "r50_twin": Backbone(resnet_twin, BLOCKS[7]),
    "r101_twin": Backbone(lambda: resnet_twin((3, 4, 23, 3)), R101_BLOCKS),
    "inceptionv3_twin": Backbone(inceptionv3_twin, INCEPTION_CONVS, _INCEPTIONS),
}
"""Backbones by name. `ctnet.models.register_backbone` adds to them."""

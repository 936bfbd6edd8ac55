"""I3D (Carreira & Zisserman, 2017): a CNN for pictures whose layers get an extent in time."""

import copy
from collections.abc import Mapping

from torch import nn

from ctnet.models.backbones import create_backbone
from ctnet.models.peers.network3d import Network3D
from ctnet.models.registry import register
from ctnet.models.tsn import trunk, with_small_weights

Temporal = Mapping[str, tuple[int, int]]
"""Name of a convolution or pooling layer -> its kernel and its stride in time."""

INCEPTION: Temporal = {
    "conv1.conv": (7, 2),
    "maxpool1": (1, 1),
    "maxpool2": (1, 1),
    "maxpool3": (3, 2),
    "maxpool4": (2, 2),
}
"""Fig. 3: time is halved by the first convolution and the last two pooling layers; other kernels are cubes."""


def inflate(stages: nn.Sequential, temporal: Temporal, cubes: bool = False) -> nn.Sequential:
    """A copy of a 2D CNN for clips: k x k layers become t x k x k (section 2.4).

    A kernel is repeated t times and divided by t. So a clip that repeats one picture gives that picture's activations,
    but for frames near the ends of the clip, where the padding comes in.

    Args:
        stages: from pictures (N, 3, H, W) to activations (N, C, h, w).
        temporal: t and the stride in time, of the layers named.
        cubes: what t is for other layers: k if set, otherwise 1; their stride in time is 1.
    """
    stages = copy.deepcopy(stages)
    for name, module in list(stages.named_modules()):
        inflated: nn.Module
        if isinstance(module, nn.BatchNorm2d):
            inflated = nn.BatchNorm3d(module.num_features, module.eps, module.momentum)
            inflated.load_state_dict(module.state_dict())
        elif isinstance(module, nn.Conv2d | nn.MaxPool2d):
            k = _side(module.kernel_size)
            inflated = _inflated(module, *temporal.get(name, (k if cubes else 1, 1)))
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(stages.get_submodule(parent), child, inflated)
    return stages


def _inflated(layer: nn.Conv2d | nn.MaxPool2d, t: int, stride: int) -> nn.Module:
    kernel, strides = (t, *_pair(layer.kernel_size)), (stride, *_pair(layer.stride))
    if isinstance(layer, nn.MaxPool2d):
        padding = (t // 2 if _side(layer.padding) else 0, *_pair(layer.padding))
        return nn.MaxPool3d(kernel, strides, padding, ceil_mode=layer.ceil_mode)
    padding = (t // 2, *_pair(layer.padding))  # type: ignore[arg-type]
    conv = nn.Conv3d(
        layer.in_channels,
        layer.out_channels,
        kernel,
        strides,
        padding,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    state = layer.state_dict()
    state["weight"] = state["weight"].unsqueeze(2).repeat(1, 1, t, 1, 1) / t  # (out, in, t, k, k)
    conv.load_state_dict(state)
    return conv


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _side(value: object) -> int:
    return _pair(value)[0]  # type: ignore[arg-type]


@register("i3d_inception", pretrained=True)
def i3d_inception(
    num_classes: int = 400, num_frames: int = 64, dropout: float = 0.5, weights: str | None = None
) -> Network3D:
    """I3D from Inception-V1 with batch normalisation: every k x k kernel is a k x k x k one; T is 3 or more.

    Table 4's clips are 64 x 224 x 224. The input is normalised to [-1, 1].
    """
    cnn, half = create_backbone("googlenet", weights), (0.5, 0.5, 0.5)
    head = with_small_weights(nn.Linear(1024, num_classes))
    backbone = inflate(trunk(cnn), INCEPTION, cubes=True)
    return Network3D(backbone, head, num_frames, dropout, input_mean=half, input_std=half)


def inflated_resnet(depth: int, weights: str | None = None) -> nn.Sequential:
    """ResNet-50 or -101 as an I3D (Wang et al., 2018a, section 5 and Table 1), up to its last stage.

    In every other block the first 1 x 1 kernel becomes 3 x 1 x 1, in stage 4 among the first six: with them the network
    of 101 layers has the printed cost. The authors' own code goes on to the last of its 23 blocks. Time is halved by
    the first convolution, the pooling after it and that after stage 2: (N, 3, T, H, W) -> (N, 2048, T/8, H/32, W/32).
    """
    blocks = {"layer1": (0, 1, 2), "layer2": (0, 2), "layer3": (0, 2, 4), "layer4": (1,)}
    temporal = {f"{stage}.{block}.conv1": (3, 1) for stage, numbers in blocks.items() for block in numbers}
    stages = inflate(trunk(create_backbone(f"r{depth}", weights)), temporal | {"conv1": (5, 2), "maxpool": (3, 2)})
    stages.get_submodule("layer1").add_module("pool2", nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0)))
    return stages


@register("i3d_r50", pretrained=True)
def i3d_r50(
    num_classes: int = 400, num_frames: int = 32, dropout: float = 0.5, weights: str | None = None
) -> Network3D:
    """I3D from ResNet-50, see `inflated_resnet`; any T."""
    backbone, head = inflated_resnet(50, weights), with_small_weights(nn.Linear(2048, num_classes))
    return Network3D(backbone, head, num_frames, dropout)

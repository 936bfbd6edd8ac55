"""What the peers on 2D ResNets share: a bottleneck with places for modules on clips, and some temporal parts."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ctnet.models.backbones import create_backbone
from ctnet.models.registry import register
from ctnet.models.tensor_conv import OnClips, TensorSeparableConv
from ctnet.models.tsn import TSN

STAGES = ("layer1", "layer2", "layer3", "layer4")

Method = Callable[[nn.Module], nn.Module]
"""What turns a 2D ResNet into a method's network."""


def register_on_resnets(
    method: str,
    *,
    backbones: tuple[str, ...] = ("r50", "r50_twin", "r26_twin"),
    version: int = 1,
    pretrained: bool = True,
) -> Callable[[Method], Method]:
    """Decorator: register a method's networks, "<method>_<backbone>"; arguments as for `register`."""

    def add(build: Method) -> Method:
        for backbone in backbones:
            register(f"{method}_{backbone}", version=version, pretrained=pretrained)(
                partial(_on_resnet, build, backbone)
            )
        return build

    return add


def _on_resnet(
    build: Method, backbone: str, *, num_classes: int, num_frames: int, dropout: float, weights: str | None = None
) -> TSN:
    return TSN(build(create_backbone(backbone, weights)), num_classes, num_frames, dropout)


class TemporalBottleneck(nn.Module):
    """The bottleneck of a 2D ResNet with modules on clips around its convolutions.

    The layers of the bottleneck keep their names and weights, so that a pretrained ResNet fits in. A place that is
    given no module stays as it was.

    Args:
        block: the bottleneck, whose layers become this module's own.
        before_conv1: on the input of the residual branch.
        before_conv2: on the input of the 3 x 3 convolution.
        beside_conv2: its output is added to that of the 3 x 3 convolution, normalised and rectified. It sees the same
            input as `before_conv2`.
        after_conv3: on the output of the last convolution, before it is normalised.
    """

    def __init__(
        self,
        block: Bottleneck,
        before_conv1: nn.Module | None = None,
        before_conv2: nn.Module | None = None,
        beside_conv2: nn.Module | None = None,
        after_conv3: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = block.conv1, block.bn1
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.conv3, self.bn3 = block.conv3, block.bn3
        self.relu, self.downsample = block.relu, block.downsample
        self.before_conv1 = _on_frames(before_conv1)
        self.before_conv2 = _on_frames(before_conv2)
        self.beside_conv2 = OnClips(beside_conv2) if beside_conv2 else None
        self.after_conv3 = _on_frames(after_conv3)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(N*T, C, H, W), of clips of T = `num_frames` frames -> (N*T, C', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(self.before_conv1(x, num_frames))))
        spatial = self.relu(self.bn2(self.conv2(self.before_conv2(x, num_frames))))
        x = spatial if self.beside_conv2 is None else spatial + self.beside_conv2(x, num_frames)
        return self.relu(self.bn3(self.after_conv3(self.conv3(x), num_frames)) + shortcut)


def _on_frames(module: nn.Module | None) -> Callable[[Tensor, int], Tensor]:
    return OnClips(module) if module else _unmixed


def _unmixed(x: Tensor, num_frames: int) -> Tensor:
    """What a place without a module does."""
    return x


def replace_bottlenecks(
    cnn: nn.Module, build: Callable[[Bottleneck], nn.Module], stages: tuple[str, ...] = STAGES
) -> nn.Module:
    """A copy of a ResNet of bottlenecks with `build(block)` in the place of every block of these stages."""
    cnn = copy.deepcopy(cnn)
    for stage in stages:
        blocks = cnn.get_submodule(stage)
        for name, block in blocks.named_children():
            setattr(blocks, name, build(block))
    return cnn


class ChannelwiseConv(TensorSeparableConv):
    """Temporal convolution of kernel 3 in which every channel has weights of its own, which start as a shift.

    Args:
        channels: of the input and the output.
        shifted: the share of the channels that starts by taking the next frame's value, and the share that starts by
            taking the previous frame's. The others start as the identity.
    """

    def __init__(self, channels: int, shifted: float = 1 / 8) -> None:
        super().__init__(channels, channels, 1, (3, 1, 1))
        share = int(channels * shifted)
        with torch.no_grad():
            self.conv.weight.zero_()  # (C, 1, 3, 1): previous, present, next frame
            self.conv.weight[:share, 0, 2] = 1
            self.conv.weight[share : 2 * share, 0, 0] = 1
            self.conv.weight[2 * share :, 0, 1] = 1


def next_frame(x: Tensor) -> Tensor:
    """Every frame's next one, zero at the last: (N, C, T, H, W) -> (N, C, T, H, W)."""
    return nn.functional.pad(x, (0, 0, 0, 0, -1, 1))


def previous_frame(x: Tensor) -> Tensor:
    """Every frame's previous one, zero at the first: (N, C, T, H, W) -> (N, C, T, H, W)."""
    return nn.functional.pad(x, (0, 0, 0, 0, 1, -1))


def difference(following: Tensor, present: Tensor) -> Tensor:
    """`following` at t + 1 minus `present` at t, zero at the last t: (N, C, T, H, W), all three."""
    return nn.functional.pad(following[:, :, 1:] - present[:, :, :-1], (0, 0, 0, 0, 0, 1))


conv1x1 = partial(nn.Conv2d, kernel_size=1, bias=False)


def initialise_convs(network: nn.Module) -> None:
    """Draw the weights of all dense convolutions anew (He et al., 2015), as torchvision's ResNet does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.groups == 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

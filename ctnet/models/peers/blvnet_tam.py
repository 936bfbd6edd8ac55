"""bLVNet-TAM (Fan et al., 2019): of each pair of frames one passes a big branch, the other a little one.

The branches are those of bL-ResNet-50 (Chen et al., 2019), alpha = 2, beta = 4: the big one at half the resolution,
the little one with half the channels and a quarter of the blocks.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from ctnet.models.peers.bottleneck import initialise_convs
from ctnet.models.registry import register
from ctnet.models.tensor_conv import TensorSeparableConv, as_clips, as_frames
from ctnet.models.tsn import VideoModel, with_small_weights


class TemporalAggregation(nn.Sequential):
    """TAM: every channel of a frame and of its two neighbours, weighted, summed and rectified.

    (N, C, T, H, W) -> (N, C, T, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(TensorSeparableConv(channels, channels, 1, (3, 1, 1)), nn.ReLU(inplace=True))


_conv_bn = partial(Conv2dNormActivation, activation_layer=None)


class Bottleneck(nn.Module):
    """A bottleneck whose shortcut is average-pooled where it has a stride.

    Args:
        in_channels: of the input.
        out_channels: of the output, four times those of the 3 x 3 convolution.
        stride: of the 3 x 3 convolution.
        last_relu: whether the sum is rectified.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, last_relu: bool = True) -> None:
        super().__init__()
        width = out_channels // 4
        self.residual = nn.Sequential(
            *Conv2dNormActivation(in_channels, width, 1),
            *Conv2dNormActivation(width, width, 3, stride),
            *_conv_bn(width, out_channels, 1),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(3, stride, padding=1))
        if in_channels != out_channels:
            self.shortcut.extend(_conv_bn(in_channels, out_channels, 1))
        self.last = nn.ReLU(inplace=True) if last_relu else nn.Identity()

    def forward(self, x: Tensor, aggregated: Tensor | None = None) -> Tensor:
        """(N*T, C, H, W) -> (N*T, C', H', W'). All convolutions see `aggregated` in the place of x, if it is given."""
        seen = x if aggregated is None else aggregated
        return self.last(self.residual(seen) + (self.shortcut(seen) if len(self.shortcut) else x))


class BigLittle(nn.Module):
    """Aggregates over time, passes the frames of each pair through their branches, fuses, and gives both the result.

    Args:
        channels: of the input.
        big: the branch for the second frame of a pair.
        little: the branch for the first frame.
        fusion: what follows the sum of both.
    """

    def __init__(self, channels: int, big: nn.Module, little: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.tam = TemporalAggregation(channels)
        self.big, self.little, self.fusion = big, little, fusion

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W), T even -> (N, C', T, H', W')."""
        x = self.tam(x)
        little = self.little(as_frames(x[:, :, ::2]))  # (N * T / 2, C', h, w)
        big = self.big(as_frames(x[:, :, 1::2]))
        if big.shape != little.shape:
            big = nn.functional.interpolate(big, little.shape[2:])
        fused = self.fusion(torch.relu(big + little))
        return as_clips(fused, x.shape[2] // 2).repeat_interleave(2, dim=2)


def _stem(channels: int) -> BigLittle:
    half = channels // 2
    little = nn.Sequential(
        *Conv2dNormActivation(channels, half, 3),
        *Conv2dNormActivation(half, half, 3, 2),
        *_conv_bn(half, channels, 1),
    )
    fusion = Conv2dNormActivation(channels, channels, 1)
    return BigLittle(channels, _conv_bn(channels, channels, 3, 2), little, fusion)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> BigLittle:
    big = [Bottleneck(in_channels, out_channels, 2, last_relu=blocks > 2)]
    big += [Bottleneck(out_channels, out_channels, last_relu=block < blocks - 2) for block in range(1, blocks - 1)]
    half = out_channels // 2
    little = [Bottleneck(in_channels, half)] + [Bottleneck(half, half) for _ in range(blocks // 4 - 2)]
    fusion = Bottleneck(out_channels, out_channels, stride)
    return BigLittle(in_channels, nn.Sequential(*big), nn.Sequential(*little, *_conv_bn(half, out_channels, 1)), fusion)


@register("blvnet_tam_r50")
class BLVNet(VideoModel):
    """bLVNet-TAM on bL-ResNet-50; "8 x 2" frames are T = 16, in pairs. An odd clip's last frame is taken twice.

    Args:
        num_classes: of the head.
        num_frames: T of the clips this network is meant for.
        dropout: before the head.
    """

    def __init__(self, num_classes: int, num_frames: int = 16, dropout: float = 0.5) -> None:
        super().__init__(num_frames)
        self.conv1 = Conv2dNormActivation(3, 64, 7, 2)
        self.stem = _stem(64)
        self.layer1 = _stage(64, 256, blocks=3, stride=2)
        self.layer2 = _stage(256, 512, blocks=4, stride=2)
        self.layer3 = _stage(512, 1024, blocks=6, stride=1)
        self.layer4 = nn.ModuleList([Bottleneck(1024, 2048, 2), Bottleneck(2048, 2048), Bottleneck(2048, 2048)])
        self.tams4 = nn.ModuleList(TemporalAggregation(channels) for channels in (1024, 2048, 2048))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2048, num_classes)
        initialise_convs(self)
        with_small_weights(self.head)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> (N, 2048, T / 2, h, w), one map for each pair of frames."""
        if x.shape[2] % 2:
            x = torch.cat((x, x[:, :, -1:]), 2)
        frames = self.conv1(as_frames(x).contiguous(memory_format=torch.channels_last))
        clips = as_clips(frames, x.shape[2])
        for stage in (self.stem, self.layer1, self.layer2, self.layer3):
            clips = stage(clips)
        clips = clips[:, :, ::2]
        for tam, block in zip(self.tams4, self.layer4, strict=True):
            clips = as_clips(block(as_frames(clips), as_frames(tam(clips))), clips.shape[2])
        return clips

    def forward_head(self, features: Tensor) -> Tensor:
        """(N, 2048, T / 2, h, w) -> scores (N, num_classes), averaged over the pairs."""
        pooled = features.mean((3, 4)).transpose(1, 2)  # (N, T / 2, 2048)
        return self.head(self.dropout(pooled)).mean(1)

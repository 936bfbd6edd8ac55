"""CorrNet (Wang et al., 2020): a learnable correlation of neighbouring frames, between the stages of an R(2+1)D."""

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv3dNormActivation

from ctnet.models.peers.bottleneck import initialise_convs
from ctnet.models.peers.network3d import Network3D, residual_stages
from ctnet.models.registry import register
from ctnet.models.tsn import with_small_weights

Size = tuple[int, int, int]
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STEM = 32
"""Channels of the first convolution. Inferred, as the strides are: no code of the authors is known."""
STRIDES = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
"""Of the first block of each stage, in time, height and width."""


def _conv(
    in_channels: int, out_channels: int, kernel: Size = (1, 1, 1), stride: Size = (1, 1, 1), relu: bool = True
) -> nn.Sequential:
    activation = nn.ReLU if relu else None
    layers = Conv3dNormActivation(in_channels, out_channels, kernel, stride, activation_layer=activation)
    initialise_convs(layers)
    return layers


class Correlation(nn.Module):
    """How each position of a frame matches the K x K positions around it in the frame before (section 3).

    A match is the product of the channels, weighted by a filter of its own for every channel, frame and displacement,
    and averaged over each group of channels. The first frame is matched with itself.

    Args:
        channels: C of the input.
        num_frames: T of the input, which must have as many.
        kernel: K, displacements along a side.
        dilation: positions between displacements.
        group: channels of a group.
    """

    def __init__(self, channels: int, num_frames: int, kernel: int = 7, dilation: int = 2, group: int = 32) -> None:
        super().__init__()
        self.kernel, self.dilation, self.group = kernel, dilation, group
        self.weight = nn.Parameter(torch.randn(channels, num_frames, kernel, kernel) / kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, K * K * C / group, T, H, W); raises ValueError for another T."""
        frames, height, width = x.shape[2:]
        if frames != self.weight.shape[1]:
            raise ValueError(f"these filters are of {self.weight.shape[1]} frames, not of {frames}: give num_frames")
        before = torch.cat([x[:, :, :1], x[:, :, :-1]], 2)
        before = nn.functional.pad(before, (self.dilation * (self.kernel // 2),) * 4)
        matches = []
        for i in range(self.kernel):
            for j in range(self.kernel):
                top, left = i * self.dilation, j * self.dilation
                displaced = before[:, :, :, top : top + height, left : left + width]
                product = x * displaced * self.weight[:, :, i, j, None, None]
                matches.append(product.unflatten(1, (-1, self.group)).mean(2))  # (N, C / group, T, H, W)
        return torch.cat(matches, 1)


class CorrelationBlock(nn.Module):
    """Correlation of C / 4 channels, back to C and added to the input ("correlation-sum", section 4)."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        inner = channels // 4
        correlation = Correlation(inner, num_frames)
        matches = inner // correlation.group * correlation.kernel**2
        self.branch = nn.Sequential(_conv(channels, inner), correlation, _conv(matches, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        return nn.functional.relu(x + self.branch(x))


class Bottleneck(nn.Module):
    """1 x 1 x 1, then 1 x 3 x 3 and 3 x 1 x 1 of equal width, then 1 x 1 x 1 (section 4)."""

    def __init__(self, in_channels: int, width: int, stride: Size = (1, 1, 1)) -> None:
        super().__init__()
        t, h, w = stride
        self.branch = nn.Sequential(
            _conv(in_channels, width),
            _conv(width, width, (1, 3, 3), (1, h, w)),
            _conv(width, width, (3, 1, 1), (t, 1, 1)),
            _conv(width, 4 * width, relu=False),
        )
        same = in_channels == 4 * width
        self.shortcut = nn.Identity() if same else _conv(in_channels, 4 * width, stride=stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, 4 * width, T', H', W')."""
        return nn.functional.relu(self.shortcut(x) + self.branch(x))


def corrnet(depth: int, num_classes: int = 400, num_frames: int = 32, dropout: float = 0.5) -> Network3D:
    """CorrNet-50 or -101, a correlation block after stages 2, 3 and 4 and, in CorrNet-101, in the middle of stage 4.

    This is one reading of the paper: CorrNet-50 has the published 115 GFLOPs at 32 x 224 x 224, CorrNet-101 has
    fewer than the published 224.

    Args:
        depth: layers, 50 or 101.
        num_classes: of the head.
        num_frames: T, which every clip must have: each frame has filters of its own.
        dropout: before the head.
    """
    stages, channels, frames = [_conv(3, STEM, (1, 7, 7), (1, 2, 2))], STEM, num_frames
    for stage, (number, stride) in enumerate(zip(BLOCKS[depth], STRIDES, strict=True)):
        width = 64 * 2**stage
        frames = -(-frames // stride[0])
        blocks: list[nn.Module] = [Bottleneck(channels, width, stride)]
        channels = 4 * width
        for block in range(1, number):
            blocks.append(Bottleneck(channels, width))
            if number == 23 and block == number // 2:
                blocks.append(CorrelationBlock(channels, frames))
        if stage < 3:
            blocks.append(CorrelationBlock(channels, frames))
        stages.append(nn.Sequential(*blocks))
    backbone, head = nn.Sequential(residual_stages(stages)), with_small_weights(nn.Linear(channels, num_classes))
    return Network3D(backbone, head, num_frames, dropout)


for _depth in BLOCKS:
    register(f"corrnet_r{_depth}")(partial(corrnet, _depth))

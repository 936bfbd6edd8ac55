"""ECO Lite (Zolfaghari et al., 2018): a 2D network on each frame, then a 3D network on their stacked features."""

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from ctnet.models.peers.bottleneck import initialise_convs
from ctnet.models.registry import register
from ctnet.models.tensor_conv import as_clips, as_frames
from ctnet.models.tsn import VideoModel, with_small_weights


class Inception(nn.Module):
    """A block of BN-Inception (Ioffe and Szegedy, 2015): four branches, concatenated.

    Args:
        in_channels: of the input.
        single: channels of the 1 x 1 branch.
        reduced: channels to which the next two branches reduce.
        triple: channels of the 3 x 3 branch.
        double: channels of the branch of two 3 x 3 convolutions.
        pooled: channels of the average-pooled branch.
    """

    def __init__(self, in_channels: int, single: int, reduced: int, triple: int, double: int, pooled: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                Conv2dNormActivation(in_channels, single, 1),
                nn.Sequential(Conv2dNormActivation(in_channels, reduced, 1), Conv2dNormActivation(reduced, triple, 3)),
                nn.Sequential(
                    Conv2dNormActivation(in_channels, reduced, 1),
                    Conv2dNormActivation(reduced, double, 3),
                    Conv2dNormActivation(double, double, 3),
                ),
                nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), Conv2dNormActivation(in_channels, pooled, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N*T, C, H, W) -> (N*T, C', H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class Residual3d(nn.Module):
    """Two 3 x 3 x 3 convolutions behind batch normalisation and ReLU; a third one in the shortcut where sizes change.

    Args:
        in_channels: of the input.
        out_channels: of the output; if they differ, all of T, H and W are halved.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        shrinks = in_channels != out_channels
        stride = 2 if shrinks else 1
        self.activate = nn.Sequential(nn.BatchNorm3d(in_channels), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
        )
        self.shrink = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False) if shrinks else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        activated = self.activate(x)
        return self.residual(activated) + (x if self.shrink is None else self.shrink(activated))


@register("eco_lite")
class ECOLite(VideoModel):
    """BN-Inception as far as block 3c on each frame, then a 3D ResNet-18 from its second stage on (Fig. 2, Table 1).

    Args:
        num_classes: of the head.
        num_frames: T of the clips this network is meant for; ECO-EN-Lite is four networks, of 16, 20, 24, 32.
        dropout: before the head.
    """

    def __init__(self, num_classes: int, num_frames: int = 16, dropout: float = 0.5) -> None:
        super().__init__(num_frames)
        self.net2d = nn.Sequential(
            Conv2dNormActivation(3, 64, 7, 2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Conv2dNormActivation(64, 64, 1),
            Conv2dNormActivation(64, 192, 3),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Inception(192, single=64, reduced=64, triple=64, double=96, pooled=32),
            Inception(256, single=64, reduced=64, triple=96, double=96, pooled=64),
            Conv2dNormActivation(320, 64, 1),  # the branch of block 3c whose first 3 x 3 convolution has no stride
            Conv2dNormActivation(64, 96, 3),
        )
        self.net3d = nn.Sequential(
            nn.Conv3d(96, 128, 3, padding=1, bias=False),
            Residual3d(128, 128),
            Residual3d(128, 256),
            Residual3d(256, 256),
            Residual3d(256, 512),
            Residual3d(512, 512),
            nn.BatchNorm3d(512),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, num_classes)
        initialise_convs(self)
        with_small_weights(self.head)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> (N, 512, T / 4, h, w)."""
        frames = self.net2d(as_frames(x).contiguous(memory_format=torch.channels_last))
        return self.net3d(as_clips(frames, x.shape[2]))

    def forward_head(self, features: Tensor) -> Tensor:
        """(N, 512, T', h, w) -> scores (N, num_classes)."""
        return self.head(self.dropout(features.mean((2, 3, 4))))

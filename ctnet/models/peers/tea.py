"""TEA (Li et al., 2020): motion excites channels, and a cascade of small convolutions widens the temporal field."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ctnet.models.peers.bottleneck import (
    ChannelwiseConv,
    conv1x1,
    difference,
    initialise_convs,
    register_on_resnets,
    replace_bottlenecks,
)
from ctnet.models.tensor_conv import OnClips, as_clips, as_frames


class MotionExcitation(nn.Module):
    """ME (section 3.1): channels are excited by the difference between a frame's features and the next frame's.

    Args:
        channels: of the input and the output.
        reduction: of the channels in which frames are compared; 16.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Sequential(conv1x1(channels, hidden), nn.BatchNorm2d(hidden))
        self.align = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.restore = nn.Sequential(conv1x1(hidden, channels), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        num_frames = x.shape[2]
        if num_frames == 1:
            return x
        frames = self.reduce(as_frames(x))
        motion = difference(as_clips(self.align(frames), num_frames), as_clips(frames, num_frames))
        pooled = nn.functional.adaptive_avg_pool2d(as_frames(motion), 1)
        attention = 2 * torch.sigmoid(as_clips(self.restore(pooled), num_frames)) - 1  # (N, C, T, 1, 1)
        return x + x * attention


class TemporalPart(ChannelwiseConv):
    """The temporal convolution of one part of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        return x if x.shape[2] == 1 else super().forward(x)


class TEABlock(nn.Module):
    """A bottleneck of Res2Net (Gao et al., 2019) with ME and multiple temporal aggregation (MTA, section 3.2).

    The features after the first convolution are split into four. Each part passes a channel-wise temporal
    convolution and, but for one, a 3 x 3 convolution, after the output of the part before was added to it. In the
    first block of a stage nothing is added.

    The paper leaves one part as it is. Here, as in the authors' code, it passes a temporal convolution too, which
    starts as a shift. Those of the other parts start as the identity. The attention is the paper's, 2 sigmoid - 1; that
    of the authors' code is half as strong.

    Single frames pass ME and the temporal convolutions as they are. So pretraining on pictures trains the Res2Net
    alone, and what is temporal starts with the first clip.

    Args:
        block: the bottleneck of a 2D ResNet. Its shortcut becomes this module's own, the rest tells the sizes.
        scale: number of parts.
    """

    def __init__(self, block: Bottleneck, scale: int = 4) -> None:
        super().__init__()
        in_channels, stride = block.conv1.in_channels, block.conv2.stride[0]
        self.width = block.conv2.out_channels * 26 // 64  # 26 channels for each part at 64
        self.first = block.downsample is not None
        self.conv1 = conv1x1(in_channels, scale * self.width)
        self.bn1 = nn.BatchNorm2d(scale * self.width)
        self.excite = OnClips(MotionExcitation(scale * self.width))
        self.temporal = nn.ModuleList(
            OnClips(TemporalPart(self.width, shifted=1 / 2 if part == scale - 1 else 0)) for part in range(scale)
        )
        self.spatial = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(self.width, self.width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(self.width),
                nn.ReLU(inplace=True),
            )
            for _ in range(scale - 1)
        )
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1) if self.first else nn.Identity()
        self.conv3 = conv1x1(scale * self.width, block.conv3.out_channels)
        self.bn3 = nn.BatchNorm2d(block.conv3.out_channels)
        self.relu = nn.ReLU(inplace=True)
        initialise_convs(self)
        self.downsample = block.downsample

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(N*T, C, H, W), of clips of T = `num_frames` frames -> (N*T, C', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        excited = self.excite(self.relu(self.bn1(self.conv1(x))), num_frames)
        *parts, last = excited.split(self.width, 1)
        outputs: list[Tensor] = []
        for part, temporal, spatial in zip(parts, self.temporal, self.spatial, strict=False):
            cascaded = part + outputs[-1] if outputs and not self.first else part
            outputs.append(spatial(temporal(cascaded, num_frames)))
        outputs.append(self.pool(self.temporal[-1](last, num_frames)))
        return self.relu(self.bn3(self.conv3(torch.cat(outputs, 1))) + shortcut)


@register_on_resnets("tea", pretrained=False)  # torchvision has no weights of its Res2Net
def tea(cnn: nn.Module) -> nn.Module:
    """TEA in the shape of a 2D ResNet: Res2Net-50 26w x 4s for a ResNet-50.

    Only the stem and the shortcuts of the ResNet stay. A pretrained plain ResNet, such as the twin's, has no weights
    for the rest, whose convolutions are of other sizes.
    """
    return replace_bottlenecks(cnn, TEABlock)

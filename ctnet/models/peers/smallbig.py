"""SmallBigNet (Li et al., 2020): every convolution sees its input and, with the same weights, a max-pooled one."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ctnet.models.peers.bottleneck import register_on_resnets, replace_bottlenecks
from ctnet.models.tensor_conv import OnClips, as_clips, as_frames


class ClipMaxPool(nn.Module):
    """Max-pooling over 3 x 3 x 3 positions, or over 3 x 3 positions of all frames, with stride 1.

    Args:
        all_frames: whether T shrinks to 1.
    """

    def __init__(self, all_frames: bool = False) -> None:
        super().__init__()
        self.all_frames = all_frames

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T or 1, H, W)."""
        if self.all_frames:
            x = x.amax(2, keepdim=True)
        frames = as_frames(x).contiguous(memory_format=torch.channels_last)
        x = as_clips(nn.functional.max_pool2d(frames, 3, stride=1, padding=1), x.shape[2])
        if self.all_frames:
            return x
        return nn.functional.max_pool2d(x.flatten(3), (3, 1), stride=1, padding=(1, 0)).unflatten(3, x.shape[3:])


class BigView(nn.Module):
    """The big view of a SmallBig unit: a max-pooled input through the small view's convolution, with its own BN.

    The batch normalisation starts at zero, so that a pretrained network starts as it was.
    """

    def __init__(self, channels: int, all_frames: bool = False) -> None:
        super().__init__()
        self.pool = OnClips(ClipMaxPool(all_frames))
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor, num_frames: int, conv: nn.Module) -> Tensor:
        """(N*T, C, H, W) -> (N*T, C', H', W'), or (N, C', H', W') after pooling over all frames."""
        return self.bn(conv(self.pool(x, num_frames)))


class SmallBigBottleneck(nn.Module):
    """A bottleneck of three SmallBig units (Fig. 3), the last with a big view of all frames.

    Args:
        block: the bottleneck of a 2D ResNet, whose layers become this module's own.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.bn1 = block.conv1, block.bn1
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.conv3, self.bn3 = block.conv3, block.bn3
        self.relu, self.downsample = block.relu, block.downsample
        self.big1 = BigView(block.conv1.out_channels)
        self.big2 = BigView(block.conv2.out_channels)
        self.big3 = BigView(block.conv3.out_channels, all_frames=True)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(N*T, C, H, W), of clips of T = `num_frames` frames -> (N*T, C', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)) + self.big1(x, num_frames, self.conv1))
        x = self.relu(self.bn2(self.conv2(x)) + self.big2(x, num_frames, self.conv2))
        small, big = self.bn3(self.conv3(x)), self.big3(x, num_frames, self.conv3)  # (N*T, C', H', W'), (N, C', H', W')
        x = (small.unflatten(0, (-1, num_frames)) + big.unsqueeze(1)).flatten(0, 1)
        return self.relu(x + shortcut)


@register_on_resnets("smallbig", backbones=("r50", "r50_twin", "r26_twin", "r101"))
def smallbig(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet with SmallBig bottlenecks in its last three stages.

    Pooling over time knows no direction, so a clip and its reversal get the same scores.
    """
    return replace_bottlenecks(cnn, SmallBigBottleneck, ("layer2", "layer3", "layer4"))

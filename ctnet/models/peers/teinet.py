"""TEINet (Liu et al., 2020): channels are weighted by how they change, then interact with their neighbours."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ctnet.models.peers.bottleneck import TemporalBottleneck, register_on_resnets, replace_bottlenecks
from ctnet.models.peers.tim import TemporalInteraction


class MotionEnhanced(nn.Module):
    """MEM: channels weighted by the difference between the pooled features of a frame and of the next.

    The last frame, which has no next one, passes as it is.

    Args:
        channels: of the input and the output.
        reduction: of the channels in which frames are compared; 8.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce_present = nn.Linear(channels, hidden)
        self.reduce_next = nn.Linear(channels, hidden)
        self.restore = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        pooled = x.mean((3, 4)).transpose(1, 2)  # (N, T, C)
        change = self.reduce_present(pooled[:, :-1]) - self.reduce_next(pooled[:, 1:])
        weights = torch.sigmoid(self.restore(change))  # (N, T - 1, C)
        weights = nn.functional.pad(weights, (0, 0, 0, 1), value=1.0)
        return x * weights.transpose(1, 2)[..., None, None]


@register_on_resnets("teinet")
def teinet(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet with a MEM and a TIM, together the TEI module, at the start of every residual branch.

    The place is inferred: there the network has the published 30.4 million parameters (400 classes), and before the
    3 x 3 convolution, where MEM has fewer channels, it has not. The published GFLOPs fit both.
    """

    def build(block: Bottleneck) -> nn.Module:
        channels = block.conv1.in_channels
        return TemporalBottleneck(
            block, before_conv1=nn.Sequential(MotionEnhanced(channels), TemporalInteraction(channels))
        )

    return replace_bottlenecks(cnn, build)

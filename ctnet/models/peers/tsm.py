"""TSM (Lin et al., 2019): some channels of every frame are those of the frame after or before it."""

import torch
from torch import Tensor, nn

from ctnet.models.peers.bottleneck import (
    TemporalBottleneck,
    next_frame,
    previous_frame,
    register_on_resnets,
    replace_bottlenecks,
)


class TemporalShift(nn.Module):
    """Move the first channels one frame back and as many others one frame on; what comes from outside is zero.

    Args:
        divisor: one in so many channels moves in each direction; 8, so that a quarter moves (section 3.3).
    """

    def __init__(self, divisor: int = 8) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        share = x.shape[1] // self.divisor
        return torch.cat((next_frame(x[:, :share]), previous_frame(x[:, share : 2 * share]), x[:, 2 * share :]), 1)


@register_on_resnets("tsm")
def tsm(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet with the shift at the start of every residual branch (section 3.3), no weight and no FLOP more."""
    return replace_bottlenecks(cnn, lambda block: TemporalBottleneck(block, before_conv1=TemporalShift()))

"""TIM, the temporal interaction module of TEINet (Liu et al., 2020), alone: the backbone of PEM + TDLoss.

PEM + TDLoss (Weng et al., 2020) adds a progressive enhancement module and a temporal diversity loss to it. The
module is not built here.
"""

from torch import nn

from ctnet.models.peers.bottleneck import ChannelwiseConv, TemporalBottleneck, register_on_resnets, replace_bottlenecks


class TemporalInteraction(ChannelwiseConv):
    """TIM: a channel-wise temporal convolution that starts as the shift of TSM: (N, C, T, H, W) -> (N, C, T, H, W)."""


@register_on_resnets("tim")
def tim(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet with a TIM at the start of every residual branch, where `teinet` has its own."""
    return replace_bottlenecks(
        cnn, lambda block: TemporalBottleneck(block, before_conv1=TemporalInteraction(block.conv1.in_channels))
    )

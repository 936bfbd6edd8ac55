"""STM (Jiang et al., 2019): every block encodes spatiotemporal and motion features and adds them."""

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ctnet.models.peers.bottleneck import (
    ChannelwiseConv,
    TemporalBottleneck,
    conv1x1,
    difference,
    register_on_resnets,
    replace_bottlenecks,
)
from ctnet.models.tensor_conv import as_clips, as_frames


class ChannelwiseMotion(nn.Module):
    """CMM (section 3.2): the next frame's features, spatially convolved channel by channel, minus the present frame's.

    Where the block halves its frames the motion is halved by a maximum: so the published 33.3 GFLOPs come out.

    Args:
        channels: of the input and the output.
        stride: of the output's height and width.
        reduction: of the channels in which frames are compared; 16.
    """

    def __init__(self, channels: int, stride: int = 1, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Sequential(conv1x1(channels, hidden), nn.BatchNorm2d(hidden))
        self.align = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.restore = conv1x1(hidden, channels)
        self.pool = nn.MaxPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H / stride, W / stride)."""
        frames = self.reduce(as_frames(x))
        motion = difference(as_clips(self.align(frames), x.shape[2]), as_clips(frames, x.shape[2]))
        return as_clips(self.pool(self.restore(as_frames(motion))), x.shape[2])


@register_on_resnets("stm")
def stm(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet of STM blocks (section 3.3).

    In each, the 3 x 3 convolution becomes a CSTM (section 3.1), which is a channel-wise temporal convolution and then
    the 3 x 3 convolution itself; a CMM stands beside it, and its output is added to what the ReLU after the 3 x 3
    convolution lets through. The temporal kernels start as a shift: a quarter of the channels looks on, a quarter back.
    """

    def build(block: Bottleneck) -> nn.Module:
        channels, stride = block.conv2.in_channels, block.conv2.stride[0]
        return TemporalBottleneck(
            block,
            before_conv2=ChannelwiseConv(channels, shifted=1 / 4),
            beside_conv2=ChannelwiseMotion(channels, stride),
        )

    return replace_bottlenecks(cnn, build)

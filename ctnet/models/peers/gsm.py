"""GSM (Sudhakaran et al., 2020): a learned gate decides where and when features shift along time."""

import torch
from torch import Tensor, nn

from ctnet.models.peers.bottleneck import (
    TemporalBottleneck,
    next_frame,
    previous_frame,
    register_on_resnets,
    replace_bottlenecks,
)


class GateShift(nn.Module):
    """Two halves of the channels, each with one gate: what it lets through moves a frame back or on, the rest stays.

    The gates start at zero, and the module with them as the identity. The authors' code then interleaves the channels
    of each half, which is left out here, so that the weights of the pretrained convolutions still fit.

    Args:
        channels: of the input and the output, an even number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm3d(channels)
        self.gate = nn.Conv3d(channels, 2, 3, padding=1, groups=2)
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)

    def gates(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, 2, T, H, W), from -1 to 1."""
        return torch.tanh(self.gate(torch.relu(self.bn(x))))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        half = x.shape[1] // 2
        back, on = x.split(half, 1)
        gate_back, gate_on = self.gates(x).split(1, 1)  # (N, 1, T, H, W) each
        gated_back, gated_on = gate_back * back, gate_on * on
        back = back - gated_back + next_frame(gated_back)
        on = on - gated_on + previous_frame(gated_on)
        return torch.cat((back, on), 1)


@register_on_resnets("gsm")
def gsm(cnn: nn.Module) -> nn.Module:
    """A 2D ResNet with a GSM after the last convolution of every block.

    The paper puts it into branches of Inception blocks; the place in a ResNet is that of the authors' later work
    (Sudhakaran et al., 2023), which gates a quarter of the channels by default. Here all are.
    """
    return replace_bottlenecks(
        cnn, lambda block: TemporalBottleneck(block, after_conv3=GateShift(block.conv3.out_channels))
    )

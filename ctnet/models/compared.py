"""The modules that CT-Net is compared with in Tables 1, 2a and 7, with the convolutions of their own papers.

Each maps (N, in_channels, T, H, W) to (N, out_channels, T, H, W) in the place of a 3 x 3 convolution. The networks
are built from the equal special cases in `ctnet.models.ct_module`, which run faster; a test holds both together.
"""

from torch import nn


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: tuple[int, int, int], groups: int = 1) -> nn.Sequential:
    t, h, w = kernel
    padding = (t // 2, h // 2, w // 2)
    conv = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True))


def c3d(in_channels: int, out_channels: int) -> nn.Sequential:
    """C3D (Tran et al., 2015): a full 3 x 3 x 3 convolution."""
    return nn.Sequential(_conv_bn_relu(in_channels, out_channels, (3, 3, 3)))


def r2plus1d(in_channels: int, out_channels: int) -> nn.Sequential:
    """R(2+1)D (Tran et al., 2018): a full 1 x 3 x 3, then a full 3 x 1 x 1 convolution, both C to C."""
    return nn.Sequential(
        _conv_bn_relu(in_channels, out_channels, (1, 3, 3)), _conv_bn_relu(out_channels, out_channels, (3, 1, 1))
    )


def csn(in_channels: int, out_channels: int) -> nn.Sequential:
    """CSN (Tran et al., 2019): a 1 x 1 x 1, then a depthwise 3 x 3 x 3 convolution (interaction-preserved).

    Between them stands a ReLU, as in every sub-operation of CT-Net; the network of its own paper has none there.
    """
    return nn.Sequential(
        _conv_bn_relu(in_channels, out_channels, (1, 1, 1)),
        _conv_bn_relu(out_channels, out_channels, (3, 3, 3), groups=out_channels),
    )

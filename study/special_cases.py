"""The modules that CT-Net is compared with in Tables 1, 2a and 7, with the convolutions of their own papers.

Each maps (N, in_channels, T, H, W) to (N, out_channels, T, H, W) in the place of a 3 x 3 convolution. The networks
are built from the equal special cases in `ctnet.models.ct_module`, which run faster; here both are held together.
"""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.ops.misc import Conv3dNormActivation

from ctnet.models import c3d_module, csn_module, r2plus1d_module


def c3d(in_channels: int, out_channels: int) -> nn.Sequential:
    """C3D (Tran et al., 2015): a full 3 x 3 x 3 convolution."""
    return nn.Sequential(Conv3dNormActivation(in_channels, out_channels, (3, 3, 3)))


def r2plus1d(in_channels: int, out_channels: int) -> nn.Sequential:
    """R(2+1)D (Tran et al., 2018): a full 1 x 3 x 3, then a full 3 x 1 x 1 convolution, both C to C."""
    return nn.Sequential(
        Conv3dNormActivation(in_channels, out_channels, (1, 3, 3)),
        Conv3dNormActivation(out_channels, out_channels, (3, 1, 1)),
    )


def csn(in_channels: int, out_channels: int) -> nn.Sequential:
    """CSN (Tran et al., 2019): a 1 x 1 x 1, then a depthwise 3 x 3 x 3 convolution (interaction-preserved).

    Between them stands a ReLU, as in every sub-operation of CT-Net; the network of its own paper has none there.
    """
    return nn.Sequential(
        Conv3dNormActivation(in_channels, out_channels, (1, 1, 1)),
        Conv3dNormActivation(out_channels, out_channels, (3, 3, 3), groups=out_channels),
    )


SPECIAL_CASES = {
    "C3D": (c3d_module, c3d),
    "R(2+1)D": (r2plus1d_module, r2plus1d),
    "CSN": (csn_module, csn),
}
"""Name -> (the CT-Module's special case, the module written out as section 3.3 has it).

Its own paper widens R(2+1)D between its convolutions, and has no ReLU between those of CSN.
"""


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give a module the parameters and statistics of an equal one, whose kernels may lack dimensions of size 1."""
    for value, own in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        own.copy_(value.reshape(own.shape))


def special_case_difference(special_case: Callable[..., nn.Module], definition: Callable[..., nn.Module]) -> float:
    """Largest difference between a special case of the CT-Module and its own paper's module, with shared weights.

    Both are built for 16 channels, get the same random parameters and statistics, and see the same clip (section 3.3).
    """
    generator = torch.Generator().manual_seed(0)
    ours, theirs = special_case(16, 16).eval(), definition(16, 16).eval()
    for value in theirs.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) / max(value[0].numel(), 1) ** 0.5)
    copy_weights(theirs, ours)
    clip = torch.randn(2, 16, 6, 9, 7, generator=generator)
    with torch.no_grad():
        return float((ours(clip) - theirs(clip)).abs().max())

"""CSN (Tran et al., 2019): channels interact in 1 x 1 x 1 convolutions, positions in depthwise 3 x 3 x 3 ones."""

from functools import partial
from typing import Any

from torch import nn

from ctnet.models.peers.network3d import (
    KINETICS_MEAN,
    KINETICS_STD,
    Network3D,
    pytorchvideo,
    residual_stages,
)
from ctnet.models.registry import register


def interaction_preserved_block(**options: Any) -> nn.Module:
    """A bottleneck (section 3.2) whose 3 x 3 x 3 convolution became a 1 x 1 x 1 and a depthwise 3 x 3 x 3 one.

    The options are those of `pytorchvideo.models.resnet.create_bottleneck_block`, whose own block drops the
    1 x 1 x 1 convolution ("interaction-reduced").
    """
    block = pytorchvideo("resnet").create_bottleneck_block(**options)
    channels = block.conv_b.in_channels
    pointwise = nn.Conv3d(channels, channels, 1, bias=False)
    block.conv_b = nn.Sequential(pointwise, nn.BatchNorm3d(channels), block.conv_b)
    return block


def csn(
    depth: int,
    preserved: bool,
    num_classes: int = 400,
    num_frames: int = 32,
    dropout: float = 0.5,
) -> Network3D:
    """CSN with 50, 101 or 152 layers, pytorchvideo's; any T. The tables' clips are 32 x 256 x 256.

    Args:
        depth: layers.
        preserved: "interaction-preserved" (ip-CSN) or "interaction-reduced" (ir-CSN) blocks, section 3.3.
        num_classes: of the head.
        num_frames: T of the clips this network is meant for.
        dropout: before the head.
    """
    block = {"bottleneck": interaction_preserved_block} if preserved else {}
    net = pytorchvideo("csn").create_csn(
        model_depth=depth, model_num_class=num_classes, stem_pool=nn.MaxPool3d, **block
    )
    *stages, head = net.blocks
    backbone = nn.Sequential(residual_stages(stages))
    return Network3D(backbone, head.proj, num_frames, dropout, input_mean=KINETICS_MEAN, input_std=KINETICS_STD)


for _depth in (101, 152):
    register(f"ip_csn_r{_depth}")(partial(csn, _depth, True))
    register(f"ir_csn_r{_depth}")(partial(csn, _depth, False))

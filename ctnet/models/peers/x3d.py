"""X3D (Feichtenhofer, 2020): a small depthwise network, expanded along one axis at a time."""

from torch import nn

from ctnet.models.peers.network3d import (
    KINETICS_MEAN,
    KINETICS_STD,
    Network3D,
    pytorchvideo,
    residual_stages,
)
from ctnet.models.registry import register


def x3d(
    width: float,
    depth: float,
    num_classes: int = 400,
    num_frames: int = 16,
    dropout: float = 0.5,
) -> Network3D:
    """X3D of any expansion, pytorchvideo's; any T.

    The expansions in space and time are those of the input, which is averaged over at the end.

    Args:
        width: expansion of the channels, gamma_w in Table 2.
        depth: expansion of the number of blocks, gamma_d.
        num_classes: of the head.
        num_frames: T of the clips this network is meant for.
        dropout: before the head.
    """
    net = pytorchvideo("x3d").create_x3d(
        model_num_class=num_classes,
        width_factor=width,
        depth_factor=depth,
        inner_act=nn.SiLU,
        head_activation=None,
    )
    *stages, head = net.blocks
    backbone = nn.Sequential(residual_stages(stages))
    backbone.add_module("conv5", nn.Sequential(head.pool.pre_conv, head.pool.pre_norm, head.pool.pre_act))
    neck = nn.Sequential(head.pool.post_conv, head.pool.post_act)
    return Network3D(
        backbone, head.proj, num_frames, dropout, neck=neck, input_mean=KINETICS_MEAN, input_std=KINETICS_STD
    )


@register("x3d_xl")
def x3d_xl(num_classes: int = 400, num_frames: int = 16, dropout: float = 0.5) -> Network3D:
    """X3D-XL. Table 4's clips are 16 x 356 x 356."""
    return x3d(2.9, 5.0, num_classes, num_frames, dropout)

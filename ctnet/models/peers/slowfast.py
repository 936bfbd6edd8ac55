"""SlowFast (Feichtenhofer et al., 2019): few frames with many channels beside many frames with few channels."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from ctnet.models.peers.network3d import (
    KINETICS_MEAN,
    KINETICS_STD,
    Network3D,
    pytorchvideo,
    residual_stages,
)
from ctnet.models.registry import register


class TwoPathways(nn.Sequential):
    """Stages over a slow and a fast pathway, joined to one map at the end.

    The fast pathway sees all T frames, the slow one every alpha-th (section 3). A stage maps the two activations
    to two. At the end the fast pathway is averaged over each alpha of its frames and put behind the slow pathway's
    channels: the average over time and space is the same as that of each pathway by itself.

    Args:
        stages: by name.
        alpha: frames of the fast pathway for each of the slow one; it must divide T.
    """

    def __init__(self, stages: Iterable[nn.Module], alpha: int) -> None:
        super().__init__(residual_stages(stages))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, T, H, W) -> (N, C + C/8, T/alpha, h, w)."""
        if x.shape[2] % self.alpha:
            raise ValueError(f"expected clips of a multiple of {self.alpha} frames, got {x.shape[2]}")
        pathways = [x[:, :, :: self.alpha], x]
        for stage in self:
            pathways = stage(pathways)
        slow, fast = pathways
        return torch.cat([slow, nn.functional.avg_pool3d(fast, (self.alpha, 1, 1))], 1)


def slowfast(
    depth: int,
    alpha: int,
    fusion: int,
    num_classes: int = 400,
    num_frames: int = 32,
    dropout: float = 0.5,
) -> Network3D:
    """SlowFast from ResNet-50 or -101, pytorchvideo's. Table 4's clips are 256 x 256.

    Args:
        depth: layers of both pathways; beta = 1/8 of the channels in the fast one.
        alpha: ratio of the pathways' frames; it must divide T.
        fusion: extent in time of the convolutions from the fast to the slow pathway.
        num_classes: of the head.
        num_frames: T of the clips this network is meant for, those of the fast pathway.
        dropout: before the head.
    """
    still, temporal = (1, 1, 1), (3, 1, 1)
    res4 = [temporal] * 6 + [still] * 17 if depth == 101 else temporal  # as many temporal kernels as in ResNet-50
    net = pytorchvideo("slowfast").create_slowfast(
        model_depth=depth,
        model_num_class=num_classes,
        slowfast_fusion_conv_kernel_size=(fusion, 1, 1),
        slowfast_fusion_conv_stride=(alpha, 1, 1),
        stage_conv_a_kernel_sizes=((still, still, res4, temporal), (temporal, temporal, res4, temporal)),
        head_pool=nn.AdaptiveAvgPool3d,
    )
    *stages, _, head = net.blocks  # without the pooling that joins the pathways
    backbone = TwoPathways(stages, alpha)
    return Network3D(backbone, head.proj, num_frames, dropout, input_mean=KINETICS_MEAN, input_std=KINETICS_STD)


# In a x b the slow pathway takes a frames, one of every b of the video.
register("slowfast_r50_4x16")(partial(slowfast, 50, 8, 5))
register("slowfast_r50_8x8")(partial(slowfast, 50, 4, 7))
register("slowfast_r101_8x8", "slowfast_r101_16x8")(partial(slowfast, 101, 4, 5))

"""NL-I3D (Wang et al., 2018a): non-local blocks in an inflated ResNet."""

from torch import Tensor, nn

from ctnet.models.peers.i3d import inflated_resnet
from ctnet.models.peers.network3d import Network3D
from ctnet.models.registry import register
from ctnet.models.tsn import with_small_weights

R101_BLOCKS = {"layer2": (1, 3), "layer3": (6, 13, 20)}
"""The five residual blocks that a non-local one follows: two of stage 3, three of stage 4."""


class NonLocalBlock(nn.Module):
    """Every position looks at all positions of the clip, weighted by softmax(theta phi) (Eq. 1-6, embedded Gaussian).

    phi and g see a map that is max-pooled by 2 x 2 (section 3.3). The last normalisation starts at zero, so that the
    block starts as the identity (section 4.1).

    Args:
        channels: C of the input and output; the embeddings have C / 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta, self.phi, self.g = (nn.Conv3d(channels, inner, 1) for _ in range(3))
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.out = nn.Conv3d(inner, channels, 1)
        self.norm = nn.BatchNorm3d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        pooled = self.pool(x)
        theta, phi, g = (embed.flatten(2) for embed in (self.theta(x), self.phi(pooled), self.g(pooled)))
        attention = (theta.transpose(1, 2) @ phi).softmax(-1)  # (N, T*H*W, T*H*W/4)
        mixed = (attention @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])  # (N, C/2, T, H, W)
        return x + self.norm(self.out(mixed))


@register("nl_i3d_r101", pretrained=True)
def nl_i3d_r101(
    num_classes: int = 400, num_frames: int = 128, dropout: float = 0.5, weights: str | None = None
) -> Network3D:
    """NL-I3D from ResNet-101 with five non-local blocks; any T. Table 4's clips are 128 x 256 x 256.

    Of its 360.1 GFLOPs there, 277.5 are convolutions and 81.6 the products of attention: together the printed 359.
    """
    backbone = inflated_resnet(101, weights)
    for stage, numbers in R101_BLOCKS.items():
        blocks = backbone.get_submodule(stage)
        for number in numbers:
            block = blocks.get_submodule(str(number))
            setattr(blocks, str(number), nn.Sequential(block, NonLocalBlock(block.conv3.out_channels)))  # type: ignore
    return Network3D(backbone, with_small_weights(nn.Linear(2048, num_classes)), num_frames, dropout)

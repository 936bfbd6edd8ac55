"""Tensor Excitation (section 3.2, Eq. 6-8, Fig. 4) and the squeeze-and-excitation it is compared with (Table 2g)."""

from typing import Literal

from torch import Tensor, nn

from ctnet.models.tensor_conv import ConvBNReLU, Kernel, TensorSeparableConv


def temporal_pool(x: Tensor) -> Tensor:
    """T-Pool: average over time, (N, C, T, H, W) -> (N, C, 1, H, W)."""
    channels_last = x.permute(0, 2, 3, 4, 1)  # reduced in the order of the memory, which is several times faster
    return channels_last.mean(1, keepdim=True).permute(0, 4, 1, 2, 3)


def spatial_pool(x: Tensor) -> Tensor:
    """S-Pool: average over space, (N, C, T, H, W) -> (N, C, T, 1, 1)."""
    return x.permute(0, 2, 3, 4, 1).mean((2, 3), keepdim=True).permute(0, 4, 1, 2, 3)


def excite(x: Tensor, attention: Tensor) -> Tensor:
    """x * attention, with both (N, C, T, H, W) and the attention's extents 1 where it was pooled.

    The backward pass sums over those, which is several times faster in the order of the memory.
    """
    return (x.permute(0, 2, 3, 4, 1) * attention.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class TensorExcitation(nn.Module):
    """One of the three attentions of TE: x * sigmoid(TSConv(ReLU(BN(TSConv(pool(x)))))).

    Both convolutions act on the sub-dimension of the sub-operation they excite; the first reduces its channels by
    `reduction`. Pooled over time with a 1 x h x w kernel this is the spatial attention (Eq. 6), pooled over space
    with t x 1 x 1 the temporal (Eq. 7), and pooled over space with 1 x 1 x 1 the channel attention (Eq. 8).

    Args:
        channels: C of the feature.
        size: C_k of the sub-operation.
        kernel: (t, h, w) of both convolutions.
        pool: the dimension that is averaged away.
        reduction: of the channels between the convolutions, 4 in the authors' code.
    """

    def __init__(
        self, channels: int, size: int, kernel: Kernel, pool: Literal["temporal", "spatial"], reduction: int = 4
    ) -> None:
        super().__init__()
        reduced = max(size // reduction, 1)
        self.pool = temporal_pool if pool == "temporal" else spatial_pool
        self.reduce = ConvBNReLU(channels, channels // size * reduced, reduced, kernel)
        self.expand = TensorSeparableConv(channels // size * reduced, channels, size, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        return excite(x, self.expand(self.reduce(self.pool(x))).sigmoid())


class SqueezeExcitation(nn.Module):
    """Channel attention from the mean over the whole clip (Hu et al., 2020), in the place of TE in Table 2g."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        reduced = max(channels // reduction, 1)
        self.attention = nn.Sequential(
            nn.Linear(channels, reduced), nn.ReLU(inplace=True), nn.Linear(reduced, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T, H, W)."""
        squeezed = x.permute(0, 2, 3, 4, 1).mean((1, 2, 3))  # (N, C)
        return excite(x, self.attention(squeezed)[:, :, None, None, None])

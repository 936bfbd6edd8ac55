"""The simple CT-Module in plain PyTorch: for readers to copy, and nothing else."""

from collections.abc import Sequence

from torch import Tensor, nn


def separable(
    channels: int,
    size: int,
    kernel: tuple[int, int, int],
) -> nn.Module:
    """A TSConv (Eq. 2): channels meet among `size` neighbours."""
    conv = nn.Conv3d(
        channels,
        channels,
        kernel,
        padding="same",
        groups=channels // size,
        bias=False,
    )
    return nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU())


class PlainCTModule(nn.Module):
    """The simple CT-Module; `sizes` multiply to the channels."""

    def __init__(self, channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.spatial = nn.ModuleList(  # Eq. 3
            separable(channels, size, (1, 3, 3)) for size in sizes
        )
        self.temporal = nn.ModuleList(  # Eq. 4
            separable(channels, size, (3, 1, 1)) for size in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) in and out."""
        steps = zip(self.sizes, self.spatial, self.temporal, strict=True)
        for size, spatial, temporal in steps:
            x = spatial(x) + temporal(x)  # Eq. 5
            # the next sub-dimension innermost
            x = x.unflatten(1, (-1, size)).transpose(1, 2).flatten(1, 2)
        return x

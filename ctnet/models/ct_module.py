"""The CT-Module (section 3.1-3.3, Fig. 2) and the modules that are special cases of it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ctnet.models.excitation import SqueezeExcitation, TensorExcitation
from ctnet.models.tensor_conv import ConvBNReLU, Kernel, rotate_channels, sub_dimension_sizes

Connection = Literal["parallel", "serial", "coupling"]
Excitation = Literal["te", "se", "none"]


class SubOperation(nn.Module):
    """Sub-operation k: spatial and temporal TSConv along sub-dimension k, connected and excited (Eq. 3-8).

    "parallel" sums both features (Eq. 5), "serial" feeds the temporal convolution with the spatial feature and
    "coupling" is one t x h x w convolution (Eq. 2; Table 2c). Arguments as for `CTModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        kernel: Kernel,
        connection: Connection = "parallel",
        excitation: Excitation = "te",
    ) -> None:
        super().__init__()
        if connection not in ("parallel", "serial", "coupling"):
            raise ValueError(f"connection must be parallel, serial or coupling, got {connection!r}")
        if excitation not in ("te", "se", "none"):
            raise ValueError(f"excitation must be te, se or none, got {excitation!r}")
        t, h, w = kernel
        self.connection = connection
        if connection == "coupling":
            self.coupled = ConvBNReLU(in_channels, out_channels, size, kernel)
        else:
            temporal_in = in_channels if connection == "parallel" else out_channels
            self.spatial = ConvBNReLU(in_channels, out_channels, size, (1, h, w))
            self.temporal = ConvBNReLU(temporal_in, out_channels, size, (t, 1, 1))

        self.excite_spatial: nn.Module = nn.Identity()
        self.excite_temporal: nn.Module = nn.Identity()
        self.excite_channel: nn.Module = nn.Identity()
        if excitation == "te":
            self.excite_spatial = TensorExcitation(out_channels, size, (1, h, w), pool="temporal")
            self.excite_temporal = TensorExcitation(out_channels, size, (t, 1, 1), pool="spatial")
            self.excite_channel = TensorExcitation(out_channels, size, (1, 1, 1), pool="spatial")
        elif excitation == "se":
            self.excite_channel = SqueezeExcitation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, out_channels, T, H, W)."""
        if self.connection == "parallel":
            u = self.excite_spatial(self.spatial(x))  # Eq. 3, 6
            v = self.excite_temporal(self.temporal(x))  # Eq. 4, 7
            r = u + v  # Eq. 5
        elif self.connection == "serial":
            u = self.excite_spatial(self.spatial(x))
            r = self.excite_temporal(self.temporal(u))
        else:
            r = self.excite_temporal(self.excite_spatial(self.coupled(x)))
        return self.excite_channel(r)  # Eq. 8


class CTModule(nn.Module):
    """K sub-operations, one for each sub-dimension of the tensorized channels C = C_1 x ... x C_K (section 3.1).

    After sub-operation k, C_1 * ... * C_k channels have interacted. Between two sub-operations the next
    sub-dimension is brought innermost: by the PWConv, whose learned weights take any order, or by `rotate_channels`.
    The output keeps the order of the last sub-operation; `output_order` tells it.

    Args:
        in_channels: channels of the input.
        out_channels: C, the input's unless given.
        sizes: K, or the sizes (C_1, ..., C_K); see `sub_dimension_sizes`.
        kernels: extent of the sub-operations: k for cubes k x k x k, or a list with one for each, k or (t, h, w). With
            K = 3, (1, 3, 3) is three cubes; ((1, 3, 3),) * 3 is one extent for all.
        connection: of the spatial and the temporal convolution (Table 2c).
        excitation: "te", "se" or "none" (Table 2g).
        pointwise: whether a 1 x 1 x 1 convolution over all channels (PWConv) stands between sub-operations.

    Raises:
        ValueError: when the sizes do not multiply to C, or an argument is none of those listed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        sizes: int | Sequence[int] = 2,
        kernels: int | Sequence[int | Sequence[int]] = 3,
        connection: Connection = "parallel",
        excitation: Excitation = "te",
        pointwise: bool = True,
    ) -> None:
        super().__init__()
        self.channels = out_channels or in_channels
        self.sizes = sub_dimension_sizes(self.channels, sizes)
        last = len(self.sizes) - 1
        inputs = [in_channels, *[self.channels] * last]
        self.sub_operations = nn.ModuleList(
            SubOperation(channels, self.channels, size, kernel, connection, excitation)
            for channels, size, kernel in zip(inputs, self.sizes, _kernels(kernels, len(self.sizes)), strict=True)
        )
        self.pointwise = nn.ModuleList(
            ConvBNReLU(self.channels, self.channels, self.channels, (1, 1, 1)) for _ in range(last if pointwise else 0)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, C, T, H, W), the channels in `output_order`."""
        for k, sub_operation in enumerate(self.sub_operations):
            if k > 0:
                x = self.pointwise[k - 1](x) if self.pointwise else rotate_channels(x, self.sizes[k - 1])
            x = sub_operation(x)
        return x

    @property
    def output_order(self) -> Tensor:
        """Permutation of shape (C,) that tells which channel of C_1 x ... x C_K, C_1 innermost, each output channel is.

        The layer that follows learns a weight for each channel: turning them back would cost a copy for nothing.
        """
        order = torch.arange(self.channels).reshape(1, -1, 1, 1, 1)
        for size in self.sizes[:-1]:
            order = rotate_channels(order, size)
        return order.flatten()


def _kernels(kernels: int | Sequence[int | Sequence[int]], k: int) -> list[Kernel]:
    """Spell out one (t, h, w) for each of K sub-operations."""
    listed = [kernels] * k if isinstance(kernels, int) else list(kernels)
    if len(listed) != k:
        raise ValueError(f"{len(listed)} kernels were given for {k} sub-operations")
    cubes = [(kernel,) * 3 if isinstance(kernel, int) else tuple(kernel) for kernel in listed]
    if any(len(cube) != 3 for cube in cubes):
        raise ValueError(f"a kernel is one number or (t, h, w), got {kernels}")
    return [(t, h, w) for t, h, w in cubes]


def c3d_module(in_channels: int, out_channels: int | None = None) -> CTModule:
    """C3D (Tran et al., 2015) as the CT-Module with K = 1 and one coupled 3 x 3 x 3 kernel (section 3.3)."""
    return CTModule(in_channels, out_channels, sizes=1, connection="coupling", excitation="none")


def r2plus1d_module(in_channels: int, out_channels: int | None = None) -> CTModule:
    """R(2+1)D (Tran et al., 2018): K = 2, C_1 = C_2 = C, kernels 1 x 3 x 3 then 3 x 1 x 1 (section 3.3)."""
    c = out_channels or in_channels
    kernels = ((1, 3, 3), (3, 1, 1))
    return CTModule(
        in_channels, c, sizes=(c, c), kernels=kernels, connection="coupling", excitation="none", pointwise=False
    )


def csn_module(in_channels: int, out_channels: int | None = None) -> CTModule:
    """CSN (Tran et al., 2019): K = 2, C = C x 1, kernels 1 x 1 x 1 then depthwise 3 x 3 x 3 (section 3.3)."""
    c = out_channels or in_channels
    kernels = ((1, 1, 1), (3, 3, 3))
    return CTModule(
        in_channels, c, sizes=(c, 1), kernels=kernels, connection="coupling", excitation="none", pointwise=False
    )

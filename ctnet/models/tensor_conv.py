"""Channel tensorization and the tensor separable convolution (section 3.1, Eq. 1-4).

Clips are (N, C, T, H, W) tensors whose memory is ordered N, T, H, W, C (``channels_last_3d``). In that
order a batch of frames (N*T, C, H, W), a clip (N, C, T, H, W) and a clip of flattened frames (N, C, T, H*W)
are three views of the same memory, so that spatial and temporal convolutions follow each other without a copy.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

Kernel = tuple[int, int, int]
"""Extent of a convolution in time, height and width."""


def as_clips(frames: Tensor, num_frames: int) -> Tensor:
    """View frames (N*T, C, H, W) as clips (N, C, T, H, W)."""
    if frames.shape[0] % num_frames:
        raise ValueError(f"a batch of {frames.shape[0]} frames does not hold whole clips of {num_frames} frames")
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2)


def as_frames(clips: Tensor) -> Tensor:
    """View clips (N, C, T, H, W) as frames (N*T, C, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)


def sub_dimension_sizes(channels: int, sizes: int | Sequence[int] = 2) -> tuple[int, ...]:
    """Sizes (C_1, ..., C_K) of the sub-dimensions that C channels are tensorized into.

    A number K splits C nearly evenly: C_K is the largest divisor of C that is at most its K-th root, and what remains
    is split in the same way into K - 1. ``sub_dimension_sizes(128, 2)`` is ``(16, 8)``. Explicit sizes are checked;
    one of them may be -1, as in ``Tensor.reshape``: with ``(-1, 4)``, C_2 = 4 and C_1 = C / 4 (Table 2d). Sizes that
    are all C leave the channels untensorized (section 3.3).

    Raises:
        ValueError: when the sizes do not multiply to C.
    """
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"the number of sub-dimensions K must be at least 1, got {sizes}")
        return _balanced(channels, sizes)
    explicit = list(sizes)
    if explicit.count(-1) == 1:
        known = math.prod(size for size in explicit if size != -1)
        explicit[explicit.index(-1)] = channels // known if known > 0 else 0
    if explicit and min(explicit) > 0 and (math.prod(explicit) == channels or set(explicit) == {channels}):
        return tuple(explicit)
    raise ValueError(f"sub-dimensions {tuple(sizes)} do not multiply to {channels} channels")


def _balanced(channels: int, k: int) -> tuple[int, ...]:
    """Split off the largest divisor that is at most the k-th root; what remains is split k - 1 ways."""
    if k == 1:
        return (channels,)
    smallest = max(d for d in range(1, channels + 1) if channels % d == 0 and d**k <= channels)
    return (*_balanced(channels // smallest, k - 1), smallest)


def rotate_channels(x: Tensor, size: int) -> Tensor:
    """Bring the next sub-dimension innermost: (N, C, T, H, W), C = G * size, transposed to C = size * G.

    Channel g * size + i moves to i * G + g. Applied after the sub-operation on each of the K sub-dimensions in
    turn, the channels come back to their first order. This is the one operation here that copies memory.
    """
    channels_last = x.movedim(1, -1).unflatten(-1, (-1, size))  # (N, T, H, W, G, size)
    return channels_last.transpose(-1, -2).flatten(-2).movedim(-1, 1)


class TensorSeparableConv(nn.Module):
    """TSConv along the innermost sub-dimension (Eq. 2): C_k neighbouring channels interact, over t x h x w positions.

    The kernel 1 x ... x C_k x ... x 1 x t x h x w is a convolution in C / C_k groups. With t = 1 it is the
    spatial S-TSConv (Eq. 3), with h = w = 1 the temporal T-TSConv (Eq. 4), otherwise both are coupled.

    Args:
        in_channels: channels of the input.
        out_channels: channels C of the output.
        size: C_k, the channels of a group in the output.
        kernel: (t, h, w), all odd; positions outside the clip count as zero.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int, kernel: Kernel) -> None:
        super().__init__()
        groups, rest = divmod(out_channels, size)
        if rest or in_channels % groups:
            raise ValueError(
                f"cannot convolve {in_channels} to {out_channels} channels in groups of {size}: "
                f"the number of groups must divide both"
            )
        if any(extent < 1 or extent % 2 == 0 for extent in kernel):
            raise ValueError(f"kernel extents must be odd, got {kernel}")
        t, h, w = kernel
        self.kernel = kernel
        self.conv: nn.Conv2d | nn.Conv3d
        if t == 1:
            self.conv = nn.Conv2d(
                in_channels, out_channels, (h, w), padding=(h // 2, w // 2), groups=groups, bias=False
            )
        elif h == w == 1:
            self.conv = nn.Conv2d(in_channels, out_channels, (t, 1), padding=(t // 2, 0), groups=groups, bias=False)
        else:
            padding = (t // 2, h // 2, w // 2)
            self.conv = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, out_channels, T, H, W)."""
        t, h, w = self.kernel
        if t == 1:
            return as_clips(self.conv(as_frames(x)), x.shape[2])
        if h == w == 1:
            return self.conv(x.flatten(3)).unflatten(3, x.shape[3:])  # a T x 1 kernel on (N, C, T, H*W)
        return self.conv(x)


class ConvBNReLU(nn.Sequential):
    """Tensor separable convolution, batch normalisation, ReLU; arguments as for `TensorSeparableConv`."""

    def __init__(self, in_channels: int, out_channels: int, size: int, kernel: Kernel) -> None:
        super().__init__()
        self.conv = TensorSeparableConv(in_channels, out_channels, size, kernel)
        self.bn = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)


class OnClips(nn.Module):
    """Lets a module on clips stand where a 2D network passes frames: (N*T, C, H, W) -> (N*T, C', H, W)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(N*T, C, H, W), of clips of T = `num_frames` frames -> (N*T, C', H, W)."""
        return as_frames(self.module(as_clips(x, num_frames)))

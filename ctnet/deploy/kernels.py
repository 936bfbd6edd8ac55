"""Kernels for float32 on a CPU, built from `kernels.cpp` by the machine's own compiler when they are first used."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ctnet.files import cache_folder, replacing
from ctnet.models.tensor_conv import Kernel

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where there is no compiler that can build them. `CXX` names another than c++, maybe with
    words behind or before it, as in "ccache g++".

    They are kept in the user's cache folder, for each kind of processor and each source.
    """
    compiler = _compiler()
    if not compiler:
        return None
    known = hashlib.sha256(SOURCE.read_bytes() + " ".join((*compiler, *FLAGS, _processor())).encode()).hexdigest()[:16]
    built = cache_folder() / f"kernels-{known}.so"
    try:
        if not built.is_file():
            with replacing(built) as scratch:
                subprocess.run([*compiler, *FLAGS, SOURCE, "-o", scratch], check=True, capture_output=True)
        return ctypes.CDLL(os.fspath(built))
    except (OSError, subprocess.CalledProcessError):
        return None


def _compiler() -> list[str]:
    """The command that compiles; empty where there is none."""
    named = os.environ.get("CXX") or "c++"
    try:
        program, *words = [named] if shutil.which(named) else shlex.split(named)
    except ValueError:  # no words at all, or an open quote
        return []
    found = shutil.which(program)
    return [found, *words] if found else []


def _processor() -> str:
    """What the compiler can tell apart: the architecture and the processor's features."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    told = ("flags", "model name", "Features", "CPU ")  # the last two on ARM: "CPU implementer", "CPU part", ...
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(told)}))


def usable(x: Tensor) -> bool:
    """Whether the kernels can compute with a tensor: float32 in a CPU's memory."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


def pack(weight: Tensor, bias: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """A grouped convolution's weight (C', C / groups, kh, kw) and bias (C',) as `ts_conv` reads them.

    Groups narrower than a vector are joined, with zeros between them: that costs nothing, for the vector is computed
    whole all the same. The results are (G, kh, kw, c, lanes) and (G, lanes).
    """
    vector = kernels().lanes()
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    joined = max(j for j in range(1, groups + 1) if groups % j == 0 and (j == 1 or j * outputs <= vector))
    blocks = weight.new_zeros(groups // joined, joined, outputs, joined, inputs, *weight.shape[2:])
    for j in range(joined):
        blocks[:, j, :, j] = weight.unflatten(0, (groups // joined, joined, outputs))[:, j]
    blocks = blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 4, 2, 1)  # (G, kh, kw, c, c')
    lanes = -(-blocks.shape[-1] // vector) * vector - blocks.shape[-1]
    return pad(blocks, (0, lanes)).contiguous(), pad(bias.unflatten(0, (groups // joined, -1)), (0, lanes)).contiguous()


def kernels() -> ctypes.CDLL:
    """The kernels, where `usable` has said that there are any."""
    found = library()
    assert found is not None
    return found


def ts_conv(x: Tensor, weight: Tensor, bias: Tensor, channels: int, kernel: Kernel, relu: bool) -> Tensor:
    """A spatial (1, h, w) or temporal (t, 1, 1) convolution in groups, and a ReLU if asked for.

    Args:
        x: clips (N, C, T, H, W); best in the order N, T, H, W, C.
        weight, bias: of `pack`.
        channels: of the output.
        kernel: (t, h, w), odd.
        relu: whether the output is rectified.

    Returns:
        Clips (N, channels, T, H, W), in the order N, T, H, W, C.
    """
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    n, t, h, w, _ = x.shape
    out = x.new_empty(n, t, h, w, channels)
    groups, _, _, inputs, lanes = weight.shape
    if kernel[0] == 1:
        planes = (n * t, h * w, 1, w, w, h, w)
    else:
        width = min(h * w, 64)  # pixels whose frames stay in the nearest cache
        strips = -(-h * w // width)
        planes = (n, t * h * w, strips, width, h * w - (strips - 1) * width, t, h * w)
    shape = (*planes, groups, inputs, channels // groups, lanes, max(kernel[:2]), kernel[2], int(relu))
    kernels().ts_conv(*_pointers(x, weight, bias, out), (ctypes.c_int64 * len(shape))(*shape))
    return out.permute(0, 4, 1, 2, 3)


def spatial_mean(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean over space of clips (N, C, T, H, W), times (N, C, 1, H, W) if given: (N, C, T, 1, 1)."""
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    n, t, h, w, c = x.shape
    out = x.new_empty(n, t, 1, 1, c)
    by = weight.permute(0, 2, 3, 4, 1).contiguous() if weight is not None else None
    kernels().spatial_mean(*_pointers(x, by, out), *map(ctypes.c_int64, (n, t, h * w, c)))
    return out.permute(0, 4, 1, 2, 3)


def gated_sum(u: Tensor, s: Tensor, a: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """u * s * a + v * b, written over u.

    Args:
        u, v: clips (N, C, T, H, W) in the order N, T, H, W, C.
        s: (N, C, 1, H, W).
        a, b: (N, C, T, 1, 1).
    """
    n, c, t, h, w = u.shape
    ordered = [each.permute(0, 2, 3, 4, 1).contiguous() for each in (u, s, a, v, b)]
    kernels().gated_sum(*_pointers(*ordered), *map(ctypes.c_int64, (n, t, h * w, c)))
    return ordered[0].permute(0, 4, 1, 2, 3)


def _pointers(*tensors: Tensor | None) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None) for tensor in tensors]

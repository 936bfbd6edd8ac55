"""What a clip costs in time: measured once on one machine, kept in `results/speed`, shown beside its FLOPs."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

from study.measured import measured_dir
from study.store import provenance, read, write

if TYPE_CHECKING:
    from ctnet.deploy import Timing
    from ctnet.models import VideoModel


@dataclass(frozen=True)
class Part:
    """What is measured together, in turn.

    Attributes:
        models: names of networks.
        backends: of `ctnet.deploy.BACKENDS`.
        frames, size: of the clip.
        threads: of every runtime.
        rounds: each measures every network in every runtime once.
    """

    models: tuple[str, ...]
    backends: tuple[str, ...]
    frames: int
    size: int
    threads: int = 1
    rounds: int = 7


NETWORKS = (
    "tsn_r50",
    "ctnet_r50",
    "c3d_r50",
    "r2plus1d_r50",
    "csn_r50",
    "tsm_r50",
    "tim_r50",
    "teinet_r50",
    "tea_r50",
    "stm_r50",
    "gsm_r50",
    "smallbig_r50",
    "corrnet_r50",
    "blvnet_tam_r50",
    "eco_lite",
    "i3d_r50",
    "slowfast_r50_8x8",
    "x3d_xl",
    "r2plus1d34",
    "ip_csn_r101",
    "tsn_inceptionv3",
    "ctnet_inceptionv3",
)
"""Full-size networks of the tables that a small machine can run; of deeper ones with the same blocks, none."""

IN_CONV3D = "ctnet_r50_in_conv3d"
"""CT-Net as `study.conv3d` writes it down."""

PARTS = {
    "networks": Part(NETWORKS, ("eager", "optimized"), frames=8, size=112, rounds=7),
    "runtimes": Part(
        ("tsn_r50", "ctnet_r50"), ("eager", "optimized", "compiled", "onnxruntime"), frames=8, size=256, rounds=15
    ),
    "conv3d": Part(
        (IN_CONV3D, "ctnet_r50"),
        ("eager", "optimized", "compiled", "onnxruntime", "int8"),
        frames=8,
        size=256,
        rounds=9,
    ),
}

PROFILE = Part(("tsn_r50", "ctnet_r50"), ("eager", "optimized"), frames=8, size=256, rounds=7)
"""Of which networks it is measured where their time goes."""


def measure_profile() -> None:
    """Measure where the time of networks goes on this machine, and keep it in `results/speed/profile.json`."""
    import torch

    from ctnet.deploy import optimize, profile
    from ctnet.deploy.timing import on_threads
    from ctnet.models import create_model

    start = time.perf_counter()
    contestants: dict[tuple[str, str], torch.nn.Module] = {}
    for model in PROFILE.models:
        network = create_model(model, num_frames=PROFILE.frames).eval()
        contestants |= {(model, "eager"): network, (model, "optimized"): optimize(network)}
    with on_threads(PROFILE.threads):
        clip = torch.rand(1, 3, PROFILE.frames, PROFILE.size, PROFILE.size)
        found = profile(list(contestants.values()), clip, PROFILE.rounds)
    shares = [
        {"model": model, "backend": backend, **asdict(share)}
        for (model, backend), each in zip(contestants, found, strict=True)
        for share in each
    ]
    made = provenance(("cost",), PROFILE.models, time.perf_counter() - start)
    write("speed/profile.json", asdict(PROFILE) | {"shares": shares, "provenance": made})


def shares() -> pd.DataFrame:
    """Where the time of networks goes: a row for each network, runtime, size of maps and kind of operation.

    Columns: model, backend, and the fields of `ctnet.deploy.Share`.
    """
    return pd.DataFrame(speed("profile")["shares"])


def measure_speed(name: str) -> None:
    """Measure a part of `PARTS` on this machine and keep it in `results/speed`."""
    from ctnet.deploy import bench, matrix_rate

    part, start = PARTS[name], time.perf_counter()
    runtimes = _versions(*(backend for backend in part.backends if backend in ("onnxruntime", "openvino")))
    rates = [matrix_rate(part.threads)]
    found = bench(
        _in_two_forms(part.frames) if IN_CONV3D in part.models else part.models,
        part.backends,
        frames=part.frames,
        size=part.size,
        threads=part.threads,
        rounds=part.rounds,
        progress=True,
    )
    rates.append(matrix_rate(part.threads))
    registered = [model for model in part.models if model != IN_CONV3D]
    made = provenance(("cost",), registered, time.perf_counter() - start)
    made["versions"] |= runtimes
    timings = [asdict(timing) for timing in found]
    write(f"speed/{name}.json", asdict(part) | {"matrix_rate": sum(rates) / 2, "timings": timings, "provenance": made})


def _in_two_forms(frames: int) -> "dict[str, VideoModel]":
    """CT-Net with random weights, in Conv3d and as the package has it."""
    from ctnet.models import create_model
    from study.conv3d import InConv3d

    network = create_model("ctnet_r50", num_frames=frames)
    return {IN_CONV3D: InConv3d(network), "ctnet_r50": network}


def _versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def speed(name: str) -> dict[str, Any]:
    """What is kept of a part; raises FileNotFoundError when nothing is."""
    kept = read(f"speed/{name}.json")
    if kept is None:
        raise FileNotFoundError(f"no times of {name} are kept: `python -m study speed --part {name}` measures them")
    return kept


def roof(kept: dict[str, Any]) -> float:
    """GMAC/s of a product of matrices, beside which the times of a part were taken; two operations are one MAC."""
    return float(kept["matrix_rate"] / 2)


def times(name: str) -> pd.DataFrame:
    """Kept times of a part, a row for each network and runtime.

    Columns: model, backend, gmacs; "ms", processor time of a clip; "spread", half the distance between the quartiles of
    single measurements, in ms of time on the clock; "rate", the GMAC/s that it reaches; "share", that rate over the
    matrix product's.
    """
    kept = speed(name)
    frame = pd.DataFrame(kept["timings"])[["model", "backend", "gmacs", "processor_ms", "spread_ms"]]
    frame = frame.rename(columns={"processor_ms": "ms", "spread_ms": "spread"})
    frame["rate"] = 1e3 * frame["gmacs"] / frame["ms"]
    frame["share"] = frame["rate"] / roof(kept)
    return frame


# -- Live, in seconds --------------------------------------------------------------------------------------------------


def group_rates(channels: int = 256, size: int = 16, frames: int = 8, rounds: int = 5) -> pd.DataFrame:
    """Rates of a 3 x 3 convolution in ever smaller groups, on one core, by the library and by the own kernel.

    Returns:
        Columns: "group", channels in each; "kernel", "library" or "own"; "gmacs"; "rate", GMAC/s.
    """
    import torch

    from ctnet.deploy import kernels
    from ctnet.deploy.inference import FusedConv
    from ctnet.deploy.timing import in_turn, on_threads

    contestants: dict[tuple[int, str], Callable[[], torch.Tensor]] = {}
    x = torch.rand(frames, channels, size, size).contiguous(memory_format=torch.channels_last)
    clip = x.unflatten(0, (1, frames)).transpose(1, 2)
    for group in (channels, 64, 32, 16, 8):
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels // group)
        fused = FusedConv(conv)
        contestants[group, "library"] = partial(fused, x)
        if group < channels and kernels.library() is not None:
            weight, bias = kernels.pack(fused.weight, fused.bias, fused.groups)
            contestants[group, "own"] = partial(kernels.ts_conv, clip, weight, bias, channels, (1, 3, 3), False)
    with on_threads(1), torch.inference_mode():
        times = in_turn(list(contestants.values()), rounds + 1)
    rows = []
    for (group, kernel), found in zip(contestants, times, strict=True):
        taken = median(processor for _, processor in found[1:])  # the first round warms up
        gmacs = frames * size * size * channels * group * 9 / 1e9
        rows.append({"group": group, "kernel": kernel, "gmacs": gmacs, "rate": gmacs / taken})
    return pd.DataFrame(rows)


def twins_now() -> "list[Timing]":
    """The twins of TSN and CT-Net, measured now on one core: a second."""
    from ctnet.deploy import bench

    return bench(["tsn_r50_twin", "ctnet_r50_twin"], ["eager", "optimized"], size=32, threads=1, rounds=15)


# -- Every network in ONNX ---------------------------------------------------------------------------------------------

CLIPS = ((8, 32), (8, 96), (16, 96), (32, 96))
"""Frames and size of the clips that an export is tried with: the first that a network takes."""


def try_exports(names: Iterable[str], again: bool = False) -> dict[str, dict[str, Any]]:
    """Export networks to ONNX and compare their scores in ONNX Runtime; each is kept in `results/speed/exports.json`.

    Args:
        names: of networks.
        again: also those that are kept, and of which the network has not changed since.

    Returns:
        Network -> what is kept: its version, the clip, "difference" relative to the largest score, or "error", and
        where that comes from.
    """
    from ctnet.models import network_version

    names, current = list(names), {} if again else exports()
    for name in (name for name in names if name not in current):
        start, runtimes = time.perf_counter(), _versions("onnx", "onnxruntime", "onnxscript")
        found = {"version": network_version(name), **_try_export(name)}
        made = provenance((), [name], time.perf_counter() - start)
        current[name] = found | {"provenance": made | {"versions": made["versions"] | runtimes}}
        lock = measured_dir() / "exports.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # what several processes find at once is all kept
            kept = read("speed/exports.json") or {}
            write("speed/exports.json", dict(sorted((kept | {name: current[name]}).items())))
    return {name: current[name] for name in names}


SAME = 1e-4
"""Difference between scores of a network and of its export, over the largest score, up to which they are the same."""


def exports() -> dict[str, dict[str, Any]]:
    """What `try_exports` has kept, of networks as they are today: network -> what became of it."""
    from ctnet.models import list_models, network_version

    kept = read("speed/exports.json") or {}
    return {name: kept[name] for name in list_models() if kept.get(name, {}).get("version") == network_version(name)}


def is_same(outcome: Mapping[str, Any]) -> bool:
    """Whether an export gives the scores of its network; one that failed, or gives no numbers, does not."""
    return bool(outcome.get("difference", math.inf) <= SAME)


def _try_export(name: str) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    import torch

    from ctnet.deploy import export, load_exported
    from ctnet.models import create_model

    torch.manual_seed(0)
    model = create_model(name, num_classes=5).eval()
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for frames, size in CLIPS:
            clips = torch.rand(3, 3, frames, size, size)
            try:
                expected = model(clips)
            except (RuntimeError, ValueError):  # too few frames, or too small
                continue
            path = Path(folder, "model.onnx")
            try:
                with torch.inference_mode(False):
                    export(model, path, "onnx", frames=frames, size=size)
                difference = float((load_exported(path)(clips) - expected).abs().max() / expected.abs().max())
            except Exception as error:  # whatever the exporter cannot do
                return {
                    "clip": [frames, size],
                    "error": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}",
                }
            return {"clip": [frames, size], "difference": difference}
    return {"error": f"takes none of the clips {CLIPS}"}

"""What a clip costs in time: latency of networks in several runtimes, measured in turn."""

import copy
import ctypes
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ctnet.analysis import count_cost
from ctnet.deploy.files import Format, export
from ctnet.deploy.inference import optimize
from ctnet.deploy.runtime import load_exported
from ctnet.engine.preparation import keep_freed_memory
from ctnet.models import VideoModel, create_model

BACKENDS = ("eager", "optimized", "compiled", "onnxruntime", "openvino", "int8")
"""Where networks run; "int8" is ONNX Runtime with weights and activations rounded to 8 bits."""
OWN = Path("/proc/self")
"""Where Linux tells a process what memory it has in use."""
RUNTIMES: dict[str, Format] = {"onnxruntime": "onnx", "openvino": "openvino", "int8": "onnx"}


@dataclass(frozen=True)
class Timing:
    """What one network takes in one runtime.

    Attributes:
        model: its name.
        backend: one of `BACKENDS`.
        clips: at once.
        gmacs: multiply-adds of a clip in 1e9.
        latency_ms: median time of a batch.
        spread_ms: half the distance between the quartiles of the times.
        processor_ms: median processor time of a batch, over all threads, which other processes disturb less; None on a
            GPU.
        memory_mb: what a batch adds to the memory in use, at its peak; None where the system does not tell.
    """

    model: str
    backend: str
    clips: int
    gmacs: float
    latency_ms: float
    spread_ms: float
    processor_ms: float | None
    memory_mb: float | None

    @property
    def clips_per_second(self) -> float:
        """Clips per second at the median latency."""
        return self.clips / self.latency_ms * 1e3

    @property
    def gflops(self) -> float:
        """Rate reached in 1e9 operations per second, a multiply-add counted as two."""
        return 2 * self.gmacs * self.clips_per_second


def bench(
    networks: Sequence[str] | Mapping[str, VideoModel],
    backends: Sequence[str] = BACKENDS,
    *,
    frames: int = 8,
    size: int = 256,
    clips: int = 1,
    threads: int | None = None,
    rounds: int = 10,
    device: str = "cpu",
    progress: bool = False,
) -> list[Timing]:
    """Measure networks, all in turn in every round, so that what disturbs one disturbs all.

    Args:
        networks: names of `list_models()`, of networks with random weights; or networks, each by the name it shall
            have, which stay as they are.
        backends: some of `BACKENDS`; on a GPU the first three. For "int8" the random clips are those to calibrate on.
        frames: T of the clips.
        size: their height and width in pixels.
        clips: in a batch.
        threads: as many as torch has, unless given.
        rounds: that are timed; one more warms up.
        device: "cpu" or "cuda".
        progress: show a bar.

    Raises:
        ValueError: for an unknown name, backend or device, or a clip that a network cannot process.
    """
    if unknown := [backend for backend in backends if backend not in BACKENDS]:
        raise ValueError(f"unknown backend {unknown[0]!r}; there are {', '.join(BACKENDS)}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"there is no device {device!r} here")
    if device == "cuda" and (other := [backend for backend in backends if backend in RUNTIMES]):
        raise ValueError(f"{other[0]} is measured on a CPU alone")
    if min(frames, size, clips, rounds) < 1 or (threads is not None and threads < 1):
        raise ValueError("frames, size, clips, threads and rounds must be positive")
    keep_freed_memory()
    with on_threads(threads):
        batch = torch.rand(clips, 3, frames, size, size).to(device)
        contestants: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {}
        gmacs, rows = {}, []
        given = networks if isinstance(networks, Mapping) else dict.fromkeys(networks)
        for name, own in given.items():
            model = copy.deepcopy(own) if own is not None else create_model(name, num_frames=frames)
            model.eval().to(device)
            gmacs[name] = count_cost(model, size=size, frames=frames).gmacs
            for backend in backends:
                contestants[name, backend] = _prepared(model, backend, batch)
        with torch.inference_mode():
            memory = {key: _memory(partial(run, batch), device) for key, run in contestants.items()}
            calls = [partial(run, batch) for run in contestants.values()]
            times = in_turn(calls, rounds, device, progress)
    for (name, backend), found in zip(contestants, times, strict=True):
        wall, processor = ([1e3 * each for each in column] for column in zip(*found, strict=True))
        quartiles = statistics.quantiles(wall, n=4) if len(wall) > 1 else wall * 3
        rows.append(
            Timing(
                name,
                backend,
                clips,
                gmacs[name],
                statistics.median(wall),
                (quartiles[2] - quartiles[0]) / 2,
                statistics.median(processor) if device == "cpu" else None,
                memory[name, backend],
            )
        )
    return rows


def matrix_rate(threads: int | None = None, size: int = 1024, rounds: int = 10) -> float:
    """What a product of two square matrices reaches here, in 1e9 operations per second of processor time."""
    a = torch.rand(size, size)
    with on_threads(threads):
        (times,) = in_turn([partial(torch.mm, a, a)], rounds + 1)
    return 2 * size**3 / statistics.median(processor for _, processor in times[1:]) / 1e9


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Let torch compute on so many threads in this context; on as many as before if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turn(
    calls: Sequence[Callable[[], object]], rounds: int, device: str = "cpu", progress: bool = False
) -> list[list[tuple[float, float]]]:
    """Time calls, all in turn in every round: for each call its seconds, and seconds of the processor, by round."""
    times: list[list[tuple[float, float]]] = [[] for _ in calls]
    for _ in tqdm(range(rounds), desc="rounds", disable=not progress, leave=False):
        for call, taken in zip(calls, times, strict=True):
            taken.append(_timed(call, device))
    return times


def _prepared(model: VideoModel, backend: str, clips: Tensor) -> Callable[[Tensor], Tensor]:
    """The network as a backend runs it on such clips (N, 3, T, H, W)."""
    if backend == "optimized":
        return optimize(model)
    if backend == "compiled":
        return torch.compile(optimize(model))
    if backend == "eager":
        return model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml" if backend == "openvino" else "model.onnx")
        frames, size = clips.shape[2:4]
        export(
            model, path, RUNTIMES[backend], frames=frames, size=size, int8=list(clips) if backend == "int8" else None
        )
        return load_exported(path)


def _timed(call: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds, and seconds of the processor, of a call."""
    begin, busy = time.perf_counter(), time.process_time()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, time.process_time() - busy


def _memory(call: Callable[[], object], device: str) -> float | None:
    """What a call adds to the memory in use at its peak, in 1e6 bytes; the call also warms up."""
    call()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    if sys.platform != "linux":
        return None
    if hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)  # what earlier calls freed is not in use
    try:
        held = _status("VmRSS")
        (OWN / "clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        call()
        return (_status("VmHWM") - held) / 1e3
    except (OSError, KeyError):  # a kernel that has none of it
        return None


def _status(field: str) -> int:
    """A line of the kernel's account, in kilobytes; raises KeyError where it is not there."""
    lines = (OWN / "status").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(":", 1) for line in lines)[field].split()[0])

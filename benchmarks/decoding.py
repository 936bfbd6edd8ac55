"""Speed of `ctnet.data.read_frames` and of other decoders, on the same files, one thread each.

    pip install -e '.[bench]'
    python benchmarks/decoding.py

Writes 300-frame 340x256 files in several codecs and keyframe intervals, then reads 8 random frames, or 64 consecutive
ones, with every decoder in turn, and prints the median over the rounds, in frames per second of processor time. A
ratio above 1 says that `read_frames` is faster. torchcodec needs FFmpeg's shared libraries on the system.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from ctnet.data import read_frames

FILES = [  # (name, encoder, keyframe interval)
    ("h264 mp4, GOP 12", "h264-12.mp4", "libx264", 12),
    ("h264 mp4, GOP 60", "h264-60.mp4", "libx264", 60),
    ("h264 mp4, GOP 250", "h264-250.mp4", "libx264", 250),
    ("VP9 webm, GOP 12", "vp9-12.webm", "libvpx-vp9", 12),
    ("VP9 webm, GOP 128", "vp9-128.webm", "libvpx-vp9", 128),
    ("MPEG-4 avi, GOP 12", "mpeg4-12.avi", "mpeg4", 12),
    ("MPEG-4 avi, GOP 250", "mpeg4-250.avi", "mpeg4", 250),
]
NUM_FRAMES, WIDTH, HEIGHT = 300, 340, 256


def write_video(path: Path, encoder: str, gop: int) -> None:
    """A textured background that pans, with a noisy square that moves over it."""
    rng = np.random.default_rng(0)
    scene = torch.nn.functional.interpolate(
        torch.from_numpy(rng.uniform(0, 255, (1, 3, 40, 60))), size=(400, 600), mode="bicubic"
    )
    scene = scene[0].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25, options={"cpu-used": "8"} if "vp9" in encoder else {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.bit_rate = 600_000
        for i in range(NUM_FRAMES):
            y, x = i // 3, int(100 + 90 * np.sin(i / 30))
            frame = scene[y : y + HEIGHT, x : x + WIDTH].copy()
            frame[100:150, i : i + 40] = rng.integers(0, 255, (50, 40, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def read_with_opencv(path: str, indices: list[int]) -> np.ndarray:
    import cv2

    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    for index in indices:
        if capture.get(cv2.CAP_PROP_POS_FRAMES) != index:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def read_with_decord(path: str, indices: list[int]) -> np.ndarray:
    import decord

    return decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy()


def read_with_torchcodec(path: str, indices: list[int]) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(path, num_ffmpeg_threads=1).get_frames_at(indices).data


def sparse(rng: np.random.Generator) -> list[int]:
    return sorted(rng.choice(NUM_FRAMES, 8, replace=False).tolist())


def dense(rng: np.random.Generator) -> list[int]:
    start = int(rng.integers(NUM_FRAMES - 64))
    return list(range(start, start + 64))


def works(reader: Callable[[str, list[int]], object], path: str) -> bool:
    try:
        reader(path, [0])
    except Exception as error:
        print(f"left out {reader.__name__}: {str(error).strip().splitlines()[0]}")
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed reads of each kind per file and decoder")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    modules = {"cv2": read_with_opencv, "decord": read_with_decord, "torchcodec": read_with_torchcodec}
    readers = [reader for module, reader in modules.items() if importlib.util.find_spec(module)]
    with tempfile.TemporaryDirectory() as folder:
        for _, name, encoder, gop in FILES:
            write_video(Path(folder, name), encoder, gop)
        first = str(Path(folder, FILES[0][1]))
        readers = [read_frames, *(reader for reader in readers if works(reader, first))]
        print(f"{'file':20} {'frames':7} " + " ".join(f"{reader.__name__:>22}" for reader in readers))
        for title, name, _, _ in FILES:
            path = str(Path(folder, name))
            for sample in (sparse, dense):
                rng = np.random.default_rng(0)
                seconds: dict[str, list[float]] = {reader.__name__: [] for reader in readers}
                for _ in range(rounds):
                    indices = sample(rng)
                    for reader in readers:
                        begin = time.process_time()
                        reader(path, indices)
                        seconds[reader.__name__].append(time.process_time() - begin)
                medians = {key: statistics.median(values) for key, values in seconds.items()}
                cells = [
                    f"{len(indices) / median:10.0f} fps x{median / medians['read_frames']:<6.2f}"
                    for median in medians.values()
                ]
                print(f"{title:20} {sample.__name__:7} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

"""Writes the small videos of the tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUM_FRAMES = 40


def draw_frames(count: int = NUM_FRAMES, width: int = 64, height: int = 48) -> np.ndarray:
    """A scrolling mosaic, with a patch of another colour on each frame."""
    rng = np.random.default_rng(0)
    mosaic = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(mosaic, (i, 2 * i), (0, 1)) for i in range(count)])
    frames[:, :12, :12] = np.arange(count)[:, None, None, None] * np.array([37, 91, 53]) % 256
    return frames


def write_video(
    path: Path,
    encoder: str = "libx264",
    gop: int = 12,
    frames: np.ndarray | None = None,
    times: Sequence[int] | None = None,
    audio: bool = False,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode frames at 25 per second, or at the given times in milliseconds."""
    frames = draw_frames() if frames is None else frames
    if encoder.startswith("libvpx"):
        options = {"cpu_used": "8", "deadline": "realtime", **options}
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(
            encoder, rate=25, options={key.replace("_", "-"): v for key, v in options.items()}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i if times is None else times[i]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 3), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


def decode_all(path: Path) -> np.ndarray:
    """Every frame, decoded one after the other: the reference."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [f.to_ndarray(format="rgb24", interpolation="BILINEAR") for f in container.decode(video=0)]
    return np.stack(frames)

"""Thousands of damaged files over all containers: what becomes of them, counted.

    nice python tests/data/damage.py --count 10000

Every file is a small video that was cut, overwritten, mixed up or lengthened at random, read by `read_frames` in a
process that may hang or die. It must give one line that names it, or as many frames as decoding it from its start does,
none in the place of another. Damaged pixels are counted apart: codecs without checksums, VP8 above all, decode them to
something, and to something else when they begin at another keyframe.
"""

import argparse
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from video_files import draw_frames, write_video

from ctnet.data import VideoError, count_frames, read_frames
from ctnet.data.workers import results

FORMATS = {
    "mp4": ("video.mp4", {}),
    "mp4, index first": ("front.mp4", {"muxer": {"movflags": "faststart"}}),
    "mp4, fragments": ("fragments.mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "webm": ("video.webm", {"encoder": "libvpx-vp9"}),
    "webm, no duration": ("live.webm", {"encoder": "libvpx-vp9", "muxer": {"live": "1"}}),
    "mkv": ("video.mkv", {}),
    "mkv with sound": ("sound.mkv", {"audio": True}),
    "avi": ("video.avi", {"encoder": "mpeg4"}),
    "avi with B-frames": ("b.avi", {"encoder": "mpeg4", "bf": "2"}),
    "ts": ("video.ts", {}),
}
OTHERS = {
    "mov": ("video.mov", {}),
    "mpg": ("video.mpg", {"encoder": "mpeg2video"}),
    "flv": ("video.flv", {"encoder": "flv"}),
    "3gp": ("video.3gp", {"encoder": "mpeg4"}),
    "nut": ("video.nut", {"encoder": "mpeg4"}),
    "ivf": ("video.ivf", {"encoder": "libvpx"}),
    "h264": ("video.h264", {}),
    "wmv": ("video.wmv", {"encoder": "wmv2"}),
}
WAYS = ("cut", "bits", "bits of the header", "zeros", "noise", "gap", "insertion", "repetition", "exchange", "tail")


def damage(data: bytes, way: str, rng: np.random.Generator) -> bytes:
    """Damage the content of a file in one of several ways."""
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    b = min(b, a + int(rng.integers(1, 2000)))
    junk = rng.bytes(b - a)
    if way.startswith("bits"):
        pixels = np.frombuffer(data, np.uint8).copy()
        reach = min(len(data), 1500) if way.endswith("header") else len(data)
        pixels[rng.integers(0, reach, 10)] ^= (1 << rng.integers(0, 8, 10)).astype(np.uint8)
        return pixels.tobytes()
    return {
        "cut": data[:a],
        "zeros": data[:a] + bytes(b - a) + data[b:],
        "noise": data[:a] + junk + data[b:],
        "gap": data[:a] + data[b:],
        "insertion": data[:a] + junk + data[a:],
        "repetition": data[:b] + data[a:],
        "exchange": data[b:] + data[:b],
        "tail": data + junk,
    }[way]


def decode_plainly(path: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Every frame that FFmpeg gives of the only video stream, and its time, one after the other, until it gives up."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            (stream,) = container.streams.video
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24", width=64, height=48, interpolation="BILINEAR")
                yield frame.pts or 0, pixels
    except (av.FFmpegError, IndexError):
        return


def outcome(path: Path, rng: np.random.Generator) -> str:
    """What becomes of a damaged file: an error in one line, or frames; anything else is a fault."""
    try:
        count = count_frames(path)
        frames = read_frames(path, range(count))
        few = rng.integers(0, count, 3).tolist()
        same = bool((read_frames(path, few) == frames[few]).all())
    except VideoError as error:
        return "error" if path.name in str(error) and "\n" not in str(error) else f"fault: names no file: {error}"
    except Exception as error:  # what is counted here
        return f"fault: {type(error).__name__}: {error}"
    if path.is_dir() or frames.shape[2:] != (48, 64):
        return "frames" if same else "frames with damaged pixels"
    try:
        plain = list(decode_plainly(path))
    except ValueError:
        return "frames of one of several streams"  # which a damaged header made of one
    pixels = frames.permute(0, 2, 3, 1).numpy()
    if len(plain) != count:
        return f"fault: {count} frames, not {len(plain)}"
    orders = plain, sorted(plain, key=itemgetter(0))  # the decoder's, which damage confuses, and that of their times
    candidates = ([i for i in range(count) if not np.array_equal(pixels[i], order[i][1])] for order in orders)
    unlike = min(candidates, key=len)
    if any(np.array_equal(pixels[i], other) for i in unlike for _, other in plain):
        return "fault: a frame in the place of another one"
    return "frames with damaged pixels" if unlike or not same else "frames"


def trial(sources: dict[str, bytes], pictures: Path, path: Path) -> str:
    """Damage, read and remove one file, whose name tells the seed: its kind, the way and the outcome, and megabytes."""
    seed = int(path.name)
    rng = np.random.default_rng(seed)
    kind, way = [*sources, "pictures"][seed % (len(sources) + 1)], WAYS[int(rng.integers(len(WAYS)))]
    if kind == "pictures":
        path = Path(shutil.copytree(pictures, path))
        victim = path / f"{int(rng.integers(1, 13)):05d}.jpg"
        victim.write_bytes(damage(victim.read_bytes(), way, rng))
        found = outcome(path, rng)
        shutil.rmtree(path)
    else:
        path = path.with_name(f"{seed}{kind}")
        path.write_bytes(damage(sources[kind], way, rng))
        found = outcome(path, rng)
        path.unlink()
    return f"{kind}\t{way}\t{found}\t{_megabytes()}"


def _megabytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def run(
    folder: Path, seeds: Sequence[int], seconds: float, note: Callable[[int], None] = lambda done: None
) -> list[list[str]]:
    """Rows (seed, kind, way, outcome, megabytes) of many trials in one process; lost ones are outcomes too."""
    sources = {}
    for name, arguments in (FORMATS | OTHERS).values():
        path = write_video(folder / name, **arguments)
        sources[f"-{name}"] = path.read_bytes()
    (folder / "pictures").mkdir()
    for i, frame in enumerate(draw_frames(12), 1):
        Image.fromarray(frame).save(folder / "pictures" / f"{i:05d}.jpg")
    work = partial(trial, sources, folder / "pictures")
    rows = []
    for path, found in results(work, [folder / str(seed) for seed in seeds], 1, seconds):
        parts = (found or "").split("\t")
        rows.append([path.name, *(parts if len(parts) == 4 else ["?", "?", f"fault: {found}", "0"])])
        note(len(rows))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first file; the others follow")
    parser.add_argument("--seconds", type=float, default=30, help="limit for one file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(asked.first, asked.first + asked.count)
        rows = run(Path(folder), seeds, asked.seconds, lambda done: done % 1000 or print(done, flush=True))
    for title, place in (("outcome", 3), ("way", 2), ("kind", 1)):
        counts = Counter((row[place], row[3]) for row in rows)
        print("\n".join(f"{title}: {key}, {found}: {number}" for (key, found), number in sorted(counts.items())))
    faults = [row for row in rows if row[3].startswith("fault")]
    print("\n".join(" ".join(row) for row in faults[:50]))
    memory = [int(row[4]) for row in rows if int(row[4])]
    fifth = memory[len(memory) // 5 : len(memory) // 4] or memory
    growth = np.median(memory[-len(fifth) :]) - np.median(fifth)
    print(f"{len(rows)} damaged files, {len(faults)} faults, memory grew by {growth:g} MB after the first fifth")
    raise SystemExit(int(bool(faults) or growth > 50))


if __name__ == "__main__":
    main()

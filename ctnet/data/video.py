"""Frames by their index, from a video file or from a folder of pictures."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av import Packet
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

Indices = Sequence[int] | Callable[[int], Sequence[int]]


class VideoError(RuntimeError):
    """A video that cannot be read; the message names its file."""


def read_frames(path: str | PathLike[str], indices: Indices, short_side: int | None = None) -> Tensor:
    """Read frames by index: exactly those that decoding the whole video from its start would give.

    A packet is decoded only when it stands between a wanted frame and the keyframe before it, on one thread, and
    only wanted frames are converted to RGB. The compressed packets are held in memory meanwhile.

    Args:
        path: a video file in any format that FFmpeg reads, or a folder of pictures 00001.jpg, 00002.jpg, ...
        indices: frame indices counted from 0, in any order, repeated or not; or a function from the number of frames
            to such indices, which saves opening the file twice.
        short_side: if given, the length in pixels to which the shorter side is resized (bilinear, aspect ratio kept).

    Returns:
        RGB, uint8, of shape (T, 3, H, W), channels last in memory.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: an index lies outside the video.
        VideoError: the file is damaged, ends early or is no video.
    """
    path = _existing(path)
    convert = _Converter(short_side)
    if path.is_dir():
        pictures = _pictures(path)
        wanted = _resolve(path, indices, len(pictures))
        frames = {i: convert(_decode_picture(pictures[i])) for i in sorted(set(wanted))}
    else:
        with _demux(path) as video:
            wanted = _resolve(path, indices, video.count() if callable(indices) or video.order else None)
            frames = {}
            for index, frame in video.decode(set(wanted)):
                if frame.is_corrupt:
                    raise VideoError(f"{path}: frame {index} is damaged")
                frames[index] = convert(frame)
        if missing := sorted(set(wanted) - set(frames)):
            raise VideoError(f"{path}: frame {missing[0]} does not decode")
    return torch.from_numpy(np.stack([frames[i] for i in wanted])).permute(0, 3, 1, 2)


def count_frames(path: str | PathLike[str]) -> int:
    """Count the frames of a video file or a folder of pictures; raises as `read_frames` does."""
    path = _existing(path)
    if path.is_dir():
        return len(_pictures(path))
    with _demux(path) as video:
        return video.count()


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such video")
    return path


def _resolve(path: Path, indices: Indices, count: int | None) -> list[int]:
    """Indices as a list, checked against the number of frames where that is known without decoding."""
    if callable(indices):
        assert count is not None
        indices = indices(count)
    wanted = [int(i) for i in indices]
    if not wanted:
        raise ValueError(f"{path}: no frame indices were given")
    for i in wanted:
        if i < 0 or (count is not None and i >= count):
            limit = "" if count is None else f" to {count - 1}"
            raise ValueError(f"{path}: no frame {i}; indices run from 0{limit}")
    return wanted


# Video files ---------------------------------------------------------------------------------------------------------


def _mpeg4_shows(data: bytes) -> bool:
    """Neither a B-frame nor a placeholder without content, such as follows two frames packed into one packet."""
    picture = data.find(b"\x00\x00\x01\xb6")
    return len(data) > 19 and picture >= 0 and data[picture + 4] >> 6 != 2


def _vp9_shows(data: bytes) -> bool:
    """A superframe (which ends in a shown frame), or a frame with show_existing_frame or show_frame set."""
    return data[-1] & 0xE0 == 0xC0 or bool(data[0] & 0x0A)


# Whether a packet shows exactly one frame at its time stamp, for the codecs where that can be told without decoding.
_SHOWS_ONE_FRAME: dict[str, Callable[[bytes], bool] | None] = {
    "h264": None,  # always
    "hevc": None,
    "av1": None,
    "vp8": lambda data: bool(data[0] & 0x10),
    "vp9": _vp9_shows,
    "mpeg4": _mpeg4_shows,
}


@dataclass
class _Video:
    """The packets of one opened video, in decoding order, and their presentation times.

    `order[i]` is the position of frame i among the packets. It is None where time stamps do not tell which packet shows
    which frame (no time stamps, invisible frames, interlaced fields, leading frames without their keyframe, ...); such
    a video is decoded from the start.
    """

    stream: VideoStream
    packets: list[Packet]
    times: list[int]
    order: list[int] | None

    def count(self) -> int:
        """Count the frames, by decoding them all if need be."""
        return len(self.order) if self.order else sum(1 for _ in self._run(self.packets))

    def decode(self, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (index, frame) of the wanted frames, in the order of decoding."""
        if self.order:
            wanted = set(wanted)
            index_of = {self.times[self.order[i]]: i for i in wanted}
            for start, stop in self._spans(wanted, self.order):
                intact = start == 0
                for frame in self._run(self.packets[start:stop], index_of.keys()):
                    # A "keyframe" from which the picture only recovers little by little does not come out itself
                    intact = intact or frame.pts == self.times[start]
                    if intact and frame.pts in index_of and (index := index_of[frame.pts]) in wanted:
                        wanted.remove(index)
                        yield index, frame
        if wanted:
            last = max(wanted)
            for index, frame in enumerate(self._run(self.packets)):
                if index in wanted:
                    yield index, frame
                if index == last:
                    break

    def _spans(self, wanted: set[int], order: list[int]) -> list[tuple[int, int]]:
        """Ranges of packets to decode, each from a keyframe to the last wanted frame that no later keyframe reaches."""
        keyframes = [position for position, packet in enumerate(self.packets) if packet.is_keyframe]
        spans: list[tuple[int, int]] = []
        for i in sorted(wanted):
            position = order[i]
            k = bisect_right(keyframes, position) - 1
            while k > 0 and self.times[keyframes[k]] > self.times[position]:  # shown before that keyframe
                k -= 1
            start, stop = keyframes[k], position + 1
            if spans and start < spans[-1][1]:
                spans[-1] = min(start, spans[-1][0]), max(stop, spans[-1][1])
            else:
                spans.append((start, stop))
        return spans

    def _run(self, packets: list[Packet], wanted: Collection[int] | None = None) -> Iterator[VideoFrame]:
        """Decode packets that begin with a keyframe; unwanted frames that no other frame refers to are left out."""
        context = self.stream.codec_context
        context.flush_buffers()
        for packet in packets:
            context.skip_frame = "DEFAULT" if wanted is None or packet.pts in wanted else "NONREF"
            yield from self.stream.decode(packet)
        yield from self.stream.decode(None)


@contextmanager
def _demux(path: Path) -> Iterator[_Video]:
    """Open a video, read its packets and close it again; whatever FFmpeg reports becomes a VideoError."""
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if not container.streams.video or container.streams.video[0].codec_context is None:
                raise VideoError(f"{path}: holds no video that can be decoded")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.open(strict=False)  # before skip_frame is set: some decoders read it only here
            try:
                demuxed = [packet for packet in container.demux() if packet.size]
            except IndexError:  # PyAV's report of a stream that begins in the middle of a damaged file
                raise VideoError(f"{path}: damaged") from None
            packets = [packet for packet in demuxed if packet.stream_index == stream.index]
            if not packets:
                raise VideoError(f"{path}: holds no frames")
            if any(packet.is_corrupt for packet in packets):
                raise VideoError(f"{path}: damaged or truncated")
            declared, end = _durations(container, stream, packets, demuxed)
            if declared - end > max(declared / 20, 2 * declared / len(packets)):
                raise VideoError(f"{path}: ends after {end:.2f} of {declared:.2f} s; truncated?")
            times = [packet.pts for packet in packets if packet.pts is not None]
            order = _presentation_order(container, stream, packets, times)
            yield _Video(stream, packets, times, order)
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror}") from error


def _presentation_order(
    container: InputContainer, stream: VideoStream, packets: list[Packet], times: list[int]
) -> list[int] | None:
    context = stream.codec_context
    codec = context.codec.canonical_name
    if (
        codec not in _SHOWS_ONE_FRAME
        or len(set(times)) < len(packets)  # missing or repeated
        or not packets[0].is_keyframe
        or min(times) < times[0]
        or context.field_order > 1  # neither unknown nor progressive
        or (container.format.name == "avi" and context.has_b_frames)  # AVI stores no presentation times
        or ((shows := _SHOWS_ONE_FRAME[codec]) and not all(shows(bytes(packet)) for packet in packets))
    ):
        return None
    shown = [position for position, packet in enumerate(packets) if not packet.is_discard]
    return sorted(shown, key=lambda position: times[position])


def _durations(
    container: InputContainer, stream: VideoStream, packets: list[Packet], demuxed: list[Packet]
) -> tuple[float, float]:
    """The duration that the file declares, and the time at which its packets end, in seconds; (0, 0) if not known."""
    name = container.format.name
    declared: Fraction | None = None
    if name == "avi" and stream.average_rate:
        declared = stream.frames / stream.average_rate
    elif name.startswith("mov") and stream.duration and stream.time_base:
        declared = stream.duration * stream.time_base
    elif name.startswith("matroska") and container.duration:
        declared = Fraction(container.duration, av.time_base)
        packets = demuxed  # it declares the duration of its longest stream
    stamps = [(packet.dts if packet.pts is None else packet.pts, packet.duration or 0) for packet in packets]
    ends = [stamp + duration for stamp, duration in stamps if stamp is not None]
    return (float(declared), float(max(ends) * stream.time_base)) if declared and ends and stream.time_base else (0, 0)


class _Converter:
    """Decoded frames to RGB arrays (H, W, 3) of one size, upright."""

    def __init__(self, short_side: int | None) -> None:
        self.short_side = short_side
        self.size: tuple[int, int] | None = None
        self.reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[Any]:
        if self.size is None:
            scale = self.short_side / min(frame.width, frame.height) if self.short_side else 1
            self.size = round(frame.width * scale), round(frame.height * scale)
        width, height = self.size
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
        return np.rot90(rgb, frame.rotation // 90) if frame.rotation else rgb


# Folders of pictures -------------------------------------------------------------------------------------------------


def _pictures(folder: Path) -> list[Path]:
    """The jpg files of a folder, in order; their numbers must have no gap."""
    pictures = sorted(folder.glob("*.jpg"))
    if not pictures:
        raise VideoError(f"{folder}: holds no .jpg frames")
    try:
        numbers = [int(picture.stem) for picture in pictures]
    except ValueError:
        raise VideoError(f"{folder}: frames must be named by their number, like 00001.jpg") from None
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise VideoError(f"{folder}: frames are missing: {len(numbers)} of {numbers[0]} to {numbers[-1]}")
    return pictures


def _decode_picture(path: Path) -> VideoFrame:
    data = path.read_bytes()
    try:
        frames = av.CodecContext.create("mjpeg", "r").decode(av.Packet(data)) if data else []
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    if not frames or frames[0].is_corrupt or b"\xff\xd9" not in data[-64:]:  # the end marker, and perhaps padding
        raise VideoError(f"{path}: damaged or truncated")
    return frames[0]

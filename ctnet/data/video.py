"""Frames by their index, from a video file or from a folder of pictures."""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av import Packet
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from ctnet.data.containers import CONTAINERS, ENDINGS, UNSURE, is_complete, is_cut_off, read_jpeg
from ctnet.errors import printable

Indices = Sequence[int] | Callable[[int], Sequence[int]]


class VideoError(RuntimeError):
    """A video that cannot be read; the message names its file, in one line that any terminal can print."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def read_frames(path: str | PathLike[str], indices: Indices, short_side: int | None = None) -> Tensor:
    """Read frames by index: those that decoding the whole video from its start gives, in the order of their times.

    A packet is decoded only when it stands between a wanted frame and the keyframe before it, on one thread, and
    only wanted frames are converted to RGB. The compressed packets are held in memory meanwhile.

    Args:
        path: a video file in one of `containers.CONTAINERS`, or a folder of pictures 00001.jpg, 00002.jpg, ... Of
            several video streams the default one is read, or else the largest.
        indices: frame indices counted from 0, in any order, repeated or not; or a function from the number of frames
            to such indices, which saves opening the file twice.
        short_side: if given, the length in pixels to which the shorter side is resized (bilinear, aspect ratio kept).

    Returns:
        RGB, uint8, of shape (T, 3, H, W), channels last in memory, turned and mirrored as the file says.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: an index lies outside the video.
        VideoError: the file is damaged, ends early or is no video.
    """
    path = _existing(path)
    convert = _Converter(short_side)
    if path.is_dir():
        with _blamed_on(path):
            pictures = _pictures(path)
        wanted = _resolve(path, indices, len(pictures))
        frames = {i: _read_picture(pictures[i], convert) for i in sorted(set(wanted))}
    else:
        with _blamed_on(path), _demux(path) as video:
            wanted = _resolve(path, indices, _count(path, video) if callable(indices) or video.order else None)
            if video.stream.width and video.stream.height:
                convert.stored = video.stream.width, video.stream.height
            frames = {}
            for index, frame in video.decode(set(wanted)):
                if frame.is_corrupt:
                    raise VideoError(f"{path}: frame {index} is damaged")
                frames[index] = convert(frame, _turn_of(frame))
        if missing := sorted(set(wanted) - set(frames)):
            raise VideoError(f"{path}: frame {missing[0]} does not decode")
    return torch.from_numpy(np.stack([frames[i] for i in wanted])).permute(0, 3, 1, 2)


def count_frames(path: str | PathLike[str]) -> int:
    """Count the frames of a video file or a folder of pictures; raises as `read_frames` does."""
    path = _existing(path)
    with _blamed_on(path):
        if path.is_dir():
            return len(_pictures(path))
        with _demux(path) as video:
            return _count(path, video)


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """What the system cannot read, of a video that is there, is that video's fault."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror or error}") from error


def _count(path: Path, video: "_Video") -> int:
    if not (count := video.count()):
        raise VideoError(f"{path}: no frame of it decodes")
    return count


def why_no_video(path: Path) -> str:
    """Why a file or folder is none that a dataset may hold, in a few words; "" for one that may be a video.

    Its name tells, and only where that says nothing what is in it: a damaged video is a video.
    """
    if not os.path.exists(path):
        return "links to nothing" if path.is_symlink() else "no such video"
    if path.is_dir():
        return "" if next(frames_in(path), None) else "a folder without frames"
    if not path.is_file():
        return "no regular file"
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return ""
    if ending not in UNSURE:
        return "no video by its name"
    try:
        with _demux(path):
            return ""
    except VideoError:
        return "no video"


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
        return len(self.order) if self.order else sum(1 for _ in self.all_frames())

    def all_frames(self) -> Iterator[VideoFrame]:
        """Decode the video from its start to its end."""
        return self._run(self.packets)

    def decode(self, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (index, frame) of the wanted frames, in the order of decoding."""
        wanted = set(wanted)
        index_of: dict[int | None, int] = {self.times[self.order[i]] if self.order else i: i for i in wanted}
        if self.order:
            for start, stop in self._spans(wanted, self.order):
                intact = start == 0
                for frame in self._run(self.packets[start:stop], index_of.keys()):
                    # A "keyframe" from which the picture only recovers little by little does not come out itself
                    intact = intact or frame.pts == self.times[start]
                    if intact and frame.pts in index_of and (index := index_of[frame.pts]) in wanted:
                        wanted.remove(index)
                        yield index, frame
        for place, frame in enumerate(self._run(self.packets) if wanted else ()):
            found = index_of.get(frame.pts if self.order else place)  # never one in the place of another
            if found in wanted:
                wanted.remove(found)
                yield found, frame
            if not wanted:
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

    def _run(self, packets: list[Packet], wanted: Collection[int | None] | None = None) -> Iterator[VideoFrame]:
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
        with _open(path) as container:
            stream = _best_stream(path, container)
            stream.codec_context.thread_count = 1
            stream.codec_context.open(strict=False)  # before skip_frame is set: some decoders read it only here
            try:
                demuxed = list(container.demux())
            except IndexError:  # PyAV's report of a stream that begins in the middle of a damaged file
                raise VideoError(f"{path}: damaged") from None
            if container.format.name == "nut" and any(not p.size and p.pts is not None for p in demuxed):
                raise VideoError(f"{path}: damaged")  # a frame without content; elsewhere it repeats the one before
            demuxed = [packet for packet in demuxed if packet.size]
            packets = [packet for packet in demuxed if packet.stream_index == stream.index]
            if not packets:
                raise VideoError(f"{path}: holds no frames")
            if container.format.name == "gif" and len(packets) == 1:
                raise VideoError(f"{path}: a picture, no video")
            times = [packet.pts for packet in packets if packet.pts is not None]
            video = _Video(stream, packets, times, _presentation_order(container, stream, packets, times))
            _check_whole(path, container, video, demuxed)
            yield video
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror}") from error


def _open(path: Path) -> InputContainer:
    """Open a file in one of the known containers, and nothing that it refers to."""
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.ArgumentError:  # what FFmpeg says of a format that is not listed
        raise VideoError(f"{path}: not a video file, or in a container that is not read here") from None


def _best_stream(path: Path, container: InputContainer) -> VideoStream:
    """The default video stream, or else the largest; pictures that belong to a song are none."""
    pictures = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & pictures]
    if not streams or container.metadata.get("major_brand") in ("avif", "heic", "heix", "mif1"):
        raise VideoError(f"{path}: holds no video that can be decoded")
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index))


def _check_whole(path: Path, container: InputContainer, video: _Video, demuxed: list[Packet]) -> None:
    """Raise a VideoError where the end of a file is missing, or packets of it.

    The file's structure and its frames decide. A duration in the header may be stale, and counts only where the
    structure cannot be followed to the end; a transport stream that was joined from pieces reports a packet at the
    seam as corrupt although all of its frames decode.
    """
    if any(packet.is_corrupt for packet in video.packets):
        frames = list(video.all_frames()) if container.format.name == "mpegts" else []
        if len(frames) < len(video.packets) or any(frame.is_corrupt for frame in frames):
            raise VideoError(f"{path}: damaged or truncated")
    declared, end = _durations(container, video.stream, video.packets, demuxed)
    name = container.format.name
    if not declared and (is_cut_off(path, name) or (name.startswith(("matroska", "mpegts")) and _gap_at_end(video))):
        raise VideoError(f"{path}: truncated, or still being written")
    late = declared - end > max(declared / 20, 2 * declared / len(video.packets))
    if late and not is_complete(path, name, video.stream.frames - len(video.packets)):
        raise VideoError(f"{path}: ends after {end:.2f} of {declared:.2f} s; truncated?")


def _gap_at_end(video: _Video) -> bool:
    """Whether frames are missing that should be shown before one of the last, in a video that is steady but for that.

    Where frames refer to later ones, those come first in the file; what was cut off behind them leaves a gap.
    """
    times = sorted(video.times)
    steps = [later - sooner for sooner, later in pairwise(times)]
    if times == video.times or len(steps) < 8:
        return False
    usual = sorted(steps)[len(steps) // 2]
    return max(steps[:-4]) < 1.5 * usual < max(steps[-4:])


def _presentation_order(
    container: InputContainer, stream: VideoStream, packets: list[Packet], times: list[int]
) -> list[int] | None:
    context = stream.codec_context
    codec = context.codec.canonical_name
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    if (
        codec not in _SHOWS_ONE_FRAME
        or len(set(times)) < len(packets)  # missing or repeated
        or not packets[0].is_keyframe
        or min(times) < times[0]
        or decoding != sorted(decoding)
        or container.format.name == "mpegts"  # may be joined from pieces, or have lost any of them
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


class _Turn(NamedTuple):
    """How a stored picture becomes upright: rows and columns exchanged, then columns and rows in reverse order."""

    transpose: bool = False
    reverse_x: bool = False
    reverse_y: bool = False

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn pixels (H, W, 3)."""
        pixels = pixels.swapaxes(0, 1) if self.transpose else pixels
        return pixels[:: -1 if self.reverse_y else 1, :: -1 if self.reverse_x else 1]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what is stored as width x height."""
        return (height, width) if self.transpose else (width, height)


def _turn_of(frame: VideoFrame) -> _Turn:
    """Read the display matrix of a frame, to the nearest quarter turn."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know the kind of another one of the frame's side data
        turns = frame.rotation // 90 % 4
        return _Turn(turns % 2 == 1, turns in (2, 3), turns in (1, 2))
    if data is None:
        return _Turn()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Turn(False, a < 0, d < 0)
    return _Turn(True, c < 0, b < 0)


class _Converter:
    """Decoded frames to RGB arrays (H, W, 3) of one size, upright."""

    def __init__(self, short_side: int | None) -> None:
        self.short_side = short_side
        self.size: tuple[int, int] | None = None
        self.stored: tuple[int, int] | None = None  # width and height that a file declares, if frames may differ
        self.first: tuple[int, int] | None = None  # width and height of the first frame, upright
        self.reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, turn: _Turn) -> NDArray[Any]:
        if self.size is None:
            width, height = turn.size(*(self.stored or (frame.width, frame.height)))
            scale = self.short_side / min(width, height) if self.short_side else 1
            self.first, self.size = (width, height), (round(width * scale), round(height * scale))
        width, height = turn.size(*self.size)
        return turn(
            self.reformatter.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
        )


# Folders of pictures -------------------------------------------------------------------------------------------------


def _pictures(folder: Path) -> list[Path]:
    """The JPEG files of a folder, in the order of the numbers at the end of their names, which must have no gap."""
    numbered: dict[int, Path] = {}
    prefixes = set()
    for picture in frames_in(folder):
        prefix, number = re.fullmatch(r"(.*?)(\d*)", picture.stem, re.DOTALL).groups()  # type: ignore[union-attr]
        prefixes.add(prefix)
        if not number or len(prefixes) > 1:
            raise VideoError(f"{folder}: frames must be named by their number, like 00001.jpg, not {picture.name}")
        if int(number) in numbered:
            raise VideoError(f"{folder}: {numbered[int(number)].name} and {picture.name} are one frame")
        numbered[int(number)] = picture
    if not numbered:
        raise VideoError(f"{folder}: holds no .jpg frames")
    first, last = min(numbered), max(numbered)
    if last - first + 1 != len(numbered):
        raise VideoError(f"{folder}: frames are missing: {len(numbered)} of {first} to {last}")
    return [numbered[number] for number in sorted(numbered)]


def frames_in(folder: Path) -> Iterator[Path]:
    """The pictures of a folder of frames, in any order; neither hidden files nor folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith((".jpg", ".jpeg")) and not entry.name.startswith(".") and not entry.is_dir():
                yield folder / entry.name


def _read_picture(path: Path, convert: _Converter) -> NDArray[Any]:
    """Decode a picture as a frame of the clip that `convert` holds together."""
    try:
        picture = read_jpeg(path.read_bytes())
        frames = av.CodecContext.create("mjpeg", "r").decode(av.Packet(picture.data)) if picture.data else []
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    if not frames or frames[0].is_corrupt:
        raise VideoError(f"{path}: damaged or truncated")
    turn = _Turn(*picture.turn)
    pixels, size = convert(frames[0], turn), turn.size(frames[0].width, frames[0].height)
    if size != convert.first:
        raise VideoError(f"{path}: {size[0]} x {size[1]} pixels, unlike the frame before it; is it turned?")
    return pixels

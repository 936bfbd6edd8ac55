"""What files look like from outside: which ones may be videos, whether they end where they say, where a JPEG ends."""

import os
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

CONTAINERS = (  # as FFmpeg names them
    *("mov", "matroska", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "av1", "obu", "ivf", "flv"),
    *("asf", "ogg", "nut", "rm", "mxf", "dv", "gif", "yuv4mpegpipe", "gxf", "vc1"),
)
ENDINGS = (  # of names of video files; of two files that differ only in it, the first one counts
    *(".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".m2t", ".vob", ".flv"),
    *(".f4v", ".wmv", ".asf", ".ogv", ".3gp", ".3g2", ".divx", ".xvid", ".mk3d", ".qt", ".mpe", ".m1v", ".m2v", ".rm"),
    *(".rmvb", ".mxf", ".dv", ".nut", ".ivf", ".obu", ".264", ".h264", ".265", ".hevc", ".y4m", ".gxf", ".vc1", ".mj2"),
)
UNSURE = ("", ".gif", ".ogg", ".ogx", ".dat", ".mod", ".tod")  # of videos, and of much else


# The structure of containers -----------------------------------------------------------------------------------------


def is_complete(path: Path, container: str, missing_frames: int) -> bool:
    """Whether a file's structure can be followed to its end, as nothing that was cut off can.

    Args:
        path: the file.
        container: FFmpeg's name of it; False for those whose structure is not known here.
        missing_frames: how many more frames an index in the file lists than were found.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if container.startswith("matroska"):
            return _ebml_end(file, size) == _WHOLE
        if container.startswith("mov"):
            return missing_frames <= 0 and _boxes_complete(file, size)
        return container == "avi" and _riff_complete(file, size)


def is_cut_off(path: Path, container: str) -> bool:
    """Whether a file that does not say how long it is, as a live recording, ends in the middle of something.

    Matroska is made of elements, a transport stream of packets of 188 bytes. One that was cut between two of them is,
    byte for byte, a recording that was stopped there: that it should go on cannot be known.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if container.startswith("matroska"):
            return _ebml_end(file, size) == _CUT
        if container != "mpegts":
            return False
        file.seek(max(0, size - 6 * max(_PACKETS)))
        tail = file.read()
    for length in _PACKETS:
        for last in range(len(tail) - 1, len(tail) - 1 - length, -1):
            if all(place >= 0 and tail[place] == 0x47 for place in range(last, last - 5 * length, -length)):
                return len(tail) - last < min(_PACKETS)
    return False


_PACKETS = (188, 192, 204)  # lengths in a transport stream: plain, with time stamps, with check sums


def _riff_complete(file: BinaryIO, size: int) -> bool:
    head = file.read(8)
    return head[:4] == b"RIFF" and 0 < int.from_bytes(head[4:], "little") <= size - 8


def _boxes_complete(file: BinaryIO, size: int) -> bool:
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length == 0:  # up to the end of the file
            return True
        if length < 8:
            return False
        place += length
    return place == size


_SEGMENT, _CLUSTER, _BLOCK, _GROUP = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xa3", b"\xa0"
_WHOLE, _CUT, _UNKNOWN = range(3)


def _ebml_end(file: BinaryIO, size: int) -> int:
    """Follow the elements of Matroska to their end; one of unknown size, as live recordings have, is entered."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        id_length = 9 - head[0].bit_length()
        name, rest = head[:id_length], head[id_length:]
        if id_length > 4 or not rest or not rest[0]:
            return _UNKNOWN
        width = 9 - rest[0].bit_length()
        length = int.from_bytes(rest[:width], "big") & ((1 << 7 * width) - 1)
        place += id_length + width
        if length == (1 << 7 * width) - 1:
            if name not in (_SEGMENT, _CLUSTER):
                return _UNKNOWN
        else:
            place += length
            if place > size and name in (_CLUSTER, _BLOCK, _GROUP):
                return _CUT
            if name == _SEGMENT:
                return _WHOLE if place <= size else _UNKNOWN
    return _WHOLE if place == size else _UNKNOWN


# Pictures ------------------------------------------------------------------------------------------------------------


class Jpeg(NamedTuple):
    """A JPEG file up to its end marker, and how it is turned upright.

    Attributes:
        data: b"" when the end marker is missing.
        turn: whether rows and columns are exchanged, and columns and rows are then in reverse order.
    """

    data: bytes
    turn: tuple[bool, bool, bool]


_MARKER = re.compile(rb"\xff([^\x00\xff])")  # within coded data \xff is followed by \x00
_TURNS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


def read_jpeg(data: bytes) -> Jpeg:
    """Follow the markers of a JPEG file to its end, behind which anything may stand; reads its Exif orientation."""
    turn, place = (False, False, False), 0
    while marker := _MARKER.search(data, place):
        kind, place = marker[1][0], marker.end()
        if kind == 0xD9:
            return Jpeg(data[:place], turn)
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # without content
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        if kind == 0xE1 and data.startswith(b"Exif\0\0", place + 2):
            turn = _TURNS.get(_orientation(data[place + 2 : place + length]), turn)
        place += length
    return Jpeg(b"", turn)


def _orientation(exif: bytes) -> int:
    """The Exif tag of that name; 1, upright, where it is missing or damaged."""
    found = Image.Exif()
    try:
        found.load(exif)
        return int(found.get(0x0112, 1))
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, EOFError):
        return 1

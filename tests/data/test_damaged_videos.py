"""A damaged file gives an error that names it, or a correct prefix; never a crash, a hang or a leak."""

import gc
import os
import time

import numpy as np
import pytest
from damage import FORMATS, OTHERS, WAYS, run
from video_files import decode_all, write_video

from ctnet.data import VideoError, count_frames, read_frames


@pytest.fixture(scope="module", params=FORMATS)
def video(request, tmp_path_factory):
    name, arguments = FORMATS[request.param]
    path = write_video(tmp_path_factory.mktemp("damaged") / name, **arguments)
    return request.param, path, decode_all(path)


def attempt(path):
    """All frames, or the error's message."""
    try:
        return read_frames(path, lambda num_frames: range(num_frames)), None
    except VideoError as error:
        return None, str(error)


@pytest.mark.parametrize("tenths", range(10))
def test_truncated(video, tmp_path, tenths):
    _, path, _ = video
    data = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(data[: len(data) * tenths // 10])
    _, error = attempt(cut)
    assert error is not None, "a cut within a part of the file is read as if it were whole"
    assert cut.name in error
    assert "\n" not in error
    with pytest.raises(VideoError, match=cut.name):
        count_frames(cut)


def test_of_a_transport_stream_cut_between_packets_nothing_or_the_first_frames_are_read(tmp_path):
    """Where a shown frame's predecessors are missing the cut is seen; between two frames nothing tells of it."""
    cut = write_video(tmp_path / "cut.ts")
    data, reference, read = cut.read_bytes(), decode_all(cut), []
    for length in range(len(data) // 188 - 12, len(data) // 188 + 1):
        cut.write_bytes(data[: 188 * length])
        frames, _ = attempt(cut)
        if frames is not None:
            np.testing.assert_array_equal(frames.permute(0, 2, 3, 1).numpy(), reference[: len(frames)])
            read.append(len(frames))
    assert 0 < len(read) < 13
    assert read[-1] == 40


@pytest.mark.parametrize("rest", [1, 100, 187])
@pytest.mark.parametrize("packet", [188, 192, 204])
def test_a_transport_stream_that_ends_within_a_packet_is_cut_off(tmp_path, packet, rest):
    plain = write_video(tmp_path / "video.ts").read_bytes()
    before, behind = (4, 0) if packet == 192 else (0, packet - 188)
    parts = [bytes(before) + plain[i : i + 188] + bytes(behind) for i in range(0, len(plain), 188)]
    path = tmp_path / "wide.ts"
    path.write_bytes(b"".join(parts))
    assert count_frames(path) == 40
    path.write_bytes(path.read_bytes() + b"junk")
    assert count_frames(path) == 40
    path.write_bytes(b"".join(parts) + (bytes(before) + plain[188:376])[: before + rest])
    with pytest.raises(VideoError, match="truncated"):
        count_frames(path)


def test_damaged_bits(video, tmp_path):
    _, path, reference = video
    rng = np.random.default_rng(0)
    original = np.frombuffer(path.read_bytes(), np.uint8)
    broken = tmp_path / path.name
    outcomes = {"read": 0, "error": 0}
    for trial in range(24):
        data = original.copy()
        reach = min(len(data), 2000) if trial % 2 else len(data)  # every other time in the headers
        data[rng.integers(0, reach, 10)] ^= (1 << rng.integers(0, 8, 10)).astype(np.uint8)
        broken.write_bytes(data.tobytes())
        begin = time.process_time()  # other work on the machine does not count
        frames, error = attempt(broken)
        assert time.process_time() - begin < 10
        outcomes["read" if error is None else "error"] += 1
        assert len(frames) <= 2 * len(reference) if error is None else broken.name in error
    assert outcomes["error"] > 0


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "mkv", "ts"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"not a video\n" * 500, bytes(range(256)) * 40])
def test_junk(tmp_path, suffix, content):
    path = tmp_path / f"junk.{suffix}"
    path.write_bytes(content)
    for read in (count_frames, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError, match=f"junk.{suffix}"):
            read(path)


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video"):
        read_frames(path, [0])


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_a_thousand_opens_leave_nothing_behind(tmp_path):
    whole = [write_video(tmp_path / "a.mp4"), write_video(tmp_path / "a.webm", "libvpx-vp9")]
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole[1].read_bytes()[:3000])

    def use():
        for path in whole:
            read_frames(path, [20])
        with pytest.raises(VideoError):
            read_frames(cut, [0])
        with pytest.raises(ValueError, match="no frame"):
            read_frames(whole[0], [10**6])

    for _ in range(100):
        use()
    gc.collect()  # what other tests have left
    memory, handles = resident_megabytes(), len(os.listdir("/proc/self/fd"))
    for _ in range(250):
        use()
    assert len(os.listdir("/proc/self/fd")) == handles
    assert resident_megabytes() - memory < 5


def test_a_sample_of_all_damage_brings_about_no_fault(tmp_path):
    """The first of the ten thousand that `python tests/data/damage.py` counts, and three that were faults once."""
    rows = run(tmp_path, [*range(147), 8640, 9700, 21565], seconds=300)
    assert len(rows) == 150
    assert [row for row in rows if row[3].startswith("fault")] == []
    assert {row[2] for row in rows} == set(WAYS)
    assert len({row[1] for row in rows}) == len(FORMATS) + len(OTHERS) + 1
    assert {row[3] for row in rows} >= {"error", "frames"}

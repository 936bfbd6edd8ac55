"""Entries of skip lists are matched by what they mean, and what matches nothing is told."""

import subprocess
import sys
import threading
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctnet.data import VideoDataset, eval_transform, load_videos, sample_sparse
from ctnet.data.skipping import add_to_skip_list, read_skip_list, write_skip_list

NAMES = ["train/tea/a.mp4", "train/tea/b 1.mp4", "train/tea/it's.mp4", "val/tea/d.mp4"]


@pytest.fixture
def root(tmp_path):
    for name in NAMES:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    return tmp_path / "set"


@pytest.mark.parametrize(
    "entry",
    [
        "train/tea/a.mp4",
        "./train/tea/a.mp4",
        "train//tea/../tea/a.mp4",
        "train\\tea\\a.mp4",
        ".\\train\\tea\\a.mp4",
        '"train/tea/a.mp4"',
        "'train/tea/a.mp4'",
        '"train\\tea\\a.mp4"',
        "  train/tea/a.mp4  ",
        "{root}/train/tea/a.mp4",
        '"{root}/train/tea/a.mp4"',
        "{link}/train/tea/a.mp4",
        "set/train/tea/a.mp4",  # from the working directory
        "../set/train/tea/a.mp4",
        "\ttrain/tea/a.mp4",
    ],
)
@pytest.mark.parametrize("around", ["{}", "{}\n", "{}\r\n", "{}\tdamaged\r\n", "\ufeff{}\n", "\n\n{}\n\n"])
def test_entries_are_matched_by_what_they_mean(root, tmp_path, monkeypatch, entry, around):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(root)
    text = around.format(entry.format(root=root, link=tmp_path / "link"))
    (tmp_path / "skip.txt").write_bytes(text.encode())
    assert read_skip_list(tmp_path / "skip.txt", NAMES, root) == ({NAMES[0]}, [])
    assert read_skip_list(tmp_path / "skip.txt", NAMES, "set") == ({NAMES[0]}, [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_lists_as_editors_write_them(root, tmp_path, encoding):
    (tmp_path / "skip.txt").write_text("".join(f"{name}\tbad\r\n" for name in NAMES[:3]), encoding)
    assert read_skip_list(tmp_path / "skip.txt", NAMES, root) == (set(NAMES[:3]), [])


def test_what_matches_nothing_is_told_but_other_splits_and_remarks_are_not(root, tmp_path):
    (tmp_path / "skip.txt").write_text(
        "# bad ones\ntrain/tea/A.mp4\n/elsewhere/a.mp4\nval/tea/d.mp4\ttoo short\na.mp4\n"
    )
    assert read_skip_list(tmp_path / "skip.txt", NAMES[:3], root) == (
        set(),
        ["train/tea/A.mp4", "/elsewhere/a.mp4", "a.mp4"],
    )


HOLD = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.readline()
    file.write("theirs\\tcut off\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="which has other locks")
def test_a_line_is_added_when_no_other_process_writes(tmp_path):
    """As on a shared disk, where what two machines append at once may be lost."""
    listed = tmp_path / "bad.txt"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(listed)], text=True, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        own = threading.Thread(target=add_to_skip_list, args=(listed, "ours", "damaged"))
        own.start()
        own.join(0.3)
        assert own.is_alive()
        other.stdin.write("\n")
        other.stdin.close()
        own.join(60)
    assert listed.read_text() == "theirs\tcut off\nours\tdamaged\n"


@pytest.mark.parametrize("entry", ["train/tea", "train/tea/", ".", "train/*.mp4", "train/tea/a", "train/tea/a.mp4;bad"])
def test_what_is_no_video_is_told(root, tmp_path, entry):
    (tmp_path / "skip.txt").write_text(entry)
    assert read_skip_list(tmp_path / "skip.txt", NAMES, root) == (set(), [entry])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_read_in_either_way(tmp_path, form):
    names = [unicodedata.normalize(form, name) for name in ("Tür.mp4", "été.mp4")]
    (tmp_path / "skip.txt").write_text("\n".join(unicodedata.normalize("NFD", name) for name in names), "utf-8")
    assert read_skip_list(tmp_path / "skip.txt", names, tmp_path) == (set(names), [])


@pytest.mark.parametrize("data", [b"a\0\0", "train/tea/a.mp4".encode("utf-16-le"), b"PK\3\4\0"])
def test_what_is_no_text_is_refused(tmp_path, data):
    (tmp_path / "skip.txt").write_bytes(data)
    with pytest.raises(ValueError, match="skip.txt is no list of videos"):
        read_skip_list(tmp_path / "skip.txt", NAMES)


def test_datasets_tell_what_they_skip_and_what_matches_nothing(make_tree, tmp_path):
    root = make_tree("folders", tmp_path / "set")
    skip = tmp_path / "skip.txt"
    skip.write_text(f"{root}/train/tea/a.mp4\nval/tea/d.mp4\ntrain/tea/nothing.mp4\n" + "x\n" * 7)
    clips = VideoDataset(load_videos(root, "train"), sample_sparse, eval_transform(), skip=skip)
    assert clips.names == ["train/coffee/c.mp4", "train/tea/b.mp4"]
    assert clips.notes == [
        f"1 of 3 skipped, which {skip} lists",
        f"8 entries of {skip} match no video: train/tea/nothing.mp4; x; x; x; x and 3 more",
    ]


paths = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)


@given(st.dictionaries(paths, st.text(max_size=20), max_size=5), st.lists(paths, max_size=3))
@example({"a\tb\n\r.mp4": "x\ty", '"quoted"': "", " ": "", "\udcff.mp4": "\udcff", "#a": "", "\x85\u2028": ""}, [])
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_is_read_again(tmp_path_factory, reasons, others):
    file = tmp_path_factory.getbasetemp() / "any.txt"
    write_skip_list(file, reasons)
    assert read_skip_list(file, [*reasons, *others]) == (set(reasons), [])


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_list_or_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    (folder / "bytes.txt").write_bytes(data)
    try:
        listed, unmatched = read_skip_list(folder / "bytes.txt", NAMES, folder)
    except ValueError:
        assert b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return
    assert listed <= set(NAMES)
    assert all("\n" not in entry for entry in unmatched)


def test_an_entry_on_another_drive_than_the_dataset_matches_nothing(root, tmp_path, monkeypatch):
    def refuse(path, start):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    (tmp_path / "skip.txt").write_text(f"/elsewhere/a.mp4\n{NAMES[0]}\n")
    monkeypatch.setattr("os.path.relpath", refuse)
    assert read_skip_list(tmp_path / "skip.txt", NAMES, root) == ({NAMES[0]}, ["/elsewhere/a.mp4"])

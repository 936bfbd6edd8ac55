import ast
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import Fork

import ctnet
from ctnet.engine import Scores
from ctnet.engine.checkpoint import write_tensors
from ctnet.errors import did_you_mean
from ctnet.files import (
    cache_folder,
    check_file,
    check_folder,
    claimed,
    remove_scratch,
    replacing,
    write_bytes,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.b.txt"
    with replacing(path) as scratch:
        scratch.write_text("half")
        assert not path.exists()
        assert scratch.name == path.name
        (scratch.parent / "left by the writer").touch()
        scratch.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.b.txt"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """Or a power cut may leave the new name with nothing behind it."""
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino) or sync(file))
    monkeypatch.setattr(os, "replace", lambda *places: done.append("replaced") or replace(*places))
    write_text(tmp_path / "a.txt", "whole")
    assert done == [(tmp_path / "a.txt").stat().st_ino, "replaced"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_what_fails_leaves_the_last_good_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "good")

    def fail():
        with replacing(path) as scratch:
            scratch.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert (path.read_text(), names(tmp_path)) == ("good", ["a.txt"])


def test_a_folder_appears_at_once_and_replaces_no_other(tmp_path):
    for content in ("first", "second"):
        try:
            with replacing(tmp_path / "folder") as scratch:
                scratch.mkdir()
                (scratch / "file").write_text(content)
        except OSError:
            assert content == "second"
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("stem", ["n" * 250, "ä" * 125])
def test_a_name_as_long_as_the_system_allows(stem, tmp_path):
    path = tmp_path / f"{stem}.txt"
    write_text(path, "äöü")
    assert path.read_bytes() == "äöü".encode()


WRITERS = {
    "bytes": lambda path: write_bytes(path, bytes(100_000)),
    "tensors": lambda path: write_tensors(path, {"a": torch.zeros(100_000)}, {}),
    "scores": lambda path: Scores(
        np.random.default_rng(0).random((1000, 9)), np.zeros(1000), ["a"] * 1000, ["a"] * 9
    ).save(path),
}


def write_on_a_full_disk(kind, path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        WRITERS[kind](path)
    except OSError as error:
        print(error.errno, error.strerror)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_and_the_last_good_file_is_kept(kind, tmp_path):
    """A process that may write 10 kB of a file stands for a disk that has no more."""
    path = tmp_path / "a.npz"
    path.write_text("good")
    done = Fork(write_on_a_full_disk, kind, path).end()
    assert done.stdout == f"{errno.EFBIG} no room left to write {path} ({os.strerror(errno.EFBIG)})\n", done.stderr
    assert (path.read_text(), names(tmp_path)) == ("good", ["a.npz"])


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    script = (
        "import os, signal, sys\nfrom ctnet.files import replacing\n"
        "with replacing(sys.argv[1]) as scratch:\n"
        "    scratch.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "state[1].txt"
    path.write_text("good")
    (tmp_path / ".state[1].txt.other").touch()
    assert subprocess.run([sys.executable, "-c", script, path]).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3
    remove_scratch(path)
    assert names(tmp_path) == [".state[1].txt.other", "state[1].txt"]


def test_places_are_tried_before_the_work(tmp_path):
    check_file(tmp_path / "new" / "a.txt")
    check_folder(tmp_path / "other" / "new")
    assert names(tmp_path) == ["new", "other"]
    assert names(tmp_path / "new") == names(tmp_path / "other" / "new") == []
    (tmp_path / "file").touch()
    for check, path, message in (
        (check_file, tmp_path / "new", "is a folder"),
        (check_file, tmp_path / "file" / "a.txt", "no folder"),
        (check_folder, tmp_path / "file", "no folder"),
        (check_folder, tmp_path / "file" / "deeper", "no folder"),
        (check_file, "/proc/a.txt", "cannot write to /proc"),
        (check_folder, "/proc/a", "cannot write to /proc/a"),
    ):
        with pytest.raises(OSError, match=message) as error:
            check(path)
        assert "\n" not in str(error.value)
    assert names(tmp_path) == ["file", "new", "other"]


CLAIM = """
import os, sys, time
from ctnet.files import claimed
with claimed(sys.argv[1]) as free:
    if not os.fork():  # as a process that loads data
        time.sleep(60)
        os._exit(0)
    print(free, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_claimed_until_its_process_ends(tmp_path):
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as other:
        try:
            assert other.stdout.readline() == "True\n"
            with claimed(tmp_path) as free:
                assert not free
            other.kill()
            other.wait()
            with claimed(tmp_path) as free:
                assert free, "what the other process forked is alive, and has no claim"
        finally:
            os.killpg(other.pid, signal.SIGKILL)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_keeps_nobody_out(error, tmp_path, monkeypatch):
    def lockf(*asked):
        raise OSError(error, "no locks here")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with claimed(tmp_path) as free:
        assert free


@pytest.mark.parametrize(("named", "folder"), [(None, "home/.cache"), ("", "home/.cache"), ("caches", "home/.cache")])
def test_caches_lie_in_the_user_s_folder(tmp_path, monkeypatch, named, folder):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if named is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", named)  # a relative path means nothing, say the rules of XDG
    assert cache_folder() == tmp_path / folder / "ctnet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "ctnet"


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("lrr", ["lr", "seed"], "did you mean 'lr'?"),
        ("SEED", ["lr", "seed"], "did you mean 'seed'?"),
        ("nothing like it", ["lr", "seed"], "there are lr, seed."),
        ("bn1", ["backbone.conv1", "backbone.bn1"], "did you mean 'backbone.bn1'?"),
        ("nothing like it", map(str, range(50)), "none is like it."),
        ("lr", [], ""),
    ],
)
def test_the_nearest_name(name, known, words):
    assert did_you_mean(name, known) == words


def test_a_file_is_open_for_writing_when_the_disk_is_waited_for(tmp_path, monkeypatch):
    """As Windows demands."""
    opened = []
    monkeypatch.setattr("os.fsync", lambda number: opened.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE))
    write_text(tmp_path / "a.txt", "good")
    assert opened == [os.O_RDWR]
    assert (tmp_path / "a.txt").read_text() == "good"


def test_texts_are_read_and_written_in_one_encoding_on_every_system():
    package = Path(ctnet.__file__).parent
    without = [
        f"{path.name}:{call.lineno}"
        for path in package.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("read_text", "write_text") and "encoding" not in [each.arg for each in call.keywords]
    ]
    assert without == []

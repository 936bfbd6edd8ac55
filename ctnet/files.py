"""Files and folders that appear whole or not at all, and places for them that are tried before the work."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

PathLike = str | os.PathLike[str]
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Write a file or a folder at another path, of the same name, that takes the place of `path` in the end.

    It lies in a folder of its own beside `path`, with all that its writer may put there. When the block raises, nothing
    is left behind, and what was at `path` stays as it was. Missing folders above are made. A folder can only take the
    place of an empty one.

    Raises:
        OSError: when there is no room, or the place cannot be written to, in one line.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.with_name(f"{_prefix(path)}{uuid4().hex}")
        folder.mkdir()
        try:
            scratch = folder / path.name
            yield scratch
            if scratch.is_file():
                _sync(scratch)
            os.replace(scratch, path)
        finally:
            shutil.rmtree(folder)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f"no room left to write {path} ({os.strerror(error.errno)})") from error
        raise


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file whole or not at all; raises as `replacing`."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)


def write_text(path: PathLike, content: str) -> None:
    """Write a text in UTF-8, whole or not at all; raises as `replacing`."""
    write_bytes(path, content.encode())


def remove_scratch(path: PathLike) -> None:
    """Remove what killed processes left of `path`, unfinished; only for a file that nobody else writes now."""
    path = Path(path)
    for folder in path.parent.glob(f"{glob.escape(_prefix(path))}{'[0-9a-f]' * 32}"):
        shutil.rmtree(folder)


def check_file(path: PathLike) -> None:
    """Find out whether a file can be written, before the work that it is to keep; makes missing folders above.

    Raises:
        OSError: when it cannot, in one line.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    _try(path)


def check_folder(path: PathLike) -> None:
    """Make a folder unless it is there, and find out whether files can be written to it.

    Raises:
        OSError: when they cannot, in one line.
    """
    _try(Path(path) / "file")


@contextmanager
def claimed(folder: PathLike) -> Iterator[bool]:
    """Claim a folder: yields whether this process has it now, and not another one that claims it too.

    The claim ends with the block or the process, however that ends. On a system, or a disk, that has no locks everybody
    has the folder.
    """
    with (Path(folder) / ".claimed").open("a") as file:
        try:
            import fcntl  # not on Windows

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # on shared disks too; what this process forks has it not
        except (BlockingIOError, PermissionError):
            yield False
            return
        except (ImportError, OSError):
            pass
        yield True


@contextmanager
def locked(file: IO[str]) -> Iterator[None]:
    """Wait until no other process writes to an open file within such a block; its close, not the block, ends that.

    On a system, or a disk, that has no locks nobody waits.
    """
    try:
        import fcntl  # not on Windows

        fcntl.lockf(file, fcntl.LOCK_EX)  # on shared disks too
    except (ImportError, OSError):
        pass
    yield


def cache_folder() -> Path:
    """The user's folder for what can be made anew: in `XDG_CACHE_HOME` if that is an absolute path, or in ~/.cache."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path("~/.cache").expanduser()) / "ctnet"


def _try(path: Path) -> None:
    """Write and remove a scratch file beside `path`."""
    scratch = path.with_name(f"{_prefix(path)}{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.touch()
        scratch.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"{path.parent} is no folder, and cannot be made one") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot write to {path.parent} ({error.strerror})") from error


def _prefix(path: Path) -> str:
    return f".{path.name[:50]}."


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or says that it has no room for it."""
    with path.open("rb+") as file:  # Windows flushes what is open for writing alone
        os.fsync(file.fileno())

"""Lists of videos to leave out: a line for each, its path under the dataset's root, a tab, the reason."""

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ctnet.errors import printable
from ctnet.files import PathLike, locked, write_text


def write_skip_list(file: PathLike, reasons: Mapping[str, str]) -> None:
    """Write a list of names and reasons, whole or not at all; whatever a name holds, it can be read again."""
    write_text(file, "".join(f"{_written(name)}\t{printable(reason)}\n" for name, reason in reasons.items()))


def add_to_skip_list(file: PathLike, name: str, reason: str) -> None:
    """Add a line to a list, which several processes may do at the same time, on a disk that has locks."""
    with open(file, "a", encoding="utf-8") as listed, locked(listed):
        listed.write(f"{_written(name)}\t{printable(reason)}\n")


def read_skip_list(file: PathLike, names: Sequence[str], root: PathLike | None = None) -> tuple[set[str], list[str]]:
    """Read a list that `check` wrote, or that somebody wrote by hand.

    An entry is matched by what it means: a path under the root or from the working directory or absolute, with `./`,
    backslashes or quotes, its accents written in either way. Lines that begin with # and match nothing are remarks.

    Args:
        file: the list.
        names: of the videos to choose from.
        root: directory that they lie in, if they are files.

    Returns:
        The names that are listed, and the entries that match neither one of them nor another file under the root, such
        as one of another split. A folder of videos is no entry.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: the file is no text.
    """
    data = Path(file).read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "surrogateescape")  # names on the disk need not be in UTF-8
    known, listed, unmatched = {_composed(name): name for name in names} | {name: name for name in names}, set(), []
    folders = {folder.as_posix() for name in names for folder in PurePosixPath(name).parents}
    for line in text.split("\n"):
        entry = line.strip("\r\t").split("\t")[0]
        if not entry.strip():
            continue
        if "\0" in entry:
            raise ValueError(f"{file} is no list of videos: write a text file, one path a line")
        meanings = list(_meanings(entry, root))
        if found := next((name for name in (*meanings, *map(_composed, meanings)) if name in known), None):
            listed.add(known[found])
        elif (
            root is not None
            and folders.isdisjoint(meanings)
            and any(os.path.lexists(os.path.join(root, name)) for name in meanings)
        ):
            continue
        elif not entry.lstrip().startswith("#"):
            unmatched.append(printable(entry))
    return listed, unmatched


def _written(name: str) -> str:
    """A name as it stands, or as a JSON text where the line would be read in another way."""
    return name if name.isprintable() and name == name.strip(" \"'") else json.dumps(name)


def _meanings(entry: str, root: PathLike | None) -> Iterator[str]:
    """The names that an entry may stand for, the most literal ones first."""
    yield entry
    text = entry.strip()
    yield text
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        decoded = None
    if isinstance(decoded, str):
        yield decoded
    bare = text.strip("\"' ")
    for path in dict.fromkeys((bare, bare.replace("\\", "/"))):
        yield os.path.normpath(path)
        if root is not None and "\0" not in path:
            for whole in (os.path.abspath(path), os.path.abspath(os.path.join(root, path))):
                folder, name = os.path.split(whole)  # what the path leads to may be a link of the dataset
                yield from _under(whole, os.path.abspath(root))
                yield from _under(os.path.join(os.path.realpath(folder), name), os.path.realpath(root))


def _composed(name: str) -> str:
    """A name whose accents are part of their letters; some systems write them behind."""
    return unicodedata.normalize("NFC", name)


def _under(path: str, root: str) -> Iterator[str]:
    with suppress(ValueError):  # the two are on different drives
        yield os.path.relpath(path, root).replace(os.sep, "/")

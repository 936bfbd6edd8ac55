"""Notes what a process, and those that it starts, read below some folders.

Python imports a module of this name as it starts, from `PYTHONPATH`, before anything else is read. `study.building`
puts this folder there for the kernels of chapters. Each file or folder is one line of the file `CTNET_RECORD`, once,
behind a line that says that the process has begun to take notes.
"""

import os
import sys
from collections.abc import Callable
from typing import Any


def recorder(log: int, roots: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that writes to an open file what is read below `roots`."""
    seen: set[tuple[str, str]] = set()

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            place, _, flags = args
            if isinstance(place, int) or (flags or 0) & (os.O_WRONLY | os.O_RDWR):
                return
            kind = "file"
        elif event in ("os.listdir", "os.scandir"):
            (place,) = args
            if isinstance(place, int):
                return
            kind = "folder"
        else:
            return
        path = os.path.abspath(os.fsdecode(place if place is not None else "."))
        if (kind, path) not in seen and f"{path}/".startswith(roots):
            seen.add((kind, path))
            os.write(log, f"{kind}\t{path}\n".encode())

    return note


def _start() -> None:
    roots = tuple(f"{root}/" for root in os.environ["CTNET_RECORD_ROOTS"].split(os.pathsep))
    log = os.open(os.environ["CTNET_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"begun\t\n")
    note = recorder(log, roots)
    for folder in sys.path_importer_cache:  # Python has looked for its own first modules there
        note("os.listdir", (folder,))
    sys.addaudithook(note)


if "CTNET_RECORD" in os.environ:
    _start()

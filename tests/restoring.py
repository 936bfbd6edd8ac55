"""A folder that tests may do anything to: it is restored behind each of them."""

import os
import shutil
import stat
from pathlib import Path


def stamps(folder):
    """Everything below a folder, and what tells that it was changed."""
    found = {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            about = path.lstat()
            times = about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino
            found[path] = (about.st_mode, *(() if stat.S_ISDIR(about.st_mode) else times))
    return found


def restore(folder, whole, before):
    """Make a folder what it was when it had some stamps, from a copy of it that is whole."""
    folder.mkdir(exist_ok=True)
    now = stamps(folder)
    for path in sorted(now, reverse=True):  # what is in a folder goes before it
        if now[path] != before.get(path):
            (shutil.rmtree if stat.S_ISDIR(now[path][0]) else os.unlink)(path)
    for path in sorted(before):
        if not os.path.lexists(path):
            source = whole / path.relative_to(folder)
            if source.is_dir():
                path.mkdir()
                shutil.copystat(source, path)
            else:
                shutil.copy2(source, path)  # with its time

"""Values that take long to measure and follow from the code alone: each is measured once, and shared by all processes.

A chapter asks for a value by its name and gets the kept one if today's code would measure the same: the files of the
code that it depends on, and the packages below, are what they were. Kept values lie in `_build/measured`, or in the
folder `CTNET_MEASURED`; `make clean` removes them.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from ctnet.files import write_text

ROOT = Path(__file__).parents[1]
_PACKAGES = ("torch", "torchvision", "fvcore", "pytorchvideo", "numpy")


def measured_dir() -> Path:
    """Folder of the kept values."""
    return Path(os.environ.get("CTNET_MEASURED", ROOT / "_build" / "measured"))


_BEGAN = psutil.Process().create_time()  # before which this process has read no code


def measured(name: str, measure: Callable[[], Any], code: Iterable[str]) -> Any:
    """A value by its name, measured if it is not kept or if the code has changed since.

    Of processes that ask for one value at the same time, one measures and the others wait. What was measured while its
    code was edited is not kept: this process may have read the code before that.

    Args:
        name: that the value is kept under.
        measure: returns the value, as JSON can hold it.
        code: files, and folders with all the Python files in them, that decide the value; from the root of the clone.
    """
    parts = sorted(code)
    path = measured_dir() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if (kept := value(name, parts)) is not None:
            return kept
        state, found = code_state(tuple(parts)), json.loads(json.dumps(measure()))
        if all(file.stat().st_mtime < _BEGAN for file in code_files(parts)):
            write_text(path, json.dumps({"code": parts, "state": state, "value": found}))
    return found


def value(name: str, code: Iterable[str]) -> Any:
    """A value by its name, if it is kept and this code, as it is today, has measured it; otherwise None."""
    parts = sorted(code)
    kept = _read(measured_dir() / f"{name}.json")
    same = kept is not None and kept["code"] == parts and kept["state"] == code_state(tuple(parts))
    return kept["value"] if kept and same else None


def value_state(path: Path) -> str:
    """A hash of a kept value, whenever it was measured; "outdated" when today's code has to measure it again."""
    kept = _read(path)
    if kept is None or kept["state"] != code_state(tuple(kept["code"])):
        return "outdated"
    return hashlib.sha256(json.dumps(kept["value"], sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return kept if kept.keys() == {"code", "state", "value"} else None


@cache
def code_state(parts: tuple[str, ...]) -> str:
    """Hash of some files and folders of code (see `measured`), of Python, and of the packages that they rest on."""
    digest = hashlib.sha256(repr([platform.python_version(), *map(_version, _PACKAGES)]).encode())
    for file in code_files(parts):
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def code_files(parts: Iterable[str]) -> Iterator[Path]:
    """The files among and below some files and folders of code."""
    for place in (ROOT / part for part in parts):
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Values that take long to measure and follow from the code alone: each is measured once, and shared by all processes.

A chapter asks for a value by its name and gets the kept one if today's code would measure the same: the files of the
code that it depends on, and the packages below, are what they were. Kept values lie in `_build/measured`, or in the
folder `CTNET_MEASURED`; `make clean` removes them.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock

from ctnet.files import write_text

ROOT = Path(__file__).parents[1]
_PACKAGES = ("torch", "torchvision", "fvcore", "pytorchvideo", "numpy")


def measured_dir() -> Path:
    """Folder of the kept values."""
    return Path(os.environ.get("CTNET_MEASURED", ROOT / "_build" / "measured"))


def measured(name: str, measure: Callable[[], Any], code: Iterable[str]) -> Any:
    """A value by its name, measured if it is not kept or if the code has changed since.

    Of processes that ask for one value at the same time, one measures and the others wait.

    Args:
        name: that the value is kept under.
        measure: returns the value, as JSON can hold it.
        code: files, and folders with all the Python files in them, that decide the value; from the root of the clone.
    """
    parts = sorted(code)
    path = measured_dir() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        kept = _read(path)
        if kept is None or kept["code"] != parts or kept["state"] != code_state(tuple(parts)):
            state = code_state(tuple(parts))
            kept = {"code": parts, "state": state, "value": json.loads(json.dumps(measure()))}
            write_text(path, json.dumps(kept))
    return kept["value"]


def fresh(name: str) -> bool:
    """Whether a value is kept and was measured by today's code."""
    kept = _read(measured_dir() / f"{name}.json")
    return kept is not None and kept["state"] == code_state(tuple(kept["code"]))


def value(name: str) -> Any:
    """A kept value, whatever code has measured it.

    Raises:
        FileNotFoundError: when there is none.
    """
    kept = _read(measured_dir() / f"{name}.json")
    if kept is None:
        raise FileNotFoundError(f"{name} is not kept in {measured_dir()}")
    return kept["value"]


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
    for part in parts:
        place = ROOT / part
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

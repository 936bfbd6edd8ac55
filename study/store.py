"""Everything under `results`: where it lies, how it is read and written, and what is recorded beside a number."""

import base64
import hashlib
import importlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctnet.files import write_text

ROOT = Path(__file__).parents[1]

BEHAVIOUR = {
    "drawing": "ctnet.micro",
    "data": "ctnet.data",
    "engine": "ctnet.engine",
    "cost": "ctnet.analysis.cost",
    "saliency": "ctnet.analysis.saliency",
}
"""What results depend on besides networks: part -> module whose `VERSION` says how it behaves today."""


def results_dir() -> Path:
    """Folder of the results: that of the clone this package is run from, or `CTNET_RESULTS`.

    Raises:
        FileNotFoundError: when there is none, as in a package that was copied out of its repository.
    """
    folder = Path(os.environ.get("CTNET_RESULTS", ROOT / "results"))
    if not (folder / "published").is_dir():
        raise FileNotFoundError(f"no results in {folder}: run from a clone of the repository, or set CTNET_RESULTS")
    return folder


def read(file: str) -> dict[str, Any] | None:
    """What a JSON file under `results` holds; None when there is none.

    Args:
        file: such as "runs/NAME.json".

    Raises:
        ValueError: when the file is damaged.
    """
    path = results_dir() / file
    try:
        return _parsed(path, stamp(path))
    except FileNotFoundError:
        return None


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file does: its time, its size, and its number, which another file in its place has not."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4096)
def _parsed(path: Path, stamp: tuple[int, int, int]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise damaged(path, "it holds no object")
    return content


def damaged(path: Path, reason: object) -> ValueError:
    """The error for a file of results that cannot be used."""
    return ValueError(f"{path} is damaged ({reason}): restore it with git, or delete it and make it again")


def write(file: str, content: Mapping[str, Any]) -> Path:
    """Write a JSON file under `results`, whole or not at all; returns its path."""
    path = results_dir() / file
    write_text(path, json.dumps(content, indent=1) + "\n")
    _parsed.cache_clear()  # two files that are written right after one another may have one time
    return path


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


# -- Provenance --------------------------------------------------------------------------------------------------------


def behaviour(parts: Iterable[str], networks: Iterable[str] = ()) -> dict[str, Any]:
    """Today's versions of behaviour.

    Args:
        parts: names in `BEHAVIOUR`.
        networks: names of `ctnet.list_models`; one that is not there any more has no version.
    """
    found: dict[str, Any] = {part: importlib.import_module(BEHAVIOUR[part]).VERSION for part in parts}
    if names := sorted(set(networks)):
        from ctnet.models import list_models, network_version

        known = list_models()
        found["networks"] = {name: network_version(name) if name in known else None for name in names}
    return found


def is_stale(content: Mapping[str, Any]) -> bool:
    """Whether a result was made by other versions of what it depends on than today's, or tells none."""
    made = content["provenance"].get("behaviour")
    return not made or made != behaviour(made.keys() & BEHAVIOUR.keys(), made.get("networks", ()))


def stale(files: Iterable[str]) -> Iterator[str]:
    """Those of some files under `results` that are there and stale."""
    for file in files:
        content = read(file)
        if content is not None and is_stale(content):
            yield file


def provenance(parts: Iterable[str], networks: Iterable[str], seconds: float) -> dict[str, Any]:
    """What is recorded beside every measured number.

    Args:
        parts, networks: that determine the number, as for `behaviour`.
        seconds: wall time that the measurement took.
    """
    from torch.backends.cpu import get_cpu_capability

    packages = ("ctnet", "torch", "torchvision", "fvcore", "numpy")
    kernels = {name: os.environ[name] for name in (*KERNELS, "MKL_CBWR") if name in os.environ}
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "behaviour": behaviour(parts, networks),
        "commit": commit(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "hardware": {
            "cpu": _cpu(),
            "vectors": get_cpu_capability(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        }
        | ({"kernels": kernels} if kernels else {}),
    }


KERNELS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""Variables that let torch and its libraries compute as on a processor with AVX2, bit for bit, also where there are
wider vectors. They are read when a process first computes; recorded wherever they are set, also to other values."""


def kind_of_machine(made: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides how numbers were rounded, as far as a result's provenance tells.

    Processors of one name have vectors of several widths ("AVX2", "AVX512"), which older results do not tell.
    """
    hardware = made["hardware"]
    told = (hardware.get(key) for key in ("cpu", "vectors", "system", "kernels"))
    return made.get("device", "cpu"), *told


@cache
def commit() -> str | None:
    """Commit of the clone when this was first asked, "+" behind it when files differ from it; None outside a clone."""
    try:
        run = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# -- Predictions -------------------------------------------------------------------------------------------------------


def encode(predictions: NDArray[Any]) -> str:
    """Predicted classes, below 256, as a short text."""
    return base64.b64encode(predictions.astype(np.uint8).tobytes()).decode()


def decode(text: str) -> NDArray[np.uint8]:
    """The predicted classes that `encode` wrote."""
    return np.frombuffer(base64.b64decode(text), np.uint8)

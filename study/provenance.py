"""Where a measured number comes from: code, versions, machine, commit."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctnet.files import write_text
from ctnet.models import network_family

PACKAGE = Path(__file__).parents[1] / "ctnet"


def config_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


def code_of(model: str, *parts: str) -> tuple[str, ...]:
    """Parts of this package that a result depends on, with those of the networks of others where its model is one."""
    return (*parts, *(["models/peers"] if network_family(model) != "module" else []))


@cache
def code_hash(*parts: str) -> str:
    """Hash of the code under parts of this package, such as "models" and "analysis/cost.py".

    A folder stands for the files in it, not for its subfolders.
    Comments, docstrings and layout do not count: a result is stale when the code that made it does something else.
    """
    digest = hashlib.sha256()
    for part in sorted(parts):
        path = PACKAGE / part
        for file in [path] if path.is_file() else sorted(path.glob("*.py")):
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    node.body = [statement for statement in node.body if not _is_docstring(statement)]
            digest.update(f"{file.relative_to(PACKAGE)}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()[:12]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def provenance(parts: Iterable[str], seconds: float) -> dict[str, Any]:
    """What is recorded beside every measured number.

    Args:
        parts: of the package, as for `code_hash`, that determine the number.
        seconds: wall time that the measurement took.
    """
    packages = ("ctnet", "torch", "torchvision", "fvcore", "numpy")
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "code": code_hash(*parts),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
    }


@cache
def _commit() -> str | None:
    """Commit of the clone, "+" behind it when files differ from it; None outside a clone."""
    try:
        run = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
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


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: when the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it with git, or delete it and make it again") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")

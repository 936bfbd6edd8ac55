"""What keeps a version of behaviour honest: a record of what the code gave when the version was raised last."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.micro.drawing import Scene


def alike(kept: Any, found: Any) -> bool:
    """Whether two values are the same; lists of floats within 2 of 255 grey levels, for decoders and machines."""
    if isinstance(kept, list) and isinstance(found, list) and any(isinstance(value, float) for value in kept):
        return len(kept) == len(found) and bool(np.allclose(kept, found, rtol=0, atol=2 / 255))
    return bool(kept == found)


def check(
    record: Path, name: str, version: int, probe: dict[str, Any], same: Callable[[Any, Any], bool] = alike
) -> None:
    """Compare what the code gives today with the record, `version.json` beside a test; `name` tells the version."""
    command = f"PYTHONPATH=tests python tests/{record.parent.name}/test_version.py"
    judge(json.loads(record.read_text()), name, version, probe, command, same)


def judge(
    kept: dict[str, Any],
    name: str,
    version: int,
    probe: dict[str, Any],
    command: str,
    same: Callable[[Any, Any], bool] = alike,
) -> None:
    """Compare what the code gives today with what was kept; fail with which version to raise and how to record anew."""
    changed = [key for key in sorted(kept["probe"] | probe) if not same(kept["probe"].get(key), probe.get(key))]
    assert not (changed and version == kept["version"]), (
        f"{', '.join(changed)} changed: raise {name} (now {version}), then record anew with `{command}`"
    )
    assert version == kept["version"], f"{name} is {version}, recorded is {kept['version']}: record with `{command}`"


def record_anew(record: Path, name: str, version: int, probe: dict[str, Any]) -> None:
    """Write the record, unless the version has to be raised first."""
    if record.exists() and json.loads(record.read_text())["version"] == version:
        sys.exit(f"{record} is of version {version} already: raise {name} first, if behaviour has changed")
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in probe.items())
    record.write_text(f'{{"version": {version}, "probe": {{\n{lines}\n}}}}\n')


def scene_digest(scene: Scene) -> str:
    """SHA-256 of everything in a scene of the Micro datasets."""
    total = hashlib.sha256()
    for sprite in scene.sprites:
        total.update(repr((*sprite.appearance, sprite.acting)).encode())
        for value in (getattr(sprite, field.name) for field in fields(sprite)):
            total.update(value.astype("<i4").tobytes() if isinstance(value, np.ndarray) else b"")
    for grid in (scene.camera, *scene.ground):
        total.update(grid.astype("<i4").tobytes())
    total.update(repr((scene.noise, scene.noise_key, scene.backwards)).encode())
    return total.hexdigest()


def digest(*parts: Any) -> str:
    """Sixteen hexadecimal digits of arrays and texts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes())
    return total.hexdigest()[:16]

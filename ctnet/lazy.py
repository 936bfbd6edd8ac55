"""Packages whose public names are loaded when they are first used, so that importing one does not import torch."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def loaded_when_used(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its name.
        homes: submodule -> public names of it. No submodule may have the name of something public: once imported, it
            would stand in its place.
    """
    for home, names in homes.items():
        if clash := [name for name in names if name in homes]:
            raise ValueError(f"{package}: {clash[0]} of {home} has the name of a submodule")
    home_of = {name: home for home, names in homes.items() for name in names}

    def load(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return load

"""A reproduction study of "CT-Net: Channel Tensorization Network for Video Classification" (ICLR 2021).

What the package offers is loaded when it is first used: `import ctnet` alone imports neither torch nor anything else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctnet.analysis import count_cost
    from ctnet.deploy import optimize
    from ctnet.engine import load_model, save_model
    from ctnet.models import create_model, list_models, load_official_checkpoint, tensorize

__all__ = [
    "count_cost",
    "create_model",
    "list_models",
    "load_model",
    "load_official_checkpoint",
    "optimize",
    "save_model",
    "tensorize",
]
__version__ = "0.1.0"

_PARTS = ("analysis", "data", "deploy", "engine", "micro", "models")
_HOMES = {
    "analysis": ("count_cost",),
    "deploy": ("optimize",),
    "engine": ("load_model", "save_model"),
    "models": ("create_model", "list_models", "load_official_checkpoint", "tensorize"),
}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"ctnet.{name}")
    for part, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"ctnet.{part}"), name)
    raise AttributeError(f"module 'ctnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PARTS, *__all__]

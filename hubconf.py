"""Networks for `torch.hub.load("OWNER/ctnet", NAME, weights=...)`; every name of `ctnet.list_models()` is one.

A network with named weights, such as "micro-something", knows its `classes`. Its `transform` makes normalised frames
(T, 3, h, w) of frames (T, 3, H, W), uint8 or float in [0, 1]; `.movedim(0, 1)` makes a clip of them.
"""

from functools import partial
from typing import Any

import ctnet

dependencies = ["torch", "torchvision", "safetensors", "numpy"]


def _load(name: str, weights: str | None = None, **options: Any) -> Any:
    """Build a network by name, see `ctnet.create_model`."""
    from ctnet.data import eval_transform
    from ctnet.models import find_weights

    model = ctnet.create_model(name, weights=weights, **options)
    if weights not in (None, "imagenet"):
        recipe = find_weights(name, weights).recipe
        size = recipe.get("test_size") or recipe["size"]
        model.transform = eval_transform(size, mean=model.input_mean, std=model.input_std)
    return model.eval()


for _name in ctnet.list_models():
    globals()[_name] = partial(_load, _name)
    globals()[_name].__doc__ = _load.__doc__

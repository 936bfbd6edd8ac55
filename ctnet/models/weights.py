"""Weights by name: what the study has trained on the drawn datasets, as `results/checkpoints` of a clone holds it."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Weights, and what is known of them.

    Attributes:
        path: of their file.
        classes: names in the order of the scores.
        normalisation: "mean" and "std" of the RGB values, in [0, 1], of the clips.
        recipe: fields of the recipe that trained them, which tells how to sample and crop videos.
    """

    path: Path
    classes: list[str]
    normalisation: dict[str, list[float]]
    recipe: dict[str, Any]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state dict."""
        from safetensors.torch import load_file

        return load_file(self.path)


def weights_folder() -> Path:
    """Where the weights lie: in the results of the clone, or of `CTNET_RESULTS`."""
    return Path(os.environ.get("CTNET_RESULTS", Path(__file__).parents[2] / "results")) / "checkpoints"


def list_weights(model: str) -> dict[str, Path]:
    """Names of a network's weights here, such as "micro-something", and their files."""
    found = {}
    for path in sorted(weights_folder().glob(f"{model}-*.safetensors")):
        dataset = path.name.removeprefix(f"{model}-").partition("-")[0]  # MicroSomething64
        found[re.sub(r"(?<=[a-z])(?=[A-Z])", "-", dataset).lower().rstrip("0123456789")] = path
    return found


def find_weights(model: str, name: str, others: Sequence[str] = ()) -> Weights:
    """A network's weights by their name.

    Args:
        model: name of the network.
        name: of its weights.
        others: names of weights that it has from elsewhere, for errors.

    Raises:
        ValueError: when they are not here or damaged; it tells how to come by them.
    """
    from safetensors import SafetensorError, safe_open

    known = list_weights(model)
    if name not in known:
        here = f"there are {', '.join([*others, *known])}" if others or known else "there are none"
        here += "" if known else f", and none lie in {weights_folder()}"
        raise ValueError(
            f"no weights {name!r} for {model}: {here}; a clone of the repository has some in results/checkpoints, and "
            "`python -m study run --weights` trains others (CTNET_RESULTS tells where results lie)"
        )
    path = known[name]
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
        return Weights(path, about["classes"], about["normalisation"], about["recipe"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or no file of weights that ctnet wrote ({error}): fetch it anew, by `git lfs pull` if "
            "it is a pointer of Git LFS"
        ) from error

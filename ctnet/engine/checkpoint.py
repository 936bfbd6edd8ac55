"""Files of weights (safetensors) that hold all that is needed to use them: network, classes, normalisation."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ctnet.models import VideoModel, create_model

FORMAT = "ctnet-1"


def save_model(path: str | os.PathLike[str], model: VideoModel, classes: Sequence[str] | None = None) -> None:
    """Write the weights of `model` with what is needed to build it and to read its scores; whole or not at all.

    Args:
        path: of the file, usually with the suffix .safetensors.
        model: built by `ctnet.create_model`.
        classes: names in the order of the scores, such as `VideoDataset.classes`; the model's own unless given.

    Raises:
        ValueError: when the model was built otherwise, or the classes do not match its scores.
    """
    if model.config is None:
        raise ValueError(
            "only a network that ctnet.create_model has built can be saved: nothing tells how to build this"
        )
    names = list(classes) if classes is not None else model.classes
    if names is not None and len(names) != model.head.out_features:
        raise ValueError(f"{len(names)} class names were given for {model.head.out_features} scores")
    about = {
        "config": model.config,
        "classes": names,
        "normalisation": {"mean": list(model.input_mean), "std": list(model.input_std)},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, scratch, {"format": FORMAT, "about": json.dumps(about)})
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def load_model(path: str | os.PathLike[str]) -> VideoModel:
    """Build the network of a file that `save_model` wrote, on the CPU and in evaluation mode, `classes` set.

    Nothing in the file is executed.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged or was written by another program.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no file of weights ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by ctnet: it lacks the description of a network")
    try:
        about = json.loads(metadata["about"])
        model = create_model(**about["config"])
        model.load_state_dict(tensors)
        model.classes = about["classes"]
        mean, std = (about["normalisation"][part] for part in ("mean", "std"))
        model.input_mean, model.input_std = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} describes another network than its weights are of ({reason})") from error
    return model.eval()

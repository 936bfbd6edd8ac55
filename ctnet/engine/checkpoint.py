"""Files of weights (safetensors) that hold all that is needed to use them: network, classes, normalisation, recipe.

The state of an unfinished run is such a file as well. Nothing in these files is executed.
"""

import errno
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ctnet.data import VERSION as DATA
from ctnet.engine.loading import load_split
from ctnet.engine.recipe import Recipe
from ctnet.engine.version import VERSION
from ctnet.errors import some
from ctnet.files import PathLike, check_file, replacing
from ctnet.micro import MICRO_DATASETS
from ctnet.micro import VERSION as DRAWING
from ctnet.models import (
    VideoModel,
    create_model,
    load_official_checkpoint,
    network_version,
    read_official_checkpoint,
)

FORMAT = "ctnet-1"


def save_model(
    path: PathLike,
    model: VideoModel,
    classes: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the weights of `model` with what is needed to build it and to read its scores; whole or not at all.

    Args:
        path: of the file, usually with the suffix .safetensors.
        model: built by `ctnet.create_model`, maybe with another linear head; also compiled, or in a
            `DistributedDataParallel`.
        classes: names in the order of the scores, such as `VideoDataset.classes`; the model's own unless given.
        recipe: of the run that trained it, which tells how to sample and crop videos for it.
        dtype: of the weights in the file; torch.bfloat16 or float16 halves it, at the price of rounding.

    Raises:
        ValueError: when the model was built otherwise, such as by `ctnet.optimize`, or the classes do not match its
            scores.
    """
    model = _unwrapped(model)
    if not isinstance(model, VideoModel) or model.config is None or not hasattr(model, "head"):
        raise ValueError(
            "only a network that ctnet.create_model has built can be saved: nothing tells how to build this. "
            "One of your own is built by it after ctnet.models.register"
        )
    names = list(classes) if classes is not None else model.classes
    if names is not None and len(names) != model.head.out_features:
        raise ValueError(f"{len(names)} class names were given for {model.head.out_features} scores")
    about = describe(model, names, recipe)
    tensors = dict(model.state_dict())
    _check_network(tensors, about["config"])
    if dtype is not None:
        tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    write_tensors(path, tensors, about)


def _unwrapped(model: nn.Module) -> Any:
    """The network in what compiles it or trains it in parallel."""
    while isinstance(model, DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, DistributedDataParallel) else model._orig_mod  # type: ignore[assignment]
    return model


def _check_network(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raise ValueError if the weights are of another network than a configuration builds, as far as shapes can tell."""
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            built = create_model(**config).state_dict()
    except Exception:  # a builder that reads values, which shapes alone have not
        return
    shapes, expected = ({key: tuple(t.shape) for key, t in held.items()} for held in (tensors, built))
    if other := [key for key in {**expected, **shapes} if expected.get(key) != shapes.get(key)]:
        raise ValueError(
            f"this is no longer the {config['name']} that ctnet.create_model built: {some(other)} differ. Save that, "
            "before ctnet.optimize or a change of its layers"
        )


def describe(model: VideoModel, classes: Sequence[str] | None, recipe: Recipe | None) -> dict[str, Any]:
    """What a file says of the network that its weights are of."""
    return {
        "config": model.config and model.config | {"num_classes": model.head.out_features},
        "classes": classes,
        "normalisation": {"mean": list(model.input_mean), "std": list(model.input_std)},
        "recipe": recipe.to_dict() if recipe else None,
    }


def load_model(path: PathLike) -> VideoModel:
    """Build the network of a file that `save_model` wrote, on the CPU and in evaluation mode, `classes` set.

    The `state.safetensors` of a run that is under way gives the network as it is so far.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged or was written by another program.
    """
    tensors, about = read_tensors(path)
    try:
        tensors = _weights(tensors, about)
        model = create_model(**about["config"])
        model.load_state_dict(tensors)
        model.classes = about["classes"]
        mean, std = (about["normalisation"][part] for part in ("mean", "std"))
        model.input_mean, model.input_std = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} describes another network than its weights are of ({reason})") from error
    return model.eval()


def _weights(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights among a file's tensors: of a run's state those that it would keep, if it ended now."""
    if "progress" not in about:
        return dict(tensors)
    return part_of(tensors, "mean.module.") or part_of(tensors, "model.")


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


NETWORK = {"model", "options"}
"""Fields of a recipe that say what its network is."""


def load_recipe(path: PathLike, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of the run that trained a file's network.

    Args:
        path: of the file.
        changes: to fields of the recipe, as `Recipe.parse` reads them.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, holds no recipe of this version, or a change is none or to the network.
    """
    recipe = recipe_of(read_about(path), path)
    if named := sorted(NETWORK & {change.partition("=")[0] for change in changes}):
        raise ValueError(f"the network is the one in {path}: leave out {named[0]}=")
    return recipe.parse(list(changes))


def recipe_of(about: Mapping[str, Any], path: PathLike, advice: str = "train it anew") -> Recipe:
    """The recipe in the description of a file; raises ValueError, with advice, when there is none of this version."""
    found = about.get("recipe")
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no recipe: nothing tells how videos are sampled and cropped for it")
    try:
        return Recipe().override(found)
    except ValueError as error:
        raise ValueError(f"{path} holds the recipe of another version of ctnet: {advice} ({error})") from error


def load_init(path: PathLike, model: VideoModel, classes: Sequence[str]) -> str:
    """Start `model` from another network's weights, as far as names and shapes are the same.

    The head is taken over only for the same classes in the same order.

    Returns:
        In a line, how much was taken over, what was not, and which options the networks do not share.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, or shares less than half of its weights with the model.
    """
    try:
        tensors, about = read_tensors(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} to start from: give init=FILE of a run before, or init=none") from error
    tensors = _weights(tensors, about)
    ours = model.state_dict()
    known = {name: tensor for name, tensor in tensors.items() if name in ours and tensor.shape == ours[name].shape}
    if about.get("classes") != list(classes):
        known = {name: tensor for name, tensor in known.items() if not name.startswith("head.")}
    taken, held = (sum(t.numel() for t in group.values()) for group in (known, tensors))
    if 2 * taken < held:
        network = about.get("config", {}).get("name", "another network")
        raise ValueError(f"{path} is of {network} and shares only {taken / held:.0%} of its weights with this model")
    model.load_state_dict(known, strict=False)
    share = taken / sum(tensor.numel() for tensor in ours.values())
    fresh = dict.fromkeys(name.rpartition(".")[0] for name in ours if name not in known)
    theirs, own = about.get("config", {}), json.loads(json.dumps(model.config or {}))  # tuples as lists, as in files
    other = [key for key in theirs | own if key not in ("num_classes", "dropout") and theirs.get(key) != own.get(key)]
    told = f"{share:.1%} of the weights are those of {path}" + (f", not {some(list(fresh))}" if fresh else "")
    differences = [f"{key} was {theirs.get(key, 'unset')!r} and is {own.get(key, 'unset')!r}" for key in other]
    return told + "".join(f"; {difference}" for difference in differences)


def convert_official(source: PathLike, out: PathLike, recipe: Recipe) -> None:
    """Turn a checkpoint of the authors' code into a file that `load_model` and `load_recipe` read.

    Args:
        source: the authors' file.
        out: file to write.
        recipe: which names the network, and the dataset whose class names are read if `recipe.root` is set.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read, or is of another network or another number of classes.
    """
    check_file(out)
    state_dict = read_official_checkpoint(Path(source))
    heads = [value for key, value in state_dict.items() if key.endswith("new_fc.weight")]
    classes = load_split(recipe.override({"missing": "skip"}), "val").class_names if recipe.root else None
    if not heads:
        raise ValueError(f"{source} was not written by the authors' code: it has no new_fc.weight")
    num_classes = len(heads[0])
    if classes and len(classes) != num_classes:
        raise ValueError(f"{source} scores {num_classes} classes, {recipe.root} has {len(classes)}")
    model = create_model(recipe.model, num_classes, recipe.frames, dropout=recipe.dropout, **recipe.options)
    load_official_checkpoint(model, state_dict)
    save_model(out, model, classes, recipe.override({"init": Path(source).name}))  # it was not trained here


def write_tensors(path: PathLike, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a description of them, whole or not at all; each of those that share memory is written."""
    held, seen = {}, set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        held[name] = own.clone() if memory in seen else own
        seen.add(memory)
    with replacing(path) as scratch:
        try:
            save_file(held, scratch, {"format": FORMAT, "about": json.dumps(about)})
        except SafetensorError as error:
            raise _system_error(error, path) from error
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o666 & ~mask)  # safetensors makes files for their owner alone


def _system_error(error: SafetensorError, path: PathLike) -> OSError:
    """What the system said, which safetensors puts into words: "... (os error 28)"."""
    number = re.search(r"os error (\d+)", str(error))
    code = int(number[1]) if number else errno.EIO
    return OSError(code, os.strerror(code) if number else str(error), os.fspath(path))


def behaviour(recipe: Recipe, network: str) -> dict[str, Any]:
    """Today's versions of what the outcome of a recipe depends on, as results record them.

    Args:
        recipe: its dataset may be drawn.
        network: its name.
    """
    drawing = {"drawing": DRAWING} if recipe.dataset in MICRO_DATASETS else {}
    return {**drawing, "data": DATA, "engine": VERSION, "networks": {network: network_version(network)}}


def read_about(path: PathLike) -> dict[str, Any]:
    """The description in a file of this package; raises as `load_model`."""
    return _read(path, tensors=False)[1]


def read_tensors(path: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that `write_tensors` wrote; raises as `load_model`."""
    return _read(path, tensors=True)


def _read(path: PathLike, tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if tensors else ()
            held = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or no file of weights ({error}); `ctnet convert` reads those of the authors' code, and "
            "ctnet.create_model(..., checkpoint=FILE) a plain state dict of a network of this package"
        ) from error
    try:
        if metadata["format"] != FORMAT:
            raise KeyError("format")
        about = json.loads(metadata["about"])
        return held, about if isinstance(about, dict) else {}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} was not written by ctnet: it lacks the description of a network") from error

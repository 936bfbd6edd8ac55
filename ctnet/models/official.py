"""Loading checkpoints of the authors' code into the networks built here."""

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ctnet.errors import some
from ctnet.models.ct_module import CTModule
from ctnet.models.tensor_conv import OnClips

# The authors' name -> ours, inside one CT-Module. x and z are the spatial and the temporal half of sub-operation 1,
# y and z of sub-operation 2; sx, tx and cx are the spatial, temporal and channel attention.
_HALVES = {"conv1_x": "0.spatial", "conv1_z": "0.temporal", "conv2_y": "1.spatial", "conv2_z": "1.temporal"}
_ATTENTIONS = {"s": "excite_spatial", "t": "excite_temporal", "c": "excite_channel"}
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of parallel and of compiled networks, around one another
_ATTENTION_PARTS = {"fc1.0": "reduce.conv.conv", "fc1.1": "reduce.bn", "fc2.0": "expand.conv"}


_STATE_DICTS = (  # where files keep them, the trained weights before averages of them
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
_THEIRS = ("base_model.", "new_fc.")  # what names begin with in the authors' code
_TOP = {"base_model", "new_fc", "backbone", "head"}  # there, and here
_COUNTERS = ("total_ops", "total_params")  # what thop, the authors' counter of FLOPs, leaves in a network


def convert_official_key(key: str) -> str:
    """Name in this package of a parameter in the authors' code; the key itself, without wrappers, if there is none."""
    key = _WRAPPERS.sub("", key).replace("new_fc.", "head.").replace("base_model.", "backbone.")
    key = re.sub(r"(layer\d\.\d+)\.conv([13])\.0\.", r"\1.conv\2.", key)
    key = re.sub(r"(layer\d\.\d+)\.conv([13])\.1\.", r"\1.bn\2.", key)
    inside = re.fullmatch(r"(.*layer\d\.\d+\.conv2)\.(\w+)\.(.*)", key)
    if not inside:
        return key
    block, part, rest = inside.groups()
    leaf = re.sub(r"^1\.", "bn.", re.sub(r"^0\.", "conv.conv.", rest))
    if part == "fusion":
        return f"{block}.module.pointwise.0.{leaf}"
    if part in _HALVES:
        return f"{block}.module.sub_operations.{_HALVES[part]}.{leaf}"
    attention = re.fullmatch(r"([stc])([xy])_attention", part)
    attention_part = re.fullmatch(r"(fc\d\.\d)\.(.*)", rest)
    if attention and attention_part and attention_part[1] in _ATTENTION_PARTS:
        sub_operation = {"x": 0, "y": 1}[attention[2]]
        name = f"{_ATTENTIONS[attention[1]]}.{_ATTENTION_PARTS[attention_part[1]]}.{attention_part[2]}"
        return f"{block}.module.sub_operations.{sub_operation}.{name}"
    return key


def convert_official_state_dict(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """State dict of the authors' code -> state dict for `model`: names, kernel shapes and channel orders.

    The authors transpose the channels before and after sub-operation 2. Here the PWConv before it and the
    convolution after it (`conv3` of the block) have their weights in that order instead. A state dict in this
    package's names loses its wrappers alone, and either what thop has counted.
    """
    ours = model.state_dict()
    converted = {}
    for key, value in state_dict.items():
        name = convert_official_key(key)
        if name.rpartition(".")[2] in _COUNTERS:
            continue
        if name in ours and value.dim() == 5 and value.numel() == ours[name].numel():
            value = value.reshape(ours[name].shape)  # (.., t, h, w) with a 1 among them -> our 2D kernel
        converted[name] = value
    if not any(_WRAPPERS.sub("", key).startswith(_THEIRS) for key in state_dict):
        return converted
    for name, module in model.named_modules():
        if not (isinstance(module, OnClips) and isinstance(module.module, CTModule) and len(module.module.sizes) == 2):
            continue
        order = module.module.output_order
        rows = [key for key in converted if key.startswith(f"{name}.module.pointwise.0.")]
        for key in rows:
            if converted[key].shape[:1] == order.shape:
                converted[key] = converted[key][order]
        after = f"{name.rpartition('.')[0]}.conv3.weight"
        if after in converted and converted[after].shape[1] == len(order):
            converted[after] = converted[after][:, order]
    return converted


def read_official_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """State dict in a file that the authors' training script wrote; nothing in the file is executed.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be read as a checkpoint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise ValueError(f"{path} is not a checkpoint that can be read safely: {_reason(path, error)}") from error
    return _state_dict(checkpoint, str(path))


def _reason(path: str | Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do; torch would advise to execute what it holds."""
    with Path(path).open("rb") as file:
        beginning = file.read(512).lstrip().lower()
    if beginning.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page; download the file that the page leads to"
    if beginning.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; `git lfs pull` fetches the file itself"
    if beginning.startswith((b"\x1f\x8b", b"bzh", b"\xfd7zxz", b"7z\xbc\xaf", b"rar!")):
        return "it is compressed; unpack it first"
    if "TorchScript" in str(error):
        return (
            "it is a program in TorchScript; write its weights alone: torch.save(torch.jit.load(FILE).state_dict(), F)"
        )
    if "WeightsUnpickler error" in str(error):
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        return (
            f"it holds {found[1] if found else 'other objects'} besides tensors; where you trust it, load it and write "
            'its weights alone: torch.save(checkpoint["state_dict"], FILE)'
        )
    return "it is damaged, or no file that torch.save wrote"


def _state_dict(checkpoint: object, source: str) -> dict[str, Tensor]:
    """The state dict in what a file held: all of it, or what is under one of the usual names."""
    left = [checkpoint]
    while left:
        held = left.pop(0)
        if not isinstance(held, dict) or not held:
            continue
        if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in held.items()):
            return _unwrapped(held)
        left += [held.get(name) for name in _STATE_DICTS]
    raise ValueError(f"{source} holds no state dict")


def _unwrapped(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the names that all keys begin with, such as those that Lightning or a network around this one gives."""
    while all("." in key for key in state_dict):
        first = {key.partition(".")[0] for key in state_dict}
        if len(first) > 1 or not first.isdisjoint(_TOP):
            break
        state_dict = {key.partition(".")[2]: value for key, value in state_dict.items()}
    return state_dict


def load_official_checkpoint(
    model: nn.Module, checkpoint: str | Path | dict[str, Tensor], new_head: bool = False
) -> None:
    """Load weights of the authors' code into `model`, using every entry and setting every parameter.

    Only the number of batches that batch normalisation has seen may be missing; old files lack it.

    Args:
        model: such as ``create_model("ctnet_r50", num_classes=174)``; the checkpoint does not depend on T.
        checkpoint: a file that their training script wrote (read with ``weights_only=True``, nothing in it is
            executed), or its state dict. One in this package's own names is loaded as it is.
        new_head: keep the model's own head where the checkpoint's is of another number of classes.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be read as a checkpoint, or does not fit: the message counts the entries that
            are missing, left over or of another shape, and lists the first five. The model is then unchanged.
    """
    if isinstance(checkpoint, dict):
        source, state_dict = "the state dict", _state_dict(checkpoint, "the state dict")
    else:
        source, state_dict = str(checkpoint), read_official_checkpoint(checkpoint)
    converted, ours = convert_official_state_dict(state_dict, model), model.state_dict()
    counters = {key: value for key, value in ours.items() if key.endswith("num_batches_tracked")}
    converted = counters | converted
    head = {key: value for key, value in ours.items() if key.startswith("head.")}
    theirs = {key: converted[key] for key in head if key in converted}
    if new_head and len(theirs) == len(head) and any(theirs[key].shape != head[key].shape for key in head):
        warnings.warn(f"{source} is of other classes: the head of the network is drawn anew", stacklevel=3)
        converted |= head
    problems = [f"missing {key}" for key in ours if key not in converted]
    problems += [f"left over {key}" for key in converted if key not in ours]
    problems += [
        f"{key} is {tuple(converted[key].shape)}, the model needs {tuple(value.shape)}"
        for key, value in ours.items()
        if key in converted and converted[key].shape != value.shape
    ]
    if problems:
        raise ValueError(f"{source} does not fit this model, {len(problems)} entries differ: {some(problems)}")
    model.load_state_dict(converted)

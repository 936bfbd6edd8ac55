"""A trained network as one file that ONNX Runtime, OpenVINO or torch alone can run, on any number of clips at once."""

import json
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctnet.deploy.inference import optimize
from ctnet.engine.checkpoint import describe
from ctnet.engine.loading import eval_data, load_split
from ctnet.engine.recipe import Recipe
from ctnet.files import PathLike, check_file, replacing
from ctnet.models import VideoModel

Format = Literal["onnx", "openvino", "torch"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
READERS: dict[str, tuple[str, ...]] = {"onnx": ("onnxruntime",), "openvino": ("openvino",), "torch": ()}
"""Packages that run files of a format."""
WRITERS = ("onnx", "onnxscript")
"""Packages that writing these takes besides."""
KEY = "ctnet"
"""Under which a file's metadata hold what `load_exported` needs."""


def require(format: str, int8: bool = False, reading: bool = False) -> None:
    """Raise ValueError unless a format is known, has 8 bits if they are asked for, and its packages are installed.

    For reading alone fewer are needed than for writing.
    """
    if format not in get_args(Format):
        raise ValueError(f"unknown format {format!r}; there are {', '.join(get_args(Format))}")
    if int8 and format != "onnx":
        raise ValueError(f"int8 is ONNX Runtime's: export to onnx, not to {format}")
    needed = READERS[format] if reading or not READERS[format] else WRITERS + READERS[format]
    if missing := [package for package in needed if find_spec(package) is None]:
        raise ValueError(f"{format} needs {', '.join(missing)}: pip install 'ctnet[deploy]'")


def suffix(format: str, int8: bool = False) -> str:
    """How the names of files of a format end."""
    return (".int8" if int8 else "") + SUFFIXES[format]


def export(
    model: VideoModel,
    path: PathLike,
    format: str,
    recipe: Recipe | None = None,
    *,
    frames: int | None = None,
    size: int | None = None,
    int8: Sequence[Tensor] | None = None,
) -> None:
    """Write a network as a file of another runtime, whole or not at all; `load_exported` reads it.

    The program takes "clips" (N, 3, T, H, W), float32, normalised, for any N, and gives "scores" (N, classes). Its
    metadata hold the names of the classes, the normalisation, T, the size and the recipe.

    Args:
        model: the network; batch normalisation is folded into its convolutions.
        path: of the file. OpenVINO keeps the weights beside it, with the suffix .bin.
        format: "onnx", "openvino" or "torch".
        recipe: that trained it; frames and size are the recipe's unless given.
        frames: T of the clips.
        size: their height and width in pixels.
        int8: clips (3, T, H, W) to calibrate on; then weights and activations are rounded to 8 bits ("onnx" alone).

    Raises:
        ValueError: when a package is missing, nothing tells the size, or the path has another format's suffix.
        OSError: when the file cannot be written.
    """
    require(format, int8 is not None)
    if Path(path).suffix != SUFFIXES[format]:
        raise ValueError(f"{path} would not be read as {format}: give it the suffix {SUFFIXES[format]}")
    frames = frames or (recipe.frames if recipe else model.num_frames)
    size = size or (recipe.eval_size if recipe else None)
    if size is None:
        raise ValueError("no recipe tells how large clips are: give size")
    check_file(path)
    about = json.dumps(describe(model, model.classes, recipe) | {"frames": frames, "size": size})
    plain = optimize(model).cpu().float()
    clips = torch.zeros(2, 3, frames, size, size)
    program = torch.export.export(plain, (clips,), dynamic_shapes=({0: torch.export.Dim("clips", min=1)},))
    with replacing(path) as scratch:
        if format == "torch":
            torch.export.save(program, scratch, extra_files={KEY: about})
        else:
            whole = scratch if format == "onnx" else scratch.with_suffix(".onnx")
            _write_onnx(program, whole, about, int8)
            if format == "openvino":
                _write_openvino(whole, scratch, about)
                os.replace(scratch.with_suffix(".bin"), Path(path).with_suffix(".bin"))


def _write_onnx(program: Any, path: Path, about: str, int8: Sequence[Tensor] | None) -> None:
    import onnx

    names: dict[str, Any] = {"input_names": ["clips"], "output_names": ["scores"]}
    written = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert written is not None
    written.model.metadata_props[KEY] = about
    written.save(path)
    if int8 is None:
        return
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    wide = path.with_suffix(".fp32.onnx")
    os.replace(path, wide)
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(
        wide, path, _Calibration(int8), QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True, **kinds
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {KEY: about})
    onnx.save(model, path)


class _Calibration:
    """Clips one after the other, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, clips: Sequence[Tensor]) -> None:
        self.clips: Iterator[Tensor] = iter(clips)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        clip = next(self.clips, None)
        return None if clip is None else {"clips": clip[None].numpy()}


def _write_openvino(onnx: Path, path: Path, about: str) -> None:
    import openvino

    model = openvino.convert_model(onnx)
    model.set_rt_info(about, [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)


def calibration_clips(model: VideoModel, recipe: Recipe, count: int = 32) -> list[Tensor]:
    """Clips (3, T, H, W) of the training split, evenly spread over it, as the network sees them in testing."""
    dataset = eval_data(recipe, model, videos=load_split(recipe, "train"))
    return [dataset[index][0] for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=int)]

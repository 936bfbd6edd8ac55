"""Exported networks, run by ONNX Runtime, OpenVINO or torch, in the place of a network."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctnet.deploy.files import KEY, SUFFIXES, require
from ctnet.engine.checkpoint import load_model, load_recipe, recipe_of
from ctnet.engine.recipe import Recipe
from ctnet.files import PathLike
from ctnet.models import VideoModel
from ctnet.models.tsn import check_clips

Run = Callable[[Tensor], Tensor]


class ExportedModel(VideoModel):
    """An exported network: clips (N, 3, T, H, W) -> scores (N, classes), for the T and the size in its file.

    Args:
        run: what computes the scores.
        about: the file's metadata.
    """

    def __init__(self, run: Run, about: Mapping[str, Any]) -> None:
        mean, std = (tuple(about["normalisation"][part]) for part in ("mean", "std"))
        super().__init__(about["frames"], mean, std)
        self.run, self.size = run, int(about["size"])
        self.config, self.classes = about["config"], about["classes"]

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> scores (N, classes), float32, on the clips' device; it is computed on the CPU.

        Raises:
            ValueError: for clips of another shape, or that are not normalised.
        """
        shape = (3, self.num_frames, self.size, self.size)
        if x.dim() != 5 or tuple(x.shape[1:]) != shape:
            raise ValueError(f"this program was exported for clips of shape (N, {', '.join(map(str, shape))})")
        check_clips(x)
        return self.run(x.detach().to("cpu", torch.float32)).to(x.device)


def load_exported(path: PathLike, threads: int | None = None) -> ExportedModel:
    """Load a file that `export` wrote into its runtime.

    Args:
        path: of the file; its suffix tells the format.
        threads: of the runtime, if given; torch has its own.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, or was written by another program.
    """
    return ExportedModel(*_load(path, threads))


def load_network(path: PathLike) -> tuple[VideoModel, Recipe]:
    """A network and the recipe that trained it, from weights or from an exported file.

    The recipe of an exported file has the frames and the size in testing that the file was exported for.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged, was written by another program, or holds no recipe of this version.
    """
    if Path(path).suffix not in SUFFIXES.values():
        return load_model(path), load_recipe(path)
    run, about = _load(path, None)
    recipe = recipe_of(about, path, "export it anew")
    changes = {"frames": about["frames"]}
    if about["size"] != recipe.eval_size:
        changes["test_size"] = about["size"]
    return ExportedModel(run, about), recipe.override(changes)


def _load(path: PathLike, threads: int | None) -> tuple[Run, dict[str, Any]]:
    path = Path(path)
    loaders = {".onnx": _load_onnx, ".xml": _load_openvino, ".pt2": _load_torch}
    if path.suffix not in loaders:
        raise ValueError(f"{path} is no exported network: those end in {', '.join(loaders)}")
    if not path.is_file():
        raise FileNotFoundError(f"no exported network at {path}")
    (format,) = (name for name, suffix in SUFFIXES.items() if suffix == path.suffix)
    require(format, reading=True)
    try:
        run, text = loaders[path.suffix](path, threads)
        about = json.loads(text)
    except Exception as error:  # each runtime has errors of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged, or no network that ctnet exported ({reason})") from error
    return run, about


def _load_onnx(path: Path, threads: int | None) -> tuple[Run, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(clips: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"clips": clips.contiguous().numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map[KEY]


def _load_openvino(path: Path, threads: int | None) -> tuple[Run, str]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    settings = {
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(clips: Tensor) -> Tensor:
        return torch.from_numpy(compiled([clips.contiguous().numpy()])[0].copy())

    return run, model.get_rt_info([KEY]).astype(str)


def _load_torch(path: Path, threads: int | None) -> tuple[Run, str]:
    extra = {KEY: ""}
    module = torch.export.load(path, extra_files=extra).module()

    def run(clips: Tensor) -> Tensor:  # the module itself refuses to be put into evaluation mode, in which it is
        return module(clips)

    return run, extra[KEY]

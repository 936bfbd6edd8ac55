"""What a network and its process need before training: initial weights, precision, memory, what is frozen."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ctnet.engine.checkpoint import load_init
from ctnet.engine.place import Place
from ctnet.engine.recipe import Recipe
from ctnet.errors import did_you_mean
from ctnet.models import VideoModel, create_model
from ctnet.models.tensor_conv import OnClips

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_model(recipe: Recipe, classes: list[str], notes: list[str] | None = None) -> VideoModel:
    """The recipe's network with its initial weights; how much of another network's they are is added to the notes."""
    weights = "imagenet" if recipe.init == "imagenet" else None
    try:
        model = create_model(
            recipe.model, len(classes), recipe.frames, weights=weights, dropout=recipe.dropout, **recipe.options
        )
    except TypeError as error:
        raise ValueError(f"{recipe.model} cannot have options={recipe.options}: {error}") from error
    model.classes = classes
    if recipe.init not in ("imagenet", "none"):
        note = load_init(recipe.init, model, classes)
        if notes is not None:
            notes.append(f"init: {note}")
    return model


def channels_last(model: VideoModel) -> VideoModel:
    """Lay out the weights of 2D convolutions, and only theirs, as activations are: channels last."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed what is random in a step, such as dropout, so that it depends on nothing that came before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, instead of handing large blocks back to the kernel.

    Every step would have page faults again. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)


def choose_precision(name: str, device: torch.device, testing: bool = False) -> torch.dtype:
    """The type for autocast; "auto" is bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32.

    For testing "auto" is fp32: in 8 bits of bf16 the best classes of a video often tie.

    Raises:
        ValueError: when the device cannot train in that type.
    """
    if device.type == "cuda":
        fast = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    else:
        able = torch.cpu.get_capabilities()
        fast = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
        if name == "fp16":
            raise ValueError("precision fp16 needs a GPU: use bf16, fp32 or auto")
    return PRECISIONS[name] if name != "auto" else torch.float32 if testing else fast


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Let GPUs multiply fp32 in all of its 23 bits, not in the 10 of TF32, which torch lets convolutions take.

    Machines then differ by rounding alone. What the process had set is put back.
    """
    backends: Any = torch.backends  # whose types lack cudnn.conv
    operators = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
    of_all, followed = backends.fp32_precision, [operator.fp32_precision for operator in operators]
    backends.fp32_precision = "none"  # operators without a precision of their own would follow it
    own = [operator.fp32_precision for operator in operators]
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # set apart from convolutions, operator by operator
        products = "high" if own[2] == "tf32" else "highest"
    try:
        _set_precision(False, "highest")
        yield
    finally:
        _set_precision(own[0] == "tf32", products)
        for operator, before, outer in zip(operators, own, followed, strict=True):
            precision = "none" if outer == of_all else before  # it goes on following
            if operator.fp32_precision != precision:
                operator.fp32_precision = precision
        backends.fp32_precision = of_all


def _set_precision(tf32: bool, products: str) -> None:
    """By the switches that others read, such as `torch.backends.cudnn.flags`: they refuse ones set apart."""
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision(products)


def where(place: Place, precision: torch.dtype) -> str:
    """A line on what trains and in which precision; it tells of GPUs of this machine that have nothing to do."""
    kind = next(name for name, dtype in PRECISIONS.items() if dtype == precision)
    together = f", {place.world} processes together" if place.world > 1 else ""
    if place.device.type != "cuda":
        return f"training on the CPU in {kind}{together}"
    line = f"training on {torch.cuda.get_device_name(place.device)} in {kind}{together}"
    count = torch.cuda.device_count()
    idle = count - int(os.environ.get("LOCAL_WORLD_SIZE", place.world))
    return f"{line}; {idle} of {count} GPUs idle: torchrun --nproc-per-node {count} uses all" if idle > 0 else line


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Keep what a recipe freezes as it is: parts with weights and statistics, and batch normalisation.

    Raises:
        ValueError: for a part that is not there, or when nothing is left to train.
    """
    parts = dict(model.named_modules())
    for name in recipe.freeze:
        if not name or name not in parts:
            raise ValueError(
                f"{recipe.model} has no part {name!r} to freeze; {did_you_mean(name, filter(None, parts))}"
            )
        parts[name].eval()
        parts[name].requires_grad_(False)
    freeze_batch_norm(model, recipe.freeze_bn)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze={recipe.freeze} leaves nothing to train")


def freeze_batch_norm(model: nn.Module, which: str) -> None:
    """Keep statistics and scales of batch normalisation as they are: of "none", of "all" or, as TSN's partial BN
    does, of all that pictures trained but the first ("partial"): those of modules that mix frames go on learning."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    new = {id(part) for module in model.modules() if isinstance(module, OnClips) for part in module.modules()}
    of_pictures = [layer for layer in layers if id(layer) not in new]
    for layer in {"none": [], "partial": of_pictures[1:], "all": layers}[which]:
        layer.eval()
        layer.requires_grad_(False)


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of the backbone's blocks for the backward pass, and compute the rest again there."""
    backbone = getattr(model, "backbone", nn.Module())
    stages = [stage for stage in backbone.children() if list(stage.children())]  # not the stem's single layers
    if not stages:
        raise ValueError(f"activation_checkpointing does not know the blocks of {type(model).__name__}: leave it out")
    for stage in stages:
        for block in stage.children() if isinstance(stage, nn.Sequential) else [stage]:
            contexts = partial(_recomputation, block)
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _recomputation(block: nn.Module) -> tuple[Any, Any]:
    """Contexts of a block's two forward passes; the second must not count into the running statistics again."""
    return nullcontext(), _StatisticsKept(block)


class _StatisticsKept:
    """Within it, batch normalisation uses statistics of the batch but does not gather them."""

    def __init__(self, block: nn.Module) -> None:
        self.layers = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def __enter__(self) -> None:
        self.kept = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in self.layers]

    def __exit__(self, *error: object) -> None:
        for layer, buffers in zip(self.layers, self.kept, strict=True):
            for name, buffer in buffers.items():
                layer.get_buffer(name).copy_(buffer)

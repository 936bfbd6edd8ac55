"""A training run as plain data: the paper's recipes (section 4, appendix A.1), and small ones for twins."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from ctnet.errors import did_you_mean

BATCH = 64  # the batch that `Recipe.lr` is for


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns, and how it is executed."""

    # Network
    model: str = "ctnet_r50"  # a name of `ctnet.list_models()`
    options: dict[str, Any] = field(default_factory=dict)  # of `ctnet.create_model`: blocks, sizes, excitation, ...
    frames: int = 8  # T
    init: str = "imagenet"  # where weights start: "imagenet", "none", or a checkpoint of this package
    dropout: float = 0.5

    # Data
    dataset: str = "somethingv2"  # an official layout, or a Micro dataset
    root: str = ""  # its directory; for a Micro dataset where drawn clips are kept
    fold: int = 1  # of the datasets that have several
    skip: str = ""  # a list of videos to leave out, from `ctnet data check`
    missing: Literal["error", "skip"] = "error"  # what to do with an annotation that has no video
    train_clips: int | None = None  # number of clips of a Micro dataset
    val_clips: int | None = None
    difficulty: float | None = None  # of a Micro dataset, from 0 (easy) to 1; its own unless given
    sampling: Literal["sparse", "dense"] = "sparse"
    window: int = 64  # frames that a dense clip spans
    size: int = 256  # side of the square that the network sees, in pixels
    short_side: int | list[int] = 256  # of a frame before the crop; one of several at random
    scales: list[float] | None = field(default_factory=lambda: [1, 0.875, 0.75, 0.66])  # of the crop; None: of `size`
    flip: bool = False  # left to right, labels that tell left from right swapped
    test_size: int | None = None  # side in testing, `size` unless given

    # Optimisation: SGD, linear warm-up, then a cosine down to zero
    epochs: int = 45
    batch_size: int = 64  # clips of a step, over all processes
    lr: float = 0.02  # at the end of the warm-up, for a batch of 64; scaled linearly with batch_size
    head_lr: float = 1.0  # times lr, for the head
    warmup_epochs: float = 10
    momentum: float = 0.9
    weight_decay: float = 5e-4  # not on biases and batch normalisation
    clip_grad: float | None = 20.0  # largest norm of the gradient
    label_smoothing: float = 0.0
    freeze_bn: Literal["none", "partial", "all"] = "none"  # "partial" keeps the statistics of all but the first
    seed: int = 0

    # Execution: changes no more than rounding, but for statistics of batch normalisation, which are of a device's clips
    clips_per_device: int | None = None  # most clips on a device at once; gradients are accumulated over the rest
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # "auto": the fastest that the device supports
    sync_bn: bool = False  # statistics over all GPUs
    compile: str = ""  # backend of torch.compile, such as "inductor"
    activation_checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third slower
    workers: int = 8  # processes that load data, for each device; 0 loads in the training process
    eval_every: int = 1  # epochs
    save_every: int = 500  # steps between two saved states, besides one at every epoch's end
    tensorboard: bool = False

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int) and not isinstance(value, bool) and _accepts(1.0, hints[item.name]):
                object.__setattr__(self, item.name, value := float(value))
            if not _accepts(value, hints[item.name]):
                raise ValueError(f"{item.name}={value!r} does not fit: {_describe(hints[item.name])} is expected")
        positive = ("frames", "epochs", "batch_size", "lr", "size", "window", "eval_every", "save_every")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"{self.warmup_epochs:g} epochs of warm-up do not fit into {self.epochs} epochs")

    def override(self, changes: Mapping[str, Any]) -> "Recipe":
        """A recipe with other values in some fields.

        Raises:
            ValueError: for a field that does not exist, with the nearest name, or a value that does not fit.
        """
        names = [item.name for item in fields(self)]
        for name in changes:
            if name not in names:
                raise ValueError(f"a recipe has no field {name!r}; {did_you_mean(name, names)}")
        return replace(self, **changes)

    def parse(self, assignments: list[str]) -> "Recipe":
        """A recipe changed by "field=value" texts, values as in YAML: lr=0.01, clip_grad=null, options={blocks: 4}."""
        changes: dict[str, Any] = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"{text!r} is no change of a recipe: write field=value, such as epochs=10")
            try:
                changes[name] = _number(yaml.safe_load(value)) if value else ""
            except yaml.YAMLError as error:
                raise ValueError(f"cannot read the value in {text!r} ({str(error).splitlines()[0]})") from error
        return self.override(changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up: linear in the batch (Goyal et al., 2017)."""
        return self.lr * self.batch_size / BATCH

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a moment of the training, counted in epochs: linear warm-up, then a cosine down to zero."""
        if epoch < self.warmup_epochs:
            return self.peak_lr * epoch / self.warmup_epochs
        rest = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


EXECUTION = frozenset(
    {
        "root",
        "clips_per_device",
        "precision",
        "sync_bn",
        "compile",
        "activation_checkpointing",
        "workers",
        "eval_every",
        "save_every",
        "tensorboard",
    }
)
"""Fields that may change when a run is resumed."""


def _number(value: Any) -> Any:
    """YAML takes 1e-4 for a text: it wants 1.0e-4."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _accepts(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that a type hint names."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_accepts(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if arguments:
        return any(_accepts(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return getattr(hint, "__name__", str(hint)).replace("NoneType", "null")


SOMETHING = Recipe(dropout=0.3, head_lr=5.0)
KINETICS = Recipe(
    dataset="kinetics",
    frames=16,
    sampling="dense",
    flip=True,
    epochs=110,
    lr=0.01,
    weight_decay=1e-4,
    dropout=0.5,
    head_lr=5.0,
)
TWIN = Recipe(
    model="ctnet_r50_twin",
    dataset="MicroSomething",
    init="none",
    dropout=0.0,
    size=32,
    short_side=32,
    scales=None,
    workers=0,
)

RECIPES: dict[str, Recipe] = {
    "somethingv1": replace(SOMETHING, dataset="somethingv1"),
    "somethingv2": SOMETHING,
    "kinetics": KINETICS,
    "mini-kinetics": replace(KINETICS, dataset="mini-kinetics", frames=8),
    "ucf101": replace(
        KINETICS, dataset="ucf101", init="kinetics.safetensors", epochs=25, warmup_epochs=0, lr=0.005, dropout=0.8
    ),
    "hmdb51": replace(
        KINETICS, dataset="hmdb51", init="kinetics.safetensors", epochs=25, warmup_epochs=0, lr=0.005, dropout=0.8
    ),
    "micro-pictures": replace(
        TWIN, model="tsn_r50_twin", dataset="MicroPictures", frames=1, lr=0.1, epochs=10, warmup_epochs=1
    ),
    "micro-something": replace(
        TWIN, train_clips=4000, val_clips=2016, difficulty=0.6, batch_size=32, lr=0.2, epochs=4, warmup_epochs=1
    ),
    "micro-transfer": replace(TWIN, dataset="MicroUCF", batch_size=32, lr=0.1, epochs=4, warmup_epochs=0.5),
}
"""Name -> recipe. Fine-tuning on UCF101 and HMDB51 is not in the paper: those two are inferred from TSM's practice."""


def get_recipe(name: str) -> Recipe:
    """A recipe by name; raises ValueError with the nearest name for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)} `ctnet train --list` shows all")
    return RECIPES[name]

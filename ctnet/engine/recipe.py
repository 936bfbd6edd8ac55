"""A training run as plain data: the paper's recipes (section 4, appendix A.1), and small ones for twins."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from ctnet.errors import did_you_mean

BATCH = 64  # the batch that `Recipe.lr` is for

# Kinds of values: each says its range to the check and to the reader of an error. No number may be NaN or infinite.
LARGEST = sys.float_info.max
Count = Annotated[int, Meta(ge=1, description="a whole number from 1")]
WholeNumber = Annotated[int, Meta(ge=0, description="a whole number from 0")]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number from 0 to below 2^63")]
Counts = Annotated[list[Count], Meta(min_length=1, description="a list of such")]
Positive = Annotated[float, Meta(gt=0, le=LARGEST, description="a number above 0")]
NotNegative = Annotated[float, Meta(ge=0, le=LARGEST, description="a number from 0")]
BelowOne = Annotated[float, Meta(ge=0, lt=1, description="a number from 0 to below 1")]
UpToOne = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
PositiveOrOff = Annotated[Positive | None, Meta(description="a number above 0, or null, which turns it off,")]
Share = Annotated[float, Meta(gt=0, le=1, description="a number above 0 and up to 1")]
Shares = Annotated[list[Share], Meta(min_length=1, description="a list of numbers above 0 and up to 1")]
Parts = Annotated[list[str], Meta(description="a list of parts of the network, such as [backbone.layer1],")]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns, and how it is executed.

    Raises:
        ValueError: for a value outside the range of its field, in one line.
    """

    # Network
    model: str = "ctnet_r50"  # a name of `ctnet.list_models()`
    options: dict[str, Any] = field(default_factory=dict)  # of `ctnet.create_model`: blocks, sizes, excitation, ...
    frames: Count = 8  # T
    init: str = "imagenet"  # where weights start: "imagenet", "none", or a checkpoint of this package
    dropout: BelowOne = 0.5

    # Data
    dataset: str = "somethingv2"  # an official layout, or a Micro dataset
    root: str = ""  # its directory; for a Micro dataset where drawn clips are kept
    fold: Count = 1  # of the datasets that have several
    skip: str = ""  # a list of videos to leave out, from `ctnet data check`
    missing: Literal["error", "skip"] = "error"  # what to do with an annotation that has no video
    unreadable: Literal["error", "replace"] = "error"  # what to do with a training video that cannot be read
    train_clips: Count | None = None  # number of clips of a Micro dataset
    val_clips: Count | None = None
    difficulty: UpToOne | None = None  # of a Micro dataset, from 0 (easy) to 1; its own unless given
    sampling: Literal["sparse", "dense"] = "sparse"
    window: Count = 64  # frames that a dense clip spans
    size: Count = 256  # side of the square that the network sees, in pixels
    short_side: Count | Counts = 256  # of a frame before the crop; one of several at random
    scales: Shares | None = field(default_factory=lambda: [1, 0.875, 0.75, 0.66])  # of the crop; None: of `size`
    flip: bool = False  # left to right, labels that tell left from right swapped
    test_size: Count | None = None  # side in testing, `size` unless given

    # Optimisation: linear warm-up, then a cosine down to zero, or a constant rate that falls to zero at the end
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"  # "muon": orthogonal steps for kernels, AdamW's for the rest
    epochs: Count = 45
    batch_size: Count = 64  # clips of a step, over all processes
    lr: Positive = 0.02  # at the end of the warm-up, for a batch of 64; scaled linearly with batch_size
    head_lr: Positive = 1.0  # times lr, for the head
    rest_lr: Positive = 0.3  # with "muon": times lr, for all that is no kernel
    warmup_epochs: NotNegative = 10
    decay_epochs: PositiveOrOff = None  # at the end, in a straight line to zero; null: a cosine from the warm-up on
    momentum: BelowOne = 0.9  # but with "adamw"
    weight_decay: NotNegative = 5e-4  # not on biases and batch normalisation
    clip_grad: PositiveOrOff = 20.0  # largest norm of the gradient
    label_smoothing: BelowOne = 0.0
    mixup: NotNegative = 0.0  # alpha of the share of another clip on the device that is blended into each; 0: none
    ema: BelowOne = 0.0  # decay, at every step, of the mean of the weights, which is tested and kept; 0: no mean
    freeze: Parts = field(default_factory=list)  # which stay as they are
    freeze_bn: Literal["none", "partial", "all"] = "none"  # "partial" keeps the statistics of all but the first
    seed: Seed = 0

    # Execution: changes no more than rounding, but for statistics of batch normalisation, which are of a device's clips
    clips_per_device: Count | None = None  # most clips on a device at once; gradients are accumulated over the rest
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # "auto": the fastest that the device supports
    sync_bn: bool = False  # statistics over all GPUs
    compile: str = ""  # backend of torch.compile, such as "inductor"
    activation_checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third slower
    workers: WholeNumber = 8  # processes that load data, for each device; 0 loads in the training process
    eval_every: Count = 1  # epochs
    save_every: Count = 500  # steps between two saved states, besides one at every epoch's end
    keep_best: bool = False  # also the weights of the epoch that is best on the validation clips
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            value = getattr(self, name)
            try:
                converted = msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                raise ValueError(f"{name}={value!r} does not fit: {_expected(kind)} is expected") from error
            if type(converted) is not type(value):  # a whole number for a float
                object.__setattr__(self, name, converted)
        try:
            json.dumps(self.options)
        except TypeError as error:
            raise ValueError(
                f"options={self.options!r} does not fit: what JSON can hold is expected ({error})"
            ) from error
        if self.warmup_epochs + (self.decay_epochs or 0) > self.epochs:
            decay = f" and {self.decay_epochs:g} of decay" if self.decay_epochs else ""
            raise ValueError(f"{self.warmup_epochs:g} epochs of warm-up{decay} do not fit into {self.epochs} epochs")
        if self.scales is None and self.size > min(self.sides):
            raise ValueError(f"size={self.size} cannot be cropped from short_side={self.short_side}")
        if self.scales is not None and min(self.scales) * min(self.sides) < 1:
            raise ValueError(f"scales={self.scales} crop less than a pixel of short_side={self.short_side}")
        if self.sampling == "dense" and self.window < self.frames:
            raise ValueError(f"window={self.window} cannot hold frames={self.frames}: raise window, or lower frames")

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
        """A recipe changed by "field=value" texts, such as lr=0.01, clip_grad=null, options={blocks: 4}.

        Fields that are texts take what is behind "=" as it stands, but for quotes around it. Others are read as YAML
        whose numbers are decimal.

        Raises:
            ValueError: as `override` does, and for a text that is no change.
        """
        return self.override(
            read_assignments(assignments, "change of a recipe", "field=value, such as epochs=10", _kinds())
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @property
    def sides(self) -> list[int]:
        """Lengths of a frame's shorter side before the crop."""
        return self.short_side if isinstance(self.short_side, list) else [self.short_side]

    @property
    def eval_size(self) -> int:
        """Side of the square that the network sees in testing, in pixels."""
        return self.test_size or self.size

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of the warm-up: linear in the batch (Goyal et al., 2017)."""
        return self.lr * self.batch_size / BATCH

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a moment of the training, counted in epochs.

        It rises in a straight line over `warmup_epochs`. From there a cosine takes it down to zero; with `decay_epochs`
        it stays, and falls in a straight line over the last of them (Hägele et al., 2024).
        """
        if epoch < self.warmup_epochs:
            return self.peak_lr * epoch / self.warmup_epochs
        if self.decay_epochs is not None:
            return self.peak_lr * min(1.0, max(self.epochs - epoch, 0.0) / self.decay_epochs)
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
        "keep_best",
        "tensorboard",
    }
)
"""Fields that change how a run is executed, not what it learns: they may change when it is resumed."""

REPAIRS = frozenset({"skip", "missing", "unreadable"})
"""Fields on videos that cannot be read: they may change when a run is resumed too, which it records."""


@cache
def _kinds() -> dict[str, Any]:
    """Field -> kind of its values."""
    return get_type_hints(Recipe, include_extras=True)


def _expected(kind: Any) -> str:
    """A kind of values in words."""
    if get_origin(kind) is Annotated:
        return str(kind.__metadata__[0].description)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    names = {type(None): "null", str: "a text", bool: "true or false"}
    if kind in names:
        return names[kind]
    return "a mapping such as {blocks: 4}" if get_origin(kind) is dict else " or ".join(map(_expected, get_args(kind)))


def read_assignments(texts: Iterable[str], what: str, form: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The values of "name=value" texts, by name, read as `Recipe.parse` says.

    Args:
        texts: as they stand on a command line.
        what: a text is, for errors.
        form: that it should have, likewise.
        kinds: of the values, by name, as far as they are known.

    Raises:
        ValueError: for a text that is none, or whose value cannot be read.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is no {what}: write {form}")
        found[name] = _read(text, value, kinds.get(name))
    return found


def _read(text: str, value: str, kind: Any) -> Any:
    """The value of an assignment."""
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if (kind is str or get_origin(kind) is Literal) and not quoted:
        return value
    from ctnet.engine.values import read_value  # YAML takes a while to import

    try:
        return read_value(value)
    except ValueError as error:
        raise ValueError(f"cannot read the value in {text!r} ({error})") from error


SOMETHING = Recipe(dropout=0.3, head_lr=5.0)
KINETICS = Recipe(
    dataset="kinetics",
    frames=16,
    sampling="dense",
    flip=True,
    epochs=110,
    lr=0.01,
    weight_decay=1e-4,
    head_lr=5.0,
)
FINE_TUNING = replace(KINETICS, init="kinetics.safetensors", epochs=25, warmup_epochs=0, lr=0.005, dropout=0.8)
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

MUON_TWIN = replace(
    TWIN,
    model="ctnet_r26_twin",
    train_clips=12000,
    val_clips=4008,
    difficulty=0.3,
    optimizer="muon",
    momentum=0.95,
    weight_decay=0.01,
    batch_size=32,
    lr=0.04,
    epochs=1,
    warmup_epochs=0.06,
    precision="fp32",
)

RECIPES: dict[str, Recipe] = {
    "somethingv1": replace(SOMETHING, dataset="somethingv1"),
    "somethingv2": SOMETHING,
    "kinetics": KINETICS,
    "mini-kinetics": replace(KINETICS, dataset="mini-kinetics", frames=8),
    "ucf101": replace(FINE_TUNING, dataset="ucf101"),
    "hmdb51": replace(FINE_TUNING, dataset="hmdb51"),
    "micro-pictures": replace(
        TWIN, model="tsn_r50_twin", dataset="MicroPictures", frames=1, lr=0.1, epochs=10, warmup_epochs=1
    ),
    "micro-something": replace(
        TWIN, train_clips=4000, val_clips=2016, difficulty=0.6, batch_size=32, lr=0.2, epochs=4, warmup_epochs=1
    ),
    "micro-something-muon": MUON_TWIN,
    "micro-something-wsd": replace(MUON_TWIN, momentum=0.9, decay_epochs=0.4),
}
"""Name -> recipe. Fine-tuning on UCF101 and HMDB51 is not in the paper: those two are inferred from TSM's practice."""


def get_recipe(name: str) -> Recipe:
    """A recipe by name, or from a .json file with fields of one, such as `ctnet train RECIPE --show` prints.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for an unknown name, with the nearest, or a file that holds no recipe.
    """
    if name.endswith(".json"):
        try:
            changes = json.loads(Path(name).read_bytes())  # in UTF-8 or, as some shells write it, UTF-16
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{name}: no such file of a recipe") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{name} holds no recipe ({error})") from error
        if not isinstance(changes, dict):
            raise ValueError(f"{name} holds no recipe: fields with values are expected")
        try:
            return Recipe().override(changes)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)} `ctnet train --list` shows all")
    return RECIPES[name]

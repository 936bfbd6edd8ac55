"""Networks by name: the file of a network registers it here, and `create_model` builds it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ctnet.errors import did_you_mean
from ctnet.models.official import load_official_checkpoint
from ctnet.models.tsn import VideoModel
from ctnet.models.weights import find_weights

Builder = TypeVar("Builder", bound=Callable[..., VideoModel])


@dataclass(frozen=True)
class Entry:
    """What is known of a network; the fields are the arguments of `register`."""

    build: Callable[..., VideoModel]
    version: int
    pretrained: bool
    options: tuple[str, ...]


NETWORKS: dict[str, Entry] = {}
"""Name -> what is registered under it."""


def register(
    *names: str, version: int = 1, pretrained: bool = False, options: Sequence[str] = ()
) -> Callable[[Builder], Builder]:
    """Decorator: make a builder of networks known to `create_model`. The last one under a name counts.

    Args:
        names: of the network.
        version: of its behaviour. Raise it when the same weights give other scores, when a fresh network starts from
            other weights, or when its cost changes: results of older versions are then stale.
        pretrained: whether the builder takes `weights`, None or "imagenet".
        options: names of further arguments of the builder, beside num_classes, num_frames and dropout; "*" among them
            lets any through.
    """

    def add(build: Builder) -> Builder:
        NETWORKS.update(dict.fromkeys(names, Entry(build, version, pretrained, tuple(options))))
        return build

    return add


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(NETWORKS)


def network_version(name: str) -> int:
    """Version of a network's behaviour, by a name of `list_models`; results record it."""
    return _entry(name).version


def _entry(name: str) -> Entry:
    if name not in NETWORKS:
        raise ValueError(f"unknown model {name!r}; {did_you_mean(name, NETWORKS)} `ctnet models` lists all")
    return NETWORKS[name]


def create_model(
    name: str,
    num_classes: int | None = None,
    num_frames: int = 8,
    *,
    weights: str | None = None,
    checkpoint: str | None = None,
    dropout: float = 0.5,
    **options: Any,
) -> VideoModel:
    """Build a network by name, such as "ctnet_r50", "tsn_r101", "csn_r50" or "ctnet_inceptionv3".

    Args:
        name: one of `list_models()`.
        num_classes: of the head; unless given, those of the named weights, or the 174 of Something-Something.
        num_frames: T of the clips the network is meant for; it accepts any. (CorrNet's filters have one T alone, and
            SlowFast's slow pathway takes every alpha-th frame.)
        weights: "imagenet" starts the backbone from torchvision's weights; everything else, and all without it, is
            random. Another name, such as "micro-something", gives a network that the study has trained, with its
            classes, see `ctnet.models.weights`; for another `num_classes` its head is drawn anew.
        checkpoint: a file of the authors' code to load, see `load_official_checkpoint`; for another `num_classes` than
            the file's its head is drawn anew, with a warning.
        dropout: before the head; 0.3 for Something-Something and 0.5 for Kinetics in the paper (A.1).
        options: of a module that takes the place of convolutions; for the `CTModule` sizes, kernels, connection,
            excitation, pointwise. Its `blocks` says which: how many blocks of a ResNet-50 (Table 2e: 0, 1, 4, 6, 7 or
            12), or a rule of `select_convs`; the paper's choice for the backbone unless given. ResNets have
            `last_stride` besides: 1 keeps their last stage from halving the maps, so that saliency is twice as fine.

    Returns:
        A network from clips (N, 3, T, H, W) to scores (N, num_classes).

    Raises:
        ValueError: for an unknown name or option, or weights that are not here.
        RuntimeError: when ImageNet weights cannot be downloaded.
    """
    entry = _entry(name)
    if "*" not in entry.options and (unknown := [option for option in options if option not in entry.options]):
        there = f"there are {', '.join(entry.options)}" if entry.options else "there are none"
        raise ValueError(f"{name} has no option {', '.join(unknown)}; {there}")
    others = ("imagenet",) if entry.pretrained else ()
    trained = find_weights(name, weights, others) if weights not in (None, "imagenet") else None
    new_head = num_classes is not None
    if num_classes is None:
        num_classes = len(trained.classes) if trained else 174
    if weights == "imagenet" and not entry.pretrained:
        raise ValueError(f"there are no ImageNet weights for {name}: leave out weights, or in a recipe set init=none")
    start = {"weights": weights} if weights == "imagenet" else {}
    model = entry.build(num_classes=num_classes, num_frames=num_frames, dropout=dropout, **start, **options)
    model.config = {"name": name, "num_classes": num_classes, "num_frames": num_frames, "dropout": dropout} | options
    if trained:
        tensors, fits = trained.tensors, len(trained.classes) == num_classes
        if not fits:
            tensors |= {f"head.{key}": value for key, value in model.head.state_dict().items()}
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{trained.path} is of {name} with other options than these") from error
        model.classes = trained.classes if fits else None
        (r, g, b), (dr, dg, db) = trained.normalisation["mean"], trained.normalisation["std"]
        model.input_mean, model.input_std = (r, g, b), (dr, dg, db)
    if checkpoint is not None:
        load_official_checkpoint(model, checkpoint, new_head)
    return model

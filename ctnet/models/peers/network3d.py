"""What the 3D CNNs have in common: stages, one average over time and space, a linear head."""

import importlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from types import ModuleType

from torch import Tensor, nn

from ctnet.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from ctnet.models.tsn import VideoModel

RGB = tuple[float, float, float]
KINETICS_MEAN: RGB = (0.45, 0.45, 0.45)
KINETICS_STD: RGB = (0.225, 0.225, 0.225)
"""The normalisation that SlowFast, X3D and CSN are trained with in pytorchvideo."""


class Network3D(VideoModel):
    """A 3D CNN: the stages of a backbone, then scores from the average of its activations.

    T is read from the input.

    Args:
        backbone: stages, from clips (N, 3, T, H, W) to activations (N, C, T', h, w).
        head: the linear layer that gives the scores.
        num_frames: T of the clips this network is meant for.
        dropout: probability, before the head.
        neck: layers between the average (N, C, 1, 1, 1) and the head, if there are any.
        input_mean, input_std: of the RGB values in [0, 1].
    """

    def __init__(
        self,
        backbone: nn.Sequential,
        head: nn.Linear,
        num_frames: int,
        dropout: float,
        *,
        neck: nn.Module | None = None,
        input_mean: RGB = IMAGENET_MEAN,
        input_std: RGB = IMAGENET_STD,
    ) -> None:
        super().__init__(num_frames, input_mean, input_std)
        self.backbone = backbone
        self.neck = neck or nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = head

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T', h, w)."""
        return self.backbone(x)

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations (N, C, T', h, w) -> scores (N, num_classes)."""
        pooled = self.neck(nn.functional.adaptive_avg_pool3d(features, 1)).flatten(1)  # (N, C)
        return self.head(self.dropout(pooled))


def residual_stages(modules: Iterable[nn.Module]) -> OrderedDict[str, nn.Module]:
    """The stem and four stages of a residual network, by the names that papers give them."""
    return OrderedDict(zip(("stem", "res2", "res3", "res4", "res5"), modules, strict=True))


def pytorchvideo(module: str) -> ModuleType:
    """`pytorchvideo.models.<module>`, imported when a network of it is built and not before.

    Raises:
        RuntimeError: when pytorchvideo is not installed.
    """
    try:
        with warnings.catch_warnings():  # on import, fvcore calls a function that torch has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            return importlib.import_module(f"pytorchvideo.models.{module}")
    except ImportError as error:
        raise RuntimeError(f"this network needs pytorchvideo ({error}): pip install 'ctnet[peers]'") from error

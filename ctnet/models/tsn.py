"""The Temporal Segment Network around every backbone: frames through a 2D CNN, frame scores averaged over the clip."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.models.tensor_conv import OnClips, as_clips, as_frames

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VideoModel(nn.Module):
    """What all classifiers of clips here have in common: (N, 3, T, H, W) -> scores (N, num_classes).

    A subclass sets `head` and defines `forward_features` and `forward_head`.

    Args:
        num_frames: T of the clips this network is meant for, the default of `ctnet.count_cost` and of samplers.
        input_mean, input_std: of the RGB values in [0, 1], the normalisation that the input must have had.

    Attributes:
        head: the linear layer that gives the scores.
        config: the arguments of `ctnet.create_model` that build this network again; None if it was built otherwise.
        classes: names of the classes, in the order of the scores, once they are known.
    """

    head: nn.Linear

    def __init__(
        self,
        num_frames: int = 8,
        input_mean: tuple[float, float, float] = IMAGENET_MEAN,
        input_std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.num_frames, self.input_mean, self.input_std = num_frames, input_mean, input_std
        self.config: dict[str, Any] | None = None
        self.classes: list[str] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> scores (N, num_classes).

        Raises:
            ValueError: when the input has another shape.
        """
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T', h, w)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations of the last stage (N, C, T', h, w) -> scores (N, num_classes)."""
        raise NotImplementedError


class TSN(VideoModel):
    """Temporal Segment Network (Wang et al., 2016): a classifier of clips from a CNN for pictures.

    T is read from the input. Modules in the backbone that mix frames are wrapped in `OnClips`; without any, this is
    the TSN baseline.

    Args:
        cnn: a classifier of pictures whose children run one after the other up to a pooling layer named `avgpool`
            (torchvision's ResNets and InceptionV3), or that has `features` (torchvision's VGG and others).
        num_classes: of the new head.
        num_frames: T of the clips this network is meant for, the default of `ctnet.count_cost` and of samplers.
        dropout: probability, before the head.
    """

    def __init__(self, cnn: nn.Module, num_classes: int, num_frames: int = 8, dropout: float = 0.5) -> None:
        super().__init__(num_frames)
        self.backbone = _trunk(cnn)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(_num_features(self.backbone), num_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T, h, w)."""
        if x.dim() != 5 or x.shape[1] != 3:
            raise ValueError(f"expected clips of shape (N, 3, T, H, W), got {tuple(x.shape)}")
        num_frames = int(x.shape[2])
        for module in self.modules():
            if isinstance(module, OnClips):
                module.num_frames = num_frames
        frames = as_frames(x).contiguous(memory_format=torch.channels_last)
        return as_clips(self.backbone(frames), num_frames)

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations (N, C, T, h, w) -> scores (N, num_classes): pooled, scored for each frame, averaged over T."""
        pooled = nn.functional.adaptive_avg_pool2d(as_frames(features), 1).flatten(1)  # (N*T, C)
        scores = self.head(self.dropout(pooled))  # (N*T, num_classes)
        return scores.unflatten(0, (-1, features.shape[2])).mean(1)


def _trunk(cnn: nn.Module) -> nn.Sequential:
    """The stages of a CNN up to its last feature map, under their own names."""
    if isinstance(getattr(cnn, "features", None), nn.Sequential):
        return cnn.features  # type: ignore[return-value]
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in cnn.named_children():
        if name == "avgpool":
            return nn.Sequential(stages)
        if not name.lower().startswith("aux"):
            stages[name] = child
    raise ValueError(
        f"cannot find where the features of {type(cnn).__name__} end: "
        "expected children up to one named 'avgpool', or a sequential child named 'features'"
    )


@torch.no_grad()
def _num_features(trunk: nn.Sequential) -> int:
    """Channels of the trunk's feature map, from one pass over an empty picture."""
    training = trunk.training
    channels = int(trunk.eval()(torch.zeros(1, 3, 96, 96)).shape[1])
    trunk.train(training)
    return channels

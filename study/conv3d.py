"""CT-Net as one would write it down: Conv3d between frames and clips, contiguous memory, attentions as in Eq. 6-8.

It computes what `ctnet.models` computes, with the same weights. What that saves is measured against it. As ctnet_r50 it
has as many convolutions of each shape as the authors' network, whose checkpoints tell them.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.models import TSN, CTModule, TensorSeparableConv, VideoModel
from ctnet.models.excitation import TensorExcitation, temporal_pool
from ctnet.models.tensor_conv import OnClips, as_clips, as_frames


def transpose_channels(x: Tensor, size: int) -> Tensor:
    """Bring the next sub-dimension innermost, in contiguous memory."""
    return x.unflatten(1, (-1, size)).transpose(1, 2).flatten(1, 2)


class PlainExcitation(nn.Module):
    """x * sigmoid(...), Eq. 6-8, as one would write it down."""

    def __init__(self, excitation: TensorExcitation) -> None:
        super().__init__()
        self.reduce, self.expand = excitation.reduce, excitation.expand
        self.pooled = (2,) if excitation.pool is temporal_pool else (3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, T, H, W), each times its attention."""
        return x * self.expand(self.reduce(x.mean(self.pooled, keepdim=True))).sigmoid()


class PlainModule(nn.Module):
    """A CT-Module (K = 2, PWConv, parallel) in Conv3d, between frames; channels come out in their natural order."""

    def __init__(self, module: CTModule) -> None:
        super().__init__()
        self.sizes = module.sizes
        module = copy.deepcopy(module)
        natural = transpose_channels(torch.arange(module.channels)[None], self.sizes[0])[0].argsort()
        for parameter in (*module.pointwise.parameters(), *module.pointwise.buffers()):
            if parameter.dim():  # the PWConv writes the order of the second sub-operation: undo that
                parameter.data = parameter.data[natural]
        for name, part in list(module.named_modules()):
            parent, _, child = name.rpartition(".")
            if isinstance(part, TensorSeparableConv):
                setattr(module.get_submodule(parent), child, conv3d(part))
            elif isinstance(part, TensorExcitation):
                setattr(module.get_submodule(parent), child, PlainExcitation(part))
        self.first, self.second = module.sub_operations
        (self.pointwise,) = module.pointwise

    def forward(self, frames: Tensor, num_frames: int) -> Tensor:
        """Features (N * T, C, H, W) of frames, through clips (N, C, T, H, W) and back."""
        x = frames.unflatten(0, (-1, num_frames)).permute(0, 2, 1, 3, 4).contiguous()
        x = transpose_channels(self.pointwise(self.first(x)), self.sizes[0])
        x = transpose_channels(self.second(x), self.sizes[1])
        return x.permute(0, 2, 1, 3, 4).flatten(0, 1)


def conv3d(conv: TensorSeparableConv) -> nn.Conv3d:
    """The same convolution as a Conv3d over the whole clip."""
    weight = conv.conv.weight.detach().reshape(*conv.conv.weight.shape[:2], *conv.kernel)
    t, h, w = (extent // 2 for extent in conv.kernel)
    groups = conv.conv.groups
    full = nn.Conv3d(
        weight.shape[1] * groups, weight.shape[0], conv.kernel, padding=(t, h, w), groups=groups, bias=False
    )
    full.weight = nn.Parameter(weight.contiguous())
    return full


class InConv3d(VideoModel):
    """A CT-Net in Conv3d and contiguous memory throughout, with the weights of another; same scores.

    Args:
        model: a CT-Net of K = 2 sub-operations with PWConv, such as ctnet_r50; it stays as it is.

    Raises:
        ValueError: for any other network.
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__(model.num_frames, model.input_mean, model.input_std)
        modules = [part.module for part in model.modules() if isinstance(part, OnClips)]
        if not isinstance(model, TSN) or not modules or not all(map(_is_the_papers, modules)):
            raise ValueError("only a CT-Net with K = 2 and PWConv is written down in Conv3d, such as ctnet_r50")
        self.model = copy.deepcopy(model)
        self.head = self.model.head
        for name, part in list(self.model.named_modules()):
            if isinstance(part, OnClips):
                parent, _, child = name.rpartition(".")
                block: Any = self.model.get_submodule(parent)
                module: Any = part.module
                setattr(block, child, PlainModule(module))
                columns = block.conv3.weight.data
                block.conv3.weight.data = columns[:, module.output_order.argsort()].contiguous()

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) -> activations of the last stage (N, C, T, h, w)."""
        return as_clips(self.model.backbone(as_frames(x).contiguous(), x.shape[2]), x.shape[2])

    def forward_head(self, features: Tensor) -> Tensor:
        """Activations of the last stage (N, C, T, h, w) -> scores (N, num_classes)."""
        return self.model.forward_head(features)


def _is_the_papers(module: nn.Module) -> bool:
    """Whether it is a CT-Module as the paper ends up with."""
    return isinstance(module, CTModule) and len(module.sub_operations) == 2 and len(module.pointwise) == 1

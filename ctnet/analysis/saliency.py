"""Where a network sees a class (4.3): Saliency Tubes (Stergiou et al., 2019) and Grad-CAM (Selvaraju et al., 2017).

The measures compare such maps, not negative, with masks of the objects that act. A map without any saliency counts as
uniform.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctnet.models import VideoModel
from ctnet.models.modes import evaluating
from ctnet.models.tsn import check_clips

VERSION = 1
"""Of maps and measures: to be raised whenever the same features give other ones."""

FLAT = 1e-5  # a map that varies by less, as a part of its largest evidence, varies by rounding only


def saliency_tubes(model: VideoModel, clips: Tensor, labels: Tensor, relu: bool = False) -> Tensor:
    """Saliency Tubes: a class's evidence, upsampled (trilinear) in space and time and brought to 0 to 1 in each clip.

    Evidence against the class is negative. As in Stergiou et al.'s PyTorch code, a clip's lowest evidence becomes 0 and
    its highest 1, so that 0 does not mean "no evidence" and two networks' values do not compare. With `relu`, evidence
    against the class becomes 0 and the highest 1; for these networks that is Grad-CAM. A flat map, which points
    nowhere, becomes 0 throughout (with `relu` and evidence for the class, 1).

    Args:
        model: whose head reads the average of its features linearly. Its mode is left as it is.
        clips: (N, 3, T, H, W), normalised; T' and the size of the features may be smaller by any factor.
        labels: int64 (N,), the class to look for in each clip.
        relu: whether evidence against the class counts as none.

    Returns:
        Float, of shape (N, T, H, W).

    Raises:
        ValueError: for labels of another shape or beyond the classes, or a head that does not read the features.
    """
    return upsample_evidence(class_evidence(model, clips, labels), clips.shape[2:], relu)


def grad_cam(model: VideoModel, clips: Tensor, labels: Tensor, relu: bool = True) -> Tensor:
    """Grad-CAM: as `saliency_tubes`, each channel weighted by its average gradient, so that any head will do.

    A head that is linear after average pooling has the same gradient everywhere: its weights, up to scale. There both
    maps agree. By default only evidence for the class counts, as in Selvaraju et al.
    """
    _check(model, clips, labels)
    with torch.inference_mode(False), evaluating(model):
        with torch.no_grad():
            features = model.forward_features(clips).detach()
        with torch.enable_grad():
            scores = model.forward_head(features.requires_grad_().clone())  # a head may write over its input
            wanted = labels.to(scores.device)[:, None]
            (gradient,) = torch.autograd.grad(scores.gather(1, wanted).sum(), features)
    weights = gradient.mean((2, 3, 4))  # (N, C)
    return upsample_evidence(torch.einsum("nc,ncthw->nthw", weights, features.detach()), clips.shape[2:], relu)


@torch.no_grad()
def class_evidence(model: VideoModel, clips: Tensor, labels: Tensor) -> Tensor:
    """Activations of the last stage, weighted by the head's weights of a class and summed over channels.

    Under average pooling, the mean over all positions plus the head's bias is the class's score. Arguments and errors
    as for `saliency_tubes`.

    Returns:
        Of the features' size, (N, T', h, w), with either sign.
    """
    _check(model, clips, labels)
    with evaluating(model):
        features = model.forward_features(clips)
    weights = model.head.weight[labels]  # (N, C)
    if weights.shape[1] != features.shape[1]:
        raise ValueError(
            f"the head of {type(model).__name__} reads {weights.shape[1]} numbers, "
            f"not the {features.shape[1]} channels of its features: use grad_cam"
        )
    return torch.einsum("nc,ncthw->nthw", weights, features)


def energy_share(tubes: Tensor, masks: Tensor) -> Tensor:
    """Share (N,) of a clip's saliency that lies on the masks; for a uniform map, the area that they cover.

    Args:
        tubes: (N, T, H, W), not negative.
        masks: bool, likewise: where an acting object is seen.

    Raises:
        ValueError: when the shapes differ.
    """
    _check_masks(tubes, masks)
    return (_distribution(tubes) * masks).sum((1, 2, 3))


def pointing_game(tubes: Tensor, masks: Tensor) -> Tensor:
    """Whether the maximum of a clip's map lies on the masks (N,), 1 or 0; of several maxima, the share that does.

    Arguments and errors as for `energy_share`. For a uniform map it is the area that the masks cover.
    """
    _check_masks(tubes, masks)
    maxima = tubes == tubes.amax((1, 2, 3), keepdim=True)
    return (maxima & masks).sum((1, 2, 3)) / maxima.sum((1, 2, 3))


def temporal_concentration(tubes: Tensor) -> Tensor:
    """How much the saliency (N, T, H, W) is concentrated on few frames (N,): 0 if alike on all, 1 if on a single one.

    It is one minus the entropy of the frames' shares in the saliency, divided by log T; where within a frame saliency
    lies does not matter. Saliency on m of T frames alike gives 1 - log m / log T, and maps upsampled from T' < T frames
    stay below 1. Clips of one frame give 1.
    """
    frames = _distribution(tubes).sum((2, 3))  # (N, T), each row summing to 1
    return 1 - torch.special.entr(frames).sum(1).clamp(min=0) / math.log(max(tubes.shape[1], 2))


def scatter(tubes: Tensor) -> Tensor:
    """How far apart the saliency (N, T, H, W) of a frame lies (N,): its root-mean-square distance from its centre.

    It is relative to that of a uniform map, which gives 1: a single position gives 0, opposite edges more than 1.
    Frames count by their shares in the saliency, and squares are averaged over them. Maps of 1 x 1 are uniform.
    """
    density = _distribution(tubes)
    share = density.sum((2, 3)).clamp(min=torch.finfo(density.dtype).tiny)  # (N, T)
    squares, uniform = density.new_zeros(len(tubes)), 0.0
    for axis in (2, 3):
        length = tubes.shape[axis]
        places = (torch.arange(length, device=tubes.device) + 0.5) / length - 0.5
        line = density.sum(5 - axis)  # (N, T, length)
        squares = squares + (line * places**2).sum((1, 2)) - ((line * places).sum(2) ** 2 / share).sum(1)
        uniform += (1 - length**-2) / 12
    return (squares.clamp(min=0) / uniform).sqrt() if uniform else torch.ones_like(squares)


def upsample_evidence(evidence: Tensor, size: Sequence[int], relu: bool = False) -> Tensor:
    """The map of `saliency_tubes` from the evidence of `class_evidence`.

    Args:
        evidence: (N, T', h, w).
        size: T, H and W of the clips.
        relu: whether evidence against the class counts as none.

    Returns:
        Float, of shape (N, T, H, W).
    """
    evidence = evidence.float()
    tubes = nn.functional.interpolate(evidence[:, None], tuple(size), mode="trilinear", align_corners=False)[:, 0]
    tubes = tubes.clamp(min=0) if relu else tubes - tubes.amin((1, 2, 3), keepdim=True)
    peak = tubes.amax((1, 2, 3), keepdim=True)
    flat = peak <= FLAT * evidence.abs().amax((1, 2, 3), keepdim=True)
    return (tubes / peak).masked_fill(flat, 0)


def _distribution(tubes: Tensor) -> Tensor:
    """Maps (N, T, H, W) that sum to 1 over each clip."""
    total = tubes.sum((1, 2, 3), keepdim=True)
    return torch.where(total > 0, tubes / total, 1 / tubes[0].numel())


def _check(model: VideoModel, clips: Tensor, labels: Tensor) -> None:
    check_clips(clips)
    if not hasattr(model, "head"):
        raise ValueError(f"saliency needs the network and its head, which {type(model).__name__} has not")
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        raise ValueError(f"expected labels as an int64 tensor of shape (N,), got {labels!r}")
    classes = model.head.out_features
    if labels.shape != clips.shape[:1] or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"expected a label from 0 to {classes - 1} for each of {len(clips)} clips, got {labels}")


def _check_masks(tubes: Tensor, masks: Tensor) -> None:
    if tubes.shape != masks.shape:
        raise ValueError(f"maps {tuple(tubes.shape)} and masks {tuple(masks.shape)} differ in shape")

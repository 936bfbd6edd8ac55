"""Augmentation and normalisation of whole clips, on torchvision.transforms.v2 (Section 4, Appendix A.1).

A transform takes `(clip, label)`, the clip uint8 of shape (..., T, 3, H, W), and returns such a pair with a float clip.
All frames of a clip are treated alike. Randomness comes from torch's generator.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class MultiScaleCrop(v2.Transform):
    """TSN's scale jittering: crop at one of several sizes and places, then resize to `size` x `size`.

    Height and width of the crop are the shorter side times two scales at most one step apart in `scales`. Its place is
    one of 13: those of a 5 x 5 grid whose coordinates are both even or both odd.
    """

    def __init__(self, size: int, scales: Sequence[float] = (1, 0.875, 0.75, 0.66)) -> None:
        super().__init__()
        self.size = size
        steps = range(len(scales))
        self.shapes = [(scales[i], scales[j]) for i in steps for j in steps if abs(i - j) <= 1]
        self.places = [(i, j) for i in range(5) for j in range(5) if (i + j) % 2 == 0]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        """Draw a crop."""
        height, width = F.get_size(next(x for x in flat_inputs if isinstance(x, Tensor)))
        scale_h, scale_w = self.shapes[int(torch.randint(len(self.shapes), ()))]
        place_h, place_w = self.places[int(torch.randint(len(self.places), ()))]
        h, w = int(min(height, width) * scale_h), int(min(height, width) * scale_w)
        return {"top": (height - h) * place_h // 4, "left": (width - w) * place_w // 4, "height": h, "width": w}

    def transform(self, inpt: Any, params: dict[str, int]) -> Tensor:
        """Crop and resize."""
        return F.resized_crop(inpt, **params, size=[self.size, self.size])


class ThreeCrop(v2.Transform):
    """Three squares along the longer side, at its beginning, middle and end: (..., H, W) -> (3, ..., size, size)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Tensor:
        """Crop."""
        height, width = F.get_size(inpt)
        spare_h, spare_w = height - self.size, width - self.size
        crops = []
        for place in (0, 1, 2):  # halves of the spare length
            top, left = (
                (spare_h // 2, spare_w * place // 2) if width >= height else (spare_h * place // 2, spare_w // 2)
            )
            crops.append(F.crop(inpt, top, left, self.size, self.size))
        return torch.stack(crops)


class RandomFlip(nn.Module):
    """Flip a clip left to right with probability one half; classes that tell left from right change their label."""

    def __init__(self, swap: Mapping[int, int]) -> None:
        super().__init__()
        self.swap = dict(swap)

    def forward(self, clip: Tensor, label: int) -> tuple[Tensor, int]:
        """Flip or not."""
        return (F.horizontal_flip(clip), self.swap.get(label, label)) if torch.rand(()) < 0.5 else (clip, label)


def left_right_swap(classes: Sequence[str]) -> dict[int, int]:
    """Map each class to the one that its mirror image shows (six of Something-Something's 174).

    That is the class whose name has left and right, or clockwise and counter-clockwise, exchanged. Case does not count,
    and a word ends at a space, `_`, `-` or any other sign, and where camel case begins another one: "turn_left" and
    "TurnRight" are a pair. So are "swipeleft" and "swiperight", as both are there; arrows, cw and ccw are such words.
    """
    names = [_plain(name) for name in classes]
    swap = {}
    for i, name in enumerate(names):
        for mirror in (_mirrored(name), _mirrored(name, within_words=True)):
            if mirror != name and names.count(name) == names.count(mirror) == 1:
                swap[i] = names.index(mirror)
                break
    return swap


def unmatched_left_right(classes: Sequence[str]) -> list[str]:
    """Names that tell left from right but have no partner in `left_right_swap`: a flip would make their label wrong."""
    swap = left_right_swap(classes)
    return [name for i, name in enumerate(classes) if i not in swap and _mirrored(_plain(name)) != _plain(name)]


def _plain(name: str) -> str:
    """A name's words in lower case, with a space between two of them."""
    name = unicodedata.normalize("NFKC", name).replace("←", " left ").replace("→", " right ")
    text = re.sub(r"[\W_]+", " ", name).strip()
    borders = [
        (a.islower() and b.isupper()) or ((a + b).isupper() and c.islower()) or a.isdigit() != b.isdigit()
        for a, b, c in zip(text, text[1:], text[2:] + " ", strict=False)
    ]
    words = text[:1] + "".join(" " * border + letter for border, letter in zip(borders, text[1:], strict=True))
    words = re.sub(r"\b(cw|clock wise)\b", "clockwise", " ".join(words.lower().split()))
    return re.sub(r"\b((counter|contra|anti) ?clockwise|ccw)\b", "counterclockwise", words)


def _mirrored(name: str, within_words: bool = False) -> str:
    """The words of a mirror image; such as leftwards and right-handed are exchanged too, or left within any word."""
    other = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
    pattern = r"\b(?:(?:left|right)(?=(?:s|wards?|most|hand(?:ed)?|sided?)?\b)|(?:counter)?clockwise\b)"
    if within_words:
        pattern = "left|right"
    return re.sub(pattern, lambda match: other[match[0]], name)


def split_normalisation(transform: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[[Tensor], Tensor]]:
    """Part a transform into what makes a clip, and the normalisation at its end, which a whole batch can get at once.

    Between the two a clip is still uint8, a quarter as large. A transform without such an end gives finished clips.
    """
    steps = list(transform.transforms) if isinstance(transform, v2.Compose) else []
    if len(steps) > 2 and isinstance(steps[-2], v2.ToDtype) and isinstance(steps[-1], v2.Normalize):
        return v2.Compose(steps[:-2]), _Normalisation(steps[-2], steps[-1])
    return transform, nn.Identity()


class _Normalisation:
    """The end of a transform, which keeps its numbers on the device: torchvision's waits for a GPU to copy them."""

    def __init__(self, convert: v2.ToDtype, normalise: v2.Normalize) -> None:
        self.convert = convert
        self.mean, self.std = (torch.tensor(each).view(-1, 1, 1) for each in (normalise.mean, normalise.std))

    def __call__(self, clips: Tensor) -> Tensor:
        """(..., 3, H, W), uint8 or float."""
        clips = self.convert(clips)
        self.mean, self.std = self.mean.to(clips), self.std.to(clips)  # themselves, but for the first time
        return clips.sub(self.mean).div_(self.std)


def train_transform(
    size: int = 256,
    short_side: int | Sequence[int] = 256,
    scales: Sequence[float] | None = (1, 0.875, 0.75, 0.66),
    flip: bool = False,
    swap: Mapping[int, int] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> v2.Compose:
    """Random scale and crop, flip and normalisation for training.

    Args:
        size: side of the square that comes out, in pixels; 256 in the paper, 224 in one of its ablations (Table 2h).
        short_side: length of the shorter side before the crop; one of them at random if several, as in Non-local
            (`range(256, 321)`).
        scales: crop sizes of `MultiScaleCrop`; None crops `size` pixels at random, which goes with a random short side.
        flip: flip half of the clips; off by default, since Something-Something tells left from right.
        swap: labels that a flip exchanges, from `left_right_swap`.
        mean: mean of each channel, for values from 0 to 1.
        std: standard deviation of each channel.
    """
    lengths = [short_side] if isinstance(short_side, int) else list(short_side)
    return v2.Compose(
        [
            v2.RandomShortestSize(lengths),
            v2.RandomCrop(size) if scales is None else MultiScaleCrop(size, scales),
            *([RandomFlip(swap or {})] if flip else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )


def eval_transform(
    size: int = 256,
    short_side: int | None = None,
    crops: int = 1,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> v2.Compose:
    """Resize, crop and normalisation for testing.

    Args:
        size: side of the square that comes out, in pixels.
        short_side: length of the shorter side before the crop; equal to `size` ("full resolution") if not given.
        crops: 1 takes the centre; 3 takes `ThreeCrop`, which puts a dimension of 3 views in front of the clip.
        mean: mean of each channel, for values from 0 to 1.
        std: standard deviation of each channel.

    Raises:
        ValueError: another number of crops.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    return v2.Compose(
        [
            v2.Resize([short_side or size]),
            v2.CenterCrop(size) if crops == 1 else ThreeCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )

"""Pictures of where networks see a class in a video (Figure 3): strips of frames (PNG) and animations (GIF, MP4)."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ctnet.analysis.saliency import grad_cam, saliency_tubes
from ctnet.data import eval_transform, read_frames, sample_sparse
from ctnet.errors import did_you_mean
from ctnet.files import PathLike, check_file, replacing
from ctnet.micro import write_video
from ctnet.models import VideoModel
from ctnet.models.modes import evaluating

SUFFIXES = (".png", ".gif", ".mp4")
COLUMNS, RATE = 8, 4  # frames in a strip; frames per second of an animation
GAP, MARGIN, LINE = 3, 12, 20  # pixels: between frames, around panels, from a line of text to the next

SCALE = "Saliency, in each network's own range"
INFERNO = (
    "000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4"
)
"""Evenly spaced colours of the map of that name: its lightness grows evenly, for colour-blind readers too."""


class Explanation(NamedTuple):
    """Where one network sees a class in a video."""

    name: str
    """Of the network."""
    label: str
    """The class."""
    score: float
    """Its probability (softmax)."""
    frames: Tensor
    """The video's full frames that the network was given, uint8 (T, 3, H, W)."""
    tubes: Tensor
    """Saliency from 0 to 1, (T, S, S), on the central square of the frames."""

    @property
    def caption(self) -> str:
        """Network, class and score in words."""
        return f"{self.name}: {self.label}, {100 * self.score:.0f} %"


METHODS: dict[str, Callable[[VideoModel, Tensor, Tensor], Tensor]] = {"tubes": saliency_tubes, "grad_cam": grad_cam}
"""Name -> map of saliency from a model, clips and labels."""


def explain(
    name: str,
    model: VideoModel,
    frames: Tensor,
    label: str | int | None = None,
    size: int = 256,
    method: str = "tubes",
) -> Explanation:
    """Show a network the central square of a video's frames, and find where it sees a class.

    Args:
        name: of the network, for the caption.
        model: put into evaluation mode meanwhile.
        frames: uint8 (T, 3, H, W), such as `sampled_frames`.
        label: the class, one of the model's `classes`, or its number if it has none; the predicted one unless given.
        size: side of the square that the network is given, in pixels.
        method: "tubes" for Saliency Tubes, or "grad_cam", which any head will do for.

    Raises:
        ValueError: for an unknown class or method, or a head that Saliency Tubes do not know.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r} to find saliency; {did_you_mean(method, METHODS)}")
    classes = model.classes or [str(number) for number in range(model.head.out_features)]
    label = label if label is None else str(label)
    if label is not None and label not in classes:
        raise ValueError(f"{name} knows no class {label!r}; {did_you_mean(label, classes)}")
    clip, _ = eval_transform(size, mean=model.input_mean, std=model.input_std)(frames, 0)
    clip = clip.transpose(0, 1)[None].to(next(model.parameters(), frames).device)  # (T, 3, S, S) -> (1, 3, T, S, S)
    with evaluating(model), torch.no_grad():
        scores = model(clip).softmax(1)[0]
    number = int(scores.argmax()) if label is None else classes.index(label)
    tubes = METHODS[method](model, clip, torch.tensor([number], device=clip.device))[0].cpu()
    return Explanation(name, classes[number], float(scores[number]), frames, tubes)


def sampled_frames(video: PathLike, sampler: Callable[[int], NDArray[np.int64]]) -> Tensor:
    """Full frames of a video, uint8 (T, 3, H, W).

    Args:
        video: a file or a folder of pictures; errors are those of `read_frames`.
        sampler: from the number of frames to indices (clips, T), of which the first clip is taken.
    """
    return read_frames(video, lambda count: sampler(count)[0].tolist())


def overlay(frames: Tensor, tubes: Tensor | None, side: int) -> Tensor:
    """Lay saliency over frames that turn grey; what lies outside the central square, unseen by the network, darkens.

    Args:
        frames: uint8 (T, 3, H, W).
        tubes: from 0 to 1, (T, h, w), of the central square; None leaves the square as it is.
        side: of a square as large as the result, in pixels. Larger frames are shrunk to that area; smaller ones are
            enlarged by a whole factor, so that their pixels stay what they are.

    Returns:
        uint8 (T, 3, H', W').
    """
    scale = side / math.sqrt(math.prod(frames.shape[2:]))
    if scale < 1:
        shape = [max(1, round(scale * length)) for length in frames.shape[2:]]
        pictures = interpolate(frames.float(), shape, mode="bilinear", antialias=True)
    else:
        pictures = frames.repeat_interleave(int(scale), 2).repeat_interleave(int(scale), 3).float()
    square = min(pictures.shape[2:])
    top, left = ((length - square) // 2 for length in pictures.shape[2:])
    seen = (..., slice(top, top + square), slice(left, left + square))
    result = 0.35 * pictures
    result[seen] = pictures[seen]
    if tubes is not None:
        result[seen] = _blend(pictures[seen], interpolate(tubes[:, None], (square, square), mode="bilinear"))
    return result.round().clamp(0, 255).byte()


def overlays(explanations: Sequence[Explanation], columns: int, side: int) -> list[tuple[str, Tensor]]:
    """Captions and frames (columns, 3, H', W'): of the video itself, then of each network, at like moments."""
    height, width = explanations[0].frames.shape[2:]
    video = "Video" if height == width else "Video; networks see the bright square"
    shown = [sample_sparse(len(one.frames), columns)[0] for one in explanations]
    panels = [(video, overlay(explanations[0].frames[shown[0]], None, side))]
    for one, moments in zip(explanations, shown, strict=True):
        panels.append((one.caption, overlay(one.frames[moments], one.tubes[moments], side)))
    return panels


def color_bar(height: int, width: int) -> Tensor:
    """The colours from 0 to 1 as they look over a mid-grey frame, uint8 (H, W, 3)."""
    ramp = _blend(torch.full((1, 3, height, width), 127.0), torch.linspace(0, 1, width).expand(1, 1, height, width))
    return ramp[0].round().byte().permute(1, 2, 0)


def checked_path(path: PathLike) -> Path:
    """The path of a picture to write; missing folders above are made.

    Raises:
        ValueError: for a suffix other than .png, .gif and .mp4.
        OSError: when it cannot be written there.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
    check_file(path)
    return path


def save_explanations(path: PathLike, explanations: Sequence[Explanation]) -> None:
    """Draw explanations of one video: .png gives eight frames in a row, .gif and .mp4 move.

    Raises:
        ValueError, OSError: as `checked_path` does.
    """
    with replacing(checked_path(path)) as scratch:
        _save(scratch, explanations)


def _save(path: Path, explanations: Sequence[Explanation]) -> None:
    if path.suffix == ".png":
        _page(overlays(explanations, COLUMNS, side=160), down=True).save(path)
        return
    columns = max(len(explanation.frames) for explanation in explanations)
    panels = overlays(explanations, columns, side=320)
    pages = [_page([(caption, pictures[[t]]) for caption, pictures in panels]) for t in range(columns)]
    film = np.stack([np.asarray(page) for page in pages])
    if path.suffix == ".mp4":
        write_video(path, film, RATE)
        return
    palette = Image.fromarray(np.concatenate(film)).quantize(method=Image.Quantize.FASTOCTREE)
    pages = [page.quantize(palette=palette) for page in pages]  # dithered: gradients would fall into steps
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=1000 // RATE, loop=0)


def _blend(pictures: Tensor, heat: Tensor) -> Tensor:
    """Colours over grey, the denser the higher: RGB (T, 3, H, W) from 0 to 255, and heat (T, 1, H, W) from 0 to 1."""
    anchors = torch.tensor([list(bytes.fromhex(color)) for color in INFERNO.split()]).float()
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    place = heat[:, 0] * (len(anchors) - 1)
    below = place.long().clamp(0, len(anchors) - 2)
    colors = torch.lerp(anchors[below], anchors[below + 1], (place - below)[..., None])  # (T, H, W, 3)
    return torch.lerp(grey, colors.movedim(-1, 1), 0.1 + 0.75 * heat)


def _page(panels: Sequence[tuple[str, Tensor]], down: bool = False) -> Image.Image:
    """Captions and frames (k, 3, H, W), all of one size, below or beside one another; even in height and width."""
    font = ImageFont.load_default(14)
    rows = [torch.cat([*pad(pictures, (0, GAP), value=255)], 2).permute(1, 2, 0).numpy() for _, pictures in panels]
    height, width = rows[0].shape[:2]
    captions = [textwrap.wrap(caption, int(width / font.getlength("n"))) for caption, _ in panels]
    head = LINE * max(len(lines) for lines in captions)
    right, below = (0, head + height + MARGIN) if down else (width + MARGIN, 0)
    low, high = f"{SCALE}: lowest", "highest"
    bar = [int(font.getlength(low)) + 8, 160, 8 + int(font.getlength(high))]
    wide = max(width + right * (len(panels) - 1), sum(bar)) + 2 * MARGIN
    tall = head + height + below * (len(panels) - 1) + LINE + 3 * MARGIN
    page = Image.new("RGB", (wide + wide % 2, tall + tall % 2), "white")
    draw = ImageDraw.Draw(page)
    for number, (lines, row) in enumerate(zip(captions, rows, strict=True)):
        x, y = MARGIN + number * right, MARGIN + number * below + head
        draw.multiline_text((x, y - 2), "\n".join(lines), "black", font, anchor="ld")
        page.paste(Image.fromarray(row), (x, y))
    x, y = MARGIN + bar[0], page.height - MARGIN
    draw.text((MARGIN, y), low, "black", font, anchor="ld")
    page.paste(Image.fromarray(color_bar(12, bar[1]).numpy()), (x, y - 15))
    draw.text((x + bar[1] + 8, y), high, "black", font, anchor="ld")
    return page

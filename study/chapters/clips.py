"""Pictures of clips and of how frames are sampled from them."""

from collections.abc import Mapping
from html import escape

import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from study.chapters.explorers import explorer, webp
from study.chapters.style import COLORS, WIDTH, BookFigure

Frames = NDArray[np.uint8]


def strips(rows: Mapping[str, Frames], caption: str, alt: str) -> HTML:
    """Frames (T, H, W, RGB) side by side, a row for each label.

    Args:
        rows: label -> frames.
        caption: below them.
        alt: what is seen, in words.
    """
    return HTML(f'<figure class="strips">{_rows(rows, alt)}<figcaption>{escape(caption)}</figcaption></figure>')


def _rows(rows: Mapping[str, Frames], alt: str) -> str:
    shown = []
    for label, frames in rows.items():
        seen = escape(f"{alt}: {label}")
        image = f'<img src="{strip(frames)}" alt="{seen}" style="--frames:{len(frames)}">'
        shown.append(f'<div class="strip"><span>{escape(label)}</span>{image}</div>')
    return "".join(shown)


def strip(frames: Frames, quality: int = 82) -> str:
    """The address of a WebP picture of frames (T, H, W, RGB) or (T, H, W), one beside the other."""
    return webp(np.concatenate(frames, axis=1), quality)


def gallery(rows: Mapping[str, Frames], alt: str) -> HTML:
    """Clips (T, H, W, RGB) by their labels, which a script lets move together, forwards and backwards."""
    frames = next(iter(rows.values()))
    data = {"frames": len(frames), "size": frames.shape[1]}
    return explorer("gallery", alt, data, f'<div class="strips">{_rows(rows, alt)}</div>')


def plot_sampling(num_frames: int, samplings: Mapping[str, NDArray[np.int64]]) -> Figure:
    """Which frames of a video a sampler takes: a line for each clip, a dot for each frame.

    Args:
        num_frames: of the video.
        samplings: label -> frame indices (clips, T).
    """
    lines = [(label if clip == 0 else "", row) for label, clips in samplings.items() for clip, row in enumerate(clips)]
    figure = BookFigure(figsize=(WIDTH, 0.7 + 0.26 * len(lines)))
    axes = figure.subplots()
    for height, (_, indices) in enumerate(lines):
        axes.plot([0, num_frames - 1], [height, height], color="#DDDDDD", linewidth=1, zorder=1)
        axes.scatter(indices, [height] * len(indices), color=COLORS["temporal"], edgecolors="#7A5200", s=34, zorder=2)
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])
    axes.invert_yaxis()
    axes.set_xlabel("frame of the video")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    return figure

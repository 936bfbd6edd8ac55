"""Pictures of clips and of how frames are sampled from them."""

import base64
import io
from collections.abc import Mapping

import numpy as np
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from study.chapters.style import COLORS, WIDTH, BookFigure

Frames = NDArray[np.uint8]


def plot_frames(rows: Mapping[str, Frames]) -> Figure:
    """A contact sheet: frames (T, H, W, RGB) side by side, a row for each label.

    Args:
        rows: label -> frames; all rows have as many.
    """
    columns = max(len(frames) for frames in rows.values())
    label_width = 0.066 * max(len(label) for label in rows) + 0.1
    side = (WIDTH - label_width) / columns
    figure = BookFigure(figsize=(WIDTH, side * len(rows) + 0.02), layout="none")  # type: ignore[arg-type]
    grid = figure.subplots(len(rows), columns, squeeze=False)
    figure.subplots_adjust(left=label_width / WIDTH, right=1, bottom=0, top=1, wspace=0.04, hspace=0.04)
    for axes, (label, frames) in zip(grid, rows.items(), strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, frame in zip(axes, frames, strict=False):
            ax.imshow(frame)
        axes[0].text(-0.08, 0.5, label, transform=axes[0].transAxes, ha="right", va="center", fontsize=8.5)
    return figure


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


def animation(frames: Frames, description: str) -> HTML:
    """A clip (T, H, W, RGB) as an animated picture, 12 frames a second, with a description in words."""
    pictures = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=1000 // 12, loop=0)
    data = base64.b64encode(file.getvalue()).decode()
    return HTML(f'<img src="data:image/gif;base64,{data}" alt="{description}" width="256">')

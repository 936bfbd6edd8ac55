"""What the gates of Tensor Excitation let pass: of a clip, and of the same clip played backwards."""

from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ctnet.data import eval_transform
from ctnet.models import TensorExcitation, VideoModel, create_model
from ctnet.models.ct_module import SubOperation
from study.chapters.clips import Frames
from study.chapters.diagrams import ATTENTIONS
from study.chapters.style import WIDTH, BookFigure


@torch.no_grad()
def gates(model: VideoModel, frames: Frames) -> dict[str, Tensor]:
    """The gates of a network's first sub-operation, from 0 to 1, each without the dimensions that it averages away.

    Args:
        model: in evaluation mode, with Tensor Excitation.
        frames: uint8 (T, S, S, 3).

    Returns:
        spatial (C, H, W), temporal (C, T), channel (C, T).
    """
    operation = next(module for module in model.modules() if isinstance(module, SubOperation))
    found: dict[str, Tensor] = {}

    def keep(name: str, attention: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(attention, TensorExcitation)
        found[name] = attention.expand(attention.reduce(attention.pool(inputs[0]))).sigmoid()[0].squeeze()

    hooks = [getattr(operation, f"excite_{name}").register_forward_hook(partial(keep, name)) for name in ATTENTIONS]
    transform = eval_transform(frames.shape[1], mean=model.input_mean, std=model.input_std)
    clip, _ = transform(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2), 0)  # (T, 3, S, S)
    model(clip.transpose(0, 1)[None])
    for hook in hooks:
        hook.remove()
    return found


def plot_gates(model: VideoModel | None, frames: Frames) -> Figure:
    """A clip and its reversal, a row each, beside the gates that they open: the spatial one's mean over channels.

    Both rows have one scale for each gate, which its title tells.

    Args:
        model: as for `gates`; one with random weights, and marked so, unless given.
        frames: uint8 (T, S, S, 3).
    """
    weights = "trained" if model else "random weights"
    model = model or create_model("ctnet_r50_twin").eval()
    clips = {"forwards": frames, "backwards": frames[::-1]}
    found = {label: gates(model, clip) for label, clip in clips.items()}
    for each in found.values():
        each["spatial"] = each["spatial"].mean(0)
    figure = BookFigure(figsize=(WIDTH, 3.3))
    grid = figure.subplots(2, 4, width_ratios=[1.6, 1, 1, 1])
    for axes, (label, clip) in zip(grid, clips.items(), strict=True):
        half = len(clip) // 2
        axes[0].imshow(np.vstack([np.hstack(list(clip[:half])), np.hstack(list(clip[half : 2 * half]))]))
        axes[0].set_title(label)
        for ax, name in zip(axes[1:], ATTENTIONS, strict=True):
            both = torch.stack([each[name] for each in found.values()])
            low, high = float(both.min()), float(both.max())
            aspect = "equal" if name == "spatial" else "auto"
            ax.imshow(found[label][name].numpy(), cmap="viridis", aspect=aspect, vmin=low, vmax=high)
            ax.set_title(f"{name}\n{low:.2f} to {high:.2f}", fontsize=8)
            ax.set(xlabel="" if name == "spatial" else "frame", ylabel="" if name == "spatial" else "channel")
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
    figure.suptitle(f"Gates, {weights}", fontsize=9)
    return figure

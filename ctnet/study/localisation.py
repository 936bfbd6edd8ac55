"""Where networks look (section 4.3, Figure 3): saliency measured against the objects that act, and drawn."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ctnet.analysis import energy_share, pointing_game, saliency_tubes, temporal_concentration
from ctnet.analysis.overlay import SCALE, Explanation, color_bar, overlays
from ctnet.data import MicroDataset, eval_transform, sample_sparse
from ctnet.models import VideoModel
from ctnet.study.style import WIDTH, BookFigure


@torch.no_grad()
def measure_localisation(
    models: Mapping[str, VideoModel],
    dataset: MicroDataset,
    explain: Callable[[VideoModel, Tensor, Tensor], Tensor] = saliency_tubes,
    batch_size: int = 50,
) -> pd.DataFrame:
    """Measure where each network sees each clip's own class, against the masks of the acting objects.

    Networks get frames sampled as in testing, at the dataset's size.

    Args:
        models: name -> network, in evaluation mode, whose scores are in the order of the dataset's classes.
        dataset: with as many clips as are to be measured.
        explain: `saliency_tubes`, `grad_cam`, or another function of a model, clips and labels.
        batch_size: clips at a time.

    Returns:
        A row for each network and clip: network, clip (number), label and predicted (classes), the measures
        energy_share, pointing_game and temporal_concentration, and mask_area, the share of positions that the masks
        cover: what a uniform map has in the first two measures.

    Raises:
        ValueError: when a network has other classes than the dataset.
    """
    classes = dataset.class_names
    tables = []
    for name, model in models.items():
        if model.head.out_features != len(classes) or (model.classes is not None and model.classes != classes):
            raise ValueError(f"{name} was not trained on the classes of {dataset.config.name}, in their order")
        frames = sample_sparse(dataset.config.frames, model.num_frames)[0]
        transform = eval_transform(dataset.config.size, mean=model.input_mean, std=model.input_std)
        for start in range(0, len(dataset), batch_size):
            part = slice(start, start + batch_size)
            clips = torch.from_numpy(dataset.clips[part][:, frames]).movedim(-1, 2)  # (N, T, 3, H, W)
            clips = transform(clips, 0)[0].transpose(1, 2)  # (N, 3, T, H, W)
            masks, labels = (torch.from_numpy(array[part]) for array in (dataset.masks[:, frames], dataset.labels))
            tubes = explain(model, clips, labels)
            measures = {
                "energy_share": energy_share(tubes, masks),
                "pointing_game": pointing_game(tubes, masks),
                "temporal_concentration": temporal_concentration(tubes),
                "mask_area": masks.float().mean((1, 2, 3)),
            }
            about = {
                "network": name,
                "clip": range(start, start + len(labels)),
                "label": [classes[label] for label in labels],
                "predicted": [classes[label] for label in model(clips).argmax(1)],
            }
            tables.append(pd.DataFrame(about | {key: values.numpy() for key, values in measures.items()}))
    return pd.concat(tables, ignore_index=True)


def plot_saliency(explanations: Sequence[Explanation], columns: int = 8) -> Figure:
    """Frames of a video, and where each network sees a class in them: a row each, over one colour bar (Figure 3).

    Args:
        explanations: of the same video, from `ctnet.analysis.overlay.explain`.
        columns: frames in a row.
    """
    panels = overlays(explanations, columns, side=192)
    gap, head, foot = 0.03, 0.24, 0.32  # inches: between frames, of a caption, of the colour bar
    frame = (WIDTH + gap) / columns - gap
    picture = frame * panels[0][1].shape[2] / panels[0][1].shape[3]
    height = len(panels) * (head + picture) + foot
    figure = BookFigure(figsize=(WIDTH, height), layout="none")  # type: ignore[arg-type]
    for row, (caption, pictures) in enumerate(panels):
        bottom = height - (row + 1) * (head + picture)
        figure.text(0, (bottom + picture + 0.06) / height, caption, fontsize=9, va="baseline")
        for column, image in enumerate(pictures.permute(0, 2, 3, 1)):
            place = (column * (frame + gap) / WIDTH, bottom / height, frame / WIDTH, picture / height)
            axes = figure.add_axes(place)
            axes.imshow(image.numpy(), aspect="auto")
            axes.set_axis_off()
    bar = figure.add_axes((0.48, 0.09 / height, 0.25, 0.1 / height))
    bar.imshow(color_bar(8, 256).numpy(), aspect="auto")
    bar.set_axis_off()
    figure.text(0.472, 0.1 / height, f"{SCALE}: lowest", fontsize=9, ha="right")
    figure.text(0.738, 0.1 / height, "highest", fontsize=9)
    return figure

"""Saliency measured against the objects that act (section 4.3, Figure 3); `study.saliency` reads what is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctnet.analysis import class_evidence, energy_share, pointing_game, scatter, temporal_concentration
from ctnet.analysis.saliency import upsample_evidence
from ctnet.data import eval_transform, sample_sparse
from ctnet.engine import load_model
from ctnet.engine.preparation import build_model
from ctnet.micro import MICRO_DATASETS, MicroDataset, MicroSplit, Scene
from ctnet.models import VideoModel
from study.runs import TwinRun, weights_file
from study.saliency import CLIPS, FILE, MEASURES, informative, measured_runs, pack, pictured_runs
from study.statistics import mean_accuracy
from study.store import provenance, write

PARTS = ("drawing", "data", "engine", "saliency")
"""What the measures depend on."""


def acting_frames(scene: Scene) -> NDArray[np.bool_]:
    """Frames (T,) in which an acting object moves or changes, to or from the next frame, whatever the camera does."""
    names = ("x", "y", "width", "height", "opacity")
    courses = np.stack([getattr(sprite, name) for sprite in scene.sprites if sprite.acting for name in names])
    steps = (np.diff(courses) != 0).any(0)
    acting = np.append(steps, False) | np.insert(steps, 0, False)
    return acting[::-1] if scene.backwards else acting


def _measures(tubes: Tensor, masks: Tensor, acting: Tensor) -> dict[str, Tensor]:
    """Every measure (N,) of maps (N, T, H, W), by the masks (N, T, H, W) and the frames of action (N, T)."""
    return {
        "energy_share": energy_share(tubes, masks),
        "pointing_game": pointing_game(tubes, masks),
        "action_share": energy_share(tubes, acting[..., None, None].expand_as(tubes)),
        "scatter": scatter(tubes),
        "temporal_concentration": temporal_concentration(tubes),
        "mask_area": masks.float().mean((1, 2, 3)),
        "action_area": acting.float().mean(1),
    }


def best_maps(dataset: MicroDataset, frames: int = 8, side: int = 4) -> pd.DataFrame:
    """The measures of maps that show the masks themselves as well as a network's last features could.

    Args:
        dataset: whose clips count.
        frames: that a network is given.
        side: of its features, 4 in the twins that are measured.
    """
    chosen = sample_sparse(dataset.config.frames, frames)[0]
    masks = torch.from_numpy(dataset.masks[:, chosen])
    coarse = nn.functional.adaptive_avg_pool2d(masks.float(), side)
    tubes = nn.functional.interpolate(coarse[:, None], masks.shape[1:], mode="trilinear")[:, 0]
    tubes = tubes - tubes.amin((1, 2, 3), keepdim=True)
    return pd.DataFrame(
        {key: v.numpy() for key, v in _measures(tubes, masks, _acting(dataset.config)[:, chosen]).items()}
    )


@lru_cache(maxsize=2)
def _acting(config: MicroSplit) -> Tensor:
    return torch.from_numpy(np.stack([acting_frames(config.scene(number)) for number in config.members]))


@torch.no_grad()
def measure_maps(
    models: Mapping[str, VideoModel],
    dataset: MicroDataset,
    relu: Sequence[bool] = (False,),
    batch_size: int = 50,
) -> pd.DataFrame:
    """Measure where each network sees each clip's own class, against the masks of the acting objects.

    Networks get frames sampled as in testing, at the dataset's size.

    Args:
        models: name -> network, in evaluation mode, whose scores are in the order of the dataset's classes.
        dataset: with as many clips as are to be measured.
        relu: which maps are measured, see `saliency_tubes`.
        batch_size: clips at a time.

    Returns:
        A row for each network, map and clip: network, relu, clip (number), label (class), the `MEASURES`, and
        what a uniform map has in the first three: mask_area, the share of positions that the masks cover, and
        action_area, the share of frames in which an acting object moves or changes.

    Raises:
        ValueError: when a network has other classes than the dataset.
    """
    classes = dataset.class_names
    config, tables = dataset.config, []
    acting = _acting(config)
    for name, model in models.items():
        if model.head.out_features != len(classes) or (model.classes is not None and model.classes != classes):
            raise ValueError(f"{name} was not trained on the classes of {config.name}, in their order")
        frames = sample_sparse(config.frames, model.num_frames)[0]
        transform = eval_transform(config.size, mean=model.input_mean, std=model.input_std)
        for start in range(0, len(dataset), batch_size):
            part = slice(start, start + batch_size)
            clips = torch.from_numpy(dataset.clips[part][:, frames]).movedim(-1, 2)  # (N, T, 3, H, W)
            clips = transform(clips, 0)[0].transpose(1, 2)  # (N, 3, T, H, W)
            masks, labels = (torch.from_numpy(array[part]) for array in (dataset.masks[:, frames], dataset.labels))
            evidence = class_evidence(model, clips, labels)
            about = {"network": name, "clip": range(start, start + len(labels)), "label": [classes[i] for i in labels]}
            for cut in relu:
                measures = _measures(upsample_evidence(evidence, clips.shape[2:], cut), masks, acting[part][:, frames])
                values = {key: values.numpy() for key, values in measures.items()}
                tables.append(pd.DataFrame(about | {"relu": cut} | values))
    return pd.concat(tables, ignore_index=True)


def measure_saliency(work: Path, progress: Callable[[list[Any]], Any] = list) -> Path:
    """Measure Figure 3's twins, and keep it in `results/saliency.json`, which is returned.

    Besides the trained networks' Saliency Tubes, their evidence for the class alone is measured (Grad-CAM's map),
    networks with random weights, the larger twins that are pictured, if they are there, and `best_maps`.

    Args:
        work: where the weights of runs are.
        progress: wraps the list of networks that are measured, for a progress bar.

    Raises:
        FileNotFoundError: when weights are missing.
    """
    began, runs = time.perf_counter(), measured_runs()
    tables = _tables(runs, work, progress)
    first, measured_on = tables["trained", "csn-module"][0], clips_of(runs["csn-module"][0])
    tables["best", "masks"] = [best_maps(measured_on)]
    content: dict[str, Any] = {
        "clips": CLIPS,
        "data": measured_on.config.fingerprint[:16],
        "runs": {row: [run.name for run in seeds] for row, seeds in runs.items()},
        "uniform": {area: pack(first[area]) for area in ("mask_area", "action_area")},
        "values": {
            row: {measure: [pack(table[measure]) for table in tables["trained", row]] for measure in MEASURES}
            for row in runs
        },
        "means": {},
    }
    for (kind, row), found in tables.items():
        means = content["means"].setdefault(kind, {})[row] = {}
        for measure in MEASURES:
            values = np.stack([table[measure] for table in found])
            if measure == "action_share":
                values = values[:, informative(found[0].action_area.to_numpy())]
            interval = mean_accuracy(values) if len(values) > 1 else (100 * values.mean(),)
            means[measure] = [round(float(value), 2) for value in interval]
    models = {run.recipe.model for seeds in runs.values() for run in seeds}
    content["provenance"] = provenance(PARTS, models, time.perf_counter() - began)
    return write(FILE, content)


def _tables(
    runs: dict[str, list[TwinRun]], work: Path, progress: Callable[[list[Any]], Any]
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """What `measure_maps` says of every network: (kind, row) -> a table for each seed."""
    paths = [weights_file(run, work) for seeds in runs.values() for run in seeds]
    if missing := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} trained networks are missing, such as {missing[0]}")

    def load(run: TwinRun) -> VideoModel:
        return load_model(weights_file(run, work))

    def fresh(run: TwinRun) -> VideoModel:
        torch.manual_seed(run.recipe.seed)
        return build_model(run.recipe, clips_of(run).class_names).eval()

    groups: list[tuple[dict[str, list[TwinRun]], Callable[[TwinRun], VideoModel], tuple[str, ...]]] = [
        (runs, load, ("trained", "positive")),
        (runs, fresh, ("untrained",)),
    ]
    larger = pictured_runs()
    if all(weights_file(run, work).exists() for run in larger.values()):
        groups.append(({row: [run] for row, run in larger.items()}, load, ("larger",)))
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    jobs = [(row, run, build, kinds) for each, build, kinds in groups for row in each for run in each[row]]
    for row, run, build, kinds in progress(jobs):
        measured = measure_maps({row: build(run)}, clips_of(run), [kind == "positive" for kind in kinds])
        for kind in kinds:
            found.setdefault((kind, row), []).append(measured[measured.relu == (kind == "positive")])
    return found


def clips_of(run: TwinRun) -> MicroDataset:
    """The clips that a run's network is measured on."""
    recipe = run.recipe
    kind = MICRO_DATASETS[recipe.dataset]
    return kind(recipe.root or None, "val", count=CLIPS, difficulty=recipe.difficulty, progress=False)

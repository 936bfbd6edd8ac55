"""Where networks look (section 4.3, Figure 3): saliency measured against the objects that act."""

import base64
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
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
from ctnet.engine.training import build_model
from ctnet.micro import MICRO_DATASETS, MicroDataset, MicroSplit, Scene
from ctnet.models import VideoModel
from study.directions import Direction
from study.outcomes import read_result
from study.provenance import code_hash, provenance, write_json
from study.published import results_dir
from study.runner import CODE, weights_file
from study.statistics import Difference, mean_accuracy, paired_difference
from study.twins import LOCALISED, TWINS, Run, seeds_of

CLIPS = 500
"""Clips that are measured, the first of the protocol's validation split."""
NAMES = {"r-2-1-d-module": "R(2+1)D", "csn-module": "CSN", "ct-module-pwconv-te": "CT-Net"}
MEASURES = {
    "energy_share": "Saliency on acting objects",
    "pointing_game": "Maximum on an acting object",
    "action_share": "Saliency in frames of action",
    "scatter": "Scatter within frames",
    "temporal_concentration": "Concentration in time",
}
"""Measures of where a network looks; all of them are shares, scatter one of a uniform map's."""
FILE = "localisation.json"
_PARTS = (*CODE, "analysis/saliency.py", "analysis/statistics.py", "study/localisation.py")
LEVELS = 1000  # steps of the kept values from 0 to 1


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


def best_maps(dataset: MicroDataset, frames: int = 8, side: int = 2) -> pd.DataFrame:
    """The measures of maps that show the masks themselves as well as a network's last features could.

    Args:
        dataset: whose clips count.
        frames: that a network is given.
        side: of its features, 2 in a twin at 32 x 32.
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
def measure_localisation(
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


def measured_runs() -> dict[str, list[Run]]:
    """Runs that are measured: row -> a run for each seed."""
    return {
        row: [TWINS[table][row].runs[0].seeded(seed) for seed in seeds_of(table)] for row, table in LOCALISED.items()
    }


def localise(work: Path, progress: Callable[[list[Any]], Any] = list) -> Path:
    """Measure Figure 3's twins, and keep it in `results/localisation.json`, which is returned.

    Besides the trained networks' Saliency Tubes, their evidence for the class alone is measured (Grad-CAM's map),
    networks with random weights, the larger twins that are pictured, if they are there, and `best_maps`.

    Args:
        work: where the weights of runs are.
        progress: wraps the list of networks that are measured, for a progress bar.

    Raises:
        FileNotFoundError: when weights are missing.
    """
    origin, began, runs = provenance(_PARTS, 0), time.perf_counter(), measured_runs()  # now: files may change meanwhile
    paths = [weights_file(run, work) for seeds in runs.values() for run in seeds]
    if missing := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} trained networks are missing, such as {missing[0]}")

    def load(run: Run) -> VideoModel:
        return load_model(weights_file(run, work))

    def fresh(run: Run) -> VideoModel:
        torch.manual_seed(run.recipe.seed)
        return build_model(run.recipe, dataset_of(run).class_names).eval()

    larger = {row: list(TWINS["fig3"][row].runs) for row in LOCALISED}
    groups: list[tuple[dict[str, list[Run]], Callable[[Run], VideoModel], tuple[str, ...]]] = [
        (runs, load, ("trained", "positive")),
        (runs, fresh, ("untrained",)),
    ]
    if all(weights_file(run, work).exists() for (run,) in larger.values()):
        groups.append((larger, load, ("larger",)))
    kinds = [kind for *_, names in groups for kind in names]
    tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
    jobs = [(row, run, build, names) for found, build, names in groups for row in found for run in found[row]]
    for row, run, build, names in progress(jobs):
        table = measure_localisation({row: build(run)}, dataset_of(run), [kind == "positive" for kind in names])
        for kind in names:
            tables.setdefault((kind, row), []).append(table[table.relu == (kind == "positive")])

    first, measured_on = tables["trained", "csn-module"][0], dataset_of(runs["csn-module"][0])
    tables["best", "masks"] = [best_maps(measured_on)]
    content: dict[str, Any] = {
        "clips": CLIPS,
        "data": measured_on.config.fingerprint[:16],
        "runs": {row: [run.name for run in seeds] for row, seeds in runs.items()},
        "uniform": {area: _pack(first[area]) for area in ("mask_area", "action_area")},
        "values": {
            row: {measure: [_pack(table[measure]) for table in tables["trained", row]] for measure in MEASURES}
            for row in runs
        },
        "means": {kind: {} for kind in (*kinds, "best")},
    }
    informative = _informative(content)
    for (kind, row), found in tables.items():
        means = content["means"][kind][row] = {}
        for measure in MEASURES:
            values = np.stack([table[measure] for table in found])
            values = values[:, informative] if measure == "action_share" else values
            interval = mean_accuracy(values) if len(values) > 1 else (100 * values.mean(),)
            means[measure] = [round(float(value), 2) for value in interval]
    content["provenance"] = origin | {"seconds": round(time.perf_counter() - began, 2)}
    path = results_dir() / FILE
    write_json(path, content)
    return path


def dataset_of(run: Run) -> MicroDataset:
    """The clips that a run's network is measured on."""
    recipe = run.recipe
    kind = MICRO_DATASETS[recipe.dataset]
    return kind(recipe.root or None, "val", count=CLIPS, difficulty=recipe.difficulty, progress=False)


def _pack(values: Any) -> str:
    """Values of clips, rounded to 1 / `LEVELS`, as a short text."""
    return base64.b64encode(zlib.compress(np.rint(LEVELS * np.asarray(values)).astype("<u2").tobytes(), 9)).decode()


def _unpack(text: str) -> NDArray[np.float64]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2") / LEVELS


def _informative(content: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Clips with frames of action and others, (clips,)."""
    area = _unpack(content["uniform"]["action_area"])
    return (area > 0) & (area < 1)


def localisation() -> dict[str, Any] | None:
    """What `localise` has kept; None unless it is about today's runs."""
    runs = {row: [run.name for run in seeds] for row, seeds in measured_runs().items()}
    content = read_result(FILE)
    return content if content and content["runs"] == runs else None


def _is_stale(content: dict[str, Any]) -> bool:
    return content["provenance"]["code"] != code_hash(*_PARTS)


def measured(content: Mapping[str, Any], row: str, measure: str) -> NDArray[np.float64]:
    """Values (seeds, clips) of a trained network; the share in frames of action on clips that have others too."""
    values = np.stack([_unpack(text) for text in content["values"][row][measure]])
    return values[:, _informative(content)] if measure == "action_share" else values


def uniform(content: Mapping[str, Any], measure: str) -> float:
    """What a uniform map has in a measure, in percent."""
    if measure in ("scatter", "temporal_concentration"):
        return 100.0 * (measure == "scatter")
    area = _unpack(content["uniform"]["action_area" if measure == "action_share" else "mask_area"])
    return 100 * float((area[_informative(content)] if measure == "action_share" else area).mean())


_BETTER = {
    "energy_share": "{} has more of its saliency on the objects that act than {}",
    "pointing_game": "the maximum of {}'s saliency lies on an acting object more often than that of {}",
    "action_share": "{} has more of its saliency in the frames in which something acts than {}",
    "scatter": "the saliency of {} is scattered farther over the frames than that of {}",
}


def localisation_claims() -> list[Direction]:
    """What section 4.3 says of where networks look, as differences of `MEASURES` in percentage points."""
    ct, csn, rivals = "ct-module-pwconv-te", "csn-module", ("r-2-1-d-module", "csn-module")
    pairs = [(measure, ct, rival) for measure in list(_BETTER)[:3] for rival in rivals]
    pairs += [("scatter", csn, other) for other in ("r-2-1-d-module", ct)]

    def difference(measure: str, one: str, other: str) -> Difference | None:
        if (content := localisation()) is None:
            return None
        return paired_difference(measured(content, one, measure), measured(content, other, measure))

    return [
        Direction(
            id=f"fig3/{one} > {other}/{measure}",
            table="fig3",
            label=f"{NAMES[one]} − {NAMES[other]}",
            statement="Figure 3: " + _BETTER[measure].format(NAMES[one], NAMES[other]),
            published=None,
            measure=partial(difference, measure, one, other),
            files=(FILE,),
            stale=_is_stale,
        )
        for measure, one, other in pairs
    ]

"""What runs have left: which clips a row's twins were right about, seed by seed, and how accurate they are."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctnet.micro import MICRO_DATASETS
from study.provenance import read_json
from study.published import results_dir
from study.runner import decode, read_run
from study.statistics import mean_accuracy
from study.twins import TWINS, Run, TwinRow, ensemble_name, seeds_of


def read_result(file: str) -> dict[str, Any] | None:
    """What a file under `results` holds; None when there is none."""
    path = results_dir() / file
    return _read(path, path.stat().st_mtime_ns) if path.exists() else None


@cache
def _read(path: Path, stamp: int) -> dict[str, Any]:
    return read_run(path.stem) if path.parent.name == "runs" else read_json(path)


def outcome(name: str) -> dict[str, Any] | None:
    """What a run or an ensemble has left; None when it was not run."""
    return read_result(f"runs/{name}.json")


def labels_of(run: Run) -> NDArray[np.int64]:
    """Labels of the clips that a run is tested on, (clips,)."""
    return _labels(run.recipe.dataset, run.recipe.val_clips, run.recipe.fold)


@cache
def _labels(dataset: str, count: int, fold: int) -> NDArray[np.int64]:
    split = MICRO_DATASETS[dataset].split("val", count, fold=fold)
    return np.array([split.label(number) for number in split.members])


def correct(row: TwinRow, seed: int) -> NDArray[np.bool_] | None:
    """Whether a row's twin was right on every clip, (clips,); None when it was not run.

    Clips of several parts, such as folds, stand one behind the other.
    """
    kept = [content["predictions"].get(row.view) for name in names_of(row, seed) if (content := outcome(name))]
    if len(kept) < len(names_of(row, seed)) or None in kept:
        return None
    # An ensemble has one file, and the labels of any of its runs.
    found = [(decode(text), labels_of(run)) for text, run in zip(kept, row.runs, strict=False)]
    if any(predicted.shape != labels.shape for predicted, labels in found):
        raise ValueError(f"{', '.join(names_of(row, seed))}: predictions of other clips than the labels: run it again")
    return np.concatenate([predicted == labels for predicted, labels in found])


def correct_by_seed(table: str, row: TwinRow) -> dict[int, NDArray[np.bool_]]:
    """`correct` for every seed of a table that was run."""
    found = {seed: correct(row, seed) for seed in seeds_of(table)}
    return {seed: right for seed, right in found.items() if right is not None}


def paired(rows: list[tuple[str, TwinRow]]) -> list[NDArray[np.bool_]] | None:
    """For each of some rows (table, twins) whether it was right, (seeds, clips), with the seeds that all were run with.

    None when these are fewer than two.
    """
    found = [correct_by_seed(table, row) for table, row in rows]
    seeds = sorted(set.intersection(*(set(right) for right in found)))
    _check_alike([run.seeded(seed) for _, row in rows for run in row.runs for seed in seeds])
    return [np.stack([right[seed] for seed in seeds]) for right in found] if len(seeds) >= 2 else None


def _check_alike(runs: list[Run]) -> None:
    """Refuse to compare runs that were tested on other clips, or that started from other weights of one name."""
    about: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for run in runs:
        content, recipe = outcome(run.name) or {}, run.recipe
        if "data" in content:
            fields = (str(getattr(recipe, name)) for name in ("dataset", "difficulty", "val_clips", "fold", "size"))
            about.setdefault(("validation clips", *fields), {}).setdefault(content["data"]["val"], []).append(run.name)
        if run.start and "init" in content:
            about.setdefault(("weights of", run.start.name), {}).setdefault(content["init"], []).append(run.name)
    for what, found in about.items():
        if len(found) > 1:
            groups = " | ".join(", ".join(dict.fromkeys(names)) for names in found.values())
            raise ValueError(f"runs in results/runs differ in {' '.join(what)}: delete those that are old of {groups}")


def names_of(row: TwinRow, seed: int) -> list[str]:
    """The runs, or the ensemble, that a row's accuracy with a seed is read from."""
    return [ensemble_name(row, seed)] if row.fused else [run.seeded(seed).name for run in row.runs]


def accuracy_table(table: str) -> pd.DataFrame:
    """Mean accuracy of a table's twins in points, its 95 % interval, and the number of seeds that were run.

    What is not known yet is not a number.
    """
    lines = []
    for row_id, row in TWINS[table].items():
        right = list(correct_by_seed(table, row).values())
        mean = low = high = float("nan")
        if len(right) >= 2:
            mean, low, high = np.clip(mean_accuracy(right), 0, 100)
        elif right:
            mean = 100 * float(right[0].mean())
        lines.append({"row": row_id, "accuracy": mean, "low": low, "high": high, "seeds": len(right)})
    return pd.DataFrame(lines).set_index("row")

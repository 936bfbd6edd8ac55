"""The training runs behind the tables, and what they have left.

A twin is a row's own network at another size, so its runs follow from the row that `study.paper` declares: same
options, other backbone, other clips. What all rows of a table share is in one of the `PROTOCOLS`, which were frozen
before any two rows were compared by them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctnet.engine.recipe import EXECUTION, Recipe, get_recipe
from ctnet.micro.datasets import MICRO_DATASETS
from study.paper import FILES, Network, Row, Table, table
from study.statistics import mean_accuracy
from study.store import config_hash, damaged, decode, read, results_dir

PROTOCOLS = {1: "micro-something", 2: "micro-something-muon", 3: "micro-something-wsd"}
"""Recipes of twins, by the number of the protocol. A table names the one that its twins follow, unless it is the first
one, and what it changes of it."""
USUAL = {"sizes": 2, "kernels": [3, 3], "connection": "parallel", "blocks": 7}
"""What CT-Net has anyway: a row that says so is the same run as one that does not."""


@dataclass(frozen=True)
class TwinRun:
    """One training run of a twin, and the run whose weights it starts from.

    Equal runs have equal names, whatever tables they belong to.

    Attributes:
        recipe: what is learnt; where `start` is given, its `init` stands for that run's weights.
        start: the run to start from.
        keep: whether the weights belong into `results/checkpoints`, in 16 bits, for chapters and other runs.
    """

    recipe: Recipe
    start: "TwinRun | None" = None
    keep: bool = False

    def config(self) -> dict[str, Any]:
        """What decides the outcome: the fields that differ from a recipe's defaults, and the run to start from."""
        found: dict[str, Any] = {"start": self.start.name} if self.start else {}
        usual = Recipe().to_dict()
        changed = {name: value for name, value in self.recipe.to_dict().items() if value != usual[name]}
        return found | {name: value for name, value in changed.items() if name not in EXECUTION - {"precision"}}

    @cached_property
    def name(self) -> str:
        """Network, dataset, seed and the hash of the configuration: the name of its files."""
        recipe = self.recipe
        return f"{recipe.model}-{recipe.dataset}-{recipe.seed}-{config_hash(self.config())}"

    def dump(self) -> dict[str, Any]:
        """The run as plain data, for another process."""
        return {"recipe": self.recipe.to_dict(), "start": self.start and self.start.dump(), "keep": self.keep}

    @classmethod
    def load(cls, data: dict[str, Any]) -> "TwinRun":
        """The run that `dump` wrote."""
        return cls(Recipe(**data["recipe"]), cls.load(data["start"]) if data["start"] else None, data["keep"])

    def seeded(self, seed: int) -> "TwinRun":
        """The same run with another seed; a run that all seeds start from keeps its own."""
        if seed not in self._seeded:
            start = self.start.seeded(seed) if self.start and not self.start.keep else self.start
            self._seeded[seed] = replace(self, recipe=replace(self.recipe, seed=seed), start=start)
        return self._seeded[seed]

    @cached_property
    def _seeded(self) -> dict[int, "TwinRun"]:
        """The runs that were made of this one, so that their names are found once."""
        return {}


@dataclass(frozen=True)
class Twin:
    """What is trained and tested for a row in one column of accuracies: one run, or several.

    Attributes:
        row: of the paper.
        column: of its table.
        runs: with seed 0, see `TwinRun.seeded`.
        view: how clips are looked at in testing, crops x clips.
    """

    row: Row
    column: str
    runs: tuple[TwinRun, ...]
    view: str = "1x1"

    @property
    def fused(self) -> bool:
        """Whether the runs' scores are averaged before accuracy is taken; else their accuracies are."""
        return len(self.row.networks) > 1

    @property
    def label(self) -> str:
        """What it is the twin of: the row, or its method alone where another network than the printed is trained."""
        return str(self.row.printed["method"]) if "model" in (self.row.twin or {}) else self.row.label

    def names(self, seed: int) -> list[str]:
        """The runs, or the ensemble, that its accuracy with a seed is read from."""
        return [self.ensemble(seed)] if self.fused else [run.seeded(seed).name for run in self.runs]

    def ensemble(self, seed: int) -> str:
        """Name of the file of its ensemble."""
        members = [run.seeded(seed).name for run in self.runs]
        return f"ensemble-{self.view}-{seed}-{config_hash({'members': members})}"


def pictures(network: str) -> TwinRun:
    """Pretraining on single pictures, the study's ImageNet: of the plain backbone of a twin, or of TEA's Res2Net."""
    method, _, backbone = network.partition("_")
    model = network if method == "tea" else f"tsn_{backbone}"
    return TwinRun(get_recipe("micro-pictures").override({"model": model}), keep=True)


def twin_run(network: Network, changes: dict[str, Any] | None = None) -> TwinRun:
    """The run of the twin of a full-size network. A recipe's own network tells which twin stands for ResNet-50.

    Args:
        network: at full size.
        changes: of the protocol: fields of a recipe, and "recipe" (its name), "backbone" (of the twin, where not the
            recipe's stands for ResNet-50), "start" (changes of the run to start from; pretraining on pictures unless
            given), "keep" (whether its weights are kept).
    """
    changes = dict(changes or {})
    recipe, start, keep = changes.pop("recipe", PROTOCOLS[1]), changes.pop("start", None), changes.pop("keep", False)
    method, _, backbone = network.model.partition("_")
    narrow = changes.pop("backbone", get_recipe(recipe).model.partition("_")[2])
    narrow = narrow if backbone == "r50" else f"{backbone}_twin"
    model = f"{method}_{narrow}"
    fitted = {
        "model": model,
        "options": {name: value for name, value in network.options.items() if value != USUAL.get(name)},
        "frames": network.frames,
        "init": "none",
    }
    before = pictures(model) if start is None else twin_run(network, start)
    return TwinRun(get_recipe(recipe).override(fitted | changes), before, keep)


def twins_of(name: str) -> dict[tuple[str, str], Twin]:
    """The twins of a table: (id of the row, column of accuracies) -> what is trained for it.

    A row's `twin` holds changes of the run, "view" where it is not the row's, and "model" where no network stands for
    the row at full size. A table's `twins` hold changes for all rows, and "folds" to train on each.
    """
    return _twins(table(name))


@lru_cache(maxsize=64)
def _twins(declared: Table) -> dict[tuple[str, str], Twin]:
    found = {}
    for column, shared in declared.twins.items():
        for row in declared.rows.values():
            if row.twin is not None:
                own, common = dict(row.twin), dict(shared)
                view, model, folds = own.pop("view", row.view), own.pop("model", None), common.pop("folds", None)
                networks = (Network(model),) if model else row.networks
                runs = tuple(
                    twin_run(network, common | own | ({"fold": fold} if fold else {}))
                    for network in networks
                    for fold in (range(1, folds + 1) if folds else [None])
                )
                found[row.id, column] = Twin(row, column, runs, view)
    return found


ORDER = ("2g", "3", "2c", "2b", "2f", "2d", "2a", "2e", "2h", "6", "7", "8", "5", "fig3", "fig3-pictured", "zoo")
"""What is run first: the tables that decide most claims. Others come behind."""
TRIALS = "pilot"
"""Trials that choose a recipe: no verdict reads them, and they are run when they are asked for."""


def trained_tables() -> list[str]:
    """What twins are trained for, but for `TRIALS`."""
    return [name for name in FILES if table(name).twins and name != TRIALS]


def protocol_of(name: str) -> int:
    """Number of the protocol that the twins of a table follow."""
    recipes = {changes.get("recipe") for changes in table(name).twins.values()}
    return max((number for number, recipe in PROTOCOLS.items() if recipe in recipes), default=1)


def seeds_of(name: str) -> range:
    """The seeds that all rows of a table are trained with."""
    return range(table(name).seeds)


def all_seeds_of(twin: Twin) -> range:
    """The seeds that a twin is trained with: its table's, and those of a second look at one of its orders."""
    about = table(twin.row.table)
    again = any(twin.row.id in pair for pair in about.asked_again(twin.column))
    return about.second_look.seeds if about.second_look and again else seeds_of(about.id)


def all_twins() -> list[Twin]:
    """Every twin of the study."""
    return [twin for name in trained_tables() for twin in twins_of(name).values()]


def runs_of(tables: list[str] | None = None, seeds: int | None = None) -> dict[str, TwinRun]:
    """The distinct runs of some tables, by name; those that others start from come first.

    All runs of a table stand before those of the next, so that one table after the other can be decided.

    Args:
        tables: ids such as "2g"; all but `TRIALS` unless given, by `ORDER`.
        seeds: how many; each table's own number, and those of second looks, unless given, and at most.

    Raises:
        ValueError: for a table that has no twins, or for more seeds than a verdict reads.
    """
    known = trained_tables()
    if unknown := [name for name in tables or () if name not in (*known, TRIALS)]:
        raise ValueError(f"no twins are trained for {', '.join(unknown)}; there are some for {', '.join(known)}")
    twins = {name: list(twins_of(name).values()) for name in tables or known}
    most = max((len(all_seeds_of(twin)) for listed in twins.values() for twin in listed), default=0)
    if seeds and seeds > most:
        raise ValueError(f"no verdict reads more than {most} seeds of these tables, and {seeds} were asked for")
    return with_starts(
        run.seeded(seed)
        for name in tables or sorted(known, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
        for seed in range(seeds or most)
        for twin in twins[name]
        if seed in all_seeds_of(twin)
        for run in twin.runs
    )


def with_starts(runs: Iterable[TwinRun]) -> dict[str, TwinRun]:
    """Some runs by name, each behind the one that it starts from."""
    found: dict[str, TwinRun] = {}
    for run in runs:
        found |= (with_starts([run.start]) if run.start else {}) | {run.name: run}
    return found


def ensembles() -> dict[str, tuple[Twin, int]]:
    """The twins whose runs' scores are fused, once for every seed: name of the ensemble -> twin and seed."""
    fused = [twin for twin in all_twins() if twin.fused]
    return {twin.ensemble(seed): (twin, seed) for twin in fused for seed in all_seeds_of(twin)}


def unused() -> list[str]:
    """Names of the runs and ensembles that are kept, and that no table asks for."""
    wanted = runs_of([TRIALS]).keys() | runs_of().keys() | ensembles().keys()
    return sorted(path.stem for path in (results_dir() / "runs").glob("*.json") if path.stem not in wanted)


def views_of(run: TwinRun) -> list[str]:
    """Every view that some row looks at a run's clips with, whatever the seed."""
    name = run.seeded(0).name
    return sorted({"1x1"} | {twin.view for twin in all_twins() if any(other.name == name for other in twin.runs)})


def weights_file(run: TwinRun, work: Path = Path("runs/study")) -> Path:
    """Where the weights of a run are: kept ones in the results, others among the work."""
    kept = results_dir() / "checkpoints" / f"{run.name}.safetensors"
    return kept if run.keep else work / run.name / "model.safetensors"


# -- What runs have left -----------------------------------------------------------------------------------------------


def run_file(name: str) -> str:
    """Where under `results` the outcome of a run or an ensemble is kept."""
    return f"runs/{name}.json"


def outcome(name: str) -> dict[str, Any] | None:
    """What a run or an ensemble has left; None when it was not run.

    Raises:
        ValueError: when its file is damaged.
    """
    content = read(run_file(name))
    if content is not None and not content.keys() >= {"predictions", "provenance"}:
        raise damaged(results_dir() / run_file(name), "predictions or provenance are missing")
    return content


def labels_of(run: TwinRun) -> NDArray[np.int64]:
    """Labels of the clips that a run is tested on, (clips,)."""
    return _labels(run.recipe.dataset, run.recipe.val_clips, run.recipe.fold)


@cache
def _labels(dataset: str, count: int, fold: int) -> NDArray[np.int64]:
    split = MICRO_DATASETS[dataset].split("val", count, fold=fold)
    return np.array([split.label(number) for number in split.members])


def answers(twin: Twin, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The class that a twin predicts for every clip, and the clip's own, (clips,) each; None when it was not run.

    Clips of several parts, such as folds, stand one behind the other.

    Raises:
        ValueError: when the predictions are of other clips than the labels.
    """
    contents = [outcome(name) for name in twin.names(seed)]
    kept = [content["predictions"].get(twin.view) for content in contents if content]
    if len(kept) < len(contents) or None in kept:
        return None
    # An ensemble has one file, and the labels of any of its runs.
    found = [(decode(text), labels_of(run)) for text, run in zip(kept, twin.runs, strict=False)]
    if any(predicted.shape != labels.shape for predicted, labels in found):
        raise ValueError(f"{', '.join(twin.names(seed))}: predictions of other clips than the labels: run it again")
    predicted, labels = (np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True))
    return predicted, labels


def correct(twin: Twin, seed: int) -> NDArray[np.bool_] | None:
    """Whether a twin was right on every clip, (clips,), in the order of `answers`; None when it was not run."""
    found = answers(twin, seed)
    return None if found is None else found[0] == found[1]


def correct_by_seed(twin: Twin, seeds: Sequence[int] | None = None) -> dict[int, NDArray[np.bool_]]:
    """`correct` for every seed that was run, of some; of the table's unless given."""
    found = {seed: correct(twin, seed) for seed in (seeds_of(twin.row.table) if seeds is None else seeds)}
    return {seed: right for seed, right in found.items() if right is not None}


def paired(twins: list[Twin], seeds: Sequence[int] | None = None) -> list[NDArray[np.bool_]] | None:
    """For each of some twins whether it was right, (seeds, clips), with the seeds that all were run with, of some.

    These are the tables' unless given. None when fewer than two were run.
    """
    found = [correct_by_seed(twin, seeds) for twin in twins]
    seeds = sorted(set.intersection(*(set(right) for right in found)))
    _check_alike([run.seeded(seed) for twin in twins for run in twin.runs for seed in seeds])
    return [np.stack([right[seed] for seed in seeds]) for right in found] if len(seeds) >= 2 else None


def _check_alike(runs: list[TwinRun]) -> None:
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


def accuracy_table(name: str) -> pd.DataFrame:
    """Mean accuracy of a table's twins in points, its 95 % interval, and the number of seeds that were run.

    A line for each twin, under the id of its row. What is not known yet is not a number.
    """
    lines = []
    for twin in twins_of(name).values():
        right = list(correct_by_seed(twin).values())
        mean = low = high = float("nan")
        if len(right) >= 2:
            mean, low, high = np.clip(mean_accuracy(right), 0, 100)
        elif right:
            mean = 100 * float(right[0].mean())
        lines.append({"row": twin.row.id, "accuracy": mean, "low": low, "high": high, "seeds": len(right)})
    return pd.DataFrame(lines).set_index("row")

"""The training runs behind the tables: every row's twins, as data.

A twin is the row's own network at another size, so its runs follow from `study.experiments`: same options, other
backbone, other clips. What all rows share is in `PROTOCOL`, which was frozen before any two rows were compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ctnet.engine import Recipe, get_recipe
from ctnet.engine.recipe import EXECUTION
from ctnet.models import list_models
from study.experiments import ROWS, Network
from study.provenance import config_hash


@dataclass(frozen=True)
class Run:
    """One training run, and the run whose weights it starts from.

    Equal runs have equal names, whatever tables they belong to.

    Attributes:
        recipe: what is learnt; where `start` is given, its `init` stands for that run's weights.
        start: the run to start from.
        keep: whether the weights belong into `results/checkpoints`, in 16 bits, for chapters and other runs.
    """

    recipe: Recipe
    start: "Run | None" = None
    keep: bool = False

    def config(self) -> dict[str, Any]:
        """What decides the outcome: the fields that differ from a recipe's defaults, and the run to start from."""
        found: dict[str, Any] = {"start": self.start.name} if self.start else {}
        usual = Recipe().to_dict()
        changed = {name: value for name, value in self.recipe.to_dict().items() if value != usual[name]}
        return found | {name: value for name, value in changed.items() if name not in EXECUTION}

    @cached_property
    def name(self) -> str:
        """Network, dataset, seed and the hash of the configuration: the name of its files."""
        recipe = self.recipe
        return f"{recipe.model}-{recipe.dataset}-{recipe.seed}-{config_hash(self.config())}"

    def dump(self) -> dict[str, Any]:
        """The run as plain data, for another process."""
        return {"recipe": self.recipe.to_dict(), "start": self.start and self.start.dump(), "keep": self.keep}

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Run":
        """The run that `dump` wrote."""
        return cls(Recipe(**data["recipe"]), cls.load(data["start"]) if data["start"] else None, data["keep"])

    def seeded(self, seed: int) -> "Run":
        """The same run with another seed; a run that all seeds start from keeps its own."""
        if seed not in self._seeded:
            start = self.start.seeded(seed) if self.start and not self.start.keep else self.start
            self._seeded[seed] = replace(self, recipe=replace(self.recipe, seed=seed), start=start)
        return self._seeded[seed]

    @cached_property
    def _seeded(self) -> dict[int, "Run"]:
        """The runs that were made of this one, so that their names are found once."""
        return {}


@dataclass(frozen=True)
class TwinRow:
    """What is trained and tested for a row: one run, or several.

    Attributes:
        runs: with seed 0, see `Run.seeded`.
        view: how clips are looked at in testing, crops x clips.
        fused: whether the runs' scores are averaged before accuracy is taken; else their accuracies are.
    """

    runs: tuple[Run, ...]
    view: str = "1x1"
    fused: bool = False


SEEDS = dict.fromkeys(("2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h"), 5) | {"fig3": 1}
"""Seeds of a table where there are not `FEWEST` of them."""
FEWEST = 3


def pictures(network: str) -> Run:
    """Pretraining on single pictures, the study's ImageNet: of the plain backbone of a twin, or of TEA's Res2Net."""
    method, _, backbone = network.partition("_")
    model = network if method == "tea" else f"tsn_{backbone}"
    return Run(get_recipe("micro-pictures").override({"model": model}), keep=True)


PROTOCOL = get_recipe("micro-something")
USUAL = {"sizes": 2, "kernels": [3, 3], "connection": "parallel", "blocks": 7}
"""What CT-Net has anyway: a row that says so is the same run as one that does not."""


def something(network: Network, **changes: Any) -> Run:
    """The run on MicroSomething of the twin of a full-size network."""
    model = f"{network.model}_twin"
    fitted = {
        "model": model,
        "options": {name: value for name, value in network.options.items() if value != USUAL.get(name)},
        "frames": network.frames,
        "init": "none",
    }
    return Run(PROTOCOL.override(fitted | changes), start=pictures(model))


def seeds_of(table: str) -> range:
    """The seeds that a table's rows are trained with."""
    return range(SEEDS.get(table, FEWEST))


def _tested(table: str, row_id: str) -> TwinRow:
    """The twins of a row of costs, the same networks at another size."""
    row = ROWS[table][row_id]
    return TwinRow(tuple(something(network) for network in row.networks), row.view, fused=len(row.networks) > 1)


_TRANSFER = {"ucf101": "MicroUCF", "hmdb51": "MicroHMDB"}


def _transfer(model: str, dataset: str) -> TwinRow:
    """Table 5: pretraining on MicroKinetics, then fine-tuning on each of three folds."""
    tuned = get_recipe("micro-transfer").override({"model": f"{model}_twin", "dataset": dataset, "init": "none"})
    return TwinRow(tuple(Run(replace(tuned, fold=fold), start=kinetics(Network(model))) for fold in (1, 2, 3)))


def kinetics(network: Network) -> Run:
    """The run on MicroKinetics of the twin of a full-size network."""
    return something(network, dataset="MicroKinetics", val_clips=2000, difficulty=None)


def _large(network: Network) -> Run:
    """The run on the larger MicroSomething that stands for Something-Something V2."""
    return something(network, train_clips=8000)


def _pictured(network: Network) -> Run:
    """A twin four times as large, whose last features are 4 x 4 and not 2 x 2: to look at, and kept for it."""
    return replace(something(network, dataset="MicroSomething64", size=64, short_side=64), keep=True)


_COMPARED = ("tsn-8", "tsm-8", "teinet-8", "tea-8", "ct-net-8", "tsn-16", "ct-net-16")
"""Rows of Table 3 with twins. PEM+TDLoss has none: its backbone TIM alone is built here, and is in the `ZOO`."""
ZOO = {
    name.removesuffix("_r50"): Network(name)
    for name in ("tsn_r50", *list_models("resnet"), "ctnet_r50")
    if name.endswith("_r50")
}
"""The methods that put something temporal into a 2D ResNet-50, whether the paper's tables have them or not."""

LOCALISED = {"r-2-1-d-module": "2a", "csn-module": "2a", "ct-module-pwconv-te": "2g"}
"""Figure 3's networks: row -> table."""

_MODULES = {row_id: row.networks[0] for row_id, row in ROWS["7"].items()}
_CTNET = Network("ctnet_r50")
_SMALL = {224: 28, 256: 32}  # Table 2h's sides in pixels, and those of its twins

TWINS: dict[str, dict[str, TwinRow]] = {
    **{
        table: {row_id: _tested(table, row_id) for row_id in ROWS[table]}
        for table in ("2a", "2b", "2c", "2d", "2e", "2f", "2g")
    },
    "2h": {
        f"train-{train}-test-{test}": TwinRow((something(_CTNET, size=_SMALL[train]),), f"1x1@{_SMALL[test]}")
        for train, test in ((224, 224), (224, 256), (256, 256))
    },
    "3": {row_id: _tested("3", row_id) for row_id in _COMPARED},
    "5": {
        f"{name}/{column}": _transfer(model, dataset)
        for name, model in (("tsn", "tsn_r50"), ("ct-net", "ctnet_r50"))
        for column, dataset in _TRANSFER.items()
    },
    "6": {row_id: _tested("6", row_id) for row_id in ROWS["6"]},
    "7": {
        f"{name}/{column}": TwinRow((build(network),))
        for column, build in (("kinetics", kinetics), ("v2", _large))
        for name, network in _MODULES.items()
    },
    "8": {row_id: _tested("8", row_id) for row_id in ROWS["8"]},
    "fig3": {row: TwinRow((_pictured(ROWS[table][row].networks[0]),)) for row, table in LOCALISED.items()},
    "zoo": {method: TwinRow((something(network),)) for method, network in ZOO.items()},
}
"""Table -> id of a row -> what is trained for it. "row/column" where a table has results on several datasets."""


def runs_of(tables: list[str] | None = None, seeds: int | None = None) -> dict[str, Run]:
    """The distinct runs of some tables, by name; those that others start from come first.

    Args:
        tables: ids such as "2g"; all of them unless given.
        seeds: how many; each table's own number unless given, and at most.

    Raises:
        ValueError: for a table that has no twins, or for more seeds than a verdict reads.
    """
    if unknown := [table for table in tables or () if table not in TWINS]:
        raise ValueError(f"no twins are trained for {', '.join(unknown)}; there are some for {', '.join(TWINS)}")
    most = max(len(seeds_of(table)) for table in tables or TWINS)
    if seeds and seeds > most:
        raise ValueError(f"no verdict reads more than {most} seeds of these tables, and {seeds} were asked for")
    return with_starts(
        run.seeded(seed)
        for seed in range(seeds or most)  # so that each table gets its first results early
        for table in tables or TWINS
        if seed in seeds_of(table)
        for row in TWINS[table].values()
        for run in row.runs
    )


def with_starts(runs: Iterable[Run]) -> dict[str, Run]:
    """Some runs by name, each behind the one that it starts from."""
    found: dict[str, Run] = {}
    for run in runs:
        found |= (with_starts([run.start]) if run.start else {}) | {run.name: run}
    return found


def ensembles() -> dict[str, tuple[TwinRow, int]]:
    """The rows whose runs' scores are fused, once for every seed: name of the ensemble -> row and seed."""
    found = {}
    for table, rows in TWINS.items():
        for row in rows.values():
            if row.fused:
                for seed in seeds_of(table):
                    found[ensemble_name(row, seed)] = row, seed
    return found


def ensemble_name(row: TwinRow, seed: int) -> str:
    """Name of the file of an ensemble."""
    members = [run.seeded(seed).name for run in row.runs]
    return f"ensemble-{row.view}-{seed}-{config_hash({'members': members})}"


def views_of(run: Run) -> list[str]:
    """Every view that some row looks at a run's clips with, whatever the seed."""
    name = run.seeded(0).name
    rows = [row for table in TWINS.values() for row in table.values()]
    return sorted({"1x1"} | {row.view for row in rows if any(other.name == name for other in row.runs)})

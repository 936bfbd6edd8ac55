"""The chapter on the protocol: the recipe that twins share, the trials that chose it, the runs and their repeats."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ctnet.engine.recipe import Recipe, get_recipe
from ctnet.micro.drawing import MOTIONS
from study.chapters.markup import BookTable
from study.chapters.style import COLORS, WIDTH, BookFigure
from study.chapters.verdicts import named
from study.directions import Direction, decide_together
from study.paper import Network, table
from study.power import Plan, simulate
from study.runs import (
    PROTOCOLS,
    TRIALS,
    TwinRun,
    correct_by_seed,
    outcome,
    protocol_of,
    runs_of,
    seeds_of,
    trained_tables,
    twin_run,
    twins_of,
)
from study.statistics import MARGIN
from study.store import decode, kind_of_machine, read, results_dir

DECIDED = ("supported", "contradicted", "equivalent", "inconclusive")
SAME = "same kind of machine"
UNTOLD = "kernels not told"
_NARROW = "a margin of 1 point"


def protocol_table() -> BookTable:
    """The recipes that all rows share, by protocol, field by field, where they depart from a recipe's defaults."""
    usual = Recipe().to_dict()
    shared = {number: twin_run(Network("ctnet_r50"), {"recipe": name}) for number, name in PROTOCOLS.items()}
    told = {number: run.recipe.to_dict() for number, run in shared.items()}
    fields = [name for name in usual if any(fields[name] != usual[name] for fields in told.values()) and name != "init"]
    rows = [{"Field": name} | {_heading(number): str(told[number][name]) for number in told} for name in fields]
    starts = {_heading(number): run.start.recipe.dataset for number, run in shared.items() if run.start}
    return BookTable(
        pd.DataFrame([*rows, {"Field": "start trained on", **starts}]),
        "What all twins on MicroSomething have in common; each row changes only the setting that it is about.",
    )


def _heading(protocol: int) -> str:
    return f"Protocol {protocol}"


def trials_table(chosen: str) -> BookTable:
    """Trials of `results/tuning.json`: those for "protocol 1", and so on, in the order of their making."""
    kept = (read("tuning.json") or {}).get(chosen) or {"trials": [], "about": "No trials are kept."}
    rows = [
        {
            "Network, twin of": f"{trial['network']}, {trial['twin']}",
            "Clips": f"{trial['dataset']}, {trial['pixels']}²",
            "Difficulty": "its own" if trial["difficulty"] is None else f"{trial['difficulty']:g}",
            "Optimizer": trial["optimizer"],
            "Steps × clips": f"{trial['steps']} × {trial['batch_size']}",
            "Seed": "–" if trial["seed"] is None else str(trial["seed"]),
            "Top-1, %": "–" if trial["top1"] is None else f"{100 * trial['top1']:.1f}",
            "Note": trial["note"],
        }
        for trial in kept["trials"]
    ]
    return BookTable(pd.DataFrame(rows), f"Trials for {chosen}.", "worded", notes=[kept["about"]])


def pilot_table(protocol: int) -> BookTable:
    """The full CT-Net, on which a protocol was chosen, and TSN: accuracy over the seeds of its pilot."""
    rows = []
    for row, found in _pilot(protocol).items():
        rows.append(
            {
                "Network": table(TRIALS).rows[row].label,
                "Top-1, %": f"{np.mean(found):.1f}" if found else "not run yet",
                "Standard deviation": f"{np.std(found, ddof=1):.1f}" if len(found) > 1 else "–",
                "Lowest and highest": f"{min(found):.1f} to {max(found):.1f}" if found else "–",
                "Seeds": f"{len(found)} of {len(seeds_of(TRIALS))}",
            }
        )
    caption = f"Pilot of protocol {protocol}: the network that it was chosen on, and TSN."
    return BookTable(pd.DataFrame(rows), caption)


def pilot_deviation(protocol: int) -> float:
    """Standard deviation of the full CT-Net's accuracy from seed to seed of a pilot, in points; NaN until it is run."""
    found = _pilot(protocol)["ct-net"]
    return float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")


def _pilot(protocol: int) -> dict[str, list[float]]:
    """Accuracies of a pilot in points, a value for each seed, by row."""
    twins = [twin for twin in twins_of(TRIALS).values() if twin.column == f"protocol_{protocol}"]
    return {twin.row.id: [100 * float(right.mean()) for right in correct_by_seed(twin).values()] for twin in twins}


def power_table(deviation: float, studies: int = 200, later: int = 0) -> BookTable:
    """What a table of four orders will be able to see: its whole analysis on runs that are made up.

    Args:
        deviation: of accuracy from seed to seed, in points, as the pilot tells it; NaN where it is not run yet.
        studies: how many are made up for each true difference.
        later: seeds of a second look at all orders that are open, the first ones included; 0 without one.
    """
    if np.isnan(deviation):
        return BookTable(pd.DataFrame({"True difference, points": []}), "The pilot that tells this is not run yet.")
    plan = Plan(len(seeds_of(TRIALS)), get_recipe(PROTOCOLS[3]).val_clips or 0, deviation, later=later)
    rows = []
    for gap in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0):
        counts = simulate(plan, [70.0 + gap, 70.0, 70.0, 70.0], [(0, 1), (0, 2), (0, 3), (1, 2)], studies)
        asked = sum((Counter(count) for count in counts[:3]), Counter[str]())
        rows.append(
            {"True difference, points": f"{gap:g}"}
            | {verdict: f"{asked[verdict] / asked.total():.0%}" for verdict in DECIDED}
        )
    return BookTable(
        pd.DataFrame(rows),
        f"How often an order gets each verdict, in {studies} made-up studies of a table of four orders, with "
        f"{plan.seeds} seeds that scatter by {deviation:.1f} points and {plan.clips} clips"
        + (f", and {later} seeds for all that {plan.seeds} leave open." if later else "."),
    )


def rules_table(tested: Sequence[Direction]) -> BookTable:
    """How many directions get each verdict, by the study's rules and by others.

    Args:
        tested: as `study.directions.directions` returns them.
    """
    run = sum(direction.is_complete for direction in tested)
    by_table = [list(group) for _, group in groupby(tested, key=lambda direction: direction.table)]
    rules: dict[str, tuple[Iterable[Sequence[Direction]], float]] = {
        f"as here: corrected over a table, a margin of {MARGIN:g} points": (by_table, MARGIN),
        "not corrected": ([[direction] for direction in tested], MARGIN),
        "corrected over all directions at once": ([tested], MARGIN),
        _NARROW: (by_table, 1.0),
        "a margin of 3 points": (by_table, 3.0),
    }
    found = {
        rule: [decided for group in groups for decided in zip(group, decide_together(group, margin), strict=True)]
        for rule, (groups, margin) in rules.items()
    }
    counts = {rule: Counter(verdict for _, verdict in decided) for rule, decided in found.items()}
    rows = [{"Rule": rule} | {verdict: str(counts[rule][verdict]) for verdict in DECIDED} for rule in rules]
    alike = [f"{asked.label}, {named(asked.table)}" for asked, verdict in found[_NARROW] if verdict == "equivalent"]
    caption = f"Verdicts on the {run} directions that are run, by other rules."
    notes = [
        f"Equivalent by {_NARROW}: {'; '.join(alike) or 'none'}.",
        "What a rule decides after the first seeds has no second look by it, not even where more seeds say otherwise.",
    ]
    return BookTable(pd.DataFrame(rows), caption, notes=notes)


def take_offs() -> pd.DataFrame:
    """Runs by protocol 1 that learnt the same clips for as long: a line each, with how early it learnt and its end.

    Columns: the run's network and options, "early" (mean loss of its second epoch) and "top1" (at its end, in points).
    """
    usual, found = get_recipe(PROTOCOLS[1]), []
    asked = ("dataset", "train_clips", "difficulty", "epochs", "size", "optimizer")
    for name, run in runs_of().items():
        if all(getattr(run.recipe, field) == getattr(usual, field) for field in asked) and (content := outcome(name)):
            network = json.dumps([run.recipe.model, run.recipe.options, run.recipe.frames], sort_keys=True)
            top1 = 100 * content["metrics"]["1x1"]["top1"]
            found.append({"network": network, "early": content["epochs"][1]["train_loss"], "top1": top1})
    return pd.DataFrame(found, columns=["network", "early", "top1"])


def correlation_within(runs: pd.DataFrame) -> float:
    """Of the early loss with the final accuracy, over what seeds of one network differ by; `runs` is `take_offs()`."""
    numbers = runs[["early", "top1"]]
    apart = numbers - numbers.groupby(runs["network"]).transform("mean")
    return float(apart["early"].corr(apart["top1"]))


def plot_take_offs(runs: pd.DataFrame) -> Figure:
    """Final accuracy against the loss of the second epoch, a point for each run; `runs` is `take_offs()`."""
    figure = BookFigure(figsize=(WIDTH, 3.3))
    axes = figure.subplots()
    network = json.dumps(["ctnet_r50_twin", {}, 8], sort_keys=True)
    full = runs["network"] == network
    for chosen, color, label in ((~full, COLORS["plain"], "all other networks"), (full, COLORS["ct"], "full CT-Net")):
        axes.scatter(
            runs["early"][chosen],
            runs["top1"][chosen],
            s=18,
            color=color,
            label=label,
            zorder=3 if chosen is full else 2,
        )
    guessing = math.log(len(MOTIONS))
    axes.axvline(guessing, color=COLORS["published"], linestyle="--", linewidth=1)
    axes.text(guessing, axes.get_ylim()[1], "guessing ", ha="right", va="top", color=COLORS["published"])
    told = f"between seeds of one network: correlation {correlation_within(runs):.2f}".replace("-", "−")
    axes.set_title(told, fontsize=9.5, fontweight="normal")
    epochs = get_recipe(PROTOCOLS[1]).epochs
    axes.set(xlabel=f"mean loss of the second of {epochs} epochs", ylabel="top-1 at the end, %", ylim=(0, None))
    axes.legend(loc="lower left")
    return figure


def repeats_table() -> BookTable:
    """Runs that were made a second time, from nothing, and how equal the outcome is; beside it, to another seed's."""
    rows, runs = [], runs_of()
    for name in sorted(path.stem for path in (results_dir() / "runs").glob("*.json")):
        content = outcome(name) or {}
        rows += [
            {
                "Run": name,
                "Again": _machine(again["provenance"], content["provenance"]),
                "Equal predictions": f"{again['equal_predictions']:.2%}",
                "With another seed": _equal_with_other_seeds(runs[name]) if name in runs else "–",
                "Difference in top-1, points": f"{100 * (again['top1'] - content['metrics']['1x1']['top1']):+z.2f}",
            }
            for again in content.get("repeated", ())
        ]
    first = (SAME, "kernels for AVX2", UNTOLD)
    rows.sort(key=lambda row: first.index(row["Again"]) if row["Again"] in first else len(first))
    columns = ["Run", "Again", "Equal predictions", "With another seed", "Difference in top-1, points"]
    return BookTable(pd.DataFrame(rows, columns=columns), "Finished runs that were made a second time, from nothing.")


def _equal_with_other_seeds(run: TwinRun) -> str:
    """Share of validation clips for which a run predicts as the same run with another seed, the mean over these."""
    seeds = range(max(len(seeds_of(name)) for name in trained_tables()))
    kept = {name: outcome(name) for name in {run.seeded(seed).name for seed in seeds} | {run.name}}
    found = {name: decode(content["predictions"]["1x1"]) for name, content in kept.items() if content}
    own = found.pop(run.name)
    return f"{np.mean([(own == other).mean() for other in found.values()]):.2%}" if found else "–"


def _machine(made: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """What a run was repeated on, in words, beside what it was made on."""
    if kind_of_machine(made) == kind_of_machine(before):
        return SAME
    hardware = made["hardware"]
    if kernels := hardware.get("kernels"):
        vectors = kernels.get("ONEDNN_MAX_CPU_ISA", ", ".join(kernels.values()))
        return f"kernels for {vectors.replace('SSE41', 'SSE4.1')}"
    if "vectors" in hardware:
        return f"{hardware['cpu']}, {made['device']}, {hardware['vectors'].replace('AVX512', 'AVX-512')}"
    return UNTOLD if hardware["cpu"] == before["hardware"]["cpu"] else f"{hardware['cpu']}, {made['device']}"


def _seconds(run: TwinRun, seeds: Iterable[int]) -> float:
    """What a run took, the median over seeds: one that was interrupted tells only of its last process; 0 if unknown."""
    kept = [content for name in {run.seeded(seed).name for seed in seeds} if (content := outcome(name))]
    return float(np.median([content["provenance"]["seconds"] for content in kept])) if kept else 0.0


def runs_table() -> BookTable:
    """How many runs each table takes, with those it shares with others, how many are done, and how long they took."""
    rows = []
    for each in trained_tables():
        runs, again = runs_of([each]), table(each).second_look
        done = sum(outcome(name) is not None for name in runs)
        spent = [_seconds(run, seeds_of(each)) for run in runs_of([each], seeds=1).values()]
        rows.append(
            {
                "Table": each,
                "Protocol": str(protocol_of(each)),
                "Rows": str(len({row for row, _ in twins_of(each)})),
                "Seeds": f"{len(seeds_of(each))}" + (f"; {len(again.seeds)} of some rows" if again else ""),
                "Runs": str(len(runs)),
                "Done": str(done),
                "Minutes for one seed": f"{sum(spent) / 60:.0f}" if all(spent) else "–",
            }
        )
    runs = runs_of()
    done = sum(outcome(name) is not None for name in runs)
    rows.append({"Table": "all, once each", "Runs": str(len(runs)), "Done": str(done)})
    caption = (
        "Training runs of the study. Tables share many, and every distinct one is run once. The minutes are the sum "
        "over the runs of one seed, pretraining included, each on one core while another ran beside it."
    )
    return BookTable(pd.DataFrame(rows).fillna(""), caption)

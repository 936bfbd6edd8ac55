"""The chapter on the protocol: the recipe that twins share, the trials that chose it, the runs and their repeats."""

import pandas as pd

from ctnet.engine.recipe import Recipe
from study.chapters.markup import BookTable
from study.paper import Network
from study.runs import outcome, runs_of, seeds_of, trained_tables, twin_run, twins_of
from study.store import read, results_dir


def protocol_table() -> BookTable:
    """The recipe that all rows share, field by field, where it departs from a recipe's defaults."""
    shared = twin_run(Network("ctnet_r50"))
    usual = Recipe().to_dict()
    fields = {name: value for name, value in shared.recipe.to_dict().items() if value != usual[name]}
    del fields["model"], fields["init"]
    assert shared.start is not None
    rows = [{"Field": name, "Value": str(value)} for name, value in fields.items()]
    rows.append({"Field": "starts from", "Value": shared.start.name})
    return BookTable(
        pd.DataFrame(rows),
        "What all twins on MicroSomething have in common; each row changes only the setting that it is about.",
    )


def trials_table() -> BookTable:
    """The trials that chose the protocol, in the order in which they were made."""
    trials = read("tuning.json") or {"trials": [], "about": "No trials are kept."}
    rows = [
        {
            "Network": {"ctnet": "CT-Net", "tsn": "TSN"}[trial["network"]],
            "Clips": trial["dataset"],
            "Difficulty": "its own" if trial["difficulty"] is None else f"{trial['difficulty']:g}",
            "Epochs": str(trial["epochs"]),
            "Learning rate for 64 clips": f"{trial['lr']:g}",
            "Top-1, %": f"{100 * trial['top1']:.1f}",
            "Note": trial.get("note", ""),
        }
        for trial in trials["trials"]
    ]
    return BookTable(pd.DataFrame(rows), trials["about"])


def repeats_table() -> BookTable:
    """Runs that were made a second time, from nothing, and how equal the outcome is."""
    rows = []
    for name in sorted(path.stem for path in (results_dir() / "runs").glob("*.json")):
        content = outcome(name) or {}
        if again := content.get("repeated"):
            rows.append(
                {
                    "Run": name,
                    "Equal predictions": f"{again['equal_predictions']:.2%}",
                    "Difference in top-1, points": f"{100 * (again['top1'] - content['metrics']['1x1']['top1']):+z.2f}",
                }
            )
    columns = ["Run", "Equal predictions", "Difference in top-1, points"]
    return BookTable(pd.DataFrame(rows, columns=columns), "Finished runs that were made a second time, from nothing.")


def runs_table() -> BookTable:
    """How many runs each table takes, with those it shares with others, how many are done, and how long they took."""
    rows = []
    for table in trained_tables():
        runs = runs_of([table])
        done = sum(outcome(name) is not None for name in runs)
        first = [kept["provenance"]["seconds"] for name in runs_of([table], seeds=1) if (kept := outcome(name))]
        whole = len(first) == len(runs_of([table], seeds=1))
        rows.append(
            {
                "Table": table,
                "Rows": str(len(twins_of(table))),
                "Seeds": str(len(seeds_of(table))),
                "Runs": str(len(runs)),
                "Done": str(done),
                "Minutes for one seed": f"{sum(first) / 60:.0f}" if whole else "–",
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

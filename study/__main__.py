"""The command line of the reproduction, `python -m study`: runs, results, verdicts."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.cli import Json, execute, print_table

if TYPE_CHECKING:
    from study.claims import Claim

app = typer.Typer(
    help="The reproduction of CT-Net's paper: training runs, kept results, and what they decide of its claims.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Tables = Annotated[list[str] | None, typer.Option("--table", help="Only runs of this table, such as 2g; may repeat.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Number of seeds; all that verdicts read unless given.")]
Work = Annotated[Path, typer.Option(help="Directory for the states, weights and logs of runs.")]
WORK = Path("runs/study")


@app.command("list")
def list_runs(table: Tables = None, seeds: Seeds = None, work: Work = WORK, as_json: Json = False) -> None:
    """List runs, with what is known of them."""
    from study.runs import runs_of
    from study.sweep import failure_of, state_of

    found = [
        {"run": name, "state": state_of(run, work), "failure": failure_of(run, work)}
        for name, run in runs_of(table, seeds).items()
    ]
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_table(["Run", "State"], [[str(line["run"]), str(line["state"])] for line in found])


@app.command("status")
def show_status(
    work: Work = WORK,
    as_json: Json = False,
    of_none: Annotated[bool, typer.Option("--unused", help="List kept runs that no table asks for instead.")] = False,
) -> None:
    """Count the runs that are done, stale, failed, under way and left, table by table, with the hours left."""
    from study.runs import TRIALS, runs_of, trained_tables, twins_of, unused
    from study.sweep import STATES, clip_seconds, failure_of, hours_left, state_of

    if of_none:
        return print(json.dumps(unused(), indent=1) if as_json else "\n".join(unused()) or "no run is unused")
    tables = [*([TRIALS] if twins_of(TRIALS) else []), *trained_tables()]
    runs, cost = runs_of(tables), clip_seconds()
    states = {name: state_of(run, work) for name, run in runs.items()}
    counts: dict[str, dict[str, int | float]] = {}
    for name in [*tables, None]:
        of_table = runs_of([name] if name else None)
        found = Counter(states[run] for run in of_table)
        hours = round(hours_left(of_table, work, cost), 1)
        counts[name or "all"] = {state: found[state] for state in STATES} | {"hours": hours}
    if as_json:
        print(json.dumps(counts, indent=1))
    else:
        print_table(
            ["Table", *STATES, "hours left"], [[name, *map(str, found.values())] for name, found in counts.items()]
        )
        for name in [name for name, state in states.items() if state == "failed"]:
            print(f"failed: {name}: {failure_of(runs[name], work)}")


@app.command("run")
def run_left(
    table: Tables = None,
    seeds: Seeds = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs side by side, of a thread each; 1, one a core on a GPU, or 16 on Slurm, unless given."
        ),
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Also runs whose weights are not there.")] = False,
    slurm: Annotated[bool, typer.Option(help="Hand the runs to Slurm (needs 'ctnet\\[cluster]').")] = False,
    partition: Annotated[str | None, typer.Option(help="Of Slurm.")] = None,
    minutes: Annotated[int, typer.Option(help="Time limit of a run on Slurm.")] = 120,
    work: Work = WORK,
) -> None:
    """Train and test what is not done yet; run again to go on after an interruption."""
    from tqdm import tqdm

    from study.runs import runs_of
    from study.sweep import left_of, side_by_side, submit, sweep

    runs = runs_of(table, seeds)
    if slurm:
        options = {"timeout_min": minutes, "cpus_per_task": 1} | ({"slurm_partition": partition} if partition else {})
        ids = submit(runs, work, jobs or 16, weights, **options)
        return print(f"{len(ids)} runs submitted" + (f": jobs {ids[0]} to {ids[-1]}" if ids else ""))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it started, as Ctrl-C does
    try:
        with tqdm(total=len(left_of(runs, work, weights)), unit="run", disable=None) as bar:

            def tell(name: str, text: str) -> None:
                bar.update()
                bar.write(f"{name}: {text}")

            failed = sweep(runs, work, jobs or side_by_side(), tell, weights)
    finally:
        signal.signal(signal.SIGTERM, before)
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


@app.command("confirm")
def confirm_runs(table: Tables = None, seeds: Seeds = None, work: Work = WORK) -> None:
    """Train the first steps of stale runs anew: equal losses make them valid for today's code; exit 1 if any differ."""
    from tqdm import tqdm

    from study.runs import runs_of
    from study.sweep import confirm, state_of

    stale = [run for run in runs_of(table, seeds).values() if state_of(run, work) == "stale"]
    failed = {}
    for run in tqdm(stale, unit="run", disable=None):
        try:
            if not confirm(run, work):
                failed[run.name] = f"differs: {run.name}: delete results/runs/{run.name}.json and run it again"
        except FileNotFoundError as error:
            failed[run.name] = str(error)
    print("\n".join(failed.values()), end="\n" * bool(failed), file=sys.stderr)
    print(f"{len(stale) - len(failed)} of {len(stale)} stale runs confirmed")
    raise typer.Exit(1 if failed else 0)


@app.command("repeat")
def repeat_runs(
    name: Annotated[list[str], typer.Argument(help="Runs that are done, by the names of their files.")],
    work: Work = WORK,
) -> None:
    """Train finished runs once more, whole, and note in their files how equal the outcome is."""
    from study.runs import runs_of
    from study.sweep import ENVIRONMENT, repeat

    runs = runs_of()
    if unknown := [each for each in name if each not in runs]:
        raise ValueError(f"no run is called {', '.join(unknown)}; `python -m study list` has them")
    if ENVIRONMENT.keys() - os.environ.keys():  # a process reads it when it starts
        again = [sys.executable, "-m", "study", "repeat", *name, "--work", str(work)]
        raise typer.Exit(subprocess.run(again, env=ENVIRONMENT | os.environ).returncode)
    for each in name:
        print(f"{each}: {repeat(runs[each], work):.2%} of the predictions are equal")


@app.command("saliency")
def measure(work: Work = WORK) -> None:
    """Measure where the trained twins of Figure 3 look, and keep it in results/saliency.json."""
    from tqdm import tqdm

    from study.saliency_maps import measure_saliency

    try:
        path = measure_saliency(work, lambda networks: tqdm(networks, unit="network", disable=None))
    except FileNotFoundError as error:
        again = "`python -m study run --weights --table fig3` trains them again"
        raise ValueError(f"{error}: {again}") from error
    print(f"{path}: ready")


@app.command()
def speed(
    part: Annotated[
        list[str] | None, typer.Option(help="networks, runtimes, conv3d or profile; all unless given.")
    ] = None,
) -> None:
    """Measure what networks take in time on this machine, and keep it; best while nothing else runs."""
    from study.speed import PARTS, measure_profile, measure_speed

    parts = (*PARTS, "profile")
    if unknown := [name for name in part or [] if name not in parts]:
        raise ValueError(f"there is no part {unknown[0]}; there are {', '.join(parts)}")
    for name in part or parts:
        measure_profile() if name == "profile" else measure_speed(name)
        print(f"results/speed/{name}.json: ready")


@app.command("exports")
def export_all(
    model: Annotated[list[str] | None, typer.Argument(help="Names of networks; all unless given.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that are kept.")] = False,
    as_json: Json = False,
) -> None:
    """Export networks to ONNX and compare scores in ONNX Runtime; exit with 1 when one cannot, or differs."""
    from ctnet.models import list_models
    from study.speed import is_same, try_exports

    found = try_exports(model or list_models(), again)
    failed = {name: kept for name, kept in found.items() if not is_same(kept)}
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        rows = [[name, str(kept.get("error", f"differs by {kept.get('difference')}"))] for name, kept in failed.items()]
        print_table(["Network", "Why not"], rows)
        print(f"{len(found) - len(failed)} of {len(found)} networks give the same scores")
    raise typer.Exit(1 if failed else 0)


@app.command()
def verify(
    table: Annotated[list[str] | None, typer.Option(help="Only claims on this table, such as 2a; may repeat.")] = None,
    live: Annotated[bool, typer.Option(help="Measure every cost again, at full size, and keep it.")] = False,
    update: Annotated[bool, typer.Option(help="Write the verdicts to results/ledger.json.")] = False,
    as_json: Json = False,
) -> None:
    """Decide the paper's claims from the results; exit with 1 when a claim that stood has fallen."""
    from study.ledger import claims, fallen, ledger_verdicts, vanished, write_ledger

    if update and table:
        raise ValueError("--update writes all verdicts: give it without --table")
    if live:
        measure_costs(table)
    decided = claims(table)
    before = ledger_verdicts()
    lost = [f"{claim.statement} is now {claim.verdict}" for claim in fallen(decided, before)]
    lost += [f"{name} is no entry any more" for name in vanished(decided, before)] if table is None else []
    if update:
        write_ledger(decided)
    if as_json:
        print(json.dumps([{"id": claim.id} | asdict(claim) for claim in decided], indent=1))
    else:
        print_claims(decided)
    warn_of_stale(decided, whole=table is None)
    for text in lost:
        print(f"fallen: {text}", file=sys.stderr)
    raise typer.Exit(1 if lost else 0)


RENEWALS = {
    "cost/": "measure again with --live",
    "runs/": "run `python -m study confirm`, also with `--table pilot`",
    "saliency": "run `python -m study saliency`",
    "full-scale/": "test again, and `python -m study record`",
    "speed/": "run `python -m study speed`",
}
"""What renews results, by how the names of their files begin."""


def measure_costs(tables: list[str] | None) -> None:
    """Measure the networks of some tables again, of all unless given, and keep what they cost."""
    from tqdm import tqdm

    from study.costs import measure_and_keep
    from study.exact import networks_of
    from study.paper import TABLES

    wanted = networks_of(name for name in tables or (*TABLES, "3.3") if name in (*TABLES, "3.3"))
    for network in tqdm(wanted.values(), desc="measuring", unit="network", disable=None):
        measure_and_keep(network)


def print_claims(decided: "list[Claim]") -> None:
    """Print claims as a table, and count their verdicts."""
    from study.claims import figure

    columns = ["Claim", "Published", "Measured", "Verdict", "Note"]
    print_table(columns, [[c.statement, figure(c.published), figure(c.measured), c.verdict, c.note] for c in decided])
    counts = Counter(claim.verdict for claim in decided)
    print(f"{len(decided)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))


def warn_of_stale(decided: "list[Claim]", whole: bool) -> None:
    """Say what renews results that older versions of behaviour have made, and how many claims rest on them.

    Args:
        decided: claims.
        whole: whether these are all claims, so that what none of them rests on is told too.
    """
    from study.store import results_dir, stale

    folder, used = results_dir(), {file for claim in decided for file in claim.evidence}
    kept = {str(path.relative_to(folder)) for kind in RENEWALS for path in folder.glob(f"{kind}*.json")}
    kept.discard("speed/exports.json")  # of networks each of its own version: `study.speed.exports` leaves out the old
    old = set(stale(used | kept if whole else used))
    for kind, advice in RENEWALS.items():
        of_kind = {file for file in old if file.startswith(kind)}
        resting = sum(not of_kind.isdisjoint(claim.evidence) for claim in decided)
        for count, what in ((resting, "claims rest on results"), (len(of_kind - used), "more results are")):
            if count:
                print(f"{count} {what} of older versions of behaviour: {advice}", file=sys.stderr)


@app.command("record")
def record_scores(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="SCORES... TABLE/ROW",
            help="Scores that `ctnet test --scores` kept, several for an ensemble, and the row that they are of, "
            "such as 3/ct-net-8x3x2.",
        ),
    ],
) -> None:
    """File the scores of a full-scale run in results/full-scale, as the accuracy of a row of the paper."""
    from study.record import record

    *files, row = arguments
    if not files or row.endswith(".npz"):
        raise ValueError("give scores and the row that they are of: SCORES... TABLE/ROW, such as 3/ct-net-8x3x2")
    print(f"kept in {record([Path(file) for file in files], row)}")


def main() -> None:
    """Run `python -m study`."""
    execute(app, "study")


if __name__ == "__main__":
    main()

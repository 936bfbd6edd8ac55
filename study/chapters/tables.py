"""The paper's tables as the book shows them: published and measured side by side, with a verdict in words."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown

from study.chapters.markup import BookTable, anchor, ledger_link
from study.claims import HOLDS, VERDICTS, Claim, figure
from study.costs import RowCost, costs_of, measure, record
from study.exact import COLUMNS, cost_claims, printed_count
from study.fullscale import Accuracy, accuracies
from study.ledger import claims
from study.paper import ASIDE, Row, released_tests, table
from study.runs import outcome, runs_of, twins_of

_ACCURACY = "Accuracy in %: published, not run here"


def measure_table(name: str) -> dict[str, RowCost]:
    """Costs of a table's rows by their ids, of networks that are built at full size and counted."""
    return costs_of(table(name).rows, measure)


def cost_table(name: str, costs: Mapping[str, RowCost]) -> BookTable:
    """A table of the paper with its cost columns beside measured ones.

    A row that no network here stands for says "not measured". Accuracies are the published ones and are marked so; a
    column gets a measured one beside it once a full-scale run has filled a row, see `study.fullscale`.

    Args:
        name: of the table, such as "2a".
        costs: of its rows, as `measure_table` returns them.
    """
    about = table(name)
    decided = {(claim.subject, claim.column): claim for claim in cost_claims(name, costs)}
    trained = accuracies(about)
    rows, notes = [], [f"{row.label}: {row.note}." for row in about.rows.values() if row.note]
    for row in about.rows.values():
        cells: dict[tuple[str, str], str] = {("", "Row"): row.label}
        for column, told in sorted(about.columns.items(), key=lambda item: item[0] not in COLUMNS):
            if column in COLUMNS:
                claim = decided.get((row.id, column))
                cells |= _cost_cells(told.heading, row, column, claim, costs.get(row.id))
                reason = claim.note if claim and claim.verdict != "reproduced" else row.inferred
                notes += [f"{row.label}: {reason}."] * bool(reason)
            elif told.dataset and any(column == other for _, other in trained):
                cells |= _accuracy_cells(told.heading, row.printed[column], trained.get((row.id, column)))
                changes = trained[row.id, column].changes if (row.id, column) in trained else ""
                notes += [f"{row.label} was trained with {changes}."] * bool(changes)
            elif told.shown and (told.unit or column in ASIDE):
                cells[_ACCURACY if told.dataset else "", told.heading] = _number(row.printed[column])
        rows.append(cells)
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(frame.columns))  # type: ignore[arg-type]
    anchors = [anchor(f"row/{name}/{row}") for row in about.rows]
    return BookTable(frame, f"Table {name}. {about.title}.", "", dict.fromkeys(notes), anchors)


def _cost_cells(
    heading: str, row: Row, column: str, claim: Claim | None, cost: RowCost | None
) -> dict[tuple[str, str], str]:
    """A printed cost, what was measured, the difference, the verdict."""
    value = row.printed[column]
    measured, verdict = (claim.measured, claim.verdict) if claim else (None, "not measured")
    difference = "–" if measured is None else f"{measured - value:+z.2f}"
    if claim is None and cost and value is None and column == "gflops":
        measured, verdict = cost.gmacs, "not printed"
    cells = {
        "verdict": ledger_link(verdict, claim.id) if claim else verdict,
        "published": _number(value),
        "measured": "–" if measured is None else f"{measured:.2f}",
        "difference": difference,
    }
    return {(heading, name): text for name, text in cells.items()}


def _accuracy_cells(heading: str, value: float | None, found: Accuracy | None) -> dict[tuple[str, str], str]:
    """A printed accuracy, that of a full-scale run, the verdict."""
    cells = {"published": _number(value), "measured here": "–" if found is None else str(found)}
    cells["verdict"] = "not run here" if found is None else found.verdict
    return {(f"{heading}, %", name): text for name, text in cells.items()}


def counts_table(name: str, costs: Mapping[str, RowCost]) -> BookTable:
    """Both counts of a table's measured rows, all operators and convolutions and linear layers alone.

    Args:
        name: of the table, such as "3".
        costs: of its rows, as `measure_table` returns them.
    """
    about = table(name)
    column = "clip_gflops" if "clip_gflops" in about.columns else "gflops"
    rows = []
    for row_id, cost in costs.items():
        row, counted = about.rows[row_id], cost.clip if column == "clip_gflops" else cost
        value = row.printed[column]
        rows.append(
            {
                "Row": row.label,
                "Views": str(row.views),
                "Printed GFLOPs" + " of a clip" * (column == "clip_gflops"): str(value),
                "All operators": f"{counted.gmacs:.2f}",
                "Convolutions and linear layers": f"{counted.conv_linear_gmacs:.2f}",
                "Rounds to the printed figure": printed_count(value, counted.gmacs, counted.conv_linear_gmacs),
                "Parameters, M": f"{cost.params_m:.2f}",
            }
        )
    times = "of one clip" if column == "clip_gflops" else "times views"
    caption = f"Both counts of the rows of Table {name} that are measured, {times}, and their parameters."
    return BookTable(pd.DataFrame(rows), caption)


def released_table() -> BookTable:
    """What the authors' scripts tell of their released weights, beside what Table 6 prints of the same tests."""
    printed, rows = table("6").rows, []
    for test in released_tests():
        row = printed[test["row"]].printed if "row" in test else {}
        view = f"8 × {test['view'].replace('x', ' × ')}"
        cells = {("", "Frames × crops × clips"): view, ("", "Pixels"): f"{test['size']}"}
        cells |= {("Released weights", f"Top-{k}, %"): f"{test[f'top{k}']:.2f}" for k in (1, 5)}
        rows.append(cells | {("Table 6", f"Top-{k}, %"): _number(row.get(f"v1_top{k}")) for k in (1, 5)})
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(frame.columns))  # type: ignore[arg-type]
    caption = "CT-Net with 8 frames on Something-Something V1, as its authors tell it. Nothing of it was run here."
    return BookTable(frame, caption)


def _number(value: Any) -> str:
    return "–" if value is None else str(value)


def claims_table(decided: Iterable[Claim], caption: str) -> BookTable:
    """Claims as a table: statement, published, measured, verdict, note."""
    rows = [
        {
            "Claim": claim.statement,
            "Verdict": ledger_link(claim.verdict, claim.id),
            **dict(zip(("Published", "Here"), figures(claim), strict=True)),
            "Note": claim.note,
        }
        for claim in decided
    ]
    return BookTable(pd.DataFrame(rows), caption, "claims")


def figures(claim: Claim) -> tuple[str, str]:
    """What was published and measured, in words; of a direction these are differences of other networks and clips."""
    published, measured = claim.published, figure(claim.measured)
    if claim.kind == "direction":
        return "–" if published is None else f"{published:+.1f}", f"twins {measured}"
    if isinstance(published, float):  # with the digits that are printed
        return str(published), measured
    return figure(published), measured


def card(name: str) -> HTML:
    """The card that opens a chapter on a table: what is claimed, what was measured, how long that took, the verdict.

    It reads `results`; the chapter measures costs again below.

    Args:
        name: of the table, such as "2a".
    """
    about, decided = table(name), claims([name])
    costs = [claim for claim in decided if claim.kind == "cost"]
    ordered = Counter(claim.verdict for claim in decided if claim.kind == "direction")
    records = [record(network)["provenance"] for network in about.networks.values()]
    items, commands = {"Claim": about.claim}, {}
    if records:
        items["Measured at full size"] = f"the cost of {len(records)} networks"
        standing = sum(claim.verdict in HOLDS for claim in costs)
        rest = "".join(f"; {claim.statement}: {claim.verdict}" for claim in costs if claim.verdict not in HOLDS)
        reproduced = f"{standing} of {len(costs)} reproduced{rest}"
        items["Verdict on the costs"] = reproduced if costs else "the paper prints none"
        commands["Measure again"] = f"python -m study verify --table {name} --live"
    trained = []
    if ordered:
        runs = runs_of([name])
        trained = [kept["provenance"] for run in runs if (kept := outcome(run))]
        items["Trained as twins"] = (
            f"{len({row for row, _ in twins_of(name)})} rows, {len(trained)} of {len(runs)} runs done"
        )
        items["Verdict on the directions"] = count_verdicts(ordered)
        left = len(runs) > len(trained)
        commands["Train what is missing" if left else "Train a run again"] = (
            f"python -m study run --table {name}" if left else "python -m study repeat RUN"
        )
    full = len(accuracies(about))
    items["Accuracy at full size"] = f"{full} measured" if full else "not run here: it needs the real dataset and GPUs"
    items |= _times(records, trained)
    return chapter_card(items, commands)


def _times(costs: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, str]:
    """How long measurements and runs took, by their provenance."""
    if not costs and not runs:
        return {}
    seconds = [sum(made["seconds"] for made in group) for group in (costs, runs)]
    times = [f"costs {seconds[0]:.0f} s"] * bool(costs) + [f"twins {seconds[1] / 3600:.1f} h"] * bool(runs)
    machine = (costs or runs)[0]["hardware"]["cpu"]
    return {"Time": f"{', '.join(times)} on one or two cores ({machine})"}


def chapter_card(items: Mapping[str, str], commands: Mapping[str, str]) -> HTML:
    """The card that opens a chapter: headings with their texts, and then with their commands."""
    told = {**items, **{name: f"<code>{command}</code>" for name, command in commands.items()}}
    rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in told.items())
    return HTML(f'<table class="ctnet chapter-card">{rows}</table>')


def count_verdicts(verdicts: Counter[str]) -> str:
    """How many claims got which verdict, in words, the best for the paper first."""
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])


def source(thing: Callable[..., Any] | type) -> Markdown:
    """The package's own code of a function or class, for a chapter to show."""
    return Markdown(f"```python\n{inspect.getsource(thing)}```")

"""The paper's tables as the book shows them: published and measured side by side, with a verdict in words."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler

from ctnet.analysis import Cost
from ctnet.models import network_family
from study.claims import HOLDS, VERDICTS, Claim, figure
from study.costs import measure, networks, record, total
from study.decisions import detectable
from study.exact import COLUMNS, INFERRED, PEER_RULE, cost_claims, printed_count
from study.experiments import ROWS
from study.fullscale import accuracies
from study.ledger import claims
from study.outcomes import outcome
from study.provenance import config_hash
from study.published import published_table, row_label
from study.twins import TWINS, runs_of

HEADINGS = {
    "gflops": "GFLOPs",
    "clip_gflops": "GFLOPs per clip",
    "params": "Parameters, M",
    "top1": "Top-1",
    "top5": "Top-5",
    "v1_top1": "SSv1 Top-1",
    "v1_top5": "SSv1 Top-5",
    "v2_top1": "SSv2 Top-1",
    "v2_top5": "SSv2 Top-5",
    "mini_kinetics_top1": "Mini-Kinetics Top-1",
    "mini_kinetics_top5": "Mini-Kinetics Top-5",
    "ucf101": "UCF101 Top-1",
    "hmdb51": "HMDB51 Top-1",
    "k": "K",
    "c1": "Kernels of sub-operation 1",
    "c2": "C₂",
}
_ACCURACY = "Accuracy in %: published, not run here"


def measure_table(table: str) -> dict[str, Cost]:
    """Costs of a table's networks, keyed as `cost_claims` wants them.

    Networks of this paper are built at full size and counted now. Peers, some of which take a minute, are read from
    `results/cost`; `python -m study verify --live` counts them again.
    """
    needed = networks([table])
    return {key: measure(n) if network_family(n.model) == "module" else record(n)["cost"] for key, n in needed.items()}


def cost_table(table: str, costs: dict[str, Cost]) -> Styler:
    """A table of the paper with its cost columns beside measured ones.

    A row that no network here stands for says "not measured". Accuracies are the published ones and are marked so; a
    column gets a measured one beside it once a full-scale run has filled a row, see `study.fullscale`.

    Args:
        table: such as "2a".
        costs: of the table's networks, as `measure_table` returns them.
    """
    printed = published_table(table)
    decided = {claim.id: claim for claim in cost_claims(table, costs)}
    trained = accuracies(table)
    filled = {column for _, column in trained}
    rows, notes = [], []
    for row_id, values in printed.iterrows():
        cells: dict[tuple[str, str], Any] = {}
        for column, value in values.items():
            name = HEADINGS.get(str(column), str(column).capitalize())
            if column in COLUMNS:
                claim = decided.get(f"{table}/{row_id}/{column}")
                cells[name, "published"] = _number(value)
                measured = None if claim is None else claim.measured
                cells[name, "measured"] = "–" if measured is None else f"{measured:.2f}"
                cells[name, "difference"] = "–" if measured is None else f"{measured - value:+.2f}"
                cells[name, "verdict"] = "not measured" if claim is None else claim.verdict
                if claim is None and row_id in ROWS[table] and value is None and column == "gflops":
                    cells[name, "measured"] = f"{total(ROWS[table][str(row_id)], costs)[0]:.2f}"
                    cells[name, "verdict"] = "not printed"
                if claim is not None and claim.note and claim.verdict != "reproduced":
                    notes.append(f"{row_label(printed, str(row_id))}: {claim.note}.")
                elif row_id in INFERRED:
                    notes.append(f"{row_label(printed, str(row_id))}: {INFERRED[str(row_id)]}.")
            elif column == "note":
                if value is not None:
                    notes.append(f"{row_label(printed, str(row_id))}: {value}.")
            elif column in filled:
                found = trained.get((str(row_id), str(column)))
                cells[f"{name}, %", "published"] = _number(value)
                cells[f"{name}, %", "measured here"] = "–" if found is None else str(found)
                cells[f"{name}, %", "verdict"] = "not run here" if found is None else found.verdict
                if found is not None and found.changes:
                    notes.append(f"{row_label(printed, str(row_id))} was trained with {found.changes}.")
            elif column in HEADINGS and column not in ("k", "c1", "c2"):
                cells[_ACCURACY, name] = _number(value)
            elif column != "views":
                cells["", "Kernels of sub-operation 2" if table == "2f" and column == "c2" else name] = _number(value)
        rows.append(cells)
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(frame.columns))  # type: ignore[arg-type]
    title = printed.attrs["title"]
    return styled(frame, f"Table {table}. {title}." + "".join(f" {note}" for note in dict.fromkeys(notes)))


def counts_table(table: str, costs: Mapping[str, Cost]) -> Styler:
    """Both counts of a table's measured rows, all operators and convolutions and linear layers alone.

    Args:
        table: such as "3".
        costs: of the table's networks, as `measure_table` returns them.
    """
    printed, rows = published_table(table), []
    by_clip = "clip_gflops" in printed
    for row_id, row in ROWS[table].items():
        gmacs, conv_linear, params = total(row, costs)
        if by_clip:
            gmacs, conv_linear = gmacs / row.views, conv_linear / row.views
        value = printed["clip_gflops" if by_clip else "gflops"][row_id]
        rows.append(
            {
                "Row": row_label(printed, row_id),
                "Views": str(row.views),
                "Printed GFLOPs" + " of a clip" * by_clip: str(value),
                "All operators": f"{gmacs:.2f}",
                "Convolutions and linear layers": f"{conv_linear:.2f}",
                "Rounds to the printed figure": printed_count(value, gmacs, conv_linear),
                "Parameters, M": f"{params:.2f}",
            }
        )
    times = "of one clip" if by_clip else "times views"
    caption = f"Both counts of the rows of Table {table} that are measured, {times}, and their parameters."
    return styled(pd.DataFrame(rows), caption)


def _number(value: Any) -> str:
    return "–" if value is None else str(value)


def verdict_class(verdict: str) -> str:
    """CSS class of a cell that holds a verdict."""
    return f"verdict verdict-{verdict.replace(' ', '-')}"


def styled(frame: pd.DataFrame, caption: str, kind: str = "ctnet") -> Styler:
    """A table of the book: verdicts by colour as well as in words, the same in every build; of CSS classes `kind`."""
    classes = pd.DataFrame("", index=frame.index, columns=frame.columns)
    for column in frame.columns:
        if "verdict" in (column[-1].lower() if isinstance(column, tuple) else str(column).lower()):
            classes[column] = [verdict_class(verdict) for verdict in frame[column]]
    return (
        frame.style.hide(axis="index")
        .set_caption(f"<span>{caption}</span>")  # a span can be narrower than its table
        .set_table_attributes(f'class="{kind}"')
        .set_td_classes(classes)
        .set_uuid(config_hash({"caption": caption}))  # the same in every build
    )


def claims_table(decided: Iterable[Claim], caption: str) -> Styler:
    """Claims as a table: statement, published, measured, verdict, note."""
    rows = [
        {
            "Claim": claim.statement,
            **dict(zip(("Published", "Measured"), _figures(claim), strict=True)),
            "Verdict": claim.verdict,
            "Note": claim.note,
        }
        for claim in decided
    ]
    return styled(pd.DataFrame(rows), caption, "ctnet claims")


def _figures(claim: Claim) -> tuple[str, str]:
    """What was published and measured, in words; of a direction these are differences of other networks and clips."""
    published, measured = claim.published, figure(claim.measured)
    if claim.kind == "direction":
        return "–" if published is None else f"{published:+.1f}", f"twins {measured}"
    if isinstance(published, float):  # with the digits that are printed
        return str(published), measured
    return figure(published), measured


def ledger_table(decided: Iterable[Claim]) -> HTML:
    """Every claim in a table that the page can search: its rule, note and evidence fold out."""
    lines = []
    for claim in decided:
        about = {"Rule": claim.rule, "Note": claim.note, "Files": ", ".join(claim.evidence), "Entry": claim.id}
        folded = "".join(f"<div>{name}: {escape(text)}</div>" for name, text in about.items() if text)
        published, measured = _figures(claim)
        verdict = claim.verdict + (" (stale)" if claim.stale else "")
        lines.append(
            f"<tr><td><details><summary>{escape(claim.statement)}</summary>{folded}</details></td>"
            f"<td>{claim.kind}</td><td>{escape(published)}</td><td>{escape(measured)}</td>"
            f'<td class="{verdict_class(claim.verdict)}">{verdict}</td></tr>'
        )
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Kind", "Published", "Here", "Verdict"))
    return HTML(f'<table class="ctnet ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>')


def card(table: str) -> HTML:
    """The card that opens a chapter on a table: what is claimed, what was measured, how long that took, the verdict.

    It reads `results`; the chapter measures costs again below.

    Args:
        table: such as "2a".
    """
    decided = claims([table])
    costs = [found for found in decided if found.kind == "exact"]
    directions = Counter(found.verdict for found in decided if found.kind == "direction")
    records = [record(network)["provenance"] for network in networks([table] if table in ROWS else []).values()]
    trained = [kept["provenance"] for name in runs_of([table]) if (kept := outcome(name))] if table in TWINS else []
    full = len(accuracies(table))
    items = {"Claim": published_table(table).attrs["claim"]}
    if records:
        items["Measured at full size"] = f"the cost of {len(records)} networks"
        standing = sum(found.verdict in HOLDS for found in costs)
        rest = "".join(f"; {found.statement}: {found.verdict}" for found in costs if found.verdict not in HOLDS)
        items["Verdict on the costs"] = (
            f"{standing} of {len(costs)} reproduced{rest}" if costs else "the paper prints none"
        )
    if directions:
        items["Trained as twins"] = f"{len(TWINS[table])} rows, {len(trained)} of {len(runs_of([table]))} runs done"
        items["Verdict on the directions"] = count_verdicts(directions)
    items["Accuracy at full size"] = f"{full} measured" if full else "not run here: it needs the real dataset and GPUs"
    seconds = [sum(each["seconds"] for each in group) for group in (records, trained)]
    times = [f"costs {seconds[0]:.0f} s"] * bool(records) + [f"twins {seconds[1] / 3600:.1f} h"] * bool(trained)
    machine = (records or trained or [None])[0]
    if machine:
        items["Time"] = f"{', '.join(times)} on one or two cores ({machine['hardware']['cpu']})"
    commands = {"Measure again": f"python -m study verify --table {table} --live"} if records else {}
    if directions:
        missing = len(runs_of([table])) - len(trained)
        commands["Train what is missing" if missing else "Train a run again"] = (
            f"python -m study run --table {table}" if missing else "python -m study repeat RUN"
        )
    return chapter_card(items, commands)


def chapter_card(items: Mapping[str, str], commands: Mapping[str, str]) -> HTML:
    """The card that opens a chapter: headings with their texts, and then with their commands."""
    told = {**items, **{name: f"<code>{command}</code>" for name, command in commands.items()}}
    rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in told.items())
    return HTML(f'<table class="ctnet chapter-card">{rows}</table>')


_KINDS = {
    "exact": "costs at full size; receptive fields and special cases on single modules",
    "derived": "recomputed from the paper's own numbers",
    "direction": "which of two is more accurate, on trained twins",
    "full size": "accuracies on the real datasets",
    "text": "sentences, decided by the claims above",
}


def summary(decided: Iterable[Claim]) -> Styler:
    """The whole study in one table: the claims of each kind, and how many got which verdict.

    Args:
        decided: all claims, as `study.ledger.claims` returns them.
    """
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS}
    for claim in decided:
        counts[claim.kind][claim.verdict] += 1
    rows = [
        {"Claims": f"{kind}: {_KINDS[kind]}", "Number": found.total(), "Outcome": count_verdicts(found)}
        for kind, found in counts.items()
    ]
    return styled(pd.DataFrame(rows), "Numbers and claims of the paper, and what this edition decides of them.")


def findings(decided: Sequence[Claim]) -> Markdown:
    """What the study has found so far, in a paragraph for each kind of claim.

    Args:
        decided: all claims, as `study.ledger.claims` returns them.
    """
    costs = [claim for claim in decided if claim.kind == "exact" and claim.id.endswith(("gflops", "params"))]
    groups = {
        kind: [claim for claim in decided if claim.kind == kind] for kind in ("derived", "direction", "full size")
    }
    groups |= {"peer": [c for c in costs if c.rule == PEER_RULE], "own": [c for c in costs if c.rule != PEER_RULE]}
    number = {name: len(group) for name, group in groups.items()}
    found = {name: count_verdicts(Counter(claim.verdict for claim in group)) for name, group in groups.items()}
    fitted = sum(claim.verdict == "reproduced" and claim.id.split("/")[1] in INFERRED for claim in costs)
    runs = runs_of()
    done = sum(outcome(name) is not None for name in runs)
    texts = {
        "Costs": f"of {number['own']} printed GFLOPs and parameters of CT-Net, its ablations and TSN, {found['own']}. "
        f"Of {number['peer']} GFLOPs of other methods, {found['peer']}. Among the reproduced, {fitted} are of networks "
        "that were chosen to fit the printed figure, or built without a part: they show that the figure is possible, "
        "not that the network is the authors'.",
        "The paper's own numbers": f"of {number['derived']} statements that rest on them, {found['derived']}.",
        "Accuracies": f"of the {number['full size']} that the paper prints, {found['full size']}.",
        "Directions": f"of {number['direction']} orderings, asked of small networks on rendered clips, "
        f"{found['direction']}. {done} of {len(runs)} training runs are done.",
    }
    for verdict in ("supported", "contradicted"):
        if named := [claim.statement for claim in groups["direction"] if claim.verdict == verdict]:
            texts[f"Directions that are {verdict}"] = f"{'; '.join(named)}."
    visible = [points for table in TWINS if table != "fig3" for points in detectable(table).values()]
    printed = [abs(claim.published) for claim in groups["direction"] if claim.published is not None]
    if visible:
        texts["How far that reaches"] = (
            f"half of the orderings by accuracy rest on printed differences of {median(printed):.1f} points or less. "
            "Between two small networks, half of the comparisons here could find a difference of "
            f"{median(visible):.0f} points."
        )
    return Markdown("\n".join(f"- **{name}:** {text}" for name, text in texts.items()))


def count_verdicts(verdicts: Counter[str]) -> str:
    """How many claims got which verdict, in words, the best for the paper first."""
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])


def source(thing: Callable[..., Any] | type) -> Markdown:
    """The package's own code of a function or class, for a chapter to show."""
    return Markdown(f"```python\n{inspect.getsource(thing)}```")

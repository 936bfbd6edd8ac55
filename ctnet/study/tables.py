"""The paper's tables as the book shows them: published and measured side by side, with a verdict in words."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler

from ctnet.analysis import Cost
from ctnet.engine import Recipe
from ctnet.models.peers import PEERS
from ctnet.study.budget import Assumptions, estimate, span
from ctnet.study.claims import Claim, cost_claims
from ctnet.study.costs import measure, networks, record, total
from ctnet.study.experiments import ROWS
from ctnet.study.fullscale import accuracies
from ctnet.study.ledger import HOLDS, claims, figure
from ctnet.study.provenance import config_hash
from ctnet.study.published import TABLES, published_table, row_label, training_settings
from ctnet.study.recipes import settings

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
_COSTS = ("clip_gflops", "gflops", "params")
_ACCURACY = "Accuracy in %: published, not run here"


def measure_table(table: str) -> dict[str, Cost]:
    """Costs of a table's networks, keyed as `cost_claims` wants them.

    Networks of this paper are built at full size and counted now. Peers, some of which take a minute, are read from
    `results/cost`; `ctnet verify --live` counts them again.
    """
    needed = networks([table])
    return {key: record(n)["cost"] if n.model in PEERS else measure(n) for key, n in needed.items()}


def cost_table(table: str, costs: dict[str, Cost]) -> Styler:
    """A table of the paper with its cost columns beside measured ones.

    A row that no network here stands for says "not measured". Accuracies are the published ones and are marked so; a
    column gets a measured one beside it once a full-scale run has filled a row, see `ctnet.study.fullscale`.

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
            if column in _COSTS:
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


def _number(value: Any) -> str:
    return "–" if value is None else str(value)


def verdict_class(verdict: str) -> str:
    """CSS class of a cell that holds a verdict."""
    return f"verdict verdict-{verdict.replace(' ', '-')}"


def styled(frame: pd.DataFrame, caption: str) -> Styler:
    """A table of the book: verdicts by colour as well as in words, the same in every build."""
    classes = pd.DataFrame("", index=frame.index, columns=frame.columns)
    for column in frame.columns:
        if "verdict" in (column[-1].lower() if isinstance(column, tuple) else str(column).lower()):
            classes[column] = [verdict_class(verdict) for verdict in frame[column]]
    return (
        frame.style.hide(axis="index")
        .set_caption(f"<span>{caption}</span>")  # a span can be narrower than its table
        .set_table_attributes('class="ctnet"')
        .set_td_classes(classes)
        .set_uuid(config_hash({"caption": caption}))  # the same in every build
    )


def claims_table(decided: Iterable[Claim], caption: str) -> Styler:
    """Claims as a table: statement, published, measured, verdict, note."""
    rows = [
        {
            "Claim": claim.statement,
            "Published": figure(claim.published),
            "Measured": figure(claim.measured),
            "Verdict": claim.verdict,
            "Note": claim.note,
        }
        for claim in decided
    ]
    return styled(pd.DataFrame(rows), caption)


def card(table: str) -> HTML:
    """The card that opens a chapter on a table: what is claimed, what was measured, how long that took, the verdict.

    It reads `results/cost`; the chapter measures again below.

    Args:
        table: such as "2a".
    """
    decided = [found for found in claims([table]) if found.kind == "exact"]
    standing = sum(found.verdict in HOLDS for found in decided)
    records = [record(network)["provenance"] for network in networks([table]).values()]
    hardware = records[0]["hardware"]
    rest = "".join(f"; {found.statement}: {found.verdict}" for found in decided if found.verdict not in HOLDS)
    trained = len(accuracies(table))
    items = {
        "Claim": published_table(table).attrs["claim"],
        "Measured here": f"the cost of {len(records)} networks, built and counted at full size",
        "Accuracy": f"{trained} measured by full-scale runs; the others published, not run here"
        if trained
        else "published, not run here: it needs the real dataset and GPUs",
        "Verdict on the costs": f"{standing} of {len(decided)} reproduced{rest}"
        if decided
        else "the paper prints none",
        "Time": f"{sum(each['seconds'] for each in records):.0f} s on {hardware['cores']} cores ({hardware['cpu']})",
        "Make it again": f"<code>ctnet verify --table {table} --live</code>",
    }
    rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in items.items())
    return HTML(f'<table class="ctnet chapter-card">{rows}</table>')


def summary(decided: Iterable[Claim]) -> Styler:
    """The whole study in one table: what the paper prints, what was measured or recomputed of it, the verdicts.

    Args:
        decided: all claims, as `ctnet.study.claims.claims` returns them.
    """
    printed: Counter[str] = Counter()
    for table in TABLES:
        for column in published_table(table).items():
            if column[0] in HEADINGS and column[0] not in ("k", "c1", "c2"):
                name = {"params": "Parameters"}.get(str(column[0]), "GFLOPs" if column[0] in _COSTS else "Accuracies")
                printed[name] += int(column[1].notna().sum())
    trained = Counter(found.verdict for table in ROWS for found in accuracies(table).values())
    verdicts: dict[str, Counter[str]] = {"Accuracies": trained}
    for claim in decided:
        verdicts.setdefault(_subject(claim), Counter())[claim.verdict] += 1
    rows = []
    for subject in [*printed, *[subject for subject in verdicts if subject not in printed]]:
        counts = verdicts.get(subject, Counter())
        in_paper = printed.get(subject, counts.total())
        rest = f"{in_paper - counts.total()} not {'run here' if subject == 'Accuracies' else 'measured'}"
        words = [f"{count} {verdict}" for verdict, count in counts.most_common()]
        rows.append(
            {
                "Subject": subject,
                "In the paper": in_paper,
                "Decided here": counts.total(),
                "Outcome": ", ".join(words + [rest] * (in_paper > counts.total())),
            }
        )
    return styled(pd.DataFrame(rows), "Numbers and claims of the paper, and what this edition decides of them.")


def recipe_table(something: Recipe, kinetics: Recipe) -> Styler:
    """How networks are trained, setting by setting: in the paper, in the authors' scripts, and by recipes of ours."""
    ours = {"something": settings(something), "kinetics": settings(kinetics)}
    rows = []
    for told in training_settings():
        name = told["setting"]
        cells = {"Setting": name}
        for source, heading in (("paper", "Paper"), ("scripts", "Authors' scripts")):
            cells[heading] = _both(told["something"].get(source, "–"), told["kinetics"].get(source, "–"))
        rows.append(cells | {"Here": _both(ours["something"][name], ours["kinetics"][name])})
    caption = (
        "Two values are of Something-Something and of Kinetics. –: not told in the paper, not recorded of the scripts."
    )
    return styled(pd.DataFrame(rows), caption)


def _both(something: str, kinetics: str) -> str:
    return something if something == kinetics else f"{something} | {kinetics}"


def budget_table(targets: Mapping[str, Mapping[str, str]], assumed: Assumptions) -> Styler:
    """Estimates for rows of CT-Net, a line for each row and dataset.

    Args:
        targets: table -> dataset -> heading.
        assumed: what cannot be measured here.
    """
    lines = []
    for table, datasets in targets.items():
        printed = published_table(table)
        for dataset, heading in datasets.items():
            for row_id, row in ROWS[table].items():
                if all(network.model.startswith("ctnet") for network in row.networks):
                    found = estimate(row, dataset, assumed)
                    lines.append(
                        {
                            f"Row of Table {' or '.join(targets)}": row_label(printed, row_id),
                            "Dataset": heading,
                            "Training, GPU hours": span(found.train_hours),
                            "Testing, GPU hours": span(found.test_hours),
                            "Videos, GB": span(found.gigabytes),
                            "Dollars": span(found.dollars),
                        }
                    )
    caption = "Estimates under the assumptions above, not measurements. Rows of one table share networks and videos."
    return styled(pd.DataFrame(lines), caption)


def _subject(claim: Claim) -> str:
    where, *_, last = claim.id.split("/")
    if claim.kind == "derived":
        return "Figures recomputed from the paper's own"
    if last == "text":
        return "Statements on how the cost moves"
    named = {"1": "Receptive fields and interacting channels (Table 1)", "3.3": "Special cases (section 3.3)"}
    return named.get(where, "Parameters" if last == "params" else "GFLOPs")


def source(thing: Callable[..., Any] | type) -> Markdown:
    """The package's own code of a function or class, for a chapter to show."""
    return Markdown(f"```python\n{inspect.getsource(thing)}```")

"""Every claim with its verdict: the ledger to search, a map of it, bars that sum it up, and each table's outcome."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import pandas as pd
from IPython.display import HTML

from study.chapters.markup import BookTable, Link, anchor, verdict_class
from study.chapters.tables import count_verdicts, figures
from study.claims import HOLDS, VERDICTS, Claim
from study.ledger import KNOWN
from study.paper import FILES, TABLES, table
from study.store import stale

ANSWERS = {
    "hold": HOLDS,
    "equivalent": ("equivalent",),
    "undecided": ("inconclusive", "under way", "not run yet"),
    "not measured": ("not run here", "not reproduced"),
    "slips of the paper": ("paper inconsistent", "inconsistent"),
    "do not hold": ("differs", "contradicted"),
}
"""The verdicts in the words of the first page; the first of each lends its colour."""
_LEDGER = "ledger.html"


def named(name: str) -> str:
    """What the book calls a table, a figure or a section, by its id; other twins of a table go by the table's name."""
    name = name.partition("-")[0]
    if name in ("fig3", "text"):
        return {"fig3": "Figure 3", "text": "Text"}[name]
    if name in TABLES:
        return f"Table {name}"
    return table(name).title if name in FILES else f"Section {name}"


def verdict_bar(about: Sequence[Claim]) -> HTML:
    """What became of some claims of one kind: a bar, and its key that leads to the entries."""
    parts, key = "", ""
    for answer, verdicts in ANSWERS.items():
        found = [claim for claim in about if claim.verdict in verdicts]
        if not found:
            continue
        chosen = {"kind": found[0].kind, "verdict": ",".join(dict.fromkeys(claim.verdict for claim in found))}
        colour, told = verdict_class(verdicts[0]), f"{len(found)} {answer}"
        parts += f'<i class="{colour}" style="flex-grow:{len(found)}"></i>'
        key += f'<a class="{colour}" href="{_LEDGER}#{escape(_filter(**chosen))}">{told}</a> '
    return HTML(f'<div class="verdict-bar" aria-hidden="true">{parts}</div><p class="verdict-key">{key}</p>')


def _filter(**chosen: str) -> str:
    """The part of the ledger's address that chooses entries."""
    return "&".join(f"{name}={value.replace(' ', '+')}" for name, value in chosen.items())


def verdict_map(decided: Iterable[Claim]) -> HTML:
    """Every claim as a cell in its verdict's colour, by table, that leads to its entry in the ledger."""
    groups: dict[str, list[str]] = {}
    decided = list(decided)
    for claim in decided:
        told = escape(f"{claim.statement}: {claim.verdict}")
        groups.setdefault(claim.table, []).append(
            f'<a class="{verdict_class(claim.verdict)}" href="{_LEDGER}#{anchor(claim.id)}" '
            f'title="{told}" aria-label="{told}"></a>'
        )
    rows = "".join(
        f'<div><a class="verdict-map-name" href="{_LEDGER}#{_filter(table=name)}">{named(name)}</a>'
        f"<span>{''.join(groups[name])}</span></div>"
        for name in (*KNOWN, "text")
        if name in groups
    )
    found = {claim.verdict for claim in decided}
    kinds = "".join(f'<li class="{verdict_class(verdict)}">{verdict}</li>' for verdict in VERDICTS if verdict in found)
    return HTML(f'<div class="verdict-map" role="group" aria-label="Every claim">{rows}<ul>{kinds}</ul></div>')


def ledger_table(decided: Iterable[Claim]) -> HTML:
    """Every claim in a table that the page can search and sort: its rule, note and evidence fold out."""
    decided = list(decided)
    old = set(stale({file for claim in decided for file in claim.evidence}))
    lines = []
    for claim in decided:
        about = {"Rule": claim.rule, "Note": claim.note, "Files": ", ".join(claim.evidence), "Entry": claim.id}
        folded = "".join(f"<div>{name}: {escape(text)}</div>" for name, text in about.items() if text)
        published, measured = map(escape, figures(claim))
        verdict = claim.verdict + " (stale)" * (not old.isdisjoint(claim.evidence))
        lines.append(
            f'<tr id="{anchor(claim.id)}"><th scope="row"><details><summary>{escape(claim.statement)}</summary>'
            f'{folded}</details></th><td class="{verdict_class(claim.verdict)}">{verdict}</td>'
            f"<td>{claim.table}</td><td>{claim.kind}</td><td>{published}</td><td>{measured}</td></tr>"
        )
    headings = ("Claim", "Verdict", "Table", "Kind", "Published", "Here")
    head = "".join(f'<th scope="col">{name}</th>' for name in headings)
    return HTML(
        f'<div class="book-table" tabindex="0"><table class="ctnet ledger"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def tables_overview(decided: Sequence[Claim], pages: Mapping[str, str]) -> BookTable:
    """A row for each table of the paper: its page, and what became of its costs and directions.

    Args:
        decided: all claims.
        pages: table -> address of its page, where that is not its own.
    """
    rows = []
    for name in (*TABLES, "fig3"):
        cells: dict[str, str] = {
            "Table": Link(f"{named(name)}: {table(name).title}", pages.get(name, f"table-{name}.html"))
        }
        for kinds, heading in ((("cost", "exact"), "Costs and fields"), (("direction",), "Directions, on twins")):
            counts = Counter(claim.verdict for claim in decided if claim.table == name and claim.kind in kinds)
            told = count_verdicts(counts) or "–"
            cells[heading] = Link(told, f"{_LEDGER}#{_filter(table=name, kind=','.join(kinds))}") if counts else told
        rows.append(cells)
    return BookTable(pd.DataFrame(rows), "The paper's tables, and what became of them here.", "overview")

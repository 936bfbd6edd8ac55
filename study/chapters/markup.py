"""Tables of the book as HTML that eyes, screen readers, phones and printers can use."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

import pandas as pd


class Link(str):
    """The text of a cell that leads somewhere; it equals its text."""

    href: str

    def __new__(cls, text: str, href: str) -> "Link":
        """A cell with a text and an address."""
        link = super().__new__(cls, text)
        link.href = href
        return link


def anchor(name: str) -> str:
    """A claim's id, or a row's, as the id of an element: "2a/ct-module/gflops" becomes "2a-ct-module-gflops"."""
    return re.sub(r"[^\w.+()]+", "-", name.replace(">", "over")).strip("-")


def ledger_link(verdict: str, claim: str) -> Link:
    """A verdict that leads to the entry of its claim in the ledger.

    Args:
        verdict: the text.
        claim: its id.
    """
    return Link(verdict, f"ledger.html#{anchor(claim)}")


def verdict_class(verdict: str) -> str:
    """CSS classes of what has a verdict's colour."""
    return f"verdict verdict-{verdict.replace(' ', '-')}"


class BookTable:
    """A table of the book: verdicts by colour as well as in words, headings with their scope, the same in every build.

    Args:
        data: columns may be pairs of a group and a heading. The first column names the rows.
        caption: one line.
        kind: further CSS classes.
        notes: sentences below the table.
        anchors: ids of the rows.
    """

    def __init__(
        self,
        data: pd.DataFrame,
        caption: str,
        kind: str = "",
        notes: Iterable[str] = (),
        anchors: Sequence[str] | None = None,
    ) -> None:
        self.data, self.caption, self.kind, self.notes = data, caption, kind, list(notes)
        self.anchors = anchors

    def to_html(self) -> str:
        """The table with its notes."""
        ids = [f' id="{name}"' for name in self.anchors] if self.anchors else [""] * len(self.data)
        rows = zip(ids, self.data.itertuples(index=False, name=None), strict=True)
        body = "".join(f"<tr{name}>{self._cells(row)}</tr>" for name, row in rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f'<div class="book-table" tabindex="0"><table class="{f"ctnet {self.kind}".strip()}">'
            f"<caption><span>{escape(self.caption)}</span></caption><thead>{self._head()}</thead><tbody>{body}</tbody></table></div>"
            + f'<ul class="table-notes">{notes}</ul>'
            * bool(notes)
        )

    _repr_html_ = to_html

    def _head(self) -> str:
        columns = list(self.data.columns)
        if not isinstance(self.data.columns, pd.MultiIndex):
            return f"<tr>{''.join(_heading(column) for column in columns)}</tr>"
        groups = [(name, len(list(members))) for name, members in groupby(columns, key=lambda column: column[0])]
        above = "".join(_heading(name, count) if name else f'<td colspan="{count}"></td>' for name, count in groups)
        return f"<tr>{above}</tr><tr>{''.join(_heading(column[1]) for column in columns)}</tr>"

    def _cells(self, row: Sequence[object]) -> str:
        first, *rest = row
        cells = [f'<th scope="row">{_text(first)}</th>']
        for column, value in zip(self.data.columns[1:], rest, strict=True):
            heading = column[-1] if isinstance(column, tuple) else column
            shown = f' class="{verdict_class(str(value))}"' if "verdict" in str(heading).lower() else ""
            cells.append(f"<td{shown}>{_text(value)}</td>")
        return "".join(cells)


def _heading(text: object, columns: int = 1) -> str:
    scope = f'scope="colgroup" colspan="{columns}"' if columns > 1 else 'scope="col"'
    return f"<th {scope}>{escape(str(text))}</th>"


def _text(value: object) -> str:
    text = escape(str(value))
    return f'<a href="{escape(value.href)}">{text}</a>' if isinstance(value, Link) else text

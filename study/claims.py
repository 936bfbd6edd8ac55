"""A claim of the paper, and what can become of it. What decides it is in the module of its kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERDICTS = (
    "reproduced",
    "consistent",
    "within interval",
    "supported",
    "equivalent",
    "inconclusive",
    "under way",
    "not run yet",
    "not run here",
    "not reproduced",
    "paper inconsistent",
    "inconsistent",
    "contradicted",
    "differs",
)
"""All verdicts, from the best for the paper to the worst."""
HOLDS = VERDICTS[:4]
"""Verdicts of a claim that stands."""
AGAINST = VERDICTS[VERDICTS.index("not reproduced") :]
"""Verdicts of a claim that does not stand, or that nothing could be found to stand for."""


@dataclass(frozen=True)
class Claim:
    """One claim and what became of it.

    Attributes:
        kind: "cost", a printed one against that of the full-size network, and "exact", what else needs no data to be
            measured (both `study.exact`); "derived", recomputed from the paper's own
            numbers (`derived`); "direction", tested on twins (`directions`); "full size", an accuracy that only a run
            on the real dataset can measure (`fullscale`); "text", a sentence that other claims decide (`ledger`).
        table: the table, figure or section that makes it.
        subject: the row, the two rows of an order, or a name where the claim is of no row.
        column: of the table, or the measure of a figure.
        statement: in words.
        published, measured: values, where there are any.
        verdict: one of `VERDICTS`.
        note: why the verdict is what it is, where that needs a word.
        rule: what decides.
        evidence: files under `results` that the measured value comes from.
        topics: what else it bears on: tables whose numbers a section speaks of, "other method", "fitted", "views",
            "shared runs" of a direction that another table tests too.
    """

    kind: str
    table: str
    subject: str
    column: str
    statement: str
    published: Any
    measured: Any
    verdict: str
    note: str = ""
    rule: str = ""
    evidence: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its name in the ledger."""
        return claim_id(self.table, self.subject, self.column)


def claim_id(table: str, subject: str, column: str) -> str:
    """What the ledger calls a claim."""
    return "/".join(filter(None, (table, subject, column)))


def figure(value: Any) -> str:
    """A published or measured value in a few characters."""
    if isinstance(value, Mapping):
        kind = "+z.1f" if "mean" in value else "z.1f"
        return f"{value.get('mean', value.get('value')):{kind}} ({value['low']:z.1f} to {value['high']:z.1f})"
    if isinstance(value, float):
        return f"{value:{'.0e' if 0 < abs(value) < 1e-3 else '.4g' if abs(value) < 9999.5 else '.0f'}}"
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

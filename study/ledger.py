"""The ledger: every number of the paper's tables, and the claims of its text, each with its verdict."""

from collections.abc import Iterator, Mapping

from study.claims import HOLDS, VERDICTS, Claim
from study.derived import SECTIONS, derived_claims
from study.directions import direction_claims
from study.exact import exact_claims
from study.fullscale import accuracy_claims
from study.paper import TABLES, text_claims
from study.store import read, write

FILE = "ledger.json"
KNOWN = (*TABLES, "fig3", "3.3", *SECTIONS)
"""Tables, figures and sections that claims are on."""
_WEAKEST = "as good as the weakest of the claims that decide it"


def sentences(decided: Mapping[str, Claim]) -> Iterator[Claim]:
    """The claims of the running text, decided by others: each is as good as the weakest of them."""
    for number, sentence in enumerate(text_claims(), start=1):
        parts = [decided[name] for name in sentence["decided_by"]]
        verdict = max((part.verdict for part in parts), key=VERDICTS.index)
        weakest = [part.id for part in parts if part.verdict == verdict]
        yield Claim(
            "text",
            "text",
            str(number),
            "",
            f"{sentence['where']}: {sentence['claim']}",
            None,
            None,
            verdict,
            f"{len(weakest)} of {len(parts)} entries that decide it: {'; '.join(weakest)}",
            _WEAKEST,
            tuple(dict.fromkeys(file for part in parts for file in part.evidence)),
        )


def claims(tables: list[str] | None = None) -> list[Claim]:
    """Decide the claims of the ledger from the results.

    Args:
        tables: only claims on these tables, or of these sections of the text; all claims, and the sentences of the
            text that they decide, unless given.

    Raises:
        ValueError: for a table without claims, or when a kept result is damaged.
        FileNotFoundError: when a result is missing.
    """
    if unknown := [name for name in tables or () if name not in KNOWN]:
        raise ValueError(f"no claims on {', '.join(unknown)}; there are some on {', '.join(KNOWN)}")
    wanted = tables or list(KNOWN)
    decided = exact_claims([name for name in wanted if name in (*TABLES, "3.3")])
    if not set(wanted).isdisjoint((*SECTIONS, "4")):
        decided += [claim for claim in derived_claims() if claim.table in wanted]
    decided += [claim for name in wanted if name in TABLES for claim in accuracy_claims(name)]
    if not set(wanted) <= {"3.3", *SECTIONS}:
        decided += [claim for claim in direction_claims() if claim.table in wanted]
    if tables is None:
        decided += list(sentences({claim.id: claim for claim in decided}))
    return decided


def ledger_verdicts() -> dict[str, str]:
    """Verdict of each claim when the ledger was last written; empty when it never was."""
    return read(FILE) or {}


def write_ledger(decided: list[Claim]) -> None:
    """Write the verdicts to `results/ledger.json`, against which later ones are held."""
    write(FILE, {claim.id: claim.verdict for claim in decided})


def fallen(decided: list[Claim], before: Mapping[str, str]) -> list[Claim]:
    """Claims that stood in the ledger and stand no more; of those that are gone, see `vanished`."""
    return [claim for claim in decided if before.get(claim.id) in HOLDS and claim.verdict not in HOLDS]


def vanished(decided: list[Claim], before: Mapping[str, str]) -> list[str]:
    """Entries that stood in the ledger and are not among all the claims of today."""
    return sorted({name for name, verdict in before.items() if verdict in HOLDS} - {claim.id for claim in decided})

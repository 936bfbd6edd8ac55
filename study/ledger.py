"""The ledger: every number of the paper's tables, and the claims of its text, each with its verdict."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from study.claims import HOLDS, VERDICTS, Claim
from study.decisions import direction_claims
from study.derived import SECTIONS, derived_claims
from study.exact import exact_claims
from study.experiments import ROWS, Network
from study.fullscale import accuracy_claims
from study.provenance import read_json, write_json
from study.published import TABLES, results_dir, text_claims

_WEAKEST = "as good as the weakest of the claims that decide it"


def sentences(decided: Mapping[str, Claim]) -> Iterator[Claim]:
    """The claims of the running text, decided by others: each is as good as the weakest of them."""
    for number, sentence in enumerate(text_claims(), start=1):
        parts = [decided[name] for name in sentence["decided_by"]]
        verdict = max((part.verdict for part in parts), key=VERDICTS.index)
        weakest = [part.id for part in parts if part.verdict == verdict]
        yield Claim(
            f"text/{number}",
            "text",
            f"{sentence['where']}: {sentence['claim']}",
            None,
            None,
            verdict,
            f"{len(weakest)} of {len(parts)} entries that decide it: {'; '.join(weakest)}",
            _WEAKEST,
            tuple(dict.fromkeys(file for part in parts for file in part.evidence)),
            any(part.stale for part in parts),
        )


def claims(
    tables: list[str] | None = None, live: bool = False, progress: Callable[[list[Network]], Any] = list
) -> list[Claim]:
    """Decide the claims of the ledger from the results.

    Args:
        tables: only claims on these tables, or of these sections of the text; all claims, and the sentences of the
            text that they decide, unless given.
        live: measure all costs again, and keep them, instead of reading `results/cost`.
        progress: wraps the list of networks that are measured, for a progress bar.

    Raises:
        ValueError: for a table without claims, or when a kept result is damaged.
        FileNotFoundError: when a result is missing.
    """
    sections = ("3.3", *SECTIONS)
    known = [*TABLES, "fig3", *sections]
    if unknown := [table for table in tables or () if table not in known]:
        raise ValueError(f"no claims on {', '.join(unknown)}; there are some on {', '.join(known)}")
    wanted = tables or known
    decided = exact_claims([table for table in wanted if table in ("1", "3.3", *ROWS)], live, progress)
    decided += [claim for claim in derived_claims() if claim.id.split("/")[0] in wanted]
    decided += [claim for table in wanted if table in TABLES for claim in accuracy_claims(table)]
    if not set(wanted) <= set(sections):
        decided += [claim for claim in direction_claims() if claim.id.split("/")[0] in wanted]
    if tables is None:
        decided += list(sentences({claim.id: claim for claim in decided}))
    return decided


def ledger_verdicts() -> dict[str, str]:
    """Verdict of each claim when the ledger was last written; empty when it never was."""
    path = results_dir() / "ledger.json"
    return {entry["id"]: entry["verdict"] for entry in read_json(path)["claims"]} if path.is_file() else {}


def write_ledger(decided: list[Claim]) -> None:
    """Write the verdicts to `results/ledger.json`, against which later ones are held."""
    write_json(results_dir() / "ledger.json", {"claims": [asdict(claim) for claim in decided]})


def fallen(decided: list[Claim], before: Mapping[str, str]) -> list[Claim]:
    """Claims that stood in the ledger and stand no more; of those that are gone, see `vanished`."""
    return [claim for claim in decided if before.get(claim.id) in HOLDS and claim.verdict not in HOLDS]


def vanished(decided: list[Claim], before: Mapping[str, str]) -> list[str]:
    """Entries that stood in the ledger and are not among all the claims of today."""
    return sorted({name for name, verdict in before.items() if verdict in HOLDS} - {claim.id for claim in decided})

"""Verdicts on directions: those of a table share one rate of error."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from study.claims import Claim
from study.directions import LEVEL, Direction, directions
from study.localisation import localisation_claims
from study.outcomes import read_result
from study.published import results_dir
from study.statistics import Difference, holm

Decided = tuple[Direction, Difference | None, str]


def decide() -> list[Decided]:
    """Every direction with its difference and its verdict, error rate kept over each table's (Holm, 1979)."""
    folder = results_dir()
    files = [*folder.glob("runs/*.json"), *folder.glob("published/*.json"), *folder.glob("localisation.json")]
    return _decide(tuple((path, path.stat().st_mtime_ns) for path in sorted(files)))


@lru_cache(maxsize=1)
def _decide(files: tuple[tuple[Path, int], ...]) -> list[Decided]:
    found = [(direction, direction.measure()) for direction in directions() + localisation_claims()]
    decided: list[Decided] = []
    for _, group in groupby(found, key=lambda pair: pair[0].table):
        together = list(group)
        # What is not complete counts among the comparisons, so that a verdict does not turn when more of them are.
        adjusted = holm({d.id: m.p if m and d.is_complete() else 1.0 for d, m in together})
        decided += [(d, m, d.verdict(m, adjusted[d.id])) for d, m in together]
    return decided


def detectable(table: str) -> dict[str, float]:
    """The smallest difference that each of a table's directions could have shown, as the first, with 80 % power."""
    found = [(direction.id, measured) for direction, measured, _ in decide() if direction.table == table]
    return {name: measured.detectable(LEVEL / len(found)) for name, measured in found if measured}


def direction_claims() -> Iterator[Claim]:
    """Every direction as a claim of the ledger."""
    first: dict[frozenset[str], Direction] = {}
    for direction, measured, verdict in decide():
        runs = frozenset(file for file in direction.files if file.startswith("runs/"))
        same = first.setdefault(runs, direction) if runs else direction
        kept = {file: content for file in direction.files if (content := read_result(file))}
        yield Claim(
            direction.id,
            "direction",
            direction.statement,
            direction.published,
            measured and _as_data(measured),
            verdict,
            note=f"the same runs as {same.id}" if same.table != direction.table else "",
            rule=direction.rule,
            evidence=tuple(kept),
            stale=any(map(direction.stale, kept.values())),
        )


def _as_data(found: Difference) -> dict[str, float]:
    values = {"mean": found.mean, "low": found.low, "high": found.high, "p": found.p}
    return {key: round(value, 4) for key, value in values.items()} | {"seeds": found.seeds, "clips": found.clips}

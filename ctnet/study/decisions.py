"""Verdicts on all directions of the study together, which share one rate of error."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from ctnet.analysis.statistics import Difference, holm
from ctnet.study.claims import Claim
from ctnet.study.directions import Direction, directions, read_result
from ctnet.study.localisation import localisation_claims
from ctnet.study.published import results_dir

Decided = tuple[Direction, Difference | None, str]


def decide() -> list[Decided]:
    """Every direction with its difference and its verdict, error rate kept over all of them (Holm, 1979)."""
    folder = results_dir()
    files = [*folder.glob("runs/*.json"), *folder.glob("published/*.json"), *folder.glob("localisation.json")]
    return _decide(tuple((path, path.stat().st_mtime_ns) for path in sorted(files)))


@lru_cache(maxsize=1)
def _decide(files: tuple[tuple[Path, int], ...]) -> list[Decided]:
    found = [(direction, direction.measure()) for direction in directions() + localisation_claims()]
    # What is not complete counts among the comparisons, so that a verdict does not turn when more of them are.
    adjusted = holm({direction.id: m.p if m and direction.is_complete(m) else 1.0 for direction, m in found})
    return [(direction, m, direction.verdict(m, adjusted[direction.id])) for direction, m in found]


def direction_claims() -> Iterator[Claim]:
    """Every direction as a claim of the ledger."""
    for direction, measured, verdict in decide():
        kept = {file: content for file in direction.files if (content := read_result(file))}
        yield Claim(
            direction.id,
            "direction",
            direction.statement,
            direction.published,
            measured and {key: round(value, 4) for key, value in asdict(measured).items()},
            verdict,
            rule=direction.rule,
            evidence=tuple(kept),
            stale=any(map(direction.stale, kept.values())),
        )

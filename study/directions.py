"""Directions: what the paper says is better than what, held against trained twins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import saliency
from study.claims import Claim, claim_id
from study.paper import DATASET_NAMES, Lead, Row, table
from study.runs import Twin, paired, run_file, seeds_of, trained_tables, twins_of
from study.statistics import (
    LEVEL,
    MARGIN,
    Difference,
    decide_in_looks,
    difference_of_differences,
    paired_difference,
)
from study.store import read, results_dir, stamp

_RULES = {
    1: "the 95 % interval of the {} excludes 0, and p < 5 % after Holm's correction over the table's directions; "
    f"equivalent if not, and its 90 % interval lies within ±{MARGIN:g} points",
    2: "open after the table's own seeds; with more, p of the {} < 2.5 % after Holm's correction over the directions "
    "that these neither supported nor contradicted; equivalent if not, and its 95 % interval lies within "
    f"±{MARGIN:g} points",
}
"""Of verdicts, by the look that decided."""


@dataclass(frozen=True)
class Direction:
    """Something that the paper says of accuracies or of saliency, and what the twins say.

    Attributes:
        table: id of the table, or of the figure.
        subject: what is better than what.
        column: of accuracies, or the measure.
        label: what is subtracted from what.
        statement: the claim in words.
        published: the printed difference in points, if there is one.
        found: the twins' difference; None as long as it cannot be told.
        is_complete: whether that is of all seeds. Fewer tell where a difference tends, and may still turn.
        files: under `results`, that it is measured on.
        of_a_seed: those of them that are of its first seed's runs: what it compares, however many seeds it has.
        compared: what the interval is of.
        tested: directions of the table; in a second look, those that the first neither supported nor contradicted.
        p: corrected for all that is tested together, and doubled in a second look.
        verdict: likewise.
        before: the twins' difference in the first look, where all else is of a second, with more seeds.
    """

    table: str
    subject: str
    column: str
    label: str
    statement: str
    published: float | None
    found: Difference | None
    is_complete: bool
    files: tuple[str, ...]
    of_a_seed: tuple[str, ...] = ()
    compared: str = "paired difference"
    tested: int = 1
    p: float = 1.0
    verdict: str = ""
    before: Difference | None = None

    @property
    def id(self) -> str:
        """Of its claim in the ledger."""
        return claim_id(self.table, self.subject, self.column)

    @property
    def look(self) -> int:
        """Which look at the twins it is of: 1, or 2."""
        return 2 if self.before else 1

    @property
    def visible(self) -> float:
        """The smallest true difference that it could have shown, as the first of its table, with 80 % power."""
        return self.found.detectable(LEVEL / self.look / self.tested) if self.found else float("nan")

    @property
    def narrow(self) -> tuple[float, float] | None:
        """The interval by which it is equivalent or not: of 90 %, and in a second look of 95 %."""
        return self.found.interval(2 * LEVEL / self.look) if self.found else None

    @property
    def tendency(self) -> str:
        """Which way it leans as long as it is not decided; "" when it is."""
        if self.found is None or self.verdict not in ("inconclusive", "under way"):
            return ""
        return f"leans {'towards' if self.found.mean > 0 else 'against'} the paper"


def directions() -> list[Direction]:
    """Every ordering that the paper's text claims, or its Tables 3 and 5 show, and twins can test; and, asked by this
    study alone, Table 5's on HMDB51, where the paper has no TSN. The error rate is kept over each table (Holm, 1979).
    """
    folder = results_dir()
    files = [*folder.glob("runs/*.json"), *folder.glob("published/*.json"), folder / saliency.FILE]
    return _directions(tuple((path, stamp(path)) for path in sorted(files) if path.exists()))


@lru_cache(maxsize=2)
def _directions(files: tuple[tuple[Path, tuple[int, int, int]], ...]) -> list[Direction]:
    return [
        decided for _, group in groupby(_asked(), key=lambda looks: looks[0].table) for decided in _decided(list(group))
    ]


def _decided(asked: list[tuple[Direction, Direction | None]]) -> list[Direction]:
    """The directions of a table with their verdicts, of the look that decided."""
    first, second = ([_whole(direction) for direction in look] for look in zip(*asked, strict=True))
    decided = []
    for (own, more), made in zip(asked, decide_in_looks(first, second), strict=True):
        verdict = made.verdict or ("under way" if own.found else "not run yet")
        seen = replace(more, before=own.found) if more and made.look == 2 else own
        decided.append(replace(seen, tested=made.tested, p=made.p, verdict=verdict))
    return decided


def _whole(direction: Direction | None) -> Difference | None:
    """What a direction shows once all its seeds are there."""
    return direction.found if direction and direction.is_complete else None


def decide_together(asked: Sequence[Direction], margin: float = MARGIN) -> list[str]:
    """The verdicts on directions if they were corrected together, or had another margin; "" for what is not run."""
    first = [direction.before or _whole(direction) for direction in asked]
    second = [direction.found if direction.before else None for direction in asked]
    return [made.verdict for made in decide_in_looks(first, second, margin)]


def _asked() -> Iterator[tuple[Direction, Direction | None]]:
    """Every direction, and with the seeds of a second look where it is given one."""
    for name in trained_tables():
        declared = table(name)
        for column, pairs in declared.orders.items():
            for pair in pairs:
                better, worse = (declared.rows[row] for row in pair)
                if name == "fig3":
                    yield _saliency(column, better, worse), None
                else:
                    again = declared.second_look if pair in declared.asked_again(column) else None
                    own = _accuracy(column, better, worse, seeds_of(name))
                    yield own, _accuracy(column, better, worse, again.seeds) if again else None
        yield from ((_smaller_lead(name, lead), None) for lead in declared.leads)


def _accuracy(column: str, better: Row, worse: Row, seeds: Sequence[int]) -> Direction:
    """One row of a table is more accurate than another in one column."""
    name, about = better.table, table(better.table)
    twins = [twins_of(name)[row.id, column] for row in (better, worse)]
    *names, shared = _names_apart(*(twin.label for twin in twins))
    values = [row.printed[column] for row in (better, worse)]
    several = DATASET_NAMES[about.columns[column].dataset or ""] if len(about.twins) > 1 else ""
    where = f" on {several}" if several else shared
    return Direction(
        name,
        f"{better.id} > {worse.id}",
        column,
        " − ".join(names) + (f" ({several})" if several else shared),
        f"Table {name}: accuracy is higher with {names[0]} than with {names[1]}{where}",
        None if None in values else round(float(values[0] - values[1]), 1),
        *_difference(twins, lambda right: right[1], seeds),
        _files(twins, seeds),
        _files(twins, seeds[:1]),
    )


def _difference(
    twins: list[Twin], rest: Callable[[list[NDArray[Any]]], NDArray[Any]], seeds: Sequence[int]
) -> tuple[Difference | None, bool]:
    """How much more accurate the first of some twins is than what `rest` makes of all; whether with all seeds."""
    right = paired(twins, seeds)
    whole = right is not None and len(right[0]) == len(seeds)
    return paired_difference(right[0], rest(right)) if right else None, whole


def _names_apart(one: str, other: str) -> tuple[str, str, str]:
    """Two labels of rows without what they have in common, and that in brackets: it follows both."""
    parts = one.split(", "), other.split(", ")
    common = [part for part in parts[0] if part in parts[1]]
    own = [", ".join(part for part in each if part not in common) for each in parts]
    return (own[0], own[1], f" ({', '.join(common)})") if common and all(own) else (one, other, "")


def _smaller_lead(name: str, lead: Lead) -> Direction:
    """A row leads the mean of others by less in one place than in another, as appendix A.5 says of Mini-Kinetics."""
    rows, places = (lead.row, *lead.over), (lead.larger, lead.smaller)
    twins = [[twins_of(of)[row, column] for row in rows] for of, column in places]
    (larger, whole), (smaller, also) = (
        _difference(each, lambda right: np.mean(right[1:], axis=0), seeds_of(of))
        for each, (of, _) in zip(twins, places, strict=True)
    )
    printed = [[table(of).rows[row].printed[column] for row in rows] for of, column in places]
    first, second = (own - float(np.mean(others)) for own, *others in printed)
    return Direction(
        name,
        lead.subject,
        "",
        lead.label,
        f"Table {name}: {lead.statement}",
        round(first - second, 1),
        difference_of_differences(larger, smaller) if larger and smaller else None,
        whole and also,
        tuple(file for each, (of, _) in zip(twins, places, strict=True) for file in _files(each, seeds_of(of))),
        compared="difference of the two leads",
    )


def _files(twins: list[Twin], seeds: Sequence[int]) -> tuple[str, ...]:
    """The files of some twins' runs, and of their ensembles, for some seeds."""
    seeded = [(twin, seed) for twin in twins for seed in seeds]
    names = [name for twin, seed in seeded for name in twin.names(seed)]
    names += [run.seeded(seed).name for twin, seed in seeded if twin.fused for run in twin.runs]
    return tuple(dict.fromkeys(map(run_file, names)))


_BETTER = {
    "energy_share": "{} has more of its saliency on the objects that act than {}",
    "pointing_game": "the maximum of {}'s saliency lies on an acting object more often than that of {}",
    "action_share": "{} has more of its saliency in the frames in which something acts than {}",
    "scatter": "the saliency of {} is scattered farther over the frames than that of {}",
}


_CAUTION = {
    "action_share": "the masks of the acting objects score no more than a uniform map: it rewards weight in certain "
    "frames, not on what acts in them",
    "scatter": 'it tells how wide a map is, not into how many places it falls; CT-Net\'s "larger area" would raise it',
}


def _saliency(measure: str, one: Row, other: Row) -> Direction:
    """What section 4.3 says of where networks look, as a difference of a measure in percentage points."""
    content = saliency.content()
    names = one.label, other.label
    shares = [saliency.measured(content, row.id, measure) for row in (one, other)] if content else []
    return Direction(
        "fig3",
        f"{one.id} > {other.id}",
        measure,
        " − ".join(names),
        "Figure 3: " + _BETTER[measure].format(*names),
        None,
        paired_difference(*shares) if shares else None,
        bool(shares),
        (saliency.FILE,),
    )


def direction_claims() -> Iterator[Claim]:
    """Every direction as a claim of the ledger."""
    first: dict[frozenset[str], Direction] = {}
    for direction in directions():
        runs = frozenset(direction.of_a_seed)
        same = first.setdefault(runs, direction) if runs else direction
        claim = Claim(
            "direction",
            direction.table,
            direction.subject,
            direction.column,
            direction.statement,
            direction.published,
            direction.found and _as_data(direction.found),
            direction.verdict,
            rule=_RULES[direction.look].format(direction.compared),
            evidence=tuple(file for file in direction.files if read(file)),
        )
        shares = same.table != direction.table
        of = "the same runs as" if set(same.files) == set(direction.files) else "shares runs with"
        shared = f"{of} {same.table}/{same.subject}/{same.column}" if shares else ""
        topics = ("shared runs",) if shares else ()
        notes = (direction.tendency, _CAUTION.get(direction.column), shared)
        yield replace(claim, note="; ".join(filter(None, notes)), topics=topics)


def _as_data(found: Difference) -> Mapping[str, float]:
    low, high = found.likely
    values = {"mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "low90": low, "high90": high}
    return {key: round(value, 4) for key, value in values.items()} | {"seeds": found.seeds, "clips": found.clips}

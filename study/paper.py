"""The paper as data: a row of a table is declared once, in `results/published`, with all that is known of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from study.store import config_hash, damaged, read, results_dir, stamp

TABLES = ("1", "2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h", "3", "4", "5", "6", "7", "8")
"""Tables of the paper."""
FILES = {name: f"table_{name}" for name in TABLES} | {
    "2g-sgd": "table_2g",
    "fig3": "figure_3",
    "fig3-pictured": "figure_3",
    "zoo": "zoo",
    "pilot": "pilot",
}
"""What is declared in `results/published`: the tables, Figure 3, the zoo, and the pilots of protocols 2 and 3. Behind a
"-" stand other twins of the same rows, on which no order is decided: Table 2g's by the paper's optimizer, larger ones
of Figure 3 for its pictures, and "next", what a table is being run with: its verdicts rest on the runs of before until
all of these are done. None is decided on the pilots either."""
DATASET_NAMES = {
    "somethingv1": "SSv1",
    "somethingv2": "SSv2",
    "kinetics": "Kinetics-400",
    "mini-kinetics": "Mini-Kinetics",
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
}
"""The paper's datasets by the names that recipes have for them, as its tables call them."""
PLAIN: dict[str, Any] = {"excitation": "none", "pointwise": False}
"""Options of the CT-Module alone, as in Tables 2a-2f and 7: no PWConv, no TE."""
OWN = ("tsn", "ctnet", "c3d", "r2plus1d", "csn")
"""What the paper built itself, by the first part of a network's name: TSN, CT-Net and the modules of Table 2a."""


@dataclass(frozen=True)
class Network:
    """A network at the size that a row is about. The fields are those of `ctnet.create_model` and `count_cost`."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    frames: int = 8
    size: int = 256
    classes: int = 174

    def config(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    @property
    def key(self) -> str:
        """Hash of the configuration, by which costs are found."""
        return config_hash(self.config())

    @property
    def is_other_method(self) -> bool:
        """Whether the paper has its cost from another paper, and did not count it itself."""
        return self.model.partition("_")[0] not in OWN


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Attributes:
        heading: above it.
        unit: of its numbers; None where it tells what a row is.
        dataset: of accuracies, one of `DATASET_NAMES`.
        k: of top-k accuracies.
        shown: whether the book's tables have it.
    """

    heading: str
    unit: str | None = None
    dataset: str | None = None
    k: int = 1
    shown: bool = True


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table: what the paper prints, and what is measured and trained for it.

    Attributes:
        table, id: where it stands.
        printed: column -> value, None where the paper prints nothing.
        networks: whose cost is measured; several of an ensemble, none where nothing stands for the row.
        view: crops x clips that each network sees of a video.
        twin: how its twin differs from the networks, see `study.runs`; None where none is trained.
        note: what a reader must know of the printed row.
        inferred: what its network leaves out, or what in it was chosen for the printed cost.
        not_measured: why no network stands for it.
        unreadable: columns whose print could not be read, so that nothing can be held against it.
        other_figure: another printed figure that contradicts the GFLOPs: its arithmetic, and what it leaves.
    """

    table: str
    id: str
    printed: dict[str, Any]
    networks: tuple[Network, ...] = ()
    view: str = "1x1"
    twin: dict[str, Any] | None = None
    note: str = ""
    inferred: str = ""
    not_measured: str = ""
    unreadable: tuple[str, ...] = ()
    other_figure: tuple[str, float] | None = None

    @property
    def views(self) -> int:
        """How many clips of T frames a network sees of a video."""
        return math.prod(map(int, self.view.split("x")))

    @cached_property
    def label(self) -> str:
        """What the row is about, in the table's own words: "CT-Net, 2D R50, 8x3x2", "K = 2"."""
        names = {column: self.printed[column] for column, about in table(self.table).columns.items() if not about.unit}
        if "||" in str(names.get("c1")):  # spatial and temporal kernels of two sub-operations: "1x3x3 || 3x1x1"
            return "kernels = " + " and ".join(max(filter(str.isdigit, names[column])) for column in ("c1", "c2"))
        told = {column: v for column, v in names.items() if v is not None and column not in ASIDE}
        return ", ".join(_named(column, value) for column, value in told.items())


ASIDE = ("stages", "pretrain")
"""Columns that tell of a row what its label leaves out."""
_SYMBOLS = {"k": "K", "c1": "C₁", "c2": "C₂"}


def _named(column: str, value: Any) -> str:
    if column == "frames" and str(value).isdigit():
        return f"{value} frames"
    return value if isinstance(value, str) and column not in _SYMBOLS else f"{_SYMBOLS.get(column, column)} = {value}"


@dataclass(frozen=True)
class Lead:
    """What the paper says of two orders together: a row leads the mean of others by less in one place than in another.

    Attributes:
        subject, label, statement: of the direction that it is, see `study.directions`.
        row: the one that leads.
        over: rows that it leads.
        larger, smaller: table and column of accuracies where the lead is so.
    """

    subject: str
    label: str
    statement: str
    row: str
    over: Sequence[str]
    larger: tuple[str, str]
    smaller: tuple[str, str]


@dataclass(frozen=True)
class CostOrder:
    """What the paper says of how the cost moves along a table.

    Attributes:
        statement: in the paper's words.
        order: of the rows, in a word.
        dearer: pairs of rows of which the first must cost more, for the statement to hold.
        note: what else is to be known.
    """

    statement: str
    order: str
    dearer: Sequence[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True)
class SecondLook:
    """More seeds for orders that a table's own number left open, named before the first of these runs.

    Attributes:
        seeds: that the rows of these orders are trained with, the first ones included.
        orders: column -> pairs of rows, some of the table's.
    """

    seeds: range
    orders: Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the paper, as `results/published` declares it.

    Attributes:
        id, title, claim: the last is what the paper says with it.
        columns, rows: by their ids.
        seeds: that its twins are trained with.
        twins: column of accuracies -> how the twins for it are trained, see `study.runs`. Its file may hold
            seeds and twins of the same rows for "others": the "sgd" of Table 2g are what "2g-sgd" stands for.
        orders: column, or measure -> pairs of rows of which the paper says that the first is better.
        leads: what it says of several orders together.
        costs: what it says of how the cost moves from row to row.
        second_look: which orders are given more seeds.
    """

    id: str
    title: str
    claim: str
    columns: Mapping[str, Column]
    rows: Mapping[str, Row]
    seeds: int
    twins: Mapping[str, dict[str, Any]]
    orders: Mapping[str, list[tuple[str, str]]]
    leads: Sequence[Lead] = ()
    costs: CostOrder | None = None
    second_look: SecondLook | None = None

    @cached_property
    def printed(self) -> pd.DataFrame:
        """What is printed: a line for each row under its id, None where the paper prints nothing."""
        frame = pd.DataFrame([row.printed for row in self.rows.values()], list(self.rows), dtype=object)
        return frame.where(frame.notna(), None)

    def asked_again(self, column: str) -> Sequence[tuple[str, str]]:
        """The orders of a column that have a second look."""
        return self.second_look.orders.get(column, ()) if self.second_look else ()

    @property
    def accuracies(self) -> dict[str, Column]:
        """The columns of accuracies."""
        return {name: column for name, column in self.columns.items() if column.dataset}

    @property
    def networks(self) -> dict[str, Network]:
        """Every network that stands behind a row, once, under the hash of its configuration."""
        return {network.key: network for row in self.rows.values() for network in row.networks}


def table(name: str) -> Table:
    """One of `FILES`, such as "2a".

    Raises:
        ValueError: for another name, or when its file is damaged.
    """
    if name not in FILES:
        raise ValueError(f"the paper has no table {name!r}; its tables are {', '.join(TABLES)}")
    path = results_dir() / "published" / f"{FILES[name]}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: restore it with git")
    return _table(name, path, stamp(path))


@lru_cache(maxsize=64)
def _table(name: str, path: Path, stamp: tuple[int, int, int]) -> Table:
    content = read(f"published/{path.name}") or {}
    try:
        if other := name.partition("-")[2]:
            kept: dict[str, Any] = {"table": name, "claim": "", "orders": {}, "leads": [], "second_look": None}
            content = {key: value for key, value in content.items() if key not in ("seeds", "twins", "costs")} | kept
            content |= content["others"][other]
        return _declared(**content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, repr(error)) from error


def _declared(
    *,
    table: str,
    title: str,
    columns: dict[str, dict[str, Any]],
    network: dict[str, Any],
    rows: list[dict[str, Any]],
    claim: str = "",
    seeds: int = 0,
    twins: dict[str, dict[str, Any]] | None = None,
    orders: dict[str, list[list[str]]] | None = None,
    leads: list[dict[str, Any]] | None = None,
    costs: dict[str, Any] | None = None,
    second_look: dict[str, Any] | None = None,
    others: dict[str, dict[str, Any]] | None = None,
) -> Table:
    about = {name: Column(**told) for name, told in columns.items()}
    found = {row["id"]: _row(table, network, **row) for row in rows}
    if len(found) < len(rows):
        raise ValueError("two rows have one id")
    if wrong := [name for name, row in found.items() if row.printed.keys() != about.keys()]:
        raise ValueError(f"rows print other columns than the table has: {', '.join(wrong)}")
    pairs = _pairs(orders or {})
    again = None if second_look is None else _second_look(**second_look)
    if again and any(pair not in pairs.get(column, ()) for column, listed in again.orders.items() for pair in listed):
        raise ValueError("the second look names orders that the table does not have")
    if again and not again.orders.keys() <= (twins or {}).keys():
        raise ValueError(f"the second look is at columns for which no twins are trained: {', '.join(again.orders)}")
    if again and len(again.seeds) <= seeds:
        raise ValueError(f"the second look takes more seeds than {seeds}, got {len(again.seeds)}")
    order = CostOrder(**costs) if costs else None
    compared = [*(pair for listed in pairs.values() for pair in listed), *(order.dearer if order else ())]
    if unknown := {row for pair in compared for row in pair} - found.keys():
        raise ValueError(f"orders name rows that are not there: {', '.join(sorted(unknown))}")
    if untrained := {row for listed in pairs.values() for pair in listed for row in pair if found[row].twin is None}:
        raise ValueError(f"orders name rows without a twin: {', '.join(sorted(untrained))}")
    if free := {row for pair in (order.dearer if order else ()) for row in pair if not found[row].networks}:
        raise ValueError(f"the order of costs names rows without a network: {', '.join(sorted(free))}")
    together = [Lead(**told) for told in leads or ()]
    return Table(table, title, claim, about, found, seeds, twins or {}, pairs, together, order, again)


def _second_look(*, seeds: int, orders: dict[str, list[list[str]]]) -> SecondLook:
    return SecondLook(range(seeds), _pairs(orders))


def _pairs(orders: dict[str, list[list[str]]]) -> dict[str, list[tuple[str, str]]]:
    return {column: [(better, worse) for better, worse in listed] for column, listed in orders.items()}


def _row(
    table: str,
    usual: dict[str, Any],
    *,
    network: dict[str, Any] | None = None,
    networks: list[dict[str, Any]] | None = None,
    unreadable: list[str] | None = None,
    other_figure: list[Any] | None = None,
    **fields: Any,
) -> Row:
    built = networks if networks is not None else [network] if network is not None else []
    return Row(
        table,
        networks=tuple(Network(**(usual | changes)) for changes in built),
        unreadable=tuple(unreadable or ()),
        other_figure=(other_figure[0], other_figure[1]) if other_figure else None,
        **fields,
    )


def all_rows(*tables: str) -> Iterator[Row]:
    """Every row of some tables; of the paper's own unless given."""
    for name in tables or TABLES:
        yield from table(name).rows.values()


def half_a_digit(printed: float) -> float:
    """How far a value may lie from a printed figure that it rounds to; figures have one decimal or none."""
    return 0.5 if isinstance(printed, int) else 0.05


def text_claims() -> list[dict[str, Any]]:
    """Claims of the running text: where they stand, what they say, and which other claims decide them."""
    return _published("text_claims")["claims"]


def training_settings() -> list[dict[str, Any]]:
    """How the paper (appendix A.1) and the authors' scripts train, as far as they tell: a setting each, by dataset."""
    return _published("training")["settings"]


def released_tests() -> list[dict[str, Any]]:
    """What the authors' scripts tell of the weights that they released: a test each, by view and size.

    Accuracies are percentages on Something-Something V1; "row" is the row of Table 6 that is tested alike.
    """
    return _published("released")["tests"]


def _published(name: str) -> dict[str, Any]:
    content = read(f"published/{name}.json")
    if content is None:
        raise FileNotFoundError(f"{results_dir()}/published/{name}.json is missing: restore it with git")
    return content

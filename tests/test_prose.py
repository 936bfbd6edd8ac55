"""What people wrote in the chapters agrees with the results: a paragraph lists the verdicts that it rests on."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from study.directions import directions
from study.ledger import claims
from study.paper import table
from study.runs import accuracy_table, trained_tables, twins_of

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: Mapping) -> str:
    return "".join(cell["source"])


def assumptions(path: Path) -> Iterator[tuple[dict, str, str]]:
    """Every paragraph of a chapter with what it rests on: the name of a result, and what that is taken to be."""
    for cell in cells(path, "markdown"):
        for name, taken in cell["metadata"].get("ctnet", {}).get("assumes", {}).items():
            yield cell, name, taken


@cache
def results() -> dict[str, tuple[str, float | None]]:
    """Verdict and measured number of every claim by its id; the accuracy of every twin as twins/TABLE/ROW/COLUMN."""
    found = {}
    for claim in claims():
        value = claim.measured.get("mean") if isinstance(claim.measured, Mapping) else claim.measured
        found[claim.id] = claim.verdict, value if isinstance(value, float) else None
    for name in trained_tables():
        several = len(table(name).twins) > 1
        accuracies = accuracy_table(name)["accuracy"]
        for (row, column), accuracy in zip(twins_of(name), accuracies, strict=True):
            found[f"twins/{name}/{row}" + f"/{column}" * several] = "", float(accuracy)
    return found


def told(name: str, taken: str) -> str:
    """What a result is today, in the form in which a paragraph takes it: "verdict", "verdict, +1.2" or "3.4"."""
    verdict, value = results()[name]
    number = re.search(r"[+-]?\d+(?:\.(\d+))?$", taken)
    shown = f"{value:{'+' * (number[0][0] in '+-')}z.{len(number[1] or '')}f}" if number and value is not None else ""
    return ", ".join(filter(None, (verdict, shown)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_paragraphs_rest_on_the_results_of_today(path):
    for cell, name, taken in assumptions(path):
        where = f"{path.name}, paragraph {cell['id']}"
        assert name in results(), f"{where}: no result is named {name}"
        assert told(name, taken) == taken, f"{where}: rewrite this paragraph, {name} is now {told(name, taken)}"
        number = taken.rpartition(", ")[2].lstrip("+-")
        if number[0].isdigit():
            assert number in source(cell), f"{where} takes {number} from {name} and does not tell it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_paragraph_tells_of_every_direction_that_a_chapter_shows(path):
    shown = re.findall(r"^direction_table\(\"(\w+)\"\)", "\n".join(map(source, cells(path, "code"))), re.MULTILINE)
    taken = {name for _, name, _ in assumptions(path)}
    for name in shown:
        asked = {f"{d.table}/{d.subject}/{d.column}".rstrip("/") for d in directions() if d.table == name}
        assert asked - taken == set(), f"{path.name}: no paragraph rests on these verdicts"

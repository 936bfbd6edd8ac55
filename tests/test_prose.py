"""What people wrote in the chapters agrees with the results: a paragraph lists the verdicts that it rests on."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from study.chapters.motions import motion_accuracies
from study.directions import directions
from study.ledger import claims
from study.paper import table
from study.runs import TRIALS, accuracy_table, trained_tables, twins_of
from study.speed import times
from study.store import read

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
WIDTH = 79  # characters of a line of code that fit into their box
PLUMBING = r"^(from study|set_style\(|card\(|\w+_table\()"


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: Mapping) -> str:
    return "".join(cell["source"])


def tags(cell: Mapping) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def assumptions(path: Path) -> Iterator[tuple[dict, str, str]]:
    """Every paragraph of a chapter with what it rests on: the name of a result, and what that is taken to be."""
    for cell in cells(path, "markdown"):
        for name, taken in cell["metadata"].get("ctnet", {}).get("assumes", {}).items():
            yield cell, name, taken


@cache
def results() -> dict[str, tuple[str, float | None]]:
    """Verdict and measured number of every claim by its id; accuracies of twins as twins/TABLE/ROW/COLUMN, and those of
    a motion as motions/NETWORK/MOTION; means of maps as saliency/KIND/ROW/MEASURE; CT-Net's time over TSN's as
    time/RUNTIME."""
    found = {}
    for claim in claims():
        value = claim.measured.get("mean") if isinstance(claim.measured, Mapping) else claim.measured
        found[claim.id] = claim.verdict, value if isinstance(value, float) else None
    for name in (TRIALS, *trained_tables()):
        several = len(table(name).twins) > 1
        accuracies = accuracy_table(name)["accuracy"]
        for (row, column), accuracy in zip(twins_of(name), accuracies, strict=True):
            found[f"twins/{name}/{row}" + f"/{column}" * several] = "", float(accuracy)
    for network, by_motion in motion_accuracies().items():
        found |= {f"motions/{network}/{motion}": ("", float(accuracy)) for motion, accuracy in by_motion.items()}
    for kind, means in read("saliency.json")["means"].items():
        for row, measures in means.items():
            found |= {f"saliency/{kind}/{row}/{measure}": ("", float(mean[0])) for measure, mean in measures.items()}
    ms = times("runtimes").pivot_table(index="backend", columns="model", values="ms")
    found |= {f"time/{runtime}": ("", row["ctnet_r50"] / row["tsn_r50"]) for runtime, row in ms.iterrows()}
    return found


def told(name: str, taken: str) -> str:
    """What a result is today, in the form in which a paragraph takes it: "verdict", "verdict, +1.2" or "3.4"."""
    verdict, value = results()[name]
    number = re.search(r"[+-]?\d+(?:\.(\d+))?$", taken)
    shown = f"{value:{'+' * (number[0][0] in '+-')}z.{len(number[1] or '')}f}" if number and value is not None else ""
    return ", ".join(filter(None, (verdict, shown)))


def test_paragraphs_say_what_they_rest_on():
    assert len([name for path in NOTEBOOKS for _, name, _ in assumptions(path)]) > len(directions())


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_plumbing_is_folded(path):
    """What fetches from the study, style and tables; code that a reader should see has none of that."""
    for cell in cells(path, "code"):
        if re.search(PLUMBING, source(cell), re.MULTILINE):
            assert tags(cell) & {"hide-input", "remove-input", "hide-cell", "remove-cell"}, source(cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_lines_of_code_are_no_longer_than_their_box(path):
    code = [source(cell) for cell in cells(path, "code")]
    blocks = [block for cell in cells(path, "markdown") for block in re.findall(r"^    .*", source(cell), re.MULTILINE)]
    assert [line for text in (*code, *blocks) for line in text.splitlines() if len(line) > WIDTH] == []


def shown_sources(path: Path) -> list[str]:
    """The package's code that a chapter shows unfolded."""
    code, found = cells(path, "code"), []
    names: dict = {}
    for cell in code:
        for node in ast.parse(source(cell)).body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                exec(compile(ast.Module([node], []), path.name, "exec"), names)
    for cell in code:
        if tags(cell).isdisjoint({"hide-output", "hide-cell"}):
            for call in re.findall(r"^source\(.*\)$", source(cell), re.MULTILINE):
                found.append(eval(call, names).data)
    return found


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if "source(" in p.read_text()], ids=lambda path: path.stem)
def test_code_of_the_package_that_is_shown_fits_its_box(path):
    for text in shown_sources(path):
        assert [line for line in text.splitlines() if len(line) > WIDTH] == []
        assert len(text.splitlines()) < 30, "fold what is longer"


PAGES = sorted((ROOT / "book").glob("*.md")) + NOTEBOOKS


def test_words_that_chapters_link_to_are_those_of_the_glossary():
    glossary = (ROOT / "book" / "glossary.md").read_text().partition("```{glossary}")[2]
    words = set(re.findall(r"^(?=\S)([^`\n]+)$", glossary, re.MULTILINE))
    linked = set(re.findall(r"{term}`(?:[^`<]*<)?([^`<>]+)>?`", "".join(page.read_text() for page in PAGES)))
    assert {word.lower() for word in linked} <= {word.lower() for word in words}


def test_papers_have_links_and_labels_of_their_own():
    entries = re.split(r"^(?=@)", (ROOT / "book" / "references.bib").read_text(), flags=re.MULTILINE)[1:]
    labels = [re.findall(r"author = {([^,]+),|year = {(\w+)}", entry) for entry in entries]
    assert all("url = {https://" in entry for entry in entries)
    named = [
        "".join(a or b for a, b in found) + str(" and " in entry) for found, entry in zip(labels, entries, strict=True)
    ]
    assert len(set(named)) == len(entries)
    cited = set(re.findall(r"{cite:[pt]}`([^`]+)`", "".join(page.read_text() for page in PAGES)))
    assert cited == {re.match(r"@\w+{(\w+),", entry)[1] for entry in entries}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_figures_of_the_paper_are_called_figures(path):
    assert re.findall(r"\bFigs?\. ?\d", path.read_text()) == []

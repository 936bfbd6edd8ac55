"""The book's promises: notebooks without outputs, a build that fails with a cell, pages that need no network."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
PAGES = ROOT / "_build" / "html"


def chapters():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [contents["root"], *[chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs_and_define_no_model(path):
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert not re.search(r"^class |nn\.Module|plt\.", "".join(cell["source"]), re.MULTILINE)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_caption_and_an_alternative_text(path):
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and re.search(r"^(draw|plot)_", source, re.MULTILINE):
            render = cell["metadata"]["mystnb"]
            assert len(render["image"]["alt"]) > 30
            assert render["figure"]["caption"]


def test_every_chapter_is_listed_once():
    listed = chapters()
    present = {path.stem for path in (ROOT / "book").glob("*") if path.suffix in (".ipynb", ".md")}
    assert sorted(listed) == sorted(present)


def build(folder):
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book/"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def small_book(tmp_path):
    """This book's settings around one chapter whose code a test gives."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    for part in ("_ext", "_static", "references.bib", "bibliography.md"):
        source = ROOT / "book" / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / "book" / part)
    return tmp_path


def write_chapter(folder, code):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": code, "execution_count": None, "outputs": []}
    title = {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "# Title\n\n$x^2$ {cite:p}`li2021ctnet`"}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": [title, cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "book" / "chapter.ipynb").write_text(json.dumps(notebook))
    (folder / "book" / "_toc.yml").write_text("format: jb-book\nroot: chapter\nchapters:\n- file: bibliography\n")


def test_a_failing_cell_fails_the_build_every_time_and_a_mended_one_passes(small_book):
    (small_book / "book").mkdir(exist_ok=True)
    write_chapter(small_book, "1 / 0")
    for _ in range(2):
        assert build(small_book).returncode != 0
    write_chapter(small_book, "6 * 7")
    done = build(small_book)
    assert done.returncode == 0, done.stderr
    assert "42" in (small_book / "_build" / "html" / "chapter.html").read_text()


class References(HTMLParser):
    """What a page loads by itself, and its pictures."""

    def __init__(self):
        super().__init__()
        self.loaded, self.images = [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.images.append(values)
        if tag in ("script", "img", "iframe", "source"):
            self.loaded.append(values.get("src"))
        if tag == "link" and values.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon"):
            self.loaded.append(values.get("href"))


@pytest.mark.skipif(not PAGES.is_dir(), reason="the book is not built: make book")
@pytest.mark.parametrize("chapter", chapters())
def test_built_pages_load_nothing_from_elsewhere_and_describe_their_pictures(chapter):
    text = (PAGES / f"{chapter}.html").read_text()
    page = References()
    page.feed(text)
    assert [source for source in page.loaded if source and re.match(r"(https?:)?//", source)] == []
    for source in page.loaded:
        if source and not source.startswith("data:"):
            assert (PAGES / source.partition("?")[0]).is_file(), source
    assert all(image.get("alt") for image in page.images)
    assert not re.search(r"unpkg\.com|jsdelivr|cdnjs", text)
    assert "Traceback" not in text


@pytest.mark.skipif(not PAGES.is_dir(), reason="the book is not built: make book")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_is_on_its_built_page(path):
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    figures = sum(bool(re.search(r"^(draw|plot)_", source, re.MULTILINE)) for source in sources)
    assert (PAGES / f"{path.stem}.html").read_text().count("<figcaption>") == figures

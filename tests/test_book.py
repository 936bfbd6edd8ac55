"""The book's promises: notebooks without outputs, a build that fails with a cell, pages that need no network."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml
from sphinx_external_toc.parsing import parse_toc_yaml

from study.building.inputs import Repository, repository

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
PAGES = ROOT / "_build" / "html"


def chapters():
    return list(parse_toc_yaml(ROOT / "book" / "_toc.yml"))


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


BUILD = [Path(sys.executable).with_name("jupyter-book"), "build", "book/"]


def build(folder, command=BUILD):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CTNET_")}
    paths = [str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables |= {"PYTHONPATH": os.pathsep.join(paths), "CTNET_RESULTS": str(folder / "results")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=variables)


def write_chapter(folder, name, code, text=""):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": code, "execution_count": None, "outputs": []}
    title = f"# Title of {name}\n\n{text} $x^2$ {{cite:p}}`li2021ctnet`, {{term}}`networks <twin>`"
    cells = [{"cell_type": "markdown", "id": "b", "metadata": {}, "source": title}, cell]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "book" / f"{name}.ipynb").write_text(json.dumps(notebook))


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """This book's settings around three chapters: two use a package and one of two results, the third neither."""
    folder = tmp_path_factory.mktemp("book")
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    del config["sphinx"]["config"]["measure_first"]
    config["sphinx"]["config"] |= {"kernels_import": ["this"], "linkcheck_ignore": [".*"]}
    (folder / "_config.yml").write_text(yaml.safe_dump(config))
    for part in ("_ext", "_static", "references.bib", "bibliography.md", "glossary.md"):
        source = ROOT / "book" / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / "book" / part)
    (folder / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: first\nchapters:\n"
        + "".join(f"- file: {name}\n" for name in ("second", "third", "bibliography", "glossary"))
    )
    (folder / "shapes").mkdir()
    (folder / "shapes" / "__init__.py").write_text("")
    (folder / "shapes" / "area.py").write_text("def area(side):\n    return side * side\n")
    (folder / "results" / "published").mkdir(parents=True)
    for number in (3, 5):
        (folder / "results" / "published" / f"{number}.json").write_text(str(number))
    note = "open('runs.txt', 'a').write('{} ');"
    use = "from shapes.area import area; print('area', area(int(open('../results/published/{}.json').read())))"
    write_chapter(folder, "first", note.format("first") + use.format(3))
    write_chapter(folder, "second", note.format("second") + use.format(5))
    write_chapter(folder, "third", note.format("third") + "6 * 7")
    return folder


def executed(folder):
    """The chapters that were executed since the last call, by name."""
    notes = folder / "book" / "runs.txt"
    found = sorted(notes.read_text().split()) if notes.exists() else []
    notes.unlink(missing_ok=True)
    return found


def page(folder, name):
    return (folder / "_build" / "html" / f"{name}.html").read_text()


def pages(folder):
    html = folder / "_build" / "html"
    return {path.relative_to(html): path.read_bytes() for path in html.rglob("*") if path.is_file()}


def test_a_book_is_built_from_what_changed(small_book):
    """One story, since each step costs seconds: from nothing, nothing new, a text, a result, a function, a failure."""
    done = build(small_book)
    assert done.returncode == 0, done.stderr
    assert executed(small_book) == ["first", "second", "third"]
    assert "area 9" in page(small_book, "first")
    assert "area 25" in page(small_book, "second")
    assert "42" in page(small_book, "third")
    assert re.search(r'title="A row[^"]+"><span[^>]*>networks<', page(small_book, "first")), "a word explains itself"
    label = r"Li <em>et al\.</em>, 2021</a>|Li et al\., 2021"
    assert all(re.search(label, page(small_book, name)) for name in ("first", "bibliography"))
    assert done.stderr.count("Beautiful is better") == 1  # "this" was imported once, for all three

    before = pages(small_book)
    assert build(small_book).returncode == 0
    assert executed(small_book) == []
    assert pages(small_book) == before

    source = json.loads((small_book / "book" / "second.ipynb").read_text())["cells"][1]["source"]
    write_chapter(small_book, "second", source, text="A new sentence.")
    toc = small_book / "book" / "second.ipynb"
    toc.write_text(toc.read_text().replace("Title of second", "Another title"))
    assert build(small_book).returncode == 0
    assert executed(small_book) == []  # no code cell has changed
    assert "A new sentence." in page(small_book, "second")
    assert "Another title" in page(small_book, "first")  # in the list of chapters beside it

    (small_book / "results" / "published" / "5.json").write_text("7")
    assert build(small_book).returncode == 0
    assert executed(small_book) == ["second"]
    assert "area 49" in page(small_book, "second")
    assert "area 9" in page(small_book, "first")

    (small_book / "shapes" / "area.py").write_text("def area(side):\n    return 2 * side\n")
    assert build(small_book).returncode == 0
    assert executed(small_book) == ["first", "second"]
    assert "area 6" in page(small_book, "first")
    assert "area 14" in page(small_book, "second")

    before = pages(small_book)
    write_chapter(small_book, "third", "6 * 7\n1 / 0")
    write_chapter(small_book, "first", "import warnings\nwarnings.warn('look')")
    write_chapter(small_book, "second", "import os\nos._exit(0)")
    for _ in range(2):
        done = build(small_book)
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-3:]
        assert "first, code cell 1 (import warnings): wrote a warning" in last[0]
        assert "second, code cell 1 (import os): DeadKernelError" in last[1]
        assert "third, code cell 1 (6 * 7): ZeroDivisionError: division by zero; see" in last[2]
        assert "1 / 0\n" in Path(last[2].rpartition("; see ")[2]).read_text(), "where it came from"
        assert pages(small_book) == before


def test_the_pages_are_those_of_whole_builds_alone(small_book, tmp_path):
    """Not of one chapter, of another builder or for another folder; and what is lost of them comes back."""
    for name in ("first", "second", "third"):
        write_chapter(small_book, name, f"print('{name}')")
    assert build(small_book).returncode == 0
    before = pages(small_book)
    write_chapter(small_book, "third", "print('edited')")
    (small_book / "shapes" / "area.py").touch()
    for command in (
        [*BUILD[:2], "book/third.ipynb", "--config", "_config.yml"],
        [*BUILD, "--path-output", tmp_path / "elsewhere"],
        [*BUILD, "--builder", "linkcheck"],
    ):
        done = build(small_book, command)
        assert done.returncode == 0, done.stderr
        after = pages(small_book)
        assert {name: after.get(name) for name in before} == before, command
    assert "edited" in (tmp_path / "elsewhere" / "_build" / "html" / "third.html").read_text()
    assert build(small_book).returncode == 0
    assert "edited" in page(small_book, "third")
    (small_book / "_build" / "html" / "first.html").unlink()
    assert build(small_book).returncode == 0
    assert "first" in page(small_book, "first")


def build_once(folder):
    """Build a book unless an earlier test has left whole pages."""
    if not (folder / "_build" / "html" / "first.html").is_file():
        for name in ("first", "second", "third"):
            write_chapter(folder, name, "print('before')")
        assert build(folder).returncode == 0


def processes_in(folder):
    """The processes that work in a folder."""
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


def test_a_build_that_is_killed_leaves_the_old_pages_and_the_next_is_whole(small_book):
    build_once(small_book)
    before = pages(small_book)
    for name in ("first", "second"):
        write_chapter(small_book, name, "print('after')")
    write_chapter(small_book, "third", "import time; time.sleep(5); print('after')")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(small_book), str(ROOT)])}
    variables |= {"CTNET_RESULTS": str(small_book / "results"), "CTNET_MEASURED": str(small_book / "measured")}
    killed = subprocess.Popen(BUILD, cwd=small_book, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in killed.stdout:
        if b"chapter 1 of" in line:
            break
    killed.kill()
    killed.wait()
    assert pages(small_book) == before
    for _ in range(300):
        if not (kernels_left := processes_in(small_book / "book")):
            break
        time.sleep(0.1)
    assert kernels_left == []
    assert build(small_book).returncode == 0
    assert "after" in page(small_book, "first")
    assert "after" in page(small_book, "third")


REPOSITORY = "https://github.com/someone/their-ctnet"


def test_a_clone_of_a_public_repository_gets_launch_buttons_that_fetch_what_a_chapter_needs(small_book, tmp_path):
    build_once(small_book)
    assert not re.search(r"mybinder|colab", page(small_book, "second"))
    for name in ("first", "second", "third"):
        write_chapter(small_book, name, "print('before')")
    for command in (["init", "-q", "-b", "study"], ["remote", "add", "origin", f"{REPOSITORY}.git"]):
        subprocess.run(["git", *command], cwd=small_book, check=True)
    assert build(small_book).returncode == 0
    links = re.findall(r'href="(https://(?:mybinder|colab)[^"]+)"', page(small_book, "second"))
    assert set(links) == {
        "https://mybinder.org/v2/gh/someone/their-ctnet/study?urlpath=lab/tree/book/second.ipynb",
        "https://colab.research.google.com/github/someone/their-ctnet/blob/gh-pages/colab/second.ipynb",
    }
    assert not re.search(r"mybinder|colab", page(small_book, "glossary"))  # it has no code
    notebook = nbformat.read(small_book / "_build" / "html" / "colab" / "second.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell["source"] for cell in notebook["cells"][1:]] == [
        cell["source"] for cell in nbformat.read(small_book / "book" / "second.ipynb", as_version=4)["cells"]
    ]

    packages = tmp_path / "packages" / "pip"
    packages.mkdir(parents=True)
    (packages / "__init__.py").touch()
    (packages / "__main__.py").write_text("import sys; open('pip.txt', 'w').write(' '.join(sys.argv[1:]))")
    script = f"{notebook['cells'][0]['source']}\nimport os, study; print(os.getcwd(), study.__file__)"
    (tmp_path / "chapter.ipy").write_text(script)
    branch = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    own = tmp_path / "own"
    subprocess.run(["git", "clone", "-q", "--bare", "--shared", str(ROOT), str(own)], check=True)
    subprocess.run(["git", "branch", "-f", "study", branch.strip()], cwd=own, check=True)
    variables = os.environ | {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{own}.insteadOf"}
    variables |= {"GIT_CONFIG_VALUE_0": REPOSITORY, "PYTHONPATH": str(packages.parent), "PIP_DRY_RUN": "1"}
    command = [sys.executable, "-m", "IPython", "chapter.ipy"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=variables)
    folder = tmp_path / "ctnet"
    assert f"{folder / 'book'} {folder / 'book' / '..' / 'study' / '__init__.py'}" in told.stdout, told.stderr
    assert (tmp_path / "pip.txt").read_text() == "install --quiet --editable ./ctnet[chapters]"


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("https://github.com/someone/ctnet", "someone/ctnet"),
        ("https://token@github.com/someone/ctnet.git", "someone/ctnet"),
        ("git@github.com:someone/ct.net.git", "someone/ct.net"),
        ("ssh://git@github.com/someone/ctnet/", "someone/ctnet"),
        ("https://gitlab.com/someone/ctnet", None),
        ("/srv/ctnet", None),
    ],
)
def test_the_public_repository_is_that_of_origin(tmp_path, origin, name):
    assert repository(tmp_path) is None
    for command in (["init", "-q", "-b", "main"], ["remote", "add", "origin", origin]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert repository(tmp_path) == (name and Repository(name, "main"))


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


@pytest.mark.parametrize("chapter", chapters())
def test_built_pages_load_nothing_from_elsewhere_and_describe_their_pictures(whole_book, chapter):
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_is_on_its_built_page(whole_book, path):
    figures = sum("figure" in cell["metadata"].get("mystnb", {}) for cell in json.loads(path.read_text())["cells"])
    assert (PAGES / f"{path.stem}.html").read_text().count('<figure class="align-') == figures

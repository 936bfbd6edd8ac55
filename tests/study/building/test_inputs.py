"""What a process reads is noted, and a change of it, and of nothing else, is noticed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.building.execution import RECORDING
from study.building.inputs import CHANGED, Places, packages, tree_state

CODE = """
import package.used, os
from pathlib import Path
def late():
    import package.lazy
late()
Path("results/numbers/one.json").read_text()
Path("results/new").exists()
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with a package and results, of which a process is to read a part."""
    files = {
        "package/__init__.py": "",
        "package/used.py": "from package import deeper",
        "package/deeper.py": "",
        "package/lazy.py": "",
        "package/unused.py": "",
        "results/numbers/one.json": "1",
        "results/numbers/two.json": "2",
        "results/weights.bin": "w",
        "notes.txt": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def places(clone):
    return Places((clone,), clone / "results", clone / "_build" / "measured", clone / "_build")


def read_by(code, clone, wrapped=False):
    """The log of a process that runs some code, or of one that it starts."""
    log = clone.parent / f"{clone.name}.log"
    log.write_text("")
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(RECORDING), str(clone)]),
        "CTNET_RECORD": str(log),
        "CTNET_RECORD_ROOTS": str(clone),
    }
    command = [sys.executable, "-c", code]
    if wrapped:
        command = [sys.executable, "-c", f"import subprocess; subprocess.run({command!r}, check=True)"]
    subprocess.run(command, cwd=clone, env=variables, check=True)
    return log.read_text().splitlines()


@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "a process that it starts"])
@pytest.mark.parametrize("times", [1, 2], ids=["from source", "from bytecode"])
def test_all_that_was_read_is_noted(clone, places, wrapped, times):
    for _ in range(times):
        log = read_by(CODE, clone, wrapped)
    files = {Path(name.removeprefix("file ")).name for name in places.states(log) if name.startswith("file ")}
    assert files == {"__init__.py", "used.py", "deeper.py", "lazy.py", "one.json"}


@pytest.mark.parametrize(
    "change",
    [
        "package/used.py",
        "package/deeper.py",
        "package/lazy.py",
        "results/numbers/one.json",
        "results/weights.bin",
        "results/new",
        "results/other/new.json",
        "package/lazy/__init__.py",
        "json.py",
    ],
)
def test_a_change_of_what_was_read_or_asked_for_is_noticed(clone, places, change):
    states = places.states(read_by(CODE, clone))
    assert places.unchanged(states)
    (clone / change).parent.mkdir(parents=True, exist_ok=True)
    (clone / change).write_text("changed = 1")
    assert not places.unchanged(states)


@pytest.mark.parametrize("change", ["package/unused.py", "results/numbers/two.json", "notes.txt", "book/new.txt"])
def test_a_change_of_anything_else_is_not(clone, places, change):
    states = places.states(read_by(CODE, clone))
    (clone / change).parent.mkdir(parents=True, exist_ok=True)
    (clone / change).write_text("changed = 1")
    assert places.unchanged(states)


def test_what_a_run_has_not_written_whole_is_no_result(clone, places):
    before = places.state("results")
    (clone / "results" / "numbers" / ".three.json.0a").mkdir()
    (clone / "results" / "numbers" / ".three.json.0a" / "three.json").write_text("3")
    assert places.state("results") == before
    (clone / "results" / "numbers" / ".three.json.0a" / "three.json").rename(
        clone / "results" / "numbers" / "three.json"
    )
    assert places.state("results") != before


def test_a_folder_that_goes_while_results_are_listed_hinders_nothing(clone, places, monkeypatch):
    (clone / "results" / "passing").mkdir()
    scandir = os.scandir

    def gone(path):
        if str(path).endswith("passing"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert places.state("results")


@pytest.mark.parametrize("above", [".venv", "site-packages"])
def test_a_clone_may_lie_below_any_folder(above, tmp_path):
    clone = tmp_path / above / "clone"
    places = Places((clone,), clone / "results", clone / "_build" / "measured", clone / "_build")
    log = [f"file\t{clone / name}" for name in ("package/used.py", ".venv/lib/site-packages/other.py")]
    assert list(places.states(log)) == [f"file {clone / 'package/used.py'}"]


@pytest.mark.parametrize("gone", ["package/lazy.py", "results/numbers/one.json", "results/numbers/two.json"])
def test_what_is_gone_is_noticed(clone, places, gone):
    states = places.states(read_by(CODE, clone))
    (clone / gone).unlink()
    assert not places.unchanged(states)


def test_what_changed_while_it_was_read_counts_as_unknown(clone, places):
    log = read_by(CODE, clone)
    began = time.time()
    assert CHANGED not in places.states(log, began + 1).values()
    (clone / "package" / "used.py").write_text("later = 1")
    states = places.states(log, began - 1)
    assert not places.unchanged(states)


def test_a_result_that_came_while_a_chapter_ran_counts_as_unknown(clone, places):
    """The chapter may have asked whether it is there, and it was not yet."""
    log, began = read_by(CODE, clone), time.time() + 1
    assert places.unchanged(places.states(log, began))
    time.sleep(1.1)
    (clone / "package" / "__pycache__").mkdir(exist_ok=True)  # which any process may write
    (clone / "package" / "__pycache__" / "new.pyc").touch()
    assert places.unchanged(places.states(log, began))
    (clone / "results" / "other").mkdir()
    (clone / "results" / "other" / "new.json").write_text("1")
    assert not places.unchanged(places.states(log, began))


def test_a_measured_value_counts_by_its_value_as_long_as_todays_code_has_measured_it(clone, places):
    from study.measured import code_state

    path = places.measured / "cost.json"
    path.parent.mkdir(parents=True)

    def keep(value, state):
        path.write_text(json.dumps({"code": ["ctnet/analysis"], "state": state, "value": value}))

    today = code_state(("ctnet/analysis",))
    keep(37, today)
    states = places.states(read_by(f"open({str(path)!r}).read()", clone))
    assert places.unchanged(states)
    keep(37, "of other code")
    assert not places.unchanged(states)
    keep(38, today)
    assert not places.unchanged(states)
    keep(37, today)
    assert places.unchanged(states)


def install(folder: Path, name: str, *needs: str) -> None:
    """What importlib reads of an installed package."""
    info = folder / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("\n".join(lines))


def test_packages_are_what_a_book_needs_and_nothing_beside(tmp_path, monkeypatch):
    install(
        tmp_path,
        "shelf",
        'shelf-paper; extra == "book"',
        'shelf-test; extra == "dev"',
        'shelf-old; python_version < "3"',
    )
    install(tmp_path, "shelf-paper", "shelf-ink[black]", "shelf-absent", "shelf")
    install(tmp_path, "shelf-ink", 'shelf-soot; extra == "black"')
    for name in ("shelf-soot", "shelf-test", "shelf-old", "shelf-unrelated"):
        install(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages("shelf[book]") == ["shelf-ink==1", "shelf-paper==1", "shelf-soot==1", "shelf==1"]
    assert packages("shelf") == ["shelf==1"]


def test_what_tools_leave_behind_changes_no_state(tmp_path):
    (tmp_path / "_ext").mkdir()
    (tmp_path / "_ext" / "one.py").write_text("1")
    before = tree_state([tmp_path / "_ext", tmp_path / ".ruff_cache"])
    for folder in (".ruff_cache", "_ext/.ruff_cache", "_ext/__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kept").write_text("2")
    assert tree_state([tmp_path / "_ext", tmp_path / ".ruff_cache"]) == before
    (tmp_path / "_ext" / "two.py").write_text("3")
    assert tree_state([tmp_path / "_ext", tmp_path / ".ruff_cache"]) != before

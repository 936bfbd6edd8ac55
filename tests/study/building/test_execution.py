"""Chapters that cannot be told current are not taken for current."""

import subprocess
import sys

import nbformat
import pytest

from study.building import execution
from study.building.execution import BEGUN, RECORDING, Chapters
from study.building.inputs import Places


@pytest.fixture
def chapters(tmp_path):
    """Makes the chapters of a book of notebooks: name -> (code, metadata)."""

    def make(environment="e", **notebooks):
        for name, (code, about) in notebooks.items():
            content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=about)
            nbformat.write(content, tmp_path / f"{name}.ipynb")
        sources = {path.stem: path for path in sorted(tmp_path.glob("*.ipynb"), reverse=True)}
        places = Places((tmp_path,), tmp_path / "results", tmp_path / "measured", tmp_path / "cache")
        return Chapters(tmp_path / "cache", sources, places, tmp_path, environment)

    return make


def test_what_tells_of_the_build_comes_last_and_with_every_commit(chapters, monkeypatch):
    made = chapters(late=("1", {"ctnet": {"tells_of_build": True}}), early=("1", {}))
    assert made.outdated() == ["early", "late"]
    assert made.execute(["early", "late"], 1, print) == []
    assert chapters().outdated() == []
    assert chapters("other").outdated() == ["early", "late"]
    monkeypatch.setattr(execution, "commit", lambda root: "next")
    assert chapters().outdated() == ["late"]


def test_a_chapter_of_which_nobody_takes_notes_fails(chapters, monkeypatch, tmp_path):
    monkeypatch.setattr(execution, "RECORDING", tmp_path)
    (failure,) = chapters(one=("1", {})).execute(["one"], 1, print)
    assert "one, code cell 1 (1): nothing tells what it has read" in str(failure)
    assert chapters().outdated() == ["one"]


def test_what_is_imported_is_known_wherever_bytecode_is_kept(chapters, monkeypatch, tmp_path):
    (tmp_path / "helper.py").write_text("value = 1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path.with_name("bytecode")))
    made = chapters(one=("import helper", {}), two=("import helper", {}))
    assert made.execute(["one"], 1, print) == made.execute(["two"], 1, print) == []  # the second reads bytecode alone
    assert chapters().outdated() == []
    (tmp_path / "helper.py").write_text("value = 22")
    assert sorted(chapters().outdated()) == ["one", "two"]


def test_an_empty_line_of_a_warning_fails_its_chapter_alone(chapters):
    made = chapters(one=("import sys; print(file=sys.stderr)", {}), two=("2", {}))
    (failure,) = made.execute(["one", "two"], 1, print)
    assert "wrote a warning: an empty line" in str(failure)
    assert chapters().outdated() == ["one"]


def test_a_forked_kernel_takes_notes_where_the_system_has_a_sitecustomize_of_its_own(tmp_path):
    code = """
import os, sys, types
from ipykernel import kernelapp
from study.building import zygote
sys.modules["sitecustomize"] = types.ModuleType("sitecustomize")
kernelapp.launch_new_instance = lambda: None
variables = {"PYTHONPATH": sys.argv[1], "CTNET_RECORD": sys.argv[2], "CTNET_RECORD_ROOTS": "/"}
zygote.become_kernel(os.getppid(), [], ".", variables)
"""
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", code, str(RECORDING), str(log)], check=True)
    assert BEGUN in log.read_text().splitlines()


def test_a_kernel_whose_parent_has_ended_does_not_begin():
    code = """
import os
from ipykernel import kernelapp
from study.building import zygote
kernelapp.launch_new_instance = lambda: print("begun")
zygote.become_kernel(os.getpid(), [], ".", {})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr

"""Values are measured once for the code that decides them, whoever asks."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from study import measured as module
from study.measured import code_state, measured, value


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A clone whose code a test may change."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("CTNET_MEASURED", str(tmp_path / "measured"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("a = 1")
    (tmp_path / "other.py").write_text("b = 1")
    monkeypatch.setattr(module, "_BEGAN", float("inf"))  # as in processes that are started after each change
    code_state.cache_clear()
    yield tmp_path
    code_state.cache_clear()


def test_a_value_is_measured_once(root):
    calls = []

    def ask():
        return measured("cost", lambda: calls.append(1) or {"gmacs": 0.1 + 0.2}, ["code"])

    assert [ask(), ask()] == [{"gmacs": 0.1 + 0.2}] * 2
    assert (calls, value("cost", ["code"])) == ([1], {"gmacs": 0.1 + 0.2})
    assert value("another", ["code"]) is None


@pytest.mark.parametrize(
    ("change", "again"), [("code/a.py", True), ("code/deep/new.py", True), ("other.py", False), ("code/a.txt", False)]
)
def test_it_is_measured_again_when_its_code_has_changed(root, change, again):
    assert measured("cost", lambda: 1, ["code"]) == 1
    (root / change).parent.mkdir(exist_ok=True)
    (root / change).write_text("a = 2")
    code_state.cache_clear()
    assert value("cost", ["code"]) == (None if again else 1)
    assert measured("cost", lambda: 2, ["code"]) == (2 if again else 1)


@pytest.mark.parametrize("package", ["torch", "torchvision", "fvcore", "pytorchvideo", "numpy"])
def test_it_is_measured_again_with_another_version_of_a_package(package, root, monkeypatch):
    assert measured("cost", lambda: 1, ["code"]) == 1
    known = module.version
    monkeypatch.setattr(module, "version", lambda name: "9.9" if name == package else known(name))
    code_state.cache_clear()
    assert value("cost", ["code"]) is None
    assert measured("cost", lambda: 2, ["code"]) == 2


def test_it_is_measured_again_when_it_depends_on_more_or_is_damaged(root):
    measured("cost", lambda: 1, ["code"])
    assert value("cost", ["code", "other.py"]) is None
    assert measured("cost", lambda: 2, ["code", "other.py"]) == 2
    (root / "measured" / "cost.json").write_text('{"value": ')
    assert measured("cost", lambda: 3, ["code", "other.py"]) == 3


def test_what_is_measured_while_its_code_is_edited_is_not_kept(root, monkeypatch):
    monkeypatch.setattr(module, "_BEGAN", (root / "other.py").stat().st_mtime - 1)
    assert measured("cost", lambda: 1, ["code"]) == 1
    assert value("cost", ["code"]) is None


def test_a_process_may_have_read_its_code_before_it_measures(tmp_path):
    """It began before this module was read, and code that was edited in between may be of either state."""
    began = time.time()
    code = "import time; time.sleep(0.3); from study import measured; print(measured._BEGAN)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert began - 2 < float(asked.stdout) < time.time() - 0.3  # the system tells it to the second


def test_processes_that_ask_together_measure_once(tmp_path):
    code = """
import time
from study.measured import measured
def slowly():
    with open("calls", "a") as calls: calls.write("x")
    time.sleep(1)
    return 5
assert measured("cost", slowly, ["study/measured.py"]) == 5
"""
    paths = os.pathsep.join([str(Path(module.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "CTNET_MEASURED": str(tmp_path), "PYTHONPATH": paths}
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(subprocess.run, [sys.executable, "-c", code], cwd=tmp_path, env=variables, check=True)
            for _ in range(3)
        ]
        for run in runs:
            run.result()
    assert (tmp_path / "calls").read_text() == "x"

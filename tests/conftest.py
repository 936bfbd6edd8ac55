"""Every process has one thread: as many processes as there are cores run the tests side by side."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from browsing import absent, browser, show  # noqa: F401, fixtures

from ctnet import cli
from ctnet.engine import get_recipe
from study.__main__ import main as study_main
from study.store import results_dir

ROOT = Path(__file__).parents[1]
FIRST = (
    "test_book.py",
    "study/test_sweep.py",
    "test_end_to_end.py",
    "engine/test_training.py",
    "engine/test_run.py",
    "test_pages.py",
    "test_files.py",
    "micro/test_files.py",
    "deploy/test_files.py",
    "models/test_registry.py",
    "deploy/test_inference.py",
    "study/test_costs.py",
    "models/test_network_versions.py",
)
"""Files that take longest. Those that fork come before others that leave threads of autograd in their process."""
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def without_full_scale(tmp_path_factory):
    """The results as they are kept, but for accuracies of full-scale runs, which anybody may add.

    What is measured, all processes share, but not with a book that was built.
    """
    folder = tmp_path_factory.mktemp("results")
    for path in results_dir().iterdir():
        if path.name != "full-scale":
            (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTNET_RESULTS", str(folder))
        base = tmp_path_factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        patch.setenv("CTNET_MEASURED", str(shared / "measured"))
        yield


@pytest.fixture(scope="session")
def whole_book():
    """Skips unless this book's pages lie in `_build`, whole and of today's sources, code and results."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CTNET_")}
    command = [sys.executable, "-m", "study.building"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
    if told.returncode:
        absent(told.stdout.strip() or told.stderr.strip())


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that all processes end at about the same time."""
    order = {name: place for place, name in enumerate(FIRST)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: order.get(item.path.relative_to(tests).as_posix(), len(order)))


def caller(name, main, monkeypatch, capsys):
    """A function that runs a command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `ctnet`: (exit code, standard output, standard error)."""
    return caller("ctnet", cli.main, monkeypatch, capsys)


@pytest.fixture
def run_study(monkeypatch, capsys):
    """Run `python -m study`: (exit code, standard output, standard error)."""
    return caller("study", study_main, monkeypatch, capsys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A recipe of a few seconds: 4 steps an epoch, on clips of 16 x 16 cropped at random from 32 x 32."""
    return get_recipe("micro-something").override(
        {
            "root": str(tmp_path_factory.mktemp("micro")),
            "frames": 2,
            "model": "tsn_r26_twin",
            "train_clips": 34,
            "val_clips": 25,
            "size": 16,
            "batch_size": 8,
            "epochs": 2,
            "warmup_epochs": 0.5,
            "lr": 0.05,
            "dropout": 0.2,
            "precision": "fp32",
        }
    )

"""Folders of results that tests may damage, fill, or declare tables of their own in."""

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from restoring import restore, stamps

from ctnet.engine import Scores, get_recipe
from ctnet.engine.evaluation import data_identity
from study.paper import FILES
from study.record import record
from study.runs import labels_of, pictures, run_file, seeds_of, twins_of, weights_file
from study.store import ROOT, behaviour, encode, results_dir
from study.sweep import PARTS


def copy_results(folder):
    """A copy of the results, without weights."""
    return shutil.copytree(results_dir(), folder, ignore=shutil.ignore_patterns("checkpoints"))


@pytest.fixture(scope="session")
def copies(tmp_path_factory):
    """Two copies of the results: the one that tests may damage is restored from the other."""
    folder = tmp_path_factory.mktemp("copies")
    return copy_results(folder / "results"), copy_results(folder / "whole")


@pytest.fixture
def own_results(copies, monkeypatch):
    """A copy of the results that a test may damage. Its path is always the same: what is unchanged is read once."""
    own, whole = copies
    before = stamps(own)
    monkeypatch.setenv("CTNET_RESULTS", str(own))
    yield own
    restore(own, whole, before)


@pytest.fixture
def unread_results(tmp_path, monkeypatch):
    """A copy of the results of which nothing was read yet, and that a test may damage."""
    folder = copy_results(tmp_path / "results")
    monkeypatch.setenv("CTNET_RESULTS", str(folder))
    return folder


@pytest.fixture
def edited():
    """A function that opens a JSON file of the test's own results to be changed, within a `with` statement."""

    @contextmanager
    def edit(file):
        path = results_dir() / file
        assert not path.resolve().is_relative_to(ROOT), "the repository's own results are not for tests to change"
        content = json.loads(path.read_text())
        yield content
        path.write_text(json.dumps(content))

    return edit


@pytest.fixture
def passed():
    """A function that tells the files of this project whose functions are called while something is decided."""

    def files(decide):
        called = set()
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: called.add(frame.f_code) if event == "call" else None)
        try:
            decide()
        finally:
            sys.setprofile(before)
        names = {Path(code.co_filename) for code in called if code.co_name != "<module>"}  # imports are no steps
        folders = (ROOT / package for package in ("study", "ctnet"))
        return {str(name.relative_to(ROOT)) for folder in folders for name in names if name.is_relative_to(folder)}

    return files


@pytest.fixture(scope="session")
def declare():
    """A function that makes a folder one of results, in which only some tables have twins: id -> what these declare.

    What they do not declare is the paper's. The pretraining of plain ResNet-50s on pictures is done, and not stale.
    """
    before = pictures("tsn_r50_twin")

    def declared(folder, **tables):
        (folder / "published").mkdir()
        for file in dict.fromkeys(FILES.values()):
            content = json.loads((results_dir() / "published" / f"{file}.json").read_text())
            others = {key: {"twins": {}} for key in content.get("others", {})}
            content |= {"twins": {}, "second_look": None, "others": others} | tables.get(file, {})
            (folder / "published" / f"{file}.json").write_text(json.dumps(content))
        (folder / "checkpoints").mkdir()
        weights = weights_file(before)
        (folder / "checkpoints" / weights.name).symlink_to(weights.resolve())
        content = json.loads((results_dir() / run_file(before.name)).read_text())
        content["provenance"]["behaviour"] = behaviour(PARTS, [before.recipe.model])
        (folder / "runs").mkdir()
        (folder / run_file(before.name)).write_text(json.dumps(content))
        return folder

    return declared


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results without runs, and a function that writes some of a given accuracy, which are stale.

    Accuracies of seeds differ by `spread`, their standard deviation, in another way for every row. The column of
    accuracies must be named where a row has twins for several.
    """
    shutil.copytree(results_dir() / "published", tmp_path / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    (tmp_path / "runs").mkdir()
    empty = {"predictions": {}, "provenance": {"behaviour": {"drawing": 1}}}

    def write(table, row_id, accuracy, seeds=None, spread=0.0, column=None):
        (twin,) = (each for (row, of), each in twins_of(table).items() if row == row_id and column in (None, of))
        deviations = np.random.default_rng([len(row_id), ord(row_id[0])]).standard_normal(12)
        deviations = spread * (deviations - deviations[:3].mean()) / deviations[:3].std(ddof=1)
        for seed in seeds_of(table) if seeds is None else seeds:
            for name, run in zip(twin.names(seed), twin.runs, strict=False):
                labels = labels_of(run)
                rng = np.random.default_rng([seed, 1])
                wrong = rng.permutation(len(labels)) >= round((accuracy + deviations[seed]) * len(labels))
                predictions = np.where(wrong, labels + 1, labels)
                path = tmp_path / run_file(name)
                content = json.loads(path.read_text()) if path.exists() else empty
                content = content | {"predictions": content["predictions"] | {twin.view: encode(predictions)}}
                path.write_text(json.dumps(content))

    return write


@pytest.fixture
def fill(own_results, tmp_path):
    """Fill a row by scores of a network that is right about so many videos, and has the others' labels second."""

    def call(right, recipe=None, name="3/ct-net-8x3x2", videos=24_777, classes=174, **about):
        recipe = recipe or get_recipe("somethingv2")
        probabilities = np.tile(np.linspace(0.6, 0, classes, dtype=np.float32), (videos, 1))
        probabilities[right:, 1] = 0.9
        names = [str(number) for number in range(videos)]
        scores = Scores(probabilities, np.zeros(videos, np.int64), names, [str(number) for number in range(classes)])
        about = {
            "weights": "9a129038d9a00aed",
            "recipe": recipe.to_dict(),
            "changed": ["root"],
            "view": "3x2",
            "precision": "float32",
            "devices": "4 x H100",
            "seconds": 12.3,
            "versions": {"torch": "3.0"},
            "behaviour": behaviour(["data", "engine"], [recipe.model]),
            "data": data_identity(scores),
        } | about
        replace(scores, about=about).save(tmp_path / "scores.npz")
        return record([tmp_path / "scores.npz"], name)

    return call

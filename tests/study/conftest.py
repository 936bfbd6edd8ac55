"""Folders of results that tests may damage or fill."""

import json
import shutil

import numpy as np
import pytest
from study.outcomes import labels_of
from study.published import results_dir
from study.runner import encode, run_file
from study.twins import TWINS, ensemble_name, seeds_of


@pytest.fixture
def own_results(tmp_path, monkeypatch):
    """A copy of the results that a test may damage."""
    shutil.copytree(results_dir(), tmp_path / "results", ignore=shutil.ignore_patterns("checkpoints"))
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results without runs, and a function that writes some of a given accuracy.

    Accuracies of seeds differ by `spread`, their standard deviation, in another way for every row.
    """
    (tmp_path / "published").symlink_to(results_dir() / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(table, row_id, accuracy, seeds=None, spread=0.0):
        row = TWINS[table][row_id]
        deviations = np.random.default_rng([len(row_id), ord(row_id[0])]).standard_normal(8)
        deviations = spread * (deviations - deviations[:3].mean()) / deviations[:3].std(ddof=1)
        for seed in seeds_of(table) if seeds is None else seeds:
            names = [ensemble_name(row, seed)] if row.fused else [run.seeded(seed).name for run in row.runs]
            for name, run in zip(names, row.runs, strict=False):
                labels = labels_of(run)
                rng = np.random.default_rng([seed, 1])
                wrong = rng.permutation(len(labels)) >= round((accuracy + deviations[seed]) * len(labels))
                predictions = np.where(wrong, labels + 1, labels)
                path = run_file(name)
                content = (
                    json.loads(path.read_text()) if path.exists() else {"predictions": {}, "provenance": {"code": ""}}
                )
                content["predictions"][row.view] = encode(predictions)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(content))

    return write

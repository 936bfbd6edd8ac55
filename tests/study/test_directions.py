"""Verdicts follow from files: made-up runs must turn the claims that are about them, and no others."""

import json

import numpy as np
import pytest

from ctnet.study import directions
from ctnet.study.accuracy import direction_table, plot_directions, twin_table
from ctnet.study.directions import DIRECTIONS, accuracy_table, correct, decide
from ctnet.study.published import published_table, results_dir
from ctnet.study.runner import encode, run_file
from ctnet.study.twins import TWINS, ensemble_name, seeds_of


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results without runs, and a function that writes one of a given accuracy."""
    (tmp_path / "published").symlink_to(results_dir() / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(table, row_id, accuracy, seeds=None):
        row = TWINS[table][row_id]
        for seed in seeds_of(table) if seeds is None else seeds:
            names = [ensemble_name(row, seed)] if row.fused else [run.seeded(seed).name for run in row.runs]
            for name, run in zip(names, row.runs, strict=False):
                labels = directions.labels_of(run)
                rng = np.random.default_rng([seed, 1])
                wrong = rng.permutation(len(labels)) >= round(accuracy * len(labels))
                predictions = np.where(wrong, labels + 1, labels)
                path = run_file(name)
                content = json.loads(path.read_text()) if path.exists() else {"predictions": {}}
                content["predictions"][row.view] = encode(predictions)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(content))

    return write


def verdicts():
    return {direction.id: verdict for direction, _, verdict in decide()}


def test_every_direction_is_about_rows_that_are_printed_and_trained():
    for direction in DIRECTIONS:
        printed = published_table(direction.table)
        assert direction.column in printed.columns
        assert {direction.better, direction.worse} <= set(printed.index)
        assert direction.row(direction.better).runs
        assert direction.row(direction.worse).runs
        assert direction.published is None or direction.published > 0, direction.id
    assert len({direction.id for direction in DIRECTIONS}) == len(DIRECTIONS)


def test_without_runs_nothing_is_decided(results):
    assert set(verdicts().values()) == {"not run yet"}


def test_one_seed_decides_nothing(results):
    for row, accuracy in (("baseline-tsn", 0.3), ("ct-module", 0.7)):
        results("2g", row, accuracy, seeds=[0])
    assert set(verdicts().values()) == {"not run yet"}


@pytest.mark.parametrize(
    ("better", "worse", "expected"), [(0.7, 0.3, "supported"), (0.3, 0.7, "contradicted"), (0.5, 0.5, "inconclusive")]
)
def test_a_verdict_follows_the_runs_and_touches_no_other(results, better, worse, expected):
    results("2g", "ct-module", better)
    results("2g", "baseline-tsn", worse)
    decided = verdicts()
    assert decided.pop("2g/ct-module > baseline-tsn/top1") == expected
    assert decided.pop("2e/blocks-7 > blocks-6/top1") == "not run yet"
    same_networks = {"3/ct-net-8 > tsn-8/v1_top1", "2e/blocks-1 > blocks-0/top1"}
    assert all(verdict == "not run yet" for name, verdict in decided.items() if name not in same_networks)


def test_a_small_change_of_one_file_turns_its_verdict(results):
    """Two accuracies that differ by a clear margin, then one file that takes the margin away."""
    results("2b", "k2", 0.62)
    results("2b", "k1", 0.56)
    assert verdicts()["2b/k2 > k1/top1"] == "supported"
    results("2b", "k2", 0.56, seeds=[1])
    assert verdicts()["2b/k2 > k1/top1"] == "inconclusive"


def test_many_directions_together_ask_for_more(results, monkeypatch):
    """What a single comparison would just resolve is not enough among all of them."""
    results("2c", "parallel", 0.60)
    results("2c", "serial", 0.582)
    alone = {d.id: found for d, found, _ in decide()}["2c/parallel > serial/top1"]
    assert alone.resolved
    monkeypatch.setattr(directions, "holm", lambda p: {name: min(1, 49 * value) for name, value in p.items()})
    monkeypatch.setattr(directions, "LEVEL", 1e-9)
    assert verdicts()["2c/parallel > serial/top1"] == "inconclusive"


def test_folds_and_ensembles(results):
    results("5", "ct-net/ucf101", 0.8)
    results("6", "8-16", 0.7)
    assert correct(TWINS["5"]["ct-net/ucf101"], 0).mean() == pytest.approx(0.8, abs=0.01)
    assert len(correct(TWINS["5"]["ct-net/ucf101"], 0)) == 3 * 480
    assert correct(TWINS["6"]["8-16"], 1).mean() == pytest.approx(0.7, abs=0.01)
    assert correct(TWINS["6"]["16"], 0) is None


def test_tables_and_figure(results):
    for row, accuracy in (("c3d-module", 0.5), ("r-2-1-d-module", 0.6), ("ct-module", 0.7)):
        results("2a", row, accuracy)
    accuracies = accuracy_table("2a")
    assert accuracies.loc["ct-module", "accuracy"] == pytest.approx(70, abs=0.1)
    assert accuracies.loc["ct-module", "low"] < 70 < accuracies.loc["ct-module", "high"]
    assert accuracies.loc["csn-module", "seeds"] == 0
    html = twin_table("2a").to_html()
    assert "not run yet" in html
    assert "70.0" in html
    html = direction_table("2a").to_html()
    assert "verdict-supported" in html
    assert "+20.0" in html
    figure = plot_directions("2a")
    printed, twins = figure.axes
    assert len(printed.collections[0].get_offsets()) == 3
    assert len(twins.containers[0].lines[0].get_xdata()) == 2

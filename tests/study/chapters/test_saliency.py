"""Clips for Figure 3 are chosen by rule, and its pictures say so when networks are not there."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from study.outcomes import labels_of
from study.published import results_dir
from study.runner import encode, run_file

import ctnet
from ctnet.data import sample_sparse
from ctnet.micro import MicroSomething64
from study.chapters import figure3

NAMES = ("R(2+1)D", "CSN", "CT-Net")


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """A folder of results, and a function that writes which clips the networks name wrongly."""
    (tmp_path / "published").symlink_to(results_dir() / "published")
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(wrong):
        for name, clips in wrong.items():
            run = figure3._RUNS[name]
            labels = labels_of(run)
            labels = np.where(np.isin(np.arange(len(labels)), clips), (labels + 1) % 24, labels)
            run_file(run.name).write_text(json.dumps({"predictions": {"1x1": encode(labels)}, "provenance": {}}))

    return write


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (([1, 5, 9], [5, 9], [2, 3]), (5, 2)),
        (([5, 9], [5, 9], [5, 2]), (9, 2)),
        (([1], [2], [1]), (None, None)),
    ],
)
def test_clips_are_the_first_on_which_one_network_stands_alone(predict, wrong, expected):
    predict(dict(zip(NAMES, wrong, strict=True)))
    assert figure3.disagreements() == expected


def test_nothing_is_chosen_or_drawn_before_all_networks_are_there(predict):
    predict({"CSN": [1]})
    assert figure3.disagreements() == (None, None)
    assert figure3.pictured_networks() == {}
    for figure in (figure3.plot_clip({}, 3), figure3.plot_clips({}, [1, 2]), figure3.plot_video({}, "nowhere.mp4")):
        assert figure.texts[0].get_text() == "not run yet"
    assert figure3.plot_clip({"CSN": None}, None).texts[0].get_text() == "no such clip"


@cache
def networks():
    torch.manual_seed(0)
    found = {name: ctnet.create_model("tsn_r50_twin", num_classes=24).eval() for name in NAMES}
    for model in found.values():
        model.classes = [item.name for item in MicroSomething64.classes]
    return found


def test_a_clip_is_shown_at_the_size_of_the_larger_twins():
    figure = figure3.plot_clip(networks(), 5)
    pictures = [axes.images[0].get_array() for axes in figure.axes[:-1]]
    assert len(pictures) == 4 * 8
    frames = figure3._split().draw(5)[0][sample_sparse(24, 8)[0]]
    for picture, frame in zip(pictures[:8], frames, strict=True):
        np.testing.assert_array_equal(picture[:: len(picture) // 64, :: len(picture) // 64], frame)
    assert figure.texts[0].get_text() == f"Clip 5: {figure3._truth(5)}"


def test_several_clips_have_a_strip_for_each_network_and_captions_beside_one_another():
    figure = figure3.plot_clips(networks(), [4, 8, 15])
    assert len(figure.axes) == 3 * 4
    assert sum(text.get_text().startswith("CSN: ") for text in figure.texts) == 3
    for left, right in zip(figure.texts[:4], figure.texts[4:8], strict=True):
        assert left.get_window_extent().x1 < right.get_window_extent().x0
        assert right.get_window_extent().x1 <= figure.bbox.x1


def test_the_random_sample_is_always_the_same():
    numbers = figure3.random_clips()
    assert len(set(numbers)) == 12
    assert numbers == figure3.random_clips()
    assert max(numbers) < 2016

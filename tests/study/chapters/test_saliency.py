"""Clips for Figure 3 are chosen by rule, and its pictures say so when networks are not there."""

import json
from functools import cache

import numpy as np
import pytest
import torch

import ctnet
from ctnet.data import sample_sparse
from ctnet.micro import MicroSomething64
from study.chapters import saliency as chapter
from study.paper import table
from study.runs import labels_of, run_file
from study.saliency import MEASURES, content, pictured_runs
from study.store import encode, results_dir

NAMES = ("R(2+1)D", "CSN", "CT-Net")


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """A folder of results, and a function that writes which clips the networks name wrongly."""
    (tmp_path / "published").symlink_to(results_dir() / "published")
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(wrong):
        for name, clips in wrong.items():
            (run,) = (run for row, run in pictured_runs().items() if table("fig3").rows[row].label == name)
            labels = labels_of(run)
            labels = np.where(np.isin(np.arange(len(labels)), clips), (labels + 1) % 24, labels)
            (tmp_path / run_file(run.name)).write_text(
                json.dumps({"predictions": {"1x1": encode(labels)}, "provenance": {}})
            )

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
    assert chapter.disagreements() == expected


def test_nothing_is_chosen_or_drawn_before_all_networks_are_there(predict):
    predict({"CSN": [1]})
    assert chapter.disagreements() == (None, None)
    assert chapter.pictured_networks() == {}
    for figure in (chapter.plot_clip({}, 3), chapter.plot_clips({}, [1, 2]), chapter.plot_video({}, "nowhere.mp4")):
        assert figure.texts[0].get_text() == "not run yet"
    assert chapter.plot_clip({"CSN": None}, None).texts[0].get_text() == "no such clip"


@cache
def networks():
    torch.manual_seed(0)
    found = {name: ctnet.create_model("tsn_r50_twin", num_classes=24).eval() for name in NAMES}
    for model in found.values():
        model.classes = [item.name for item in MicroSomething64.classes]
    return found


def test_a_clip_is_shown_at_the_size_of_the_larger_twins():
    figure = chapter.plot_clip(networks(), 5)
    strips = [axes.images[0].get_array() for axes in figure.axes[:-1]]
    assert len(strips) == 4
    recipe = pictured_runs()["ct-module-pwconv-te"].recipe
    split = MicroSomething64.split("val", recipe.val_clips, difficulty=recipe.difficulty)
    frames = split.draw(5)[0][sample_sparse(24, 8)[0]]
    side = len(strips[0])
    for number, frame in enumerate(frames):
        picture = strips[0][:, number * (side + 3) :][:, :side]
        np.testing.assert_array_equal(picture[:: side // 64, :: side // 64], frame)
    assert figure.texts[0].get_text() == f"Clip 5: {MicroSomething64.classes[split.label(5)].name}"


def test_several_clips_have_a_strip_for_each_network_and_captions_beside_one_another():
    figure = chapter.plot_clips(networks(), [4, 8, 15])
    assert len(figure.axes) == 3 * 4 + 1, "strips, and the colour bar"
    assert sum(text.get_text().startswith("CSN: ") for text in figure.texts) == 3
    for left, right in zip(figure.texts[:4], figure.texts[4:8], strict=True):
        assert left.get_window_extent().x1 < right.get_window_extent().x0
        assert right.get_window_extent().x1 <= figure.bbox.x1


def test_the_random_sample_is_always_the_same():
    numbers = chapter.random_clips()
    assert len(set(numbers)) == 6
    assert numbers == chapter.random_clips()
    assert max(numbers) < 2016


def test_the_table_has_networks_variants_and_controls():
    frame = chapter.saliency_table().data.set_index("Network")
    kept = content()
    assert list(frame.index[:3]) == list(NAMES)
    assert len(frame) == 3 * len(kept["means"].keys() & {"trained", "positive", "larger", "untrained"}) + 2
    mean, low, high = kept["means"]["trained"]["csn-module"]["scatter"]
    assert frame.loc["CSN", MEASURES["scatter"]] == f"{mean:.1f} ± {(high - low) / 2:.1f}"
    assert frame.loc["Uniform map", MEASURES["scatter"]] == "100.0"
    assert "not run yet" not in frame.to_string()


def test_differences_are_drawn_for_every_measure_that_is_compared():
    figure = chapter.plot_saliency_differences()
    assert [axes.get_title() for axes in figure.axes] == [MEASURES[key] for key in table("fig3").orders]
    assert [len(axes.get_yticks()) for axes in figure.axes] == [len(pairs) for pairs in table("fig3").orders.values()]


def test_the_card_tells_claim_runs_and_command():
    html = chapter.saliency_card().data
    assert table("fig3").claim in html
    assert f"{sum(len(seeds) for seeds in content()['runs'].values())} networks to measure, 3 of 3 larger ones" in html
    assert "<code>python -m study saliency</code>" in html


def test_before_it_is_measured_the_chapter_says_so(predict):
    assert set(chapter.saliency_table().data.iloc[:, 1:].to_numpy().ravel()) == {"not run yet"}
    assert chapter.plot_saliency_differences().texts[0].get_text() == "not run yet"
    assert "8 not run yet" in chapter.saliency_card().data

"""Clips for Figure 3 are chosen by rule, and its pictures say so when networks are not there."""

import base64
import io
import json
import re
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import ctnet
from ctnet.data import sample_sparse
from ctnet.micro import MicroSomething64
from study.chapters import saliency as chapter
from study.chapters.differences import direction_figure
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
    for shown in (chapter.saliency_player({}, {3: "why"}), chapter.video_strips({}, "nowhere.mp4", "A video.")):
        assert shown.data == "<p>not run yet</p>"
    assert chapter.saliency_player({"CSN": None}, {None: "why"}).data == "<p>no such clip</p>"


@cache
def networks():
    torch.manual_seed(0)
    found = {name: ctnet.create_model("tsn_r50_twin", num_classes=24).eval() for name in NAMES}
    for model in found.values():
        model.classes = [item.name for item in MicroSomething64.classes]
    return found


@cache
def player():
    return chapter.saliency_player(networks(), {5: "the first", None: "no such", 8: "the second"}).data


def test_the_player_holds_the_frames_masks_and_maps_of_its_clips():
    clips = json.loads(re.search(r'<script type="application/json">(.*?)</script>', player())[1])["clips"]
    assert [clip["why"] for clip in clips] == ["the first", "the second"]
    recipe = pictured_runs()["ct-module-pwconv-te"].recipe
    split = MicroSomething64.split("val", recipe.val_clips, difficulty=recipe.difficulty)
    frames, masks = (part[sample_sparse(24, 8)[0]] for part in split.draw(5))
    opened = {
        name: Image.open(io.BytesIO(base64.b64decode(clips[0][name].split(",")[1]))) for name in ("frames", "masks")
    }
    shown = {name: np.asarray(image.convert("RGB")).astype(int) for name, image in opened.items()}
    np.testing.assert_array_equal(shown["masks"][..., 0] > 127, np.concatenate(masks, axis=1))
    assert np.abs(shown["frames"] - np.concatenate(frames, axis=1)).mean() < 12
    assert clips[0]["title"] == f"Clip 5: {MicroSomething64.classes[split.label(5)].motions[0]}"
    assert [caption.split(":")[0] for caption in clips[0]["captions"]] == list(NAMES)
    assert [len(clip["maps"]) for clip in clips] == [3, 3]


PIXELS = """() => [...document.querySelectorAll('.explorer canvas')].map(
    (canvas) => [...canvas.getContext('2d').getImageData(0, 0, 64, 64).data])"""


def test_a_clip_plays_with_its_maps_in_step(show):
    page = show(player())
    page.wait_for_function("document.querySelectorAll('figcaption')[3].textContent.startsWith('CT-Net')")

    def panels():
        return np.array(page.evaluate(PIXELS)).reshape(4, 64, 64, 4)[..., :3]

    def panels_after(before):
        for _ in range(100):
            if (panels() != before).any():
                page.wait_for_timeout(100)  # the last of the panels
                return panels()
            page.wait_for_timeout(100)
        raise AssertionError("nothing was drawn")

    outlined = panels()
    page.get_by_role("radio", name="not").check(force=True)
    plain = panels_after(outlined)
    cyan = (outlined == (0, 255, 255)).all(-1)
    assert cyan.any()
    assert (cyan == cyan[0]).all(), "the same outline in every panel"
    np.testing.assert_array_equal(plain[:, ~cyan[0]], outlined[:, ~cyan[0]])
    page.get_by_label("Heat").fill("0")
    faded = panels_after(plain)
    grey = faded[1:]
    assert np.abs(grey - grey[..., :1]).max() == 0
    assert np.abs(plain[1:] - plain[1:, ..., :1]).max() > 30
    page.get_by_role("slider", name="Frame").fill("5")
    assert (panels_after(faded)[0] != plain[0]).any()
    page.get_by_role("combobox", name="Clip").select_option("1")
    page.wait_for_function("document.querySelector('.explorer-told').textContent === 'the second'")


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
    shown = direction_figure("fig3").data
    assert re.findall('class="difference-group">(.*?)<', shown) == [MEASURES[key] for key in table("fig3").orders]
    assert shown.count('class="difference"') == sum(map(len, table("fig3").orders.values()))


def test_the_card_tells_claim_runs_and_command():
    html = chapter.saliency_card().data
    assert table("fig3").claim in html
    assert f"{sum(len(seeds) for seeds in content()['runs'].values())} networks to measure, 3 of 3 larger ones" in html
    assert "<code>python -m study saliency</code>" in html


def test_before_it_is_measured_the_chapter_says_so(predict):
    assert set(chapter.saliency_table().data.iloc[:, 1:].to_numpy().ravel()) == {"not run yet"}
    assert "8 not run yet" in chapter.saliency_card().data

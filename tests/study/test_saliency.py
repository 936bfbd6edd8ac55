"""What was measured of where networks look is read back, decides the claims of Figure 3, and is shown."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import ctnet
from ctnet.analysis.overlay import explain
from study import store
from study.chapters.accuracy import direction_table, directions_of
from study.chapters.differences import direction_figure
from study.chapters.saliency import saliency_card, saliency_strips, saliency_table
from study.runs import run_file, seeds_of, twins_of
from study.saliency import FILE, MEASURES, content, measured, measured_runs, pack, uniform


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """A folder of results, and a function that keeps a made-up measurement in it: means of the networks' values."""
    (tmp_path / "published").symlink_to(store.results_dir() / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(means, measure="energy_share", clips=60, runs=None):
        rng = np.random.default_rng(0)
        names = {row: [run.name for run in found] for row, found in measured_runs().items()}
        values = {
            row: {
                key: [
                    pack(np.clip((means.get(row, 0.5) if key == measure else 0.5) + rng.normal(0, 0.05, clips), 0, 1))
                    for _ in seeds
                ]
                for key in MEASURES
            }
            for row, seeds in names.items()
        }
        area = np.where(np.arange(clips) % 3 == 0, 1, 0.625)
        made = {
            "clips": clips,
            "runs": runs or names,
            "uniform": {"mask_area": pack(np.full(clips, 0.1)), "action_area": pack(area)},
            "values": values,
            "means": {
                "trained": {row: {key: [1.0, 0.5, 1.5] for key in MEASURES} for row in names},
                "best": {"masks": {key: [2.0] for key in MEASURES}},
            },
            "provenance": {
                "made": "2026-01-01T00:00:00+00:00",
                "seconds": 1.0,
                "hardware": {"cpu": "one"},
                "behaviour": {"saliency": 0},
            },
        }
        store.write(FILE, made)

    return write


CT, CSN, R21D = "ct-module-pwconv-te", "csn-module", "r-2-1-d-module"


def test_measured_twins_differ_from_those_of_tables_2a_and_2g_in_the_size_of_their_maps_only():
    for row, where in ((R21D, "2a"), (CSN, "2a"), (CT, "2g")):
        usual = twins_of(where)[row, "top1"].runs[0]
        finer = [usual.seeded(seed).recipe.override({"options": {"last_stride": 1}}) for seed in seeds_of(where)]
        assert [run.recipe for run in measured_runs()[row]] == finer
        assert all(run.start == usual.start for run in measured_runs()[row])
        model = ctnet.create_model(finer[0].model, 24, **finer[0].options)
        assert model.eval().forward_features(torch.zeros(1, 3, 8, 32, 32)).shape[-2:] == (4, 4)


def test_values_are_read_back_to_a_thousandth_without_clips_that_tell_nothing(keep):
    keep({CT: 0.6}, "action_share", clips=60)
    kept = content()
    shapes = {measure: measured(kept, CT, measure).shape for measure in MEASURES}
    assert shapes == dict.fromkeys(MEASURES, (6, 60)) | {"action_share": (6, 40)}
    assert measured(kept, CT, "action_share").mean() == pytest.approx(0.6, abs=0.01)
    assert measured(kept, CSN, "action_share").mean() == pytest.approx(0.5, abs=0.01)
    values = np.linspace(0, 1, 60)
    kept["values"][CT]["scatter"] = [pack(values)]
    np.testing.assert_allclose(measured(kept, CT, "scatter"), [values], atol=0.0005001)
    found = {measure: uniform(kept, measure) for measure in MEASURES}
    assert list(found.values()) == pytest.approx([10.0, 10.0, 62.5, 100.0, 0.0])


def test_maps_of_networks_that_were_trained_again_since_count_no_more(own_results, edited):
    name = measured_runs()[CT][3].name
    for year, still in (("2020", True), ("2999", False)):
        with edited(run_file(name)) as run:
            run["provenance"]["made"] = year + run["provenance"]["made"][4:]
        assert (content() is not None) == still


def verdicts():
    return {(direction.subject, direction.column): direction.verdict for direction in directions_of("fig3")}


@pytest.mark.parametrize(
    ("measure", "means", "turned"),
    [
        ("energy_share", {CT: 0.6, R21D: 0.6}, {(f"{CT} > {CSN}", "energy_share"): "supported"}),
        ("pointing_game", {CT: 0.4}, {(f"{CT} > {row}", "pointing_game"): "contradicted" for row in (CSN, R21D)}),
        ("action_share", {R21D: 0.6}, {(f"{CT} > {R21D}", "action_share"): "contradicted"}),
        ("scatter", {CSN: 0.6}, {(f"{CSN} > {row}", "scatter"): "supported" for row in (R21D, CT)}),
        ("temporal_concentration", {CT: 0.9}, {}),
        ("scatter", {CSN: 0.501}, {}),
    ],
)
def test_a_verdict_follows_the_kept_values_and_touches_no_other(keep, measure, means, turned):
    keep(means, measure)
    assert verdicts() == dict.fromkeys(verdicts(), "equivalent") | turned


def test_nothing_is_decided_without_a_measurement_of_todays_runs(keep):
    for _ in range(2):
        assert set(verdicts().values()) == {"not run yet"}
        assert "not run yet" in saliency_card().data
        assert set(saliency_table().data.iloc[:, 1]) == {"not run yet"}
        assert direction_figure("fig3").data.count("not run yet</span>") == 8
        keep({CT: 0.9}, runs={row: ["another"] for row in (CT, CSN, R21D)})


def test_tables_and_figure_show_what_is_kept(keep):
    keep({CT: 0.6})
    table = saliency_table().data
    assert table.Network.tolist() == ["R(2+1)D", "CSN", "CT-Net", "The masks themselves, on 4×4", "Uniform map"]
    assert table.iloc[-1, 1:].tolist() == ["10.0", "10.0", "62.5", "100.0", "0.0"], (
        "frames of action where there are others"
    )
    assert table.iloc[0, 1] == "1.0 ± 0.5"
    shown = direction_table("fig3").data
    assert shown["Twins, points"].str.match(r"[+-]\d+\.\d").all()
    assert f"{sum(shown['Verdict'] == 'supported')} supported" in saliency_card().data
    figure = direction_figure("fig3").data
    assert (
        re.findall('class="difference(?:-group)?"', figure)
        == ['class="difference-group"', *['class="difference"'] * 2] * 4
    )


@pytest.mark.parametrize("shape", [(32, 32), (36, 64)])
def test_the_figure_has_a_row_for_the_video_and_each_network_and_one_bar(shape):
    frames = torch.randint(0, 256, (8, 3, *shape)).byte()
    model = ctnet.create_model("tsn_r50_twin", num_classes=24).eval()
    explanations = [explain(name, model, frames, size=32) for name in ("first", "second")]
    html = saliency_strips(explanations, caption="Two networks.").data
    strips = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)" style="--frames:8">', html)
    pictures = [Image.open(io.BytesIO(base64.b64decode(content))) for content, _ in strips]
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.width / 8 / picture.height == pytest.approx(shape[1] / shape[0], rel=0.03)
    assert [alt for _, alt in strips][1:] == [f"Eight frames: {explanation.caption}" for explanation in explanations]
    assert html.count("highest") == 1
    assert "<figcaption>Two networks.</figcaption>" in html

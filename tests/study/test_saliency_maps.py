import json
from functools import cache

import numpy as np
import pytest
import torch
from study.chapters.figure3 import localisation_card, localisation_table, plot_saliency
from study.chapters.figure3 import plot_localisation_differences as plot_differences
from study.localisation import MEASURES, acting_frames, measure_localisation, measured_runs

import ctnet
from ctnet.analysis import energy_share, grad_cam, pointing_game, saliency_tubes, scatter, temporal_concentration
from ctnet.analysis.overlay import explain
from ctnet.data import eval_transform, sample_sparse
from ctnet.engine import save_model
from ctnet.micro import MicroSomething, compose
from ctnet.micro.drawing import MOTIONS
from study import localisation, twins
from study.chapters.accuracy import direction_table, directions_of


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MicroSomething(tmp_path_factory.mktemp("micro"), "val", count=7, progress=False)


@cache
def network(name="tsn_r50_twin", num_frames=8):
    torch.manual_seed(0)
    return ctnet.create_model(name, num_classes=24, num_frames=num_frames).eval()


def test_each_network_is_measured_on_each_clip_whatever_the_batches(dataset):
    models = {"eight": network(), "four": network("ctnet_r50_twin", 4)}
    table = measure_localisation(models, dataset, batch_size=3)
    assert table.network.tolist() == ["eight"] * 7 + ["four"] * 7
    assert table["clip"].tolist() == [*range(7)] * 2
    assert table.label.tolist() == [dataset.classes[label].name for label in dataset.labels] * 2

    frames, number = sample_sparse(24, 8)[0], 4
    model, (clip, label) = models["eight"], dataset[number]
    clip = eval_transform(32)(clip[frames], 0)[0].transpose(0, 1)[None]
    masks = torch.from_numpy(dataset.masks[number][frames])[None]
    row = table.iloc[number]
    tubes = saliency_tubes(model, clip, torch.tensor([label]))
    assert row.energy_share == pytest.approx(energy_share(tubes, masks).item(), abs=1e-4)
    assert row.pointing_game == pointing_game(tubes, masks).item()
    assert row.temporal_concentration == pytest.approx(temporal_concentration(tubes).item(), abs=1e-4)
    assert row.mask_area == pytest.approx(masks.float().mean().item())
    assert row.scatter == pytest.approx(scatter(tubes).item(), abs=1e-4)
    acting = torch.from_numpy(acting_frames(dataset.config.scene(number))[frames].copy())
    assert row.action_area == pytest.approx(acting.float().mean().item())
    acting = acting[None, :, None, None].expand_as(tubes)
    assert row.action_share == pytest.approx(energy_share(tubes, acting).item(), abs=1e-4)


def test_a_network_without_evidence_has_a_uniform_map(dataset):
    torch.nn.init.zeros_((model := ctnet.create_model("tsn_r50_twin", num_classes=24)).head.weight)
    table = measure_localisation({"a": model.eval()}, dataset)
    np.testing.assert_allclose(table.energy_share, table.mask_area, rtol=1e-5)
    np.testing.assert_allclose(table.pointing_game, table.mask_area, rtol=1e-5)
    np.testing.assert_allclose(table.action_share, table.action_area, rtol=1e-5)
    np.testing.assert_allclose(table.scatter, 1, rtol=1e-5)


def test_maps_with_and_without_evidence_against_the_class_are_measured_together(dataset):
    table = measure_localisation({"a": network()}, dataset, (False, True), batch_size=3)
    assert len(table) == 2 * 7
    cut = table[table.relu]
    assert cut["clip"].tolist() == [*range(7)]
    frames, number = sample_sparse(24, 8)[0], 5
    clip, label = dataset[number]
    clip = eval_transform(32)(clip[frames], 0)[0].transpose(0, 1)[None]
    masks = torch.from_numpy(dataset.masks[number][frames])[None]
    expected = energy_share(grad_cam(network(), clip, torch.tensor([label])), masks).item()
    assert cut.energy_share.iloc[number] == pytest.approx(expected, abs=1e-4)
    assert not np.allclose(cut.energy_share, table[~table.relu].energy_share)


def test_a_network_with_other_classes_is_refused(dataset):
    reordered = ctnet.create_model("tsn_r50_twin", num_classes=24)
    reordered.classes = [item.name for item in dataset.classes][::-1]
    for model in (reordered, ctnet.create_model("tsn_r50_twin", num_classes=5)):
        with pytest.raises(ValueError, match="a was not trained on the classes of MicroSomething"):
            measure_localisation({"a": model}, dataset)


@pytest.mark.parametrize("shape", [(32, 32), (36, 64)])
def test_the_figure_has_a_row_for_the_video_and_each_network_and_one_bar(shape):
    frames = torch.randint(0, 256, (8, 3, *shape)).byte()
    explanations = [explain(name, network(), frames, size=32) for name in ("first", "second")]
    figure = plot_saliency(explanations)
    figure.canvas.draw()
    pictures = np.array(figure.axes[:-1]).reshape(3, 8)
    assert all(len(axes.images) == 1 for axes in figure.axes)
    box = pictures[1, 0].get_window_extent()
    assert box.height / box.width == pytest.approx(shape[0] / shape[1], rel=0.02)
    texts = [text.get_text() for text in figure.texts]
    assert texts[1:3] == [explanation.caption for explanation in explanations]
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x0 >= -1
        assert extent.x1 <= figure.bbox.x1
        for axes in figure.axes:
            assert not extent.overlaps(axes.get_window_extent()), text


@pytest.mark.parametrize("motion", MOTIONS)
def test_frames_of_action_are_those_in_which_an_acting_object_changes(motion):
    scene, act = compose((3, 1), motion), MOTIONS[motion]
    acting = acting_frames(scene)
    assert acting.shape == (24,)
    assert acting.any() == (motion != "still")
    np.testing.assert_array_equal(
        acting, acting_frames(compose((3, 1), act.opposite))[:: 1 if act.opposite == motion else -1]
    )
    if motion == "right":
        (x,) = [sprite.x for sprite in scene.sprites if sprite.acting]
        for frame in range(24):
            assert acting[frame] == any(x[frame] != x[other] for other in (frame - 1, frame + 1) if 0 <= other < 24)
        assert not acting.all()


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """A folder of results, and a function that keeps a made-up measurement in it: means of the networks' values."""
    (tmp_path / "published").symlink_to(localisation.results_dir() / "published")
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))

    def write(means, measure="energy_share", clips=60, runs=None):
        rng = np.random.default_rng(0)
        names = {row: [run.name for run in found] for row, found in measured_runs().items()}
        pack = localisation._pack
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
        content = {
            "clips": clips,
            "runs": runs or names,
            "uniform": {"mask_area": pack(np.full(clips, 0.1)), "action_area": pack(area)},
            "values": values,
            "means": {
                "trained": {row: {key: [1.0, 0.5, 1.5] for key in MEASURES} for row in names},
                "best": {"masks": {key: [2.0] for key in MEASURES}},
            },
            "provenance": {"seconds": 1.0, "hardware": {"cpu": "one"}},
        }
        (tmp_path / "localisation.json").write_text(json.dumps(content))

    return write


def verdicts():
    return {claim.id.removeprefix("fig3/"): verdict for claim, _, verdict in directions_of("fig3")}


CT, CSN, R21D = "ct-module-pwconv-te", "csn-module", "r-2-1-d-module"


@pytest.mark.parametrize(
    ("measure", "means", "turned"),
    [
        ("energy_share", {CT: 0.6, R21D: 0.6}, {f"{CT} > {CSN}/energy_share": "supported"}),
        ("pointing_game", {CT: 0.4}, {f"{CT} > {row}/pointing_game": "contradicted" for row in (CSN, R21D)}),
        ("action_share", {R21D: 0.6}, {f"{CT} > {R21D}/action_share": "contradicted"}),
        ("scatter", {CSN: 0.6}, {f"{CSN} > {row}/scatter": "supported" for row in (R21D, CT)}),
        ("temporal_concentration", {CT: 0.9}, {}),
        ("scatter", {CSN: 0.501}, {}),
    ],
)
def test_a_verdict_follows_the_kept_values_and_touches_no_other(keep, measure, means, turned):
    keep(means, measure)
    assert verdicts() == dict.fromkeys(verdicts(), "inconclusive") | turned


def test_nothing_is_decided_without_a_measurement_of_todays_runs(keep):
    for _ in range(2):
        assert set(verdicts().values()) == {"not run yet"}
        assert "not run yet" in localisation_card().data
        assert set(localisation_table().data.iloc[:, 1]) == {"not run yet"}
        assert plot_differences().texts[0].get_text() == "not run yet"
        keep({CT: 0.9}, runs={row: ["another"] for row in (CT, CSN, R21D)})


def test_tables_and_figure_show_what_is_kept(keep):
    keep({CT: 0.6})
    table = localisation_table().data
    assert table.Network.tolist() == ["R(2+1)D", "CSN", "CT-Net", "The masks themselves, on 2×2", "Uniform map"]
    assert table.iloc[-1, 1:].tolist() == ["10.0", "10.0", "62.5", "100.0", "0.0"], (
        "frames of action where there are others"
    )
    assert table.iloc[0, 1] == "1.0 ± 0.5"
    shown = direction_table("fig3").data
    assert shown["Twins, points"].str.match(r"[+-]\d+\.\d").all()
    assert f"{sum(shown['Verdict on the direction'] == 'supported')} supported" in localisation_card().data
    figure = plot_differences()
    assert [len(axes.get_yticks()) for axes in figure.axes] == [2, 2, 2, 2]


def test_a_measurement_is_kept_clip_by_clip_and_read_back(keep, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(localisation, "CLIPS", 7)
    monkeypatch.setattr(localisation, "dataset_of", lambda run: dataset)
    monkeypatch.setattr(twins, "SEEDS", {"2a": 2, "2g": 2, "fig3": 1})
    for runs in measured_runs().values():
        for run in runs:
            model = localisation.build_model(run.recipe, dataset.class_names)
            torch.nn.init.normal_(model.head.weight)
            (tmp_path / run.name).mkdir()
            save_model(tmp_path / run.name / "model.safetensors", model, recipe=run.recipe)
    localisation.localise(tmp_path)
    content = localisation.localisation()
    assert set(content["means"]) == {"trained", "positive", "untrained", "best"}
    informative = localisation._informative(content)
    for row in (CT, CSN):
        model = ctnet.load_model(tmp_path / measured_runs()[row][1].name / "model.safetensors")
        table = measure_localisation({row: model}, dataset)
        for measure in MEASURES:
            wanted = table[measure][informative] if measure == "action_share" else table[measure]
            kept = localisation.measured(content, row, measure)
            assert kept.shape == (2, len(wanted))
            np.testing.assert_allclose(kept[1], wanted, atol=0.00051)
            assert content["means"]["trained"][row][measure][0] == pytest.approx(100 * kept.mean(), abs=0.06)
    best, uniform = content["means"]["best"]["masks"]["energy_share"][0], localisation.uniform(content, "energy_share")
    assert best > 1.5 * uniform


def test_a_measurement_without_weights_is_refused_in_one_line(run_study, tmp_path):
    code, out, err = run_study("localise", "--work", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith("ctnet: 15 of 15 trained networks are missing, such as ")
    assert err.endswith(": `python -m study run --weights --table 2a --table 2g` trains them again\n")
    assert err.count("\n") == 1

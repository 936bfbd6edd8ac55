from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import ctnet
from ctnet.analysis import energy_share, grad_cam, pointing_game, saliency_tubes, scatter, temporal_concentration
from ctnet.data import eval_transform, sample_sparse
from ctnet.engine import save_model
from ctnet.engine.preparation import build_model
from ctnet.micro import MicroSomething, compose
from ctnet.micro.drawing import MOTIONS
from study import saliency_maps
from study.runs import weights_file
from study.saliency import FILE, MEASURES, content, informative, measured, measured_runs, uniform
from study.saliency_maps import PARTS, acting_frames, clips_of, measure_maps, measure_saliency
from study.store import behaviour


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MicroSomething(tmp_path_factory.mktemp("micro"), "val", count=7, progress=False)


@cache
def network(name="tsn_r50_twin", num_frames=8):
    torch.manual_seed(0)
    return ctnet.create_model(name, num_classes=24, num_frames=num_frames).eval()


def test_each_network_is_measured_on_each_clip_whatever_the_batches(dataset):
    models = {"eight": network(), "four": network("ctnet_r50_twin", 4)}
    table = measure_maps(models, dataset, batch_size=3)
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
    table = measure_maps({"a": model.eval()}, dataset)
    np.testing.assert_allclose(table.energy_share, table.mask_area, rtol=1e-5)
    np.testing.assert_allclose(table.pointing_game, table.mask_area, rtol=1e-5)
    np.testing.assert_allclose(table.action_share, table.action_area, rtol=1e-5)
    np.testing.assert_allclose(table.scatter, 1, rtol=1e-5)


def test_maps_with_and_without_evidence_against_the_class_are_measured_together(dataset):
    table = measure_maps({"a": network()}, dataset, (False, True), batch_size=3)
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
            measure_maps({"a": model}, dataset)


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


def test_a_measurement_is_kept_clip_by_clip_and_read_back(dataset, declare, tmp_path, monkeypatch):
    """Of networks that look somewhere, as they are before training, on few clips."""
    monkeypatch.setattr(saliency_maps, "CLIPS", len(dataset))
    few = {"seeds": 2, "twins": {"top1": {"root": str(tmp_path / "clips"), "options": {"last_stride": 1}}}}
    monkeypatch.setenv("CTNET_RESULTS", str(declare(tmp_path, figure_3=few)))
    for runs in measured_runs().values():
        for run in runs:
            torch.manual_seed(run.recipe.seed)
            model = build_model(run.recipe, dataset.class_names)
            torch.nn.init.normal_(model.head.weight)
            (tmp_path / run.name).mkdir()
            save_model(weights_file(run, tmp_path), model, recipe=run.recipe)
    assert measure_saliency(tmp_path) == tmp_path / FILE
    found = content()
    assert set(found["means"]) == {"trained", "positive", "untrained", "best"}
    networks = ["csn_r50_twin", "ctnet_r50_twin", "r2plus1d_r50_twin"]
    assert found["provenance"]["behaviour"] == behaviour(PARTS, networks)
    for row in ("ct-module-pwconv-te", "csn-module"):
        run = measured_runs()[row][1]
        table = measure_maps({row: ctnet.load_model(weights_file(run, tmp_path))}, clips_of(run))
        for measure in MEASURES:
            wanted = table[measure][informative(table.action_area)] if measure == "action_share" else table[measure]
            kept = measured(found, row, measure)
            assert kept.shape == (2, len(wanted))
            np.testing.assert_allclose(kept[1], wanted, atol=0.00051)
            assert found["means"]["trained"][row][measure][0] == pytest.approx(100 * kept.mean(), abs=0.06)
    best = found["means"]["best"]["masks"]["energy_share"][0]
    assert best > 1.5 * uniform(found, "energy_share")


def test_a_measurement_without_weights_is_refused_in_one_line(run_study, tmp_path):
    code, out, err = run_study("saliency", "--work", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith("study: 18 of 18 trained networks are missing, such as ")
    assert err.endswith(": `python -m study run --weights --table fig3` trains them again\n")
    assert err.count("\n") == 1


def test_untrained_networks_are_those_that_training_starts_with(tmp_path, monkeypatch):
    monkeypatch.setattr(saliency_maps, "CLIPS", 1)
    monkeypatch.setattr(saliency_maps, "pictured_runs", dict)

    def looked_at(models, dataset, relu):
        ((name, model),) = models.items()
        return pd.DataFrame({"relu": relu, "name": name, "weight": model.head.weight[0, 0].item()})

    monkeypatch.setattr(saliency_maps, "measure_maps", looked_at)
    run = measured_runs()["csn-module"][1]
    run = replace(run, recipe=run.recipe.override({"root": str(tmp_path / "clips")}))
    torch.manual_seed(run.recipe.seed)
    model = build_model(run.recipe, clips_of(run).class_names)
    before = model.head.weight[0, 0].item()
    torch.nn.init.constant_(model.head.weight, 0.5)
    (tmp_path / run.name).mkdir()
    save_model(weights_file(run, tmp_path), model, recipe=run.recipe)
    found = saliency_maps._tables({"csn-module": [run]}, tmp_path, list)
    weights = {kind: table["weight"].tolist() for (kind, _), (table,) in found.items()}
    assert weights == {"trained": [0.5], "positive": [0.5], "untrained": [before]}
    assert before != 0.5

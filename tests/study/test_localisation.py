from functools import cache

import numpy as np
import pytest
import torch

import ctnet
from ctnet.analysis import energy_share, grad_cam, pointing_game, saliency_tubes, temporal_concentration
from ctnet.analysis.overlay import explain
from ctnet.data import MicroSomething, eval_transform, sample_sparse
from ctnet.study.localisation import measure_localisation, plot_saliency


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
    assert row.predicted == dataset.classes[model(clip).argmax()].name
    assert row.mask_area == pytest.approx(masks.float().mean().item())


def test_other_maps_can_be_measured(dataset):
    table = measure_localisation(
        {"a": network()}, dataset, lambda model, clips, labels: torch.ones(len(labels), 8, 32, 32)
    )
    np.testing.assert_allclose(table.energy_share, table.mask_area, rtol=1e-5)
    np.testing.assert_allclose(table.pointing_game, table.mask_area, rtol=1e-5)
    cam = measure_localisation({"a": network()}, dataset, grad_cam)
    assert cam.energy_share.between(0, 1).all()


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
    figure = plot_saliency(explanations, columns=4)
    figure.canvas.draw()
    pictures = np.array(figure.axes[:-1]).reshape(3, 4)
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

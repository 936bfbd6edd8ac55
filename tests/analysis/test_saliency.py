import math
from functools import cache

import pytest
import torch
from torch import nn

import ctnet
from ctnet.analysis import (
    class_evidence,
    energy_share,
    grad_cam,
    pointing_game,
    saliency_tubes,
    scatter,
    temporal_concentration,
)
from ctnet.models import VideoModel

CLIPS = torch.randn(3, 3, 4, 32, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([4, 0, 2])


class Small(VideoModel):
    """Features at a quarter of T, H and W, or as given; optionally a head that is not linear and changes them."""

    def __init__(self, features=None, hidden=0):
        super().__init__()
        self.stem = nn.Conv3d(3, 6, 4, stride=4)
        self.hidden = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, hidden), nn.ReLU()) if hidden else None
        self.head = nn.Linear(hidden or 6, 5)
        self.given = features

    def forward_features(self, x):
        return self.stem(x) if self.given is None else self.given

    def forward_head(self, features):
        if self.hidden is None:
            return self.head(features.mean((2, 3, 4)))
        return self.head(self.hidden(features.relu_().mean((2, 3, 4))))


@cache
def network(name="ctnet_r50_twin"):
    torch.manual_seed(0)
    model = ctnet.create_model(name, num_classes=5)
    nn.init.normal_(model.head.weight)
    return model.eval()


MODELS = {"ctnet": network, "tsn": lambda: network("tsn_r50_twin"), "fewer frames": Small}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("relu", [False, True])
def test_tubes_are_what_a_loop_over_channels_gives_and_what_grad_cam_gives(build, relu):
    model = build()
    tubes = saliency_tubes(model, CLIPS, LABELS, relu=relu)
    assert tubes.shape == (3, 4, 32, 48)
    with torch.no_grad():
        features = model.forward_features(CLIPS)
    for clip, label in enumerate(LABELS):
        evidence = torch.zeros(features.shape[2:])
        for channel, weight in enumerate(model.head.weight[label].tolist()):
            evidence += weight * features[clip, channel]
        large = nn.functional.interpolate(evidence[None, None], (4, 32, 48), mode="trilinear")[0, 0]
        large = large.relu() if relu else large - large.min()
        expected = large / large.max() if large.any() else large
        torch.testing.assert_close(tubes[clip], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(grad_cam(model, CLIPS, LABELS, relu=relu), tubes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_evidence_adds_up_to_the_score(build):
    model = build()
    with torch.no_grad():
        scores = model(CLIPS)[range(3), LABELS]
    total = class_evidence(model, CLIPS, LABELS).mean((1, 2, 3)) + model.head.bias[LABELS]
    torch.testing.assert_close(total, scores, rtol=1e-3, atol=1e-4)


def test_one_frame_of_features_is_alike_on_all_frames():
    tubes = saliency_tubes(Small(), CLIPS, LABELS)
    assert torch.equal(tubes[:, :1].expand_as(tubes), tubes)
    torch.testing.assert_close(temporal_concentration(tubes), torch.zeros(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("value", "relu", "expected"), [(2, False, 0), (-2, True, 0), (0, True, 0), (2, True, 1)])
def test_flat_evidence_points_nowhere(value, relu, expected):
    features = value * (1 + 1e-7 * torch.randn(3, 6, 2, 5, 5))  # as flat as rounding leaves it
    model = Small(features)
    nn.init.constant_(model.head.weight, 0.3)
    tubes = saliency_tubes(model, CLIPS, LABELS, relu=relu)
    torch.testing.assert_close(tubes, torch.full((3, 4, 32, 48), float(expected)), rtol=0, atol=1e-5)


def test_evidence_against_a_class_is_lowest_or_counts_as_none():
    features = torch.zeros(1, 6, 1, 1, 3)
    features[0, 0, 0, 0] = torch.tensor([-1.0, 0.0, 3.0])
    model = Small(features)
    nn.init.ones_(model.head.weight)
    clip, label = torch.zeros(1, 3, 1, 1, 3), torch.tensor([0])
    assert saliency_tubes(model, clip, label).flatten().tolist() == [0, 0.25, 1]
    assert saliency_tubes(model, clip, label, relu=True).flatten().tolist() == [0, 0, 1]


def test_a_head_that_is_not_linear_needs_grad_cam():
    model = Small(hidden=4).train()
    with pytest.raises(ValueError, match="reads 4 numbers, not the 6 channels of its features: use grad_cam"):
        saliency_tubes(model, CLIPS, LABELS)
    maps = grad_cam(model, CLIPS, LABELS)
    assert torch.equal(maps, grad_cam(model, CLIPS, LABELS))  # no dropout, although the model trains
    assert maps.isfinite().all()
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_grad_cam_weights_channels_by_their_mean_gradient_whatever_the_head():
    torch.manual_seed(0)  # for a head that is not zero, and flat, for one of the clips
    features, clips = torch.randn(3, 6, 4, 8, 8), torch.zeros(3, 3, 4, 8, 8)
    model = Small(features, hidden=4).eval()
    for clip, label in enumerate(LABELS):
        leaf = features.detach().clone().requires_grad_()
        model.forward_head(leaf.clone())[clip, label].backward()
        channels = [leaf.grad[clip, c].mean() * features[clip, c] for c in range(6)]
        expected = torch.stack(channels).sum(0)
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        torch.testing.assert_close(grad_cam(model, clips, LABELS, relu=False)[clip], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("explain", [saliency_tubes, grad_cam])
def test_maps_are_the_same_where_no_gradients_are_kept(explain):
    model = Small()
    expected = explain(model, CLIPS, LABELS)
    with torch.inference_mode():
        assert torch.equal(explain(model, CLIPS, LABELS), expected)
        assert torch.is_inference_mode_enabled()


def test_every_modules_mode_is_left_as_it_is():
    model = Small(hidden=6).train()
    model.stem.eval()
    saliency_tubes(model, CLIPS, LABELS)
    assert model.training
    assert not model.stem.training


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 5], [0, 1, -1], [[0], [1], [2]]])
@pytest.mark.parametrize("explain", [saliency_tubes, grad_cam])
def test_labels_that_do_not_fit_are_refused(explain, labels):
    with pytest.raises(ValueError, match=r"expected labels as an int64 tensor of shape \(N,\)"):
        explain(Small(), CLIPS, labels)
    with pytest.raises(ValueError, match="expected a label from 0 to 4 for each of 3 clips"):
        explain(Small(), CLIPS, torch.tensor(labels))


# Measures ------------------------------------------------------------------------------------------------------------

MASKS = torch.zeros(2, 4, 8, 10, dtype=torch.bool)
MASKS[0, 1:3, 2:4, 5:10] = True  # 20 of 320 positions
MASKS[1, :, :, :5] = True


def spike(*places):
    """One clip's map, of height 2 in some places."""
    tubes = torch.zeros(2, 4, 8, 10)
    for place in places:
        tubes[:, *place] = 2
    return tubes


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_uniform_map_has_the_masks_area_and_no_concentration(level):
    tubes = torch.full(MASKS.shape, level)
    torch.testing.assert_close(energy_share(tubes, MASKS), torch.tensor([20 / 320, 0.5]))
    torch.testing.assert_close(pointing_game(tubes, MASKS), torch.tensor([20 / 320, 0.5]))
    torch.testing.assert_close(temporal_concentration(tubes), torch.zeros(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("tubes", "share", "hit"),
    [
        (spike((1, 2, 5)), [1, 0], [1, 0]),
        (spike((1, 2, 4)), [0, 1], [0, 1]),
        (spike((1, 2, 4), (2, 3, 9), (3, 3, 9), (0, 0, 0)), [0.25, 0.5], [0.25, 0.5]),
        (spike((1, 2, 5)) + 0.5 * spike((0, 0, 0), (3, 7, 9), (3, 7, 0), (3, 6, 9)), [1 / 3, 1 / 3], [1, 0]),
        (MASKS.float(), [1, 1], [1, 1]),
    ],
    ids=["in the first", "in the second", "four alike", "one above others", "the masks themselves"],
)
def test_energy_and_maximum_on_hand_made_maps(tubes, share, hit):
    torch.testing.assert_close(energy_share(tubes, MASKS), torch.tensor(share).float())
    torch.testing.assert_close(pointing_game(tubes, MASKS), torch.tensor(hit).float())


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0, 0, 5, 0], 1),
        ([1, 1, 1, 1], 0),
        ([0, 3, 3, 0], 0.5),
        ([1, 0, 0, 3], 1 - (0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / math.log(4)),
        ([1, 0, 0, 0, 0, 0, 0, 1], 2 / 3),
        ([2], 1),
    ],
)
def test_concentration_in_time_ignores_where_in_a_frame_saliency_lies(weights, expected):
    shape = torch.rand(len(weights), 8, 10, generator=torch.Generator().manual_seed(0))
    shape /= shape.sum((1, 2), keepdim=True)
    tubes = torch.tensor(weights)[:, None, None] * shape
    torch.testing.assert_close(temporal_concentration(tubes[None]), torch.tensor([float(expected)]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("measure", [energy_share, pointing_game])
def test_masks_of_another_shape_are_refused(measure):
    with pytest.raises(ValueError, match="differ in shape"):
        measure(torch.rand(2, 4, 8, 5), MASKS)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(0, 2, 5)], 0),
        ([(0, 2, 5), (3, 7, 0)], 0),  # one place in each frame, wherever
        ([(1, 0, 0), (1, 0, 9)], math.sqrt(12 * 0.45**2 / (2 - 1 / 8**2 - 1 / 10**2))),
        ([(1, 0, 0), (1, 0, 9), (2, 4, 4), (3, 4, 4)], math.sqrt(6 * 0.45**2 / (2 - 1 / 8**2 - 1 / 10**2))),
    ],
    ids=["one place", "one in each frame", "two edges", "two edges in half of the frames"],
)
def test_scatter_is_the_distance_from_a_frames_centre(places, expected):
    tubes = torch.zeros(1, 4, 8, 10)
    for place in places:
        tubes[0][place] = 0.7
    torch.testing.assert_close(scatter(tubes), torch.tensor([float(expected)]), rtol=0, atol=1e-5)


def test_scatter_is_one_for_a_uniform_map_whatever_its_size():
    for shape in ((2, 4, 8, 10), (2, 1, 2, 2)):
        torch.testing.assert_close(scatter(torch.full(shape, 0.3)), torch.ones(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(scatter(torch.zeros(2, 4, 8, 10)), torch.ones(2), rtol=0, atol=1e-5)


def test_scatter_of_a_single_position_is_that_of_a_uniform_map():
    torch.testing.assert_close(scatter(torch.rand(2, 3, 1, 1)), torch.ones(2))
    torch.testing.assert_close(scatter(torch.zeros(2, 3, 1, 1)), torch.ones(2))

"""Pictures of gates show what the attentions of a network compute."""

import numpy as np
import pytest
import torch

from ctnet.models import create_model
from study.chapters.diagrams import ATTENTIONS
from study.chapters.gates import gates, plot_gates

CLIP = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("ctnet_r50_twin", num_classes=24).eval()


def test_gates_have_the_dimensions_that_they_do_not_average_away(model):
    found = gates(model, CLIP)
    channels = found["channel"].shape[0]
    assert {name: tuple(gate.shape) for name, gate in found.items()} == {
        "spatial": (channels, 16, 16),
        "temporal": (channels, 8),
        "channel": (channels, 8),
    }
    assert all(gate.min() > 0 and gate.max() < 1 for gate in found.values())


def test_the_spatial_gate_alone_is_blind_to_the_direction_of_time(model):
    forwards, backwards = gates(model, CLIP), gates(model, CLIP[::-1])
    assert torch.allclose(forwards["spatial"], backwards["spatial"], atol=1e-5)
    assert not torch.allclose(forwards["temporal"], backwards["temporal"], atol=1e-5)
    assert not torch.allclose(forwards["temporal"], backwards["temporal"].flip(1), atol=1e-5)


def test_a_figure_shows_both_clips_and_says_whose_gates_they_are(model):
    figure = plot_gates(model, CLIP)
    assert [ax.get_title().partition("\n")[0] for ax in figure.axes] == [
        "forwards",
        *ATTENTIONS,
        "backwards",
        *ATTENTIONS,
    ]
    for above, below, name in zip(figure.axes[1:4], figure.axes[5:], ATTENTIONS, strict=True):
        assert above.images[0].get_clim() == below.images[0].get_clim()
        low, high = above.images[0].get_clim()
        assert above.get_title() == below.get_title() == f"{name}\n{low:.2f} to {high:.2f}"
    assert "trained" in figure.get_suptitle()
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), gates(model, CLIP)["temporal"])
    assert "random weights" in plot_gates(None, CLIP).get_suptitle()

import pytest
import torch
from torch import nn

import ctnet
from ctnet.analysis import class_evidence, count_cost, grad_cam
from ctnet.engine import eval_data, evaluate
from ctnet.models.modes import evaluating


def modes(model):
    return [module.training for module in model.modules()]


def half_frozen():
    """A network in training mode whose batch normalisation is frozen, but for the first layer."""
    model = ctnet.create_model("ctnet_r50_twin", num_classes=24, num_frames=2).train()
    for layer in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)][1:]:
        layer.eval()
    return model


CLIP, LABEL = torch.zeros(1, 3, 2, 32, 32), torch.tensor([3])


@pytest.mark.parametrize(
    "use",
    [
        lambda model, tiny: count_cost(model, size=32),
        lambda model, tiny: evaluate(model, eval_data(tiny, model)),
        lambda model, tiny: class_evidence(model, CLIP, LABEL),
        lambda model, tiny: grad_cam(model, CLIP, LABEL),
    ],
    ids=["count_cost", "evaluate", "class_evidence", "grad_cam"],
)
def test_what_looks_at_a_network_leaves_every_module_its_mode(use, tiny):
    model = half_frozen()
    before = modes(model)
    assert len(set(before)) == 2
    use(model, tiny)
    assert modes(model) == before


def test_a_network_whose_cost_cannot_be_counted_keeps_its_modes():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4).eval())  # for no clip
    before = modes(model)
    with pytest.raises(ValueError, match="cannot process"):
        count_cost(model, size=32, frames=2)
    assert modes(model) == before


def test_tensorize_leaves_a_network_its_modes():
    cnn = ctnet.models.resnet_twin().train()
    cnn.bn1.eval()
    model = ctnet.tensorize(cnn)
    assert [model.backbone.bn1.training, model.backbone.layer1.training] == [False, True]


def test_modes_are_restored_after_an_error():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).eval())

    def fail():
        with evaluating(model):
            assert modes(model) == [False] * 3
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert modes(model) == [True, True, False]

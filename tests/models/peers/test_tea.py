import pytest
import torch
from networks import randomise, twin
from torch import nn

import ctnet
from ctnet.models.peers.tea import MotionExcitation
from ctnet.models.peers.tsm import TemporalShift


def test_me_excites_channels_between_nothing_and_double():
    x, module = torch.rand(2, 32, 4, 6, 6) + 0.1, MotionExcitation(32).eval()
    nn.init.constant_(module.restore[1].weight, 1e6)
    ratio = module(x) / x
    assert 0 <= ratio.min() < 0.01
    assert 1.99 < ratio.max() <= 2
    torch.testing.assert_close(ratio[:, :, -1], torch.ones_like(ratio[:, :, -1]))  # no frame follows the last


@pytest.mark.parametrize(("block", "seen"), [(0, [[0], [1], [2]]), (1, [[0], [0, 1], [0, 1, 2]])])
def test_tea_hands_each_part_to_the_next_but_in_the_first_block_of_a_stage(block, seen):
    module = randomise(twin("tea").backbone.layer1[block])
    features = torch.randn(4, 24, 8, 8, requires_grad=True)
    module.excite.register_forward_hook(lambda *_: features)
    outputs = []
    for spatial in module.spatial:
        spatial.register_forward_hook(lambda *args: outputs.append(args[-1]))
    module(torch.randn(4, module.conv1.in_channels, 8, 8), 1)
    for output, parts in zip(outputs, seen, strict=True):
        (gradient,) = torch.autograd.grad(output.sum(), features, retain_graph=True)
        assert gradient.abs().sum((0, 2, 3)).reshape(4, 6).sum(1).nonzero().flatten().tolist() == parts


def test_tea_has_the_widths_of_res2net_and_starts_with_one_shift():
    model = ctnet.create_model("tea_r50")
    assert [model.backbone.get_submodule(f"layer{s}.1").conv1.out_channels for s in (1, 2, 3, 4)] == [
        104,
        208,
        416,
        832,
    ]
    x = torch.randn(1, 26, 3, 2, 2)
    *parts, last = (part.module for part in model.backbone.layer1[0].temporal)
    assert all(torch.equal(part(x), x) for part in parts)
    torch.testing.assert_close(last(x), TemporalShift(divisor=2)(x))


def test_pretraining_on_pictures_leaves_what_is_temporal_in_tea_alone():
    model = twin("tea").train()
    kept = {name: value.clone() for name, value in model.state_dict().items() if "temporal" in name or "excite" in name}
    model(torch.randn(2, 3, 1, 32, 32)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1).step()
    state = model.state_dict()
    assert len(kept) > 100
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert model.backbone.layer1[0].conv1.weight.grad.abs().sum() > 0

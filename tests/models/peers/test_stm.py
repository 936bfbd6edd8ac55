import pytest
import torch
from networks import twin
from torch import nn

from ctnet.models.peers.stm import ChannelwiseMotion


def test_stm_halves_its_motion_features_where_the_resnet_halves_its_own():
    x, full, halved = torch.randn(2, 32, 3, 8, 6), ChannelwiseMotion(32).eval(), ChannelwiseMotion(32, stride=2).eval()
    halved.load_state_dict(full.state_dict())
    torch.testing.assert_close(halved(x), nn.functional.max_pool3d(full(x), (1, 2, 2)))
    assert halved(torch.randn(2, 32, 3, 7, 5)).shape == (2, 32, 3, 4, 3)


@pytest.mark.parametrize("block", [0, 1])
def test_stm_adds_motion_to_what_the_relu_lets_through(block):
    module, kept = twin("stm").backbone.layer2[block], {}
    for name in ("conv2", "beside_conv2"):
        module.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: kept.update({name: output}))
    module.conv3.register_forward_hook(lambda _, args, output: kept.update(conv3=args[0]))
    module(torch.randn(4, module.conv1.in_channels, 8, 8), 4)
    assert kept["beside_conv2"].abs().sum() > 0
    torch.testing.assert_close(kept["conv3"], module.bn2(kept["conv2"]).relu() + kept["beside_conv2"])

from collections import Counter

import pytest
import torch
from official_layout import OfficialNet
from torch import nn

from ctnet.models import create_model
from study.conv3d import InConv3d


@pytest.mark.parametrize("frames", [1, 5, 8])
def test_conv3d_gives_the_scores_of_the_network(frames):
    torch.manual_seed(0)
    network = create_model("ctnet_r26_twin", num_classes=7).eval()
    for norm in (part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    clips = torch.rand(2, 3, frames, 32, 40)
    with torch.inference_mode():
        expected = network(clips)
        found = InConv3d(network).eval()(clips)
        assert torch.equal(network(clips), expected), "the network stays as it is"
    assert float(expected.std()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_it_convolves_clips():
    written = InConv3d(create_model("ctnet_r26_twin"))
    kernels = {part.kernel_size for part in written.modules() if isinstance(part, nn.Conv3d)}
    assert kernels >= {(1, 3, 3), (3, 1, 1)}


def test_it_convolves_what_the_authors_network_convolves():
    def convolutions(network):
        layers = (part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Conv3d))
        return Counter((type(part), part.weight.shape, part.groups, part.stride, part.padding) for part in layers)

    assert convolutions(InConv3d(create_model("ctnet_r50"))) == convolutions(OfficialNet())


@pytest.mark.parametrize("name", ["tsn_r26_twin", "tea_r26_twin", "c3d_r26_twin"])
def test_other_networks_are_refused(name):
    with pytest.raises(ValueError, match="only a CT-Net with K = 2"):
        InConv3d(create_model(name))

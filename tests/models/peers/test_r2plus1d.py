import pytest
from torch import nn

from ctnet.models.peers.r2plus1d import FactorisedConv


def test_factorised_convolution_has_the_weights_of_a_full_one():
    conv = FactorisedConv(64, 128, midplanes=1)
    weights = sum(layer.weight.numel() for layer in conv if isinstance(layer, nn.Conv3d))
    assert weights == pytest.approx(27 * 64 * 128, rel=0.005)

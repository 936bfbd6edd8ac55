import torch
from torch import nn

from ctnet.models.peers.tim import TemporalInteraction
from ctnet.models.peers.tsm import TemporalShift


def test_tim_is_a_convolution_of_each_channel_and_starts_as_the_shift():
    x, tim = torch.randn(2, 16, 5, 3, 4), TemporalInteraction(16)
    torch.testing.assert_close(tim(x), TemporalShift()(x))
    nn.init.normal_(tim.conv.weight)
    lines = x.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (N*H*W, C, T)
    plain = nn.functional.conv1d(lines, tim.conv.weight.squeeze(-1), padding=1, groups=16)
    torch.testing.assert_close(tim(x), plain.unflatten(0, (2, 3, 4)).permute(0, 3, 4, 1, 2), rtol=1e-4, atol=1e-5)

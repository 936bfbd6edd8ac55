import pytest
import torch

from ctnet.models.peers.tsm import TemporalShift


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_tsm_moves_an_eighth_of_the_channels_each_way(frames):
    x = torch.randn(2, 16, frames, 3, 4)
    expected = torch.zeros_like(x)
    for c in range(16):
        for t in range(frames):
            source = t + 1 if c < 2 else t - 1 if c < 4 else t
            if 0 <= source < frames:
                expected[:, c, t] = x[:, c, source]
    torch.testing.assert_close(TemporalShift()(x), expected)

import torch

from ctnet.models.peers.teinet import MotionEnhanced


def test_mem_weights_every_frame_but_the_last_by_its_change():
    x, mem = torch.randn(2, 16, 4, 3, 3), MotionEnhanced(16)
    y = mem(x)
    torch.testing.assert_close(y[:, :, -1], x[:, :, -1])
    for t in range(3):
        change = mem.reduce_present(x[:, :, t].mean((2, 3))) - mem.reduce_next(x[:, :, t + 1].mean((2, 3)))
        weights = torch.sigmoid(mem.restore(change))
        torch.testing.assert_close(y[:, :, t], weights[..., None, None] * x[:, :, t])

import torch
from torch import nn

from ctnet.models.peers.gsm import GateShift
from ctnet.models.peers.tsm import TemporalShift


def test_gsm_gates_are_bounded_and_open_gates_shift_each_half():
    x, module = torch.randn(2, 8, 4, 3, 3), GateShift(8)
    torch.testing.assert_close(module(x), x)
    nn.init.normal_(module.gate.weight, std=100.0)
    assert module.gates(x).shape == (2, 2, 4, 3, 3)
    assert module.gates(x).abs().max() <= 1
    nn.init.zeros_(module.gate.weight)
    nn.init.constant_(module.gate.bias, 100.0)
    torch.testing.assert_close(module(x), TemporalShift(divisor=2)(x))
    nn.init.constant_(module.gate.bias, 0.5)
    gate = torch.tensor(0.5).tanh()
    torch.testing.assert_close(module(x), (1 - gate) * x + gate * TemporalShift(divisor=2)(x))


def test_gsm_gates_each_half_by_itself():
    x, module = torch.randn(1, 8, 4, 3, 3), GateShift(8).eval()
    nn.init.normal_(module.gate.weight)
    first, second = module.gates(x).unbind(1)
    changed = torch.cat((x[:, :4], torch.randn(1, 4, 4, 3, 3)), 1)
    torch.testing.assert_close(module.gates(changed)[:, 0], first)
    assert not torch.allclose(module.gates(changed)[:, 1], second)

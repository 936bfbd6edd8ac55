import pytest
import torch

from ctnet.analysis import progressive_fields, receptive_field
from ctnet.models import CTModule, c3d_module, csn_module, r2plus1d_module

PLAIN = {"excitation": "none", "pointwise": False}


@pytest.mark.parametrize("connection", ["parallel", "serial", "coupling"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_ct_module_reaches_a_cube_of_2k_plus_1_and_all_channels_after_k(k, connection):
    module = CTModule(64, sizes=k, connection=connection, **PLAIN)
    fields = progressive_fields(module, 64)
    assert [field.extent for field in fields] == [(2 * j + 1,) * 3 for j in range(1, k + 1)]
    interacting = torch.tensor(module.sizes).cumprod(0).tolist()
    assert [field.channels for field in fields] == interacting
    assert interacting[-1] == 64


def test_parallel_convolutions_leave_corners_of_the_cube_out():
    parallel, serial = (
        progressive_fields(CTModule(16, connection=connection, **PLAIN), 16)[-1]
        for connection in ("parallel", "serial")
    )
    assert int(parallel.positions.sum()) == 25 + 2 * 9 + 2 * 1  # frames 0, +-1 and +-2 of the output's
    assert int(serial.positions.sum()) == 5**3
    assert parallel.filled == 45 / 125


@pytest.mark.parametrize("build", [c3d_module, r2plus1d_module, csn_module])
def test_the_compared_modules_reach_a_cube_of_3(build):
    field = receptive_field(build(12), 12)
    assert (field.channels, field.extent, field.filled) == (12, (3, 3, 3), 1.0)


def test_every_output_channel_has_the_same_field():
    module = CTModule(16, **PLAIN)
    assert {receptive_field(module, 16, channel=c).extent for c in range(16)} == {(5, 5, 5)}


def test_excitation_reaches_the_whole_probe_and_is_refused():
    with pytest.raises(ValueError, match="larger odd size"):
        receptive_field(CTModule(16), 16)


class Delay(torch.nn.Module):
    """Frame t of the output is frame t - `frames` of the input."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames

    def forward(self, x):
        return torch.cat([torch.zeros_like(x[:, :, : self.frames]), x[:, :, : -self.frames]], 2)


def test_a_field_on_one_side_that_may_go_on_beyond_the_probe_is_refused():
    assert receptive_field(Delay(3), 2, size=9).extent == (1, 1, 1)
    with pytest.raises(ValueError, match="touches the border"):
        receptive_field(Delay(4), 2, size=9)
    with pytest.raises(ValueError, match="no input reaches output channel 1"):
        receptive_field(Delay(5), 2, size=9, channel=1)


@pytest.mark.parametrize("channel", [-1, 16])
def test_a_channel_that_is_not_there_is_refused(channel):
    with pytest.raises(ValueError, match=f"no output channel {channel}: there are 0 to 15"):
        receptive_field(CTModule(16, **PLAIN), 16, channel=channel)


def test_a_field_is_measured_in_the_modules_own_precision():
    assert receptive_field(CTModule(16, **PLAIN).double(), 16).extent == (5, 5, 5)


def test_the_module_is_left_as_it_was():
    module = CTModule(16, **PLAIN)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    progressive_fields(module, 16)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert len(module.sub_operations) == 2


@pytest.mark.parametrize("build", [r2plus1d_module, lambda channels: CTModule(channels, **PLAIN)])
def test_what_training_has_moved_changes_no_field(build):
    module = build(12)
    fresh = receptive_field(module, 12)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.fill_(1e6)
            part.running_var.uniform_(0.1, 9)
    trained = receptive_field(module, 12)
    assert (trained.channels, trained.extent, trained.filled) == (fresh.channels, fresh.extent, fresh.filled)

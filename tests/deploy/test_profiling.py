"""What a profile adds up to, and what it puts where."""

import json

import pytest
import torch
from torch import nn

from ctnet.analysis import count_cost
from ctnet.deploy import optimize, profile
from ctnet.deploy.profiling import DENSE, GATES, GROUPED, KINDS, NORM, POINTWISE, REST
from ctnet.models import create_model

CLIP = torch.rand(1, 3, 4, 64, 64)


def kinds(shares):
    return {share.kind for share in shares}


@pytest.fixture(scope="module")
def shares():
    """Of TSN and CT-Net as they are, and optimized."""
    torch.manual_seed(0)
    plain = [create_model(name, num_frames=4).eval() for name in ("tsn_r50_twin", "ctnet_r50_twin")]
    return profile([*plain, *map(optimize, plain)], CLIP, rounds=2)


def test_multiply_adds_are_those_of_the_counted_convolutions(shares):
    """fvcore counts the head and normalisation too, which take a few percent of so small a network."""
    for name, plain, optimized in zip(("tsn_r50_twin", "ctnet_r50_twin"), shares[:2], shares[2:], strict=True):
        counted = count_cost(create_model(name, num_frames=4), size=64, frames=4).gmacs
        summed = sum(share.gmacs for share in plain)
        assert 0.93 * counted < summed < counted
        assert sum(share.gmacs for share in optimized) == pytest.approx(summed)


def test_they_are_counted_once_where_no_compiler_builds_kernels(monkeypatch):
    plain = create_model("ctnet_r50_twin", num_frames=4).eval()
    monkeypatch.setattr("ctnet.deploy.kernels.library", lambda: None)
    found, fast = profile([plain, optimize(plain)], CLIP, rounds=1)
    assert sum(share.gmacs for share in fast) == pytest.approx(sum(share.gmacs for share in found))


def test_every_module_gets_its_own_mode_back():
    model = create_model("tsn_r26_twin", num_frames=4).train()
    model.backbone.eval()
    profile([model], CLIP, rounds=1)
    assert model.training
    assert not any(part.training for part in model.backbone.modules())


def test_operations_are_told_apart(shares):
    tsn, ctnet, fast_tsn, fast_ctnet = map(kinds, shares)
    assert tsn == {DENSE, POINTWISE, NORM, REST}
    assert ctnet == set(KINDS)
    assert fast_tsn == {DENSE, POINTWISE, REST}
    assert fast_ctnet == {DENSE, POINTWISE, GROUPED, GATES, REST}


def test_shares_are_of_the_maps_that_they_give(shares):
    for each in shares:
        assert [share.maps for share in each] == sorted((share.maps for share in each), reverse=True)
        assert {share.maps for share in each if share.kind == POINTWISE} <= {32, 16, 8, 4, 2}
        assert all(share.ms >= 0 for share in each)


def test_times_are_those_of_the_modules_themselves(monkeypatch):
    """A clock that a module moves on while it runs: what is inside another counts once."""
    clock = [0.0]
    monkeypatch.setattr("ctnet.deploy.profiling.time.process_time", lambda: clock[0])

    class Ticking(nn.Conv2d):
        def forward(self, x):
            clock[0] += 2.0
            return super().forward(x)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.grouped = Ticking(4, 4, 3, padding=1), Ticking(4, 4, 1, groups=2)

        def forward(self, x):
            clock[0] += 0.5
            return self.grouped(self.conv(x))

    (found,) = profile([Block().train()], torch.rand(2, 4, 8, 8), rounds=3)
    assert {(share.kind, share.maps): share.ms for share in found} == {
        (DENSE, 8): 2000.0,
        (GROUPED, 8): 2000.0,
        (REST, 8): 500.0,
    }
    assert {share.kind: share.gmacs * 1e9 for share in found} == {
        DENSE: pytest.approx(64 * 4 * 4 * 9),
        GROUPED: pytest.approx(64 * 4 * 2),
        REST: 0,
    }


def test_a_network_is_left_as_it_was():
    model = create_model("tsn_r50_twin", num_frames=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile([model], CLIP, rounds=1)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("optimized", [False, True])
def test_the_command_lists_every_share(run, optimized):
    command = [
        "profile",
        "ctnet_r50_twin",
        "--frames",
        "4",
        "--size",
        "64",
        "--rounds",
        "1",
        *["--optimized"] * optimized,
    ]
    code, out, _ = run(*command, "--json")
    told = json.loads(out)
    assert (code, told["optimized"]) == (0, optimized)
    assert {share["kind"] for share in told["shares"]} == set(KINDS) - ({NORM} if optimized else set())
    code, out, _ = run(*command)
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("│")]
    assert len(lines) == len(told["shares"])


@pytest.mark.parametrize(("clips", "rounds"), [(CLIP, 0), (torch.empty(1, 3, 4, 8, 8, device="meta"), 1)])
def test_what_cannot_be_measured_is_refused(clips, rounds):
    with pytest.raises(ValueError, match="clips on the CPU and a round or more are needed, not"):
        profile([], clips, rounds)

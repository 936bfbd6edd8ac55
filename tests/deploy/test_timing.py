import json

import pytest
import torch
from typer.testing import CliRunner

from ctnet import count_cost, create_model
from ctnet.cli import app
from ctnet.deploy import bench, matrix_rate


def test_networks_are_measured_in_turn_and_as_counted():
    before = torch.get_num_threads()
    names = ["tsn_r50_twin", "ctnet_r50_twin"]
    found = bench(names, ["eager", "optimized"], frames=4, size=32, clips=2, threads=1, rounds=3)
    assert [(timing.model, timing.backend) for timing in found] == [
        (n, b) for n in names for b in ("eager", "optimized")
    ]
    gmacs = count_cost(create_model("ctnet_r50_twin"), size=32, frames=4).gmacs
    for timing in found:
        assert timing.processor_ms > 0
        assert 0 < timing.latency_ms < 60_000
        assert timing.spread_ms >= 0
        assert timing.memory_mb >= 0
        assert timing.clips_per_second == pytest.approx(2 / timing.latency_ms * 1000)
    assert found[-1].gmacs == pytest.approx(gmacs, rel=0.01)  # the head has other classes
    assert found[-1].gflops == pytest.approx(2 * found[-1].gmacs * found[-1].clips_per_second)
    assert torch.get_num_threads() == before


def test_the_command_prints_what_was_measured():
    command = ["bench", "tsn_r50_twin", "--frames", "2", "--size", "32", "--rounds", "2", "--backend", "eager"]
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [line["backend"] for line in told["timings"]] == ["eager"]
    assert told["timings"][0].keys() >= {"latency_ms", "spread_ms", "clips_per_second", "gflops", "memory_mb", "gmacs"}
    assert "tsn_r50_twin" in CliRunner().invoke(app, command).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ["jax"]}, "unknown backend 'jax'; there are eager"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"rounds": 0}, "must be positive"),
        ({"size": -1}, "must be positive"),
    ],
)
def test_what_cannot_be_measured_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        bench(["tsn_r50_twin"], **options)


def test_a_product_of_matrices_has_a_rate():
    assert 0.1 < matrix_rate(1, size=256, rounds=3) < 10_000

import json
import time

import pytest
import torch
from typer.testing import CliRunner

from ctnet import count_cost, create_model
from ctnet.cli import app
from ctnet.deploy import bench, matrix_rate
from ctnet.deploy import timing as module
from ctnet.deploy.timing import in_turn


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
        assert timing.memory_mb >= 0
        assert timing.clips_per_second == pytest.approx(2 / timing.latency_ms * 1000)
    assert found[-1].gmacs == pytest.approx(gmacs, rel=0.01)  # the head has other classes
    assert found[-1].gflops == pytest.approx(2 * found[-1].gmacs * found[-1].clips_per_second)
    assert torch.get_num_threads() == before


def test_networks_of_ones_own_are_measured_by_their_names_and_stay_as_they_are():
    network = create_model("tsn_r26_twin", num_classes=3, num_frames=4).train()
    found = bench({"mine": network, "its copy": network}, ["eager"], frames=4, size=32, threads=1, rounds=1)
    assert [timing.model for timing in found] == ["mine", "its copy"]
    assert found[0].gmacs == count_cost(network, size=32, frames=4).gmacs
    assert network.training


@pytest.mark.parametrize("status", ["VmSize:\t5 kB\n", "VmRSS:\t5 kB\n"])
def test_a_system_that_does_not_tell_the_memory_in_use_leaves_it_out(status, tmp_path, monkeypatch):
    (tmp_path / "status").write_text(status)
    (tmp_path / "clear_refs").touch()
    monkeypatch.setattr(module, "OWN", tmp_path)
    (found,) = bench(["tsn_r26_twin"], ["eager"], frames=2, size=32, threads=1, rounds=1)
    assert found.memory_mb is None
    assert found.latency_ms > 0


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


def test_calls_are_timed_in_turn():
    called = []
    times = in_turn([lambda: called.append("a"), lambda: called.append("b")], 3)
    assert "".join(called) == "ababab"
    assert [len(taken) for taken in times] == [3, 3]


def test_time_on_the_clock_and_of_the_processor_are_told_apart():
    (sleeping,), (working,) = in_turn([lambda: time.sleep(0.2), lambda: sum(range(10**6))], 1)
    assert sleeping[0] >= 0.2 > 2 * sleeping[1]
    assert working[1] > 0.001


@pytest.fixture
def given(monkeypatch):
    """Let calls take given times: seconds on the clock, and of the processor."""

    def take(*times):
        monkeypatch.setattr(module, "in_turn", lambda calls, rounds, *options: [list(times)] * len(calls))

    return take


def test_medians_and_quartiles_stand_for_all_rounds(given):
    given((0.01, 0.02), (0.02, 0.03), (0.03, 0.04), (0.04, 0.05), (0.09, 0.9))
    (found,) = bench(["tsn_r50_twin"], ["eager"], frames=2, size=32)
    measured = (found.latency_ms, found.spread_ms, found.processor_ms)
    assert measured == pytest.approx((30, 25, 40)), "half the distance of 15 and 65 ms"


def test_a_product_of_matrices_has_a_rate(given):
    """Two operations for each of 100 x 100 x 100; the first round warms up."""
    given((9, 9), (1, 0.002), (1, 0.002), (1, 0.009))
    assert matrix_rate(1, size=100, rounds=3) == pytest.approx(1.0)


def test_every_backend_runs_what_it_is_called(monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    loaded, compiled, rounded, timed = [], [], [], []
    load, export, in_turn = module.load_exported, module.export, module.in_turn

    def exporting(*arguments, int8=None, **options):
        rounded.append(int8 is not None)
        return export(*arguments, int8=int8, **options)

    def timing(calls, *options):
        timed.extend(call.func for call in calls)
        return in_turn(calls, *options)

    monkeypatch.setattr(module, "load_exported", lambda path: loaded.append(path.suffix) or load(path))
    monkeypatch.setattr(module, "export", exporting)
    monkeypatch.setattr(module, "in_turn", timing)
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    backends = ["eager", "optimized", "onnxruntime", "openvino", "compiled", "int8"]
    found = bench(["tsn_r26_twin"], backends, frames=2, size=32, rounds=1)
    assert [each.backend for each in found] == backends
    assert all(each.latency_ms > 0 and each.spread_ms == 0 for each in found)
    assert loaded == [".onnx", ".xml", ".onnx"]
    assert rounded == [False, False, True]
    assert [hasattr(model, "left") for model in compiled] == [True]  # what `optimize` made
    eager, optimized, *exported = timed
    assert not hasattr(eager, "left")
    assert hasattr(optimized, "left")
    assert len(exported) == 4

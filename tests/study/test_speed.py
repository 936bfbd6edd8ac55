import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from ctnet import deploy
from ctnet.models import list_models, network_version
from study import speed
from study.conv3d import InConv3d
from study.store import read, write


def test_kept_times_are_of_the_networks_and_runtimes_that_are_listed():
    for name, part in speed.PARTS.items():
        kept = speed.speed(name)
        assert {(row["model"], row["backend"]) for row in kept["timings"]} == {
            (model, backend) for model in part.models for backend in part.backends
        }
        assert kept["provenance"]["hardware"]["cpu"]
        assert kept["matrix_rate"] > 0


def test_rates_follow_from_costs_and_times():
    frame = speed.times("networks")
    assert set(frame["model"]) == set(speed.NETWORKS) <= set(list_models())
    assert (frame["rate"] * frame["ms"]).to_list() == pytest.approx((1000 * frame["gmacs"]).to_list())
    assert (frame["share"] * speed.speed("networks")["matrix_rate"]).to_list() == pytest.approx(
        (2 * frame["rate"]).to_list()
    )


def test_times_that_are_not_kept_are_asked_for(monkeypatch, tmp_path):
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="python -m study speed --part networks"):
        speed.times("networks")


def test_smaller_groups_are_measured_by_both_kernels():
    rates = speed.group_rates(channels=64, size=8, frames=2, rounds=1)
    assert set(rates["kernel"]) == {"library", "own"}
    assert rates["rate"].gt(0).all()
    per_group = rates.groupby("group")["gmacs"].first()
    assert per_group[64] == pytest.approx(2 * 8 * 8 * 64 * 64 * 9 / 1e9)
    assert per_group[64] == pytest.approx(8 * per_group[8])


def test_kept_exports_name_their_networks_and_what_failed():
    kept = read("speed/exports.json")
    assert set(kept) <= set(list_models())
    for name, outcome in kept.items():
        assert outcome["version"] == network_version(name)
        assert ("error" in outcome) != ("difference" in outcome)


def test_exports_of_older_networks_are_not_told(monkeypatch):
    kept = {"tsn_r50": {"version": network_version("tsn_r50"), "difference": 0.0}, "ctnet_r50": {"version": 0}}
    monkeypatch.setattr(speed, "read", lambda file: kept)
    assert speed.exports() == {"tsn_r50": kept["tsn_r50"]}


@pytest.mark.parametrize(
    ("outcome", "same"), [({"difference": 1e-5}, True), ({"difference": math.nan}, False), ({}, False)]
)
def test_an_export_is_the_same_where_its_scores_are(outcome, same):
    assert speed.is_same(outcome) == same


def test_an_export_is_tried_compared_and_kept(monkeypatch, tmp_path):
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    found = speed.try_exports(["tsn_r50_twin"])
    assert found["tsn_r50_twin"]["difference"] < 1e-5
    assert json.loads((tmp_path / "speed" / "exports.json").read_text()) == found
    assert found["tsn_r50_twin"]["provenance"]["behaviour"]["networks"].keys() == {"tsn_r50_twin"}
    assert speed.try_exports(["tsn_r50_twin"]) == found  # not made again


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """A folder of results without any of speed."""
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    return tmp_path


def test_a_part_is_measured_as_it_is_declared_between_two_rates_of_matrices(empty, monkeypatch):
    calls, rates = [], iter([2.0, 4.0])
    timing = deploy.Timing("tsn_r50", "eager", 1, 5.0, 30.0, 2.0, 40.0, None)
    monkeypatch.setattr(deploy, "bench", lambda *arguments, **options: calls.append((arguments, options)) or [timing])
    monkeypatch.setattr(deploy, "matrix_rate", lambda threads: calls.append(threads) or next(rates))
    speed.measure_speed("runtimes")
    arguments = (("tsn_r50", "ctnet_r50"), ("eager", "optimized", "compiled", "onnxruntime"))
    options = {"frames": 8, "size": 256, "threads": 1, "rounds": 15, "progress": True}
    assert calls == [1, (arguments, options), 1]
    kept = speed.speed("runtimes")
    assert kept["matrix_rate"] == 3.0
    assert (kept["timings"], kept["frames"], kept["size"], kept["rounds"]) == ([asdict(timing)], 8, 256, 15)
    assert kept["provenance"]["versions"].keys() >= {"torch", "onnxruntime"}


def test_both_forms_of_ctnet_are_measured_with_the_same_weights(empty, monkeypatch):
    given = []
    monkeypatch.setattr(deploy, "bench", lambda networks, *arguments, **options: given.append(networks) or [])
    monkeypatch.setattr(deploy, "matrix_rate", lambda threads: 1.0)
    speed.measure_speed("conv3d")
    (forms,) = given
    assert tuple(forms) == speed.PARTS["conv3d"].models
    written, plain = (forms[name] for name in speed.PARTS["conv3d"].models)
    assert torch.equal(written.head.weight, plain.head.weight)
    assert isinstance(written, InConv3d)
    assert not isinstance(plain, InConv3d)
    assert speed.speed("conv3d")["provenance"]["behaviour"]["networks"].keys() == {"ctnet_r50"}


@pytest.mark.parametrize(
    ("error", "told"), [(TypeError("no operator\nand more"), "TypeError: no operator"), (ValueError(), "ValueError: ")]
)
def test_an_export_that_fails_is_kept_with_its_error(error, told, empty, monkeypatch):
    tried = []

    def fail(*arguments, **options):
        tried.append(options)
        raise error

    monkeypatch.setattr(deploy, "export", fail)
    found = speed.try_exports(["tsn_r50_twin"])["tsn_r50_twin"]
    assert (found["clip"], found["error"]) == ([8, 32], told)
    assert "difference" not in found
    assert found["version"] == network_version("tsn_r50_twin")
    assert speed.try_exports(["tsn_r50_twin"]) == {"tsn_r50_twin": found}
    assert tried == [{"frames": 8, "size": 32}]
    speed.try_exports(["tsn_r50_twin"], again=True)
    assert len(tried) == 2


def test_what_another_process_tries_meanwhile_is_kept_too(empty, monkeypatch):
    def fail(model, *arguments, **options):
        write("speed/exports.json", {"tsn_r26_twin": {"error": "of another process"}})
        raise RuntimeError("of this one")

    monkeypatch.setattr(deploy, "export", fail)
    speed.try_exports(["tsn_r50_twin"])
    assert {name: kept["error"] for name, kept in read("speed/exports.json").items()} == {
        "tsn_r26_twin": "of another process",
        "tsn_r50_twin": "RuntimeError: of this one",
    }


def test_a_profile_is_kept_with_where_it_comes_from(monkeypatch, tmp_path):
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="python -m study speed --part profile"):
        speed.shares()
    models = ("tsn_r50_twin", "ctnet_r50_twin")
    monkeypatch.setattr(speed, "PROFILE", replace(speed.PROFILE, models=models, size=32, rounds=1))
    speed.measure_profile()
    frame = speed.shares()
    assert {(row.model, row.backend) for row in frame.itertuples()} == {
        (model, backend) for model in models for backend in ("eager", "optimized")
    }
    assert frame.groupby(["model", "backend"])["gmacs"].sum().round(6).nunique() == 2
    assert speed.speed("profile")["provenance"]["behaviour"]["networks"].keys() == set(models)


def test_the_kept_profile_is_of_the_networks_that_are_listed():
    kept, frame = speed.speed("profile"), speed.shares()
    assert (kept["frames"], kept["size"]) == (speed.PROFILE.frames, speed.PROFILE.size)
    assert set(frame["model"]) == set(speed.PROFILE.models)
    assert set(frame["backend"]) == set(speed.PROFILE.backends)

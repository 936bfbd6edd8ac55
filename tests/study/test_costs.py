"""Kept costs are those of today's networks, tell where they come from, and are named when they are damaged."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ctnet.analysis import Cost
from ctnet.models import create_model
from study.costs import RowCost, cost_file, costs_of, count, kept, measure, measure_all, measure_and_keep, record
from study.exact import networks_of
from study.paper import TABLES, Network, Row, table
from study.runs import USUAL
from study.store import behaviour, is_stale, results_dir

NETWORKS = networks_of([*TABLES, "3.3"])
DIFFERENT = {(network.model, str(network.options)): network for network in NETWORKS.values()}
TSN = Network("tsn_r50")


def plain(network):
    """The network without options that it has anyway."""
    usual = USUAL if network.model.startswith("ctnet_") else {}
    return replace(network, options={key: value for key, value in network.options.items() if value != usual.get(key)})


SPELLINGS = {}
"""Networks by the shortest way to say what they are."""
for each in NETWORKS.values():
    SPELLINGS.setdefault(plain(each).key, []).append(each)


@pytest.mark.parametrize("key", DIFFERENT, ids=" ".join)
def test_kept_costs_are_of_todays_networks(key):
    """By a count of another hand, on shapes alone: convolutions and linear layers, two FLOPs a multiply-add."""
    network = DIFFERENT[key]
    with torch.device("meta"):
        model = create_model(network.model, num_classes=network.classes, **network.options).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, network.frames, network.size, network.size))
    counted, cost = counter.get_flop_counts()["Global"], kept(network)
    layers = sum(flops for operator, flops in counted.items() if "bmm" not in str(operator))  # no attention
    assert layers / 2e9 == pytest.approx(cost.conv_linear_gmacs)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(cost.params_m)


@pytest.fixture
def counted_before(monkeypatch):
    """What a build of the book, or tests, have counted is not counted again: by today's code and packages it was."""
    monkeypatch.delenv("CTNET_MEASURED")


@pytest.mark.parametrize("networks", SPELLINGS.values(), ids=lambda networks: f"{networks[0].model}-{networks[0].key}")
def test_a_count_on_shapes_is_the_executed_one(counted_before, networks):
    """Kept costs were counted with every operator executed, at full size: equal to the last digit, and complete."""
    counted = measure(networks[0])
    for network in networks:
        assert counted == Cost(**json.loads((results_dir() / cost_file(network)).read_text())["cost"])


def test_a_count_that_lacks_something_is_refused(monkeypatch):
    monkeypatch.setattr("ctnet.analysis.count_cost", lambda *_, **__: Cost(1.0, 1.0, 1.0, {}, {}, {"aten::sort": 2}))
    with pytest.raises(ValueError, match="the cost of tsn_r50 lacks aten::sort"):
        count(TSN)


def test_every_network_is_kept_once_and_nothing_else(own_results):
    files = {path.relative_to(own_results).as_posix() for path in (own_results / "cost").iterdir()}
    assert files == {cost_file(network) for network in NETWORKS.values()}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: f"{network.model}-{network.key}")
def test_kept_costs_carry_their_provenance(network):
    made = record(network)["provenance"]
    assert made.keys() >= {"made", "seconds", "behaviour", "commit", "versions", "hardware"}
    assert made["behaviour"].keys() == {"cost", "networks"}
    assert made["behaviour"]["networks"].keys() == {network.model}
    assert made["versions"]["torch"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network", "no cost", "other cost", "no provenance"])
def test_damaged_results_are_named(own_results, edited, damage):
    path = own_results / cost_file(TSN)
    with edited(cost_file(TSN)) as content:
        if damage == "other network":
            content["config"]["size"] = 224
        elif damage == "no cost":
            del content["cost"]
        elif damage == "other cost":
            content["cost"] = {"gmacs": 43}
        elif damage == "no provenance":
            content["provenance"] = {}
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(path.read_text()[:100])
    advice = "is missing: make it with `python -m study verify --live`" if damage == "missing" else "is damaged"
    with pytest.raises(FileNotFoundError if damage == "missing" else ValueError, match=rf"{path.name} {advice}"):
        kept(TSN)


@pytest.mark.parametrize("older", [{"cost": 0}, {"networks": {"tsn_r50": 0}}], ids=str)
def test_results_of_older_behaviour_are_stale(own_results, edited, older):
    assert not is_stale(record(TSN))
    with edited(cost_file(TSN)) as content:
        content["provenance"]["behaviour"] |= older
    assert is_stale(record(TSN))


def test_another_count_by_todays_code_is_told_as_of_today(own_results, edited, monkeypatch):
    made, today = record(TSN)["provenance"], kept(TSN)
    monkeypatch.setattr("study.costs.value", lambda *arguments: asdict(today))
    assert record(TSN)["provenance"] == made
    with edited(cost_file(TSN)) as content:
        content["cost"]["gmacs"] += 1
        content["provenance"] |= {"behaviour": {"cost": 0}, "commit": "old"}
    found = record(TSN)
    assert found["cost"] == today
    assert not is_stale(found)
    assert found["provenance"]["commit"] != "old"
    monkeypatch.setattr("study.costs.value", lambda *arguments: None)
    assert record(TSN)["cost"].gmacs == today.gmacs + 1
    assert record(TSN)["provenance"]["commit"] == "old"


def test_a_row_sums_networks_and_multiplies_views():
    one, other = kept(TSN), kept(Network("ctnet_r50"))
    cost = RowCost((one, other), 6)
    assert cost.gmacs == pytest.approx(6 * (one.gmacs + other.gmacs))
    assert cost.conv_linear_gmacs == pytest.approx(6 * (one.conv_linear_gmacs + other.conv_linear_gmacs))
    assert cost.params_m == pytest.approx(one.params_m + other.params_m)
    assert cost.clip == RowCost((one, other))
    assert [cost.column(name) for name in ("gflops", "clip_gflops", "params")] == [
        cost.gmacs,
        pytest.approx(cost.gmacs / 6),
        cost.params_m,
    ]


def test_rows_with_networks_have_costs_and_each_network_is_asked_for_once():
    asked = []

    def cost(network):
        asked.append(network)
        return Cost(float(network.frames), 0.0, 0.0, {}, {})

    rows = {
        "single": Row("9", "single", {}, (TSN,), "3x2"),
        "both": Row("9", "both", {}, (Network("tsn_r50", frames=16), TSN)),
        "nobody": Row("9", "nobody", {}),
    }
    found = costs_of(rows, cost)
    assert {name: each.gmacs for name, each in found.items()} == {"single": 48.0, "both": 24.0}
    assert asked == [TSN, Network("tsn_r50", frames=16)]
    assert costs_of(table("6").rows).keys() == table("6").rows.keys()


def test_a_measurement_is_kept_with_its_provenance(own_results):
    network = Network("tsn_r50_twin", size=32)
    with pytest.raises(FileNotFoundError):
        kept(network)
    cost = measure_and_keep(network)
    assert kept(network) == cost == measure(network)
    assert cost.gmacs < 0.05 * kept(TSN).gmacs
    made = record(network)["provenance"]
    assert made["behaviour"] == behaviour(["cost"], ["tsn_r50_twin"])
    assert not is_stale(record(network))


def test_every_network_is_counted_once(monkeypatch):
    network, told = Network("tsn_r50_twin", frames=3, size=32), []
    monkeypatch.setattr("study.exact.networks_of", lambda tables: {network.key: network})
    measure_all(1, told.append)
    assert told == ["counting the cost of 1 networks, 1 side by side"]
    measure_all(1, told.append)
    assert len(told) == 1

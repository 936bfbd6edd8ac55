"""Costs of the tables' networks, measured at full size and kept in `results/cost`."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctnet.analysis import Cost, count_cost
from ctnet.models import create_model
from study.experiments import IN_TEXT, ROWS, Network, Row
from study.provenance import code_hash, code_of, provenance, write_json
from study.published import results_dir


def code(model: str) -> tuple[str, ...]:
    """Parts of the package that the cost of a model depends on, by the model's name."""
    return code_of(model, "models", "analysis/cost.py")


def measure(network: Network) -> Cost:
    """Build the network, full size, and count its cost."""
    model = create_model(network.model, num_classes=network.classes, **network.options)
    return count_cost(model, size=network.size, frames=network.frames)


def cost_file(network: Network) -> Path:
    """Where the cost of a network is kept; the name comes from its configuration."""
    return results_dir() / "cost" / f"{network.model}-{network.key}.json"


def measure_and_keep(network: Network) -> Cost:
    """Measure the network and write its file, with provenance."""
    start = time.perf_counter()
    cost = measure(network)
    content = {"config": network.config(), "cost": asdict(cost)}
    content["provenance"] = provenance(code(network.model), time.perf_counter() - start)
    write_json(cost_file(network), content)
    return cost


def record(network: Network) -> dict[str, Any]:
    """What the file of a network holds: config, cost, provenance.

    Raises:
        FileNotFoundError: when the network was never measured.
        ValueError: when the file is damaged, or is about another network.
    """
    path = cost_file(network)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make it with `python -m study verify --live`")
    try:
        content = json.loads(path.read_text())
        if content["config"] != network.config() or not content["provenance"].keys() >= {"code", "seconds", "hardware"}:
            raise ValueError("it is about another network")
        return content | {"cost": Cost(**content["cost"])}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be used ({error}): delete it and run `python -m study verify --live`"
        ) from error


def is_stale(content: Mapping[str, Any]) -> bool:
    """Whether a record was made by other code than today's."""
    return content["provenance"]["code"] != code_hash(*code(content["config"]["model"]))


def networks(tables: Iterable[str]) -> dict[str, Network]:
    """Every network that stands behind these tables or sections, once, under the hash of its configuration."""
    rows = [row for table in tables for row in (ROWS | IN_TEXT)[table].values()]
    return {network.key: network for row in rows for network in row.networks}


def total(row: Row, costs: Mapping[str, Cost]) -> tuple[float, float, float]:
    """GMACs, GMACs of convolutions and linear layers, and millions of parameters of a row.

    Multiply-adds are summed over networks and multiplied by views. Parameters are summed over networks.
    """
    found = [costs[network.key] for network in row.networks]
    return (
        row.views * sum(cost.gmacs for cost in found),
        row.views * sum(cost.conv_linear_gmacs for cost in found),
        sum(cost.params_m for cost in found),
    )

"""Costs of the tables' networks, measured at full size and kept in `results/cost`."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ctnet.processes import end_with_parent, importing_once
from study.measured import measured, value
from study.paper import TABLES, Network, Row
from study.store import damaged, provenance, read, results_dir, write

if TYPE_CHECKING:
    from ctnet.analysis import Cost


def cost_file(network: Network) -> str:
    """Where under `results` the cost of a network is kept; the name comes from its configuration."""
    return f"cost/{network.model}-{network.key}.json"


CODE = ("ctnet/models", *(f"ctnet/analysis/{name}.py" for name in ("cost", "operators", "shapes")), "study/costs.py")
"""What decides the cost of a network."""


def count(network: Network) -> "Cost":
    """Build the network, at full size but without weights, and count its cost.

    Raises:
        ValueError: when some of its multiply-adds cannot be counted.
    """
    import torch

    from ctnet.analysis import count_cost
    from ctnet.models import create_model

    with torch.device("meta"):
        model = create_model(network.model, num_classes=network.classes, **network.options)
    cost = count_cost(model, size=network.size, frames=network.frames)
    if cost.uncounted:
        raise ValueError(f"the cost of {network.model} lacks {', '.join(cost.uncounted)}")
    return cost


def measure(network: Network) -> "Cost":
    """The cost of a network, counted unless today's code has done that before, see `study.measured`."""
    from ctnet.analysis.cost import Cost

    return Cost(**measured(_counted(network), lambda: asdict(count(network)), CODE))


def _counted(network: Network) -> str:
    """What the cost of a network is called among the measured values."""
    return f"cost-{network.model}-{network.key}"


def measure_all(jobs: int, tell: Callable[[str], Any] = print) -> None:
    """Count every network behind the tables and the text that today's code has not counted yet.

    Args:
        jobs: processes side by side.
        tell: takes a line on what is to be done.
    """
    from study.exact import networks_of

    left = [network for network in networks_of([*TABLES, "3.3"]).values() if value(_counted(network), CODE) is None]
    if left:
        tell(f"counting the cost of {len(left)} networks, {jobs} side by side")
        # The first before all code that counts: it notes when that begins to be read.
        context = importing_once("study.measured", "ctnet.analysis.cost", "ctnet.models")
        with ProcessPoolExecutor(jobs, context, _begin) as pool:
            for _ in tqdm(pool.map(measure, left), total=len(left), unit="network", disable=None):
                pass


def _begin() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)


def measure_and_keep(network: Network) -> "Cost":
    """Measure the network and write its file, with provenance."""
    start = time.perf_counter()
    cost = count(network)
    made = provenance(["cost"], [network.model], time.perf_counter() - start)
    write(cost_file(network), {"config": network.config(), "cost": asdict(cost), "provenance": made})
    return cost


def record(network: Network) -> dict[str, Any]:
    """What the file of a network holds: config, cost, provenance. Another cost that today's code counts goes first.

    Raises:
        FileNotFoundError: when the network was never measured.
        ValueError: when the file is damaged, or is about another network.
    """
    from ctnet.analysis.cost import Cost

    content, path = read(cost_file(network)), results_dir() / cost_file(network)
    if content is None:
        raise FileNotFoundError(f"{path} is missing: make it with `python -m study verify --live`")
    try:
        if content["config"] != network.config() or not content["provenance"].keys() >= {"behaviour", "seconds"}:
            raise ValueError("it is about another network")
        cost = Cost(**content["cost"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    counted = value(_counted(network), CODE)
    if counted is None or (today := Cost(**counted)) == cost:
        return content | {"cost": cost}
    return content | {"cost": today, "provenance": provenance(["cost"], [network.model], 0.0)}


def kept(network: Network) -> "Cost":
    """The cost of a network as `record` tells it, and raises what that raises."""
    cost: Cost = record(network)["cost"]
    return cost


@dataclass(frozen=True)
class RowCost:
    """What a row costs.

    Attributes:
        networks: a `Cost` for each of the row's networks.
        views: clips that each sees of a video.
    """

    networks: "tuple[Cost, ...]"
    views: int = 1

    @property
    def gmacs(self) -> float:
        """Billions of multiply-adds, summed over networks and views."""
        return self.views * sum(cost.gmacs for cost in self.networks)

    @property
    def conv_linear_gmacs(self) -> float:
        """Those of convolutions and linear layers alone."""
        return self.views * sum(cost.conv_linear_gmacs for cost in self.networks)

    @property
    def params_m(self) -> float:
        """Millions of parameters, summed over networks."""
        return sum(cost.params_m for cost in self.networks)

    @property
    def clip(self) -> "RowCost":
        """What one clip costs."""
        return RowCost(self.networks)

    def column(self, name: str) -> float:
        """The number that belongs in a table's column "gflops", "clip_gflops" or "params"."""
        return {"gflops": self.gmacs, "clip_gflops": self.clip.gmacs, "params": self.params_m}[name]


def costs_of(rows: Mapping[str, Row], cost: "Callable[[Network], Cost]" = kept) -> dict[str, RowCost]:
    """Costs of some rows by their ids, of those with networks; each network is asked for once.

    Args:
        rows: of a `Table`.
        cost: `kept`, or `measure` to count anew.
    """
    networks = {network.key: network for row in rows.values() for network in row.networks}
    found = {key: cost(network) for key, network in networks.items()}
    return {
        name: RowCost(tuple(found[network.key] for network in row.networks), row.views)
        for name, row in rows.items()
        if row.networks
    }

"""Counts the cost of networks, each once for the code that decides it, and many side by side."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

from tqdm import tqdm

from ctnet.analysis.cost import Cost
from study.measured import fresh, measured, value
from study.paper import TABLES, Network

CODE = ("ctnet/models", "ctnet/analysis/cost.py", "ctnet/analysis/shapes.py", "study/counting.py")
"""What decides the cost of a network."""


def count(network: Network) -> Cost:
    """Build the network, full size but without weights, and count its cost."""
    import torch

    from ctnet.analysis import count_cost
    from ctnet.models import create_model

    with torch.device("meta"):
        model = create_model(network.model, num_classes=network.classes, **network.options)
    return count_cost(model, size=network.size, frames=network.frames)


def name_of(network: Network) -> str:
    """What the cost of a network is called among the measured values."""
    return f"cost-{network.model}-{network.key}"


def counted(network: Network) -> Cost:
    """The cost of a network, counted unless that was done by today's code."""
    return Cost(**measured(name_of(network), lambda: asdict(count(network)), CODE))


def counted_before(network: Network) -> Cost | None:
    """The cost of a network if today's code has counted it."""
    return Cost(**value(name_of(network))) if fresh(name_of(network)) else None


def measure_all(jobs: int, tell: Callable[[str], Any] = print) -> None:
    """Count every network behind the tables and the text that today's code has not counted yet.

    Args:
        jobs: processes side by side.
        tell: takes a line on what is to be done.
    """
    from study.exact import networks_of

    left = [network for network in networks_of([*TABLES, "3.3"]).values() if not fresh(name_of(network))]
    if left:
        tell(f"counting the cost of {len(left)} networks, {jobs} side by side")
        with ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) as pool:
            for _ in tqdm(pool.map(counted, left), total=len(left), unit="network", disable=None):
                pass


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)

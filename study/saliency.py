"""Where networks look (section 4.3, Figure 3): which are measured, and what `study.saliency_maps` has kept of them."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.runs import TwinRun, outcome, seeds_of, twins_of
from study.store import read

CLIPS = 500
"""Clips that are measured, the first of the protocol's validation split."""
MEASURES = {
    "energy_share": "Saliency on acting objects",
    "pointing_game": "Maximum on an acting object",
    "action_share": "Saliency in frames of action",
    "scatter": "Scatter within frames",
    "temporal_concentration": "Concentration in time",
}
"""Measures of where a network looks; all of them are shares, scatter one of a uniform map's."""
FILE = "saliency.json"
LEVELS = 1000
"""Steps of the kept values from 0 to 1."""


def measured_runs() -> dict[str, list[TwinRun]]:
    """Runs that are measured: row of Figure 3 -> a run for each seed."""
    twins = {row: twin.runs[0] for (row, _), twin in twins_of("fig3").items()}
    return {row: [run.seeded(seed) for seed in seeds_of("fig3")] for row, run in twins.items()}


def pictured_runs() -> dict[str, TwinRun]:
    """Larger twins that are pictured, by the rows of Figure 3."""
    return {row: twin.runs[0] for (row, _), twin in twins_of("fig3-pictured").items()}


def pack(values: Any) -> str:
    """Values of clips, rounded to 1 / `LEVELS`, as a short text."""
    return base64.b64encode(zlib.compress(np.rint(LEVELS * np.asarray(values)).astype("<u2").tobytes(), 9)).decode()


def _unpack(text: str) -> NDArray[np.float64]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2") / LEVELS


def informative(action_area: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Clips with frames of action and others, (clips,), by the share of the frames in which something acts."""
    return (action_area > 0) & (action_area < 1)


def content() -> dict[str, Any] | None:
    """What `measure_saliency` has kept; None unless it is about today's runs, and none was trained since."""
    runs = {row: [run.name for run in seeds] for row, seeds in measured_runs().items()}
    found = read(FILE)
    if not found or found["runs"] != runs:
        return None
    trained = [kept["provenance"]["made"] for names in runs.values() for name in names if (kept := outcome(name))]
    return found if max(trained, default="") <= found["provenance"]["made"] else None


def measured(content: Mapping[str, Any], row: str, measure: str) -> NDArray[np.float64]:
    """Values (seeds, clips) of a trained network; the share in frames of action on clips that have others too."""
    values = np.stack([_unpack(text) for text in content["values"][row][measure]])
    area = _unpack(content["uniform"]["action_area"])
    return values[:, informative(area)] if measure == "action_share" else values


def uniform(content: Mapping[str, Any], measure: str) -> float:
    """What a uniform map has in a measure, in percent."""
    if measure in ("scatter", "temporal_concentration"):
        return 100.0 * (measure == "scatter")
    area = _unpack(content["uniform"]["action_area" if measure == "action_share" else "mask_area"])
    return 100 * float((area[informative(area)] if measure == "action_share" else area).mean())

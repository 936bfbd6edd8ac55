"""The zoo: methods that put something temporal into a 2D ResNet-50. Their blocks as data, drawn, and compared."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ctnet.micro.drawing import MOTIONS
from study.chapters.accuracy import accuracy_text
from study.chapters.blocks import Box, Flow, Lanes, draw_flow
from study.chapters.markup import BookTable
from study.chapters.sheet import SMALL
from study.chapters.style import COLORS, WIDTH, BookFigure
from study.costs import measure
from study.paper import Network, table
from study.runs import accuracy_table

if TYPE_CHECKING:
    from torch import nn


class Method(NamedTuple):
    """A method on a ResNet, as it is drawn: its residual branch, and what parts of that are made of."""

    block: Flow
    parts: Mapping[str, Flow] = {}


def _time(title: str, detail: str = "", layer: str = "") -> Box:
    return Box(layer, title, detail, "temporal")


def _big(conv: str, pooled: str = "3 × 3 × 3") -> Lanes:
    return Lanes(((Box(conv),), (_time(f"max {pooled}", "same {kernel}", conv),)))


def _sub_operation(k: int) -> Flow:
    layer = f"conv2.module.sub_operations.{k}"
    convs = ((Box(f"{layer}.{kind}.conv", "{kernel}, TE"),) for kind in ("spatial", "temporal"))
    return Lanes(tuple(convs)), Box(f"{layer}.excite_channel", "TE", color="channel")


_REDUCE, _CONV, _EXPAND = _BOTTLENECK = Box("conv1"), Box("conv2"), Box("conv3")
_MEAN, _DIFFERENCE = Box(title="mean", detail="over H, W"), "next − present"
_SHIFT = (
    (_time("1/8 of the channels, of frame t + 1"),),
    (_time("1/8 of the channels, of frame t − 1"),),
    (Box(title="the others, of frame t"),),
)
_MEM = (
    _MEAN,
    _time("present − next", "each {sizes}", "before_conv1.module.0.reduce_next"),
    Box("before_conv1.module.0.restore"),
    Box(title="sigmoid"),
)
_ME = (
    Box("excite.module.reduce.0"),
    _time(_DIFFERENCE, "{kernel}, {sizes}", "excite.module.align"),
    _MEAN,
    Box("excite.module.restore.0"),
    Box(title="2 · sigmoid"),
)
_MTA = [
    tuple(Box(layer, "{kernel}, {sizes}", "") for layer in (f"temporal.{part}.module", f"spatial.{part}.0"))
    for part in range(3)
]
_MTA.append((Box("temporal.3.module", "{kernel}, {sizes}", ""),))
_CMM = (
    Box("beside_conv2.module.reduce.0"),
    _time(_DIFFERENCE, "{kernel}, {sizes}", "beside_conv2.module.align"),
    Box("beside_conv2.module.restore"),
)
_GATED = (Box(title="x · (1 − gate)", detail="stays"),), (_time("x · gate", "half moves back, half on"),)

METHODS = {
    "tsn": Method(_BOTTLENECK),
    "tsm": Method(
        (_time("shift"), *_BOTTLENECK),
        {"Shift: the channels are split, and put together again": (Lanes(_SHIFT, "∥"),)},
    ),
    "tim": Method((Box("before_conv1.module", "TIM, {kernel}"), *_BOTTLENECK)),
    "teinet": Method(
        (_time("MEM"), Box("before_conv1.module.1", "TIM, {kernel}"), *_BOTTLENECK),
        {"MEM, motion enhanced module": (Lanes(((), _MEM), "×"),)},
    ),
    "tea": Method(
        (_REDUCE, _time("ME"), _time("MTA"), _EXPAND),
        {
            "ME, motion excitation": (Lanes(((), _ME), "×"),),
            "MTA, multiple temporal aggregation: the channels are split, and put together again": (
                Lanes(tuple(_MTA), "∥", cascade=3),
            ),
        },
    ),
    "stm": Method(
        (_REDUCE, Lanes(((Box("before_conv2.module"), _CONV), (_time("CMM"),))), _EXPAND),
        {"CMM, channel-wise motion module": _CMM},
    ),
    "smallbig": Method((_big("conv1"), _big("conv2"), _big("conv3", "T × 3 × 3"))),
    "gsm": Method(
        (*_BOTTLENECK, _time("GSM")),
        {"GSM, gate-shift module": (Box("after_conv3.module.gate", "gate: {kernel}, tanh"), Lanes(_GATED))},
    ),
    "ctnet": Method(
        (_REDUCE, _time("CT-Module"), _EXPAND),
        {
            "CT-Module: two sub-operations, and the PWConv between them": (
                *_sub_operation(0),
                Box("conv2.module.pointwise.0.conv"),
                *_sub_operation(1),
            )
        },
    ),
}
"""The methods of the zoo, as `results/published/zoo.json` declares them, without normalisations and ReLUs."""


def networks() -> dict[str, Network]:
    """The zoo's networks, by method."""
    return {name: row.networks[0] for name, row in table("zoo").rows.items()}


@cache
def block_of(method: str) -> "nn.Module":
    """The second block of a method's second stage, which no method leaves as it was but TSN; without weights."""
    import torch

    from ctnet.models import TSN, create_model

    with torch.device("meta"):
        model = create_model(networks()[method].model)
    assert isinstance(model, TSN)
    return model.backbone.get_submodule("layer2.1")


def draw_block(method: str, compared: pd.DataFrame) -> Figure:
    """A method's bottleneck of 512 and 128 channels and what its parts are made of, beside its cost and accuracy.

    Args:
        method: one of `METHODS`.
        compared: what `compare` returns.
    """
    shown, values = METHODS[method], compared.T[method]
    accuracy, interval = accuracy_text(values)
    twin = f"{accuracy} %" + (f" ({interval})" if interval != "–" else "") if values["seeds"] else accuracy
    facts = f"{values['gflops']:.1f} GFLOPs, {values['params']:.1f} M parameters, twin: {twin}"
    return draw_flow(table("zoo").rows[method].printed["method"], facts, block_of(method), shown.block, shown.parts)


def compare_twins() -> pd.DataFrame:
    """Every method's twin: its cost at 8 x 32 x 32, `twin_gmacs`, counted now, and the columns of `accuracy_table`."""
    compared = accuracy_table("zoo")
    twins = (replace(n, model=f"{n.model}_twin", size=32, classes=len(MOTIONS)) for n in networks().values())
    return compared.assign(twin_gmacs=[measure(twin).gmacs for twin in twins])


def compare() -> pd.DataFrame:
    """`compare_twins`, and every method's cost at 8 x 224 x 224, counted now: `gflops`, and `params` in millions."""
    costs = [measure(replace(network, size=224)) for network in networks().values()]
    return compare_twins().assign(gflops=[c.gmacs for c in costs], params=[c.params_m for c in costs])


def zoo_table(compared: pd.DataFrame) -> BookTable:
    """What `compare` returns, to read."""
    rows, printed = [], table("zoo").printed
    for method, values in compared.iterrows():
        accuracy, interval = accuracy_text(values)
        rows.append(
            {
                "Method": printed["method"][str(method)],
                "Temporal part": printed["place"][str(method)],
                "GFLOPs": f"{values['gflops']:.2f}",
                "Parameters, M": f"{values['params']:.2f}",
                "Twin's Top-1, %": accuracy,
                "95 % interval": interval,
            }
        )
    caption = "Costs of a clip of 8×224×224, 174 classes. Twins: 8×32×32, MicroSomething."
    return BookTable(pd.DataFrame(rows), caption)


def undirected_limit() -> float:
    """The expected accuracy on MicroSomething, in points, that no network blind to the direction of time exceeds.

    Of two classes that are each other's time reversal it gets half of the clips right, at best.
    """
    paired = sum(motion.opposite != name for name, motion in MOTIONS.items())
    return 100 * (1 - paired / len(MOTIONS) / 2)


def plot_zoo(compared: pd.DataFrame) -> Figure:
    """Cost and accuracy of the twins, from the cheapest to the dearest; the limit is `undirected_limit`.

    Args:
        compared: what `compare_twins` or `compare` returns.
    """
    rows = compared.sort_values("twin_gmacs", kind="stable")
    names = list(table("zoo").printed["method"][rows.index])
    figure = BookFigure(figsize=(WIDTH, 0.9 + 0.32 * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 3])
    left.barh(names, rows["twin_gmacs"], color=COLORS["plain"], height=0.6)
    small = {"va": "center", "fontsize": SMALL}
    for height, (method, values) in enumerate(rows.iterrows()):
        left.text(values["twin_gmacs"], height, f" {values['twin_gmacs']:.3f}", **small)
        if np.isnan(values["accuracy"]):
            edge = {"transform": right.get_yaxis_transform(), "color": COLORS["published"]}
            right.text(0.02, height, "not run yet", **edge, **small)
        else:
            ends = [[values["accuracy"] - values["low"]], [values["high"] - values["accuracy"]]]
            color = COLORS["ct" if method == "ctnet" else "measured"]
            right.errorbar(values["accuracy"], height, xerr=ends, fmt="o", color=color, capsize=3)
    limit, grey = undirected_limit(), COLORS["published"]
    right.axvline(limit, color=grey, linestyle="--", linewidth=1)
    right.text(limit, -0.75, "blind to direction", fontsize=SMALL, color=grey, ha="center")
    if rows["accuracy"].isna().all():
        right.set_xlim(0, 100)
    left.set(xlabel="GMACs of the twin", xlim=(0, 1.3 * rows["twin_gmacs"].max()), ylim=(len(rows) - 0.5, -0.6))
    right.set_xlabel("top-1 on MicroSomething, %, 95 % interval")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    return figure

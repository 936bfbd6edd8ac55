"""What the zoo draws and tells is what the networks are and what the runs say."""

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from torch import nn

from ctnet.models.tensor_conv import TensorSeparableConv
from study.chapters.blocks import Lanes
from study.chapters.style import COLORS
from study.chapters.zoo import (
    METHODS,
    block_of,
    compare,
    compare_twins,
    draw_block,
    networks,
    plot_zoo,
    undirected_limit,
    zoo_table,
)
from study.costs import kept, measure
from study.paper import Network, table


def accuracies(**known):
    """A frame like that of `accuracy_table`: (accuracy, low, high, seeds) of some methods, no run of the others."""
    rows = {method: known.get(method, (None, None, None, 0)) for method in METHODS}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["accuracy", "low", "high", "seeds"])


def compared(**known):
    costs = {"gflops": 30.0, "params": 20.0, "twin_gmacs": np.linspace(0.9, 0.1, len(METHODS))}
    return pd.DataFrame(costs, index=list(METHODS)).join(accuracies(**known).astype(float))


@cache
def drawn(method):
    return draw_block(method, compared(tsm=(61.24, 59.0, 63.0, 3), tim=(60.0, None, None, 1)))


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def boxes_colored(figure, color):
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return sum(to_hex(patch.get_edgecolor()) == COLORS[color].lower() for patch in patches if patch.get_linewidth() > 0)


def shown_layers(method):
    flows = [METHODS[method].block, *METHODS[method].parts.values()]
    items = [item for flow in flows for item in flow]
    boxes = [box for item in items for path in (item.paths if isinstance(item, Lanes) else [[item]]) for box in path]
    return {box.layer for box in boxes if box.layer}


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_of_a_block_is_drawn(method):
    block, shown = block_of(method), shown_layers(method)
    for layer in shown:
        block.get_submodule(layer)
    layers = {
        name.removesuffix(".conv")
        if isinstance(block.get_submodule(name.rpartition(".")[0]), TensorSeparableConv)
        else name
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)
    }
    without = {name for name in layers if "excite_" in name}  # the attentions of a CT-Module are boxes without sizes
    without |= {name for name in layers if name.endswith("reduce_present")}  # drawn with `reduce_next`
    assert {layer for layer in shown if "excite_" not in layer} == layers - without


@pytest.mark.parametrize(
    ("method", "expected", "temporal"),
    [
        ("tsn", ["512 → 128", "3 × 3", "128 → 128", "128 → 512"], 0),
        ("tsm", ["1/8 of the channels, of frame t + 1"], 3),
        ("tim", ["TIM, 3 × 1 × 1", "channel-wise"], 1),
        ("teinet", ["each 512 → 64", "64 → 512", "TIM, 3 × 1 × 1"], 3),
        ("tea", ["512 → 208", "208 → 13", "3 × 3, channel-wise", "3 × 1 × 1, channel-wise", "3 × 3, 52 → 52"], 7),
        ("stm", ["3 × 1 × 1", "128 → 8", "3 × 3, channel-wise", "8 → 128"], 3),
        ("smallbig", ["max 3 × 3 × 3", "same 3 × 3", "max T × 3 × 3", "same 1 × 1"], 3),
        ("gsm", ["gate: 3 × 3 × 3, tanh", "512 → 2, 2 groups"], 3),
        ("ctnet", ["1 × 3 × 3, TE", "8 groups of 16", "3 × 1 × 1, TE", "16 groups of 8", "1 × 1 × 1"], 3),
    ],
)
def test_a_block_tells_the_sizes_of_its_layers_and_marks_what_sees_other_frames(method, expected, temporal):
    assert set(expected) <= set(texts(drawn(method)))
    assert boxes_colored(drawn(method), "temporal") == temporal


def test_what_is_told_of_steps_without_weights_is_what_they_do():
    assert block_of("tsm").before_conv1.module.divisor == 8
    assert [view.pool.module.all_frames for view in (block_of("smallbig").big1, block_of("smallbig").big3)] == [0, 1]
    assert METHODS["tea"].parts[next(name for name in METHODS["tea"].parts if "MTA" in name)][0].cascade == len(
        block_of("tea").spatial
    )


def test_each_path_of_mta_but_the_first_and_the_last_adds_the_one_above():
    assert texts(drawn("tea")).count("+") == 2 + 1
    assert texts(drawn("stm")).count("+") == 1 + 1


@pytest.mark.parametrize(
    ("method", "twin"), [("tsn", "not run yet"), ("tim", "60.0 %"), ("tsm", "61.2 % (59.0 to 63.0)")]
)
def test_a_diagram_tells_cost_and_accuracy_as_far_as_known(method, twin):
    assert f"30.0 GFLOPs, 20.0 M parameters, twin: {twin}" in texts(drawn(method))


def test_the_zoo_is_the_methods_that_are_declared():
    assert list(networks()) == list(METHODS) == list(table("zoo").rows)


def test_twins_are_counted_at_their_size_and_have_the_accuracies_of_their_runs(results, edited):
    with edited("published/zoo.json") as content:
        content["rows"] = [row for row in content["rows"] if row["id"] in ("tsn", "tsm")]
    results("zoo", "tsm", 0.61)
    found = compare_twins()
    assert list(found.index) == ["tsn", "tsm"]
    assert found["accuracy"].tolist() == pytest.approx([float("nan"), 61], abs=0.1, nan_ok=True)
    costs = [measure(Network(f"{method}_r50_twin", size=32, classes=24)).gmacs for method in found.index]
    assert found["twin_gmacs"].tolist() == costs
    assert len(set(costs)) == 1, "a shift costs nothing"


def test_methods_are_counted_at_one_size_whatever_their_rows_are_about(own_results, edited):
    """TSM's cost at 224 is kept, as that of a row of Table 3."""
    with edited("published/zoo.json") as content:
        content["rows"] = [row for row in content["rows"] if row["id"] == "tsm"]
    assert [network.size for network in networks().values()] == [256]
    found, kept_cost = compare().loc["tsm"], kept(table("3").rows["tsm-8"].networks[0])
    assert (found["gflops"], found["params"]) == pytest.approx((kept_cost.gmacs, kept_cost.params_m))
    assert found["twin_gmacs"] == compare_twins().loc["tsm", "twin_gmacs"]


def test_the_table_says_what_was_not_run():
    html = zoo_table(compared(tsm=(61.24, 59.0, 63.0, 3), tim=(60.0, None, None, 1))).to_html()
    assert html.count("not run yet") == len(METHODS) - 2
    assert "59.0 to 63.0" in html
    assert all(set(row.printed.values()) <= set(re.findall(">([^<]+)<", html)) for row in table("zoo").rows.values())


@pytest.mark.parametrize("known", [{}, {"tsm": (61.0, 59.0, 63.0, 3), "tim": (60.0, None, None, 1)}], ids=len)
def test_the_plot_has_a_line_for_every_method_from_the_cheapest_to_the_dearest(known):
    left, right = plot_zoo(compared(**known)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        row.label.split(", ")[0] for row in reversed(table("zoo").rows.values())
    ]
    assert left.yaxis_inverted()
    words = [text.get_text() for text in right.texts]
    assert words.count("not run yet") == len(METHODS) - len(known)
    assert len(right.containers) == len(known)
    assert undirected_limit() in right.lines[-1].get_xdata()


def test_a_network_blind_to_direction_guesses_within_ten_pairs_of_classes():
    assert undirected_limit() == pytest.approx(100 * (4 + 20 / 2) / 24)

"""Plots show every number that they are about, where it belongs."""

import matplotlib as mpl
import pytest

from study.chapters import plots
from study.costs import costs_of
from study.paper import table

mpl.use("agg")


def kept_costs(name):
    return costs_of(table(name).rows)


def test_stage_bars_add_up_to_the_backbones_cost():
    costs = kept_costs("2e")
    figure = plots.plot_stages("2e", {"blocks-0": costs["blocks-0"]})
    (tsn,) = costs["blocks-0"].networks
    widths = sum(bar.get_width() for container in figure.axes[0].containers for bar in container)
    assert widths == pytest.approx(tsn.gmacs - tsn.by_operator["linear"], rel=1e-3)
    assert figure.axes[0].get_legend().texts[0].get_text() == "stem"
    bars = plots.plot_stages("2e", costs).axes[0].get_yticklabels()
    assert [label.get_text() for label in bars] == [row.label for row in table("2e").rows.values()]


def test_differences_are_drawn_for_every_measured_row():
    figure = plots.plot_differences("8", kept_costs("8"))
    (points,) = (c for c in figure.axes[0].collections if len(c.get_offsets()) == 4)
    assert all(abs(x) < 0.1 for x, _ in points.get_offsets())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"{method}, {backbone}" for backbone in ("ResNet-50", "InceptionV3") for method in ("TSN", "CT-Net")
    ]


def test_a_curve_shows_measured_and_published_points():
    figure = plots.plot_curve({1: 2.0, 2: 4.0, 4: 8.0}, {2: 4.1}, "setting", log=True, baseline=("TSN", 9.0))
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == [2.0, 4.0, 8.0]
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 4.1]]
    assert {text.get_text() for text in axes.get_legend().texts} == {"counted here", "printed", "TSN"}


@pytest.mark.parametrize(
    ("cost", "log", "label"),
    [("clip_gflops", False, "GFLOPs of one clip"), ("gflops", True, "GFLOPs of all views, logarithmic")],
)
def test_tradeoff_tells_whose_cost_it_draws(cost, log, label):
    axes = plots.plot_published_tradeoff(table("4").printed, cost, "top1", "top-1", log).axes[0]
    assert axes.get_xlabel() == label


def test_tradeoff_draws_every_method_that_prints_both_numbers():
    frame = table("4").printed
    figure = plots.plot_published_tradeoff(frame, "gflops", "top1", "top-1")
    drawn = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert sum(drawn.values()) == int(frame[["gflops", "top1"]].notna().all(axis=1).sum()) == 21
    assert "I3D" not in drawn


def test_a_method_looks_the_same_whichever_others_are_shown():
    frame = table("4").printed
    every, some = (
        {line.get_label(): (line.get_marker(), line.get_color()) for line in figure.axes[0].lines}
        for figure in (
            plots.plot_published_tradeoff(frame, "clip_gflops", "top1", "top-1", shown=shown)
            for shown in (None, ["CT-Net", "SlowFast", "TSM"])
        )
    )
    assert 1 < len(some) < len(every)
    assert some.items() <= every.items()


def test_a_figure_shows_itself_as_png():
    assert plots.plot_curve({1: 1.0}, {1: 1.0}, "x")._repr_png_().startswith(b"\x89PNG")

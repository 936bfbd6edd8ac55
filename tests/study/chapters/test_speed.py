"""Time beside FLOPs: every number that was kept is shown, where it belongs."""

import matplotlib as mpl
import pandas as pd
import pytest

from study.chapters import speed
from study.speed import NETWORKS, PARTS, times

mpl.use("agg")


def test_every_network_is_drawn_at_its_cost_and_time():
    frame = times("networks")
    figure = speed.plot_speed()
    drawn = {tuple(point) for collection in figure.axes[0].collections for point in collection.get_offsets().tolist()}
    assert drawn == {(row.gmacs, row.ms) for row in frame.itertuples()}
    named = {text.get_text() for text in figure.axes[0].texts}
    assert {"tsn_r50", "ctnet_r50", "x3d_xl"} <= named <= set(NETWORKS)


def test_tables_show_every_network_and_runtime():
    assert set(speed.network_table().data["Network"]) == set(NETWORKS)
    shown = speed.runtime_table().data
    assert list(shown["Runtime"]) == [speed.RUNTIMES[backend] for backend in PARTS["runtimes"].backends]
    rate = times("runtimes").set_index(["backend", "model"]).loc[("eager", "tsn_r50")]
    assert float(shown.iloc[0]["TSN, GMAC/s"]) == pytest.approx(1e3 * rate["gmacs"] / rate["ms"], abs=0.5)
    frame = times("runtimes").set_index(["backend", "model"])["ms"]
    ratio = frame["eager", "ctnet_r50"] / frame["eager", "tsn_r50"]
    assert float(shown.iloc[0]["CT-Net / TSN"]) == pytest.approx(ratio, abs=0.006)


def test_exports_that_fail_are_told_by_name(monkeypatch):
    found = {"a": {"difference": 2e-6}, "b": {"difference": 0.5}, "c": {"error": "OnnxError: no"}}
    monkeypatch.setattr(speed, "exports", lambda: found)
    told = speed.exports_told().data
    assert "has tried 3. 1 give the same scores in ONNX Runtime, to 2e-06" in told
    assert told.splitlines()[-2:] == ["- `b`: differs by 0.5", "- `c`: OnnxError: no"]


def test_figure_5_in_time_divides_printed_costs_by_measured_rates():
    frame = speed.estimated_times()
    rates = times("networks").query("backend == 'optimized'").set_index("model")["rate"]
    row = frame[frame["method"] == "CT-Net"].iloc[0]
    assert row["ms"] == pytest.approx(1000 * float(row["clip_gflops"]) / rates["ctnet_r50"])
    lines = speed.plot_tradeoff_in_time().axes[0].lines
    assert sum(len(line.get_xdata()) for line in lines) == len(frame) > 5


def test_groups_are_drawn_from_the_widest_to_the_narrowest():
    rates = pd.DataFrame({"group": [64, 64, 8, 8], "kernel": ["library", "own"] * 2, "rate": [9.0, 8.0, 2.0, 4.0]})
    (axes,) = speed.plot_groups(rates).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "8"]
    assert [bar.get_height() for bars in axes.containers for bar in bars] == [9.0, 2.0, 8.0, 4.0]


def test_the_chapter_says_what_the_kept_times_show():
    """When this fails, measure again or rewrite what stands below the tables of `flops-to-time`."""
    shown = speed.runtime_table().data.set_index("Runtime")
    ratios, by_flops = shown["CT-Net / TSN"].astype(float), shown["By FLOPs"].astype(float)
    assert ratios["PyTorch"] > ratios["ctnet.optimize"]  # takes most of these passes away
    assert ((by_flops + 0.05 < ratios) & (ratios < 1.15)).all()  # near TSN's time, but not below it by as much
    rates = times("networks").pivot_table(index="model", columns="backend", values="share")
    assert rates.loc["x3d_xl", "optimized"] < 0.5  # less than half of the rate of a matrix product
    assert (rates.loc[["ctnet_r50", "corrnet_r50", "x3d_xl"], "eager"] < rates.loc["tsn_r50", "eager"] - 0.15).all()
    assert rates.loc["ctnet_r50", "optimized"] > rates.loc["tsn_r50", "optimized"] - 0.1  # near TSN's
    assert (rates["optimized"] > 1).sum() > 5  # some pass it
    clips = speed.estimated_times().groupby("method")["ms"].min()
    assert clips["X3D-XL"] > clips["CT-Net"]  # its clip takes longer

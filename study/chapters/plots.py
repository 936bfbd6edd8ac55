"""The book's plots of costs and published accuracies; each returns a matplotlib figure."""

import re
from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib.figure import Figure

from study.chapters.style import COLORS, PALETTE, WIDTH, BookFigure, plain_ticks
from study.costs import RowCost
from study.exact import cost_claims
from study.paper import half_a_digit, table


def plot_differences(name: str, costs: Mapping[str, RowCost]) -> Figure:
    """Measured minus published GFLOPs of every row of a table, beside what rounding alone allows.

    Args:
        name: of the table, such as "2a".
        costs: of its rows, as `study.chapters.tables.measure_table` returns them.
    """
    decided = [claim for claim in cost_claims(name, costs) if claim.column == "gflops" and claim.evidence]
    labels = [table(name).rows[claim.subject].label for claim in decided]
    halves = pd.Series([half_a_digit(claim.published) for claim in decided], labels)
    figure = BookFigure(figsize=(WIDTH, 0.8 + 0.32 * len(labels)))
    axes = figure.subplots()
    axes.barh(labels, 2 * halves, left=-halves, color="#E6E6E6", height=0.6)
    axes.scatter([c.measured - c.published for c in decided], labels, color=COLORS["measured"], zorder=3)
    axes.axvline(0, color=COLORS["published"], linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("counted − printed, GFLOPs (grey: rounds to the printed figure)")
    axes.grid(axis="y", visible=False)
    return figure


def stage_of(name: str) -> str:
    """The part of a network that a layer is counted with; the paper counts the stem as stage 1."""
    if layer := re.match(r"layer(\d)", name):
        return f"stage {int(layer[1]) + 1}"
    mixed = re.match(r"Mixed_\d", name)
    return mixed[0].replace("_", " ") if mixed else "stem"


def plot_stages(name: str, costs: Mapping[str, RowCost]) -> Figure:
    """Where the multiply-adds go: GMACs of each stage of the backbone, a bar for each row of a table.

    Args:
        name: of the table, such as "2a".
        costs: of its rows, as `study.chapters.tables.measure_table` returns them; of one network each.
    """
    frame = pd.DataFrame({table(name).rows[row].label: cost.networks[0].by_stage for row, cost in costs.items()}).T
    # The paper counts the stem as stage 1, torchvision's layer1 as stage 2.
    stages = frame.T.groupby(stage_of, sort=False)
    figure = BookFigure(figsize=(WIDTH, 0.9 + 0.42 * len(frame)))
    axes = figure.subplots()
    stages.sum().T.plot.barh(ax=axes, stacked=True, color=["#BBBBBB", *PALETTE], width=0.7, linewidth=0)
    for height, total in enumerate(frame.sum(axis=1)):
        axes.text(total, height, f" {total:.1f}", va="center")
    axes.invert_yaxis()
    axes.set(xlabel="GFLOPs per clip", xlim=(0, 1.09 * frame.sum(axis=1).max()))
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=stages.ngroups, loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1, handlelength=1)
    return figure


def plot_curve(
    measured: Mapping[float, float],
    published: Mapping[float, float],
    xlabel: str,
    log: bool = False,
    baseline: tuple[str, float] | None = None,
) -> Figure:
    """A cost measured along one setting, the settings that the paper prints marked on it.

    Args:
        measured, published: setting -> GFLOPs.
        xlabel: with units.
        log: whether the settings are powers of two.
        baseline: name and GFLOPs of a network to compare with, drawn as a line.
    """
    figure = BookFigure(figsize=(WIDTH, 3.1))
    axes = figure.subplots()
    axes.plot(list(measured), list(measured.values()), "o-", color=COLORS["measured"], label="counted here")
    style = {"marker": "s", "s": 110, "facecolors": "none", "edgecolors": COLORS["published"], "linewidths": 1.5}
    axes.scatter(list(published), list(published.values()), label="printed", zorder=3, **style)  # type: ignore[arg-type]
    if baseline:
        axes.axhline(baseline[1], color=COLORS["plain"], linestyle="--", label=baseline[0])
    if log:
        axes.set_xscale("log", base=2)
    axes.set_xticks(list(measured), [f"{setting:g}" for setting in measured])
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel="GFLOPs per clip")
    axes.legend()
    return figure


def plot_published_tradeoff(
    frame: pd.DataFrame, cost: str, accuracy: str, ylabel: str, log: bool = False, shown: Collection[str] | None = None
) -> Figure:
    """Published accuracy against published cost (Fig. 5), rows of one method joined by a line.

    Args:
        frame: a published table with a column "method".
        cost: "clip_gflops" or "gflops", a column; rows that lack it are left out, as those that lack the accuracy.
        accuracy: name of the column.
        ylabel: what the accuracy is and of which dataset.
        log: whether the cost axis is logarithmic.
        shown: methods to show; all unless given. A method looks the same in all figures of one frame.
    """
    of = {"clip_gflops": "one clip", "gflops": "all views"}[cost]
    methods = sorted(dict.fromkeys(frame["method"]), key=lambda method: method.startswith("CT-Net"))
    looks = dict(zip(methods, zip("osD^vP*Xh<>pd" * 2, PALETTE[1:] * 4, strict=False), strict=False))
    figure = BookFigure(figsize=(WIDTH, 4.6))
    axes = figure.subplots()
    chosen = frame if shown is None else frame[frame["method"].isin(shown)]
    for method, points in chosen.dropna(subset=[cost, accuracy]).groupby("method", sort=False):
        is_ours, (marker, color) = str(method).startswith("CT-Net"), looks[str(method)]
        ordered = points.astype({cost: float, accuracy: float}).sort_values(cost)
        axes.plot(
            ordered[cost],
            ordered[accuracy],
            label=method,
            marker=marker,
            linestyle="none" if method == "CT-Net-EN" else "-",
            color=COLORS["ct"] if is_ours else color,
            linewidth=1 + is_ours,
            markersize=6 + 2 * is_ours,
            zorder=2 + is_ours,
        )
    if log:
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    axes.set(xlabel=f"GFLOPs of {of}" + ", logarithmic" * log, ylabel=ylabel)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure

"""Tables and figures on time beside FLOPs. Rates are in multiply-adds a second, as the paper counts costs."""

import math
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from ctnet.models import list_models
from study.chapters.markup import BookTable
from study.chapters.style import COLORS, PALETTE, WIDTH, BookFigure, plain_ticks
from study.chapters.tables import chapter_card
from study.paper import table
from study.speed import IN_CONV3D, PROFILE, exports, is_same, roof, shares, speed, times

RUNTIMES = {
    "eager": "PyTorch",
    "optimized": "ctnet.optimize",
    "compiled": "optimize, then torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "int8": "ONNX Runtime, 8 bits",
}
NAMES = {"tsn_r50": "TSN", "ctnet_r50": "CT-Net"}
SMALL = 0.1  # GMACs, below which a rate of multiply-adds says nothing
SHADES = {"eager": COLORS["plain"], "optimized": COLORS["ct"], "library": COLORS["plain"], "own": COLORS["ct"]}


def speed_card() -> HTML:
    """The card that opens the chapter: what was measured, on what, and how to measure it again."""
    networks, runtimes = speed("networks"), speed("runtimes")
    made, others = networks["provenance"], runtimes["provenance"]
    threads = "one thread" if networks["threads"] == 1 else f"{networks['threads']} threads"
    versions = made["versions"] | others["versions"]
    days = " and ".join(sorted({each["made"][:10] for each in (made, others)}))
    cpus = " and ".join(dict.fromkeys(each["hardware"]["cpu"] for each in (made, others)))
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", *runtimes["backends"]) if name in versions)
    items = {
        "Measured": f"{len(networks['models'])} networks; TSN and CT-Net in {len(runtimes['backends'])} runtimes",
        "On": f"{cpus}, {made['hardware']['cores']} cores, fp32, {threads}, {days}",
        "With": packages,
        "How": f"{networks['rounds']} rounds of all networks in turn, {runtimes['rounds']} of the runtimes; "
        "medians of processor time",
        "On a GPU": "not measured",
    }
    return chapter_card(items, {"Measure again": "python -m study speed"})


def runtime_table() -> BookTable:
    """TSN and CT-Net in every runtime: milliseconds of a clip, and the ratio of the two beside that of their FLOPs."""
    frame = times("runtimes").pivot_table(index="backend", columns="model", values=["ms", "spread", "rate", "gmacs"])
    rows = [
        {
            "Runtime": RUNTIMES[str(backend)],
            "TSN, ms": f"{row['ms', 'tsn_r50']:.0f} ± {row['spread', 'tsn_r50']:.0f}",
            "CT-Net, ms": f"{row['ms', 'ctnet_r50']:.0f} ± {row['spread', 'ctnet_r50']:.0f}",
            "CT-Net / TSN": f"{row['ms', 'ctnet_r50'] / row['ms', 'tsn_r50']:.2f}",
            "By FLOPs": f"{row['gmacs', 'ctnet_r50'] / row['gmacs', 'tsn_r50']:.2f}",
            "TSN, GMAC/s": f"{row['rate', 'tsn_r50']:.0f}",
            "CT-Net, GMAC/s": f"{row['rate', 'ctnet_r50']:.0f}",
        }
        for backend, row in frame.loc[[b for b in RUNTIMES if b in frame.index]].iterrows()
    ]
    kept = speed("runtimes")
    caption = f"A clip of {kept['frames']} x {kept['size']} x {kept['size']}, fp32, {kept['threads']} thread."
    notes = (
        f"Medians of {kept['rounds']} rounds; ±: half the distance between the quartiles of the rounds.",
        _matrix_rate(kept),
    )
    return BookTable(pd.DataFrame(rows), caption, notes=notes)


def conv3d_table() -> BookTable:
    """CT-Net written down in Conv3d and as the package computes it, in every runtime."""
    frame = times("conv3d").pivot_table(index="backend", columns="model", values=["ms", "spread"])
    first = frame.loc["eager"]["ms", IN_CONV3D]
    rows = [
        {
            "Runtime": RUNTIMES[str(backend)],
            "In Conv3d, ms": f"{row['ms', IN_CONV3D]:.0f} ± {row['spread', IN_CONV3D]:.0f}",
            "As here, ms": f"{row['ms', 'ctnet_r50']:.0f} ± {row['spread', 'ctnet_r50']:.0f}",
            "Gain in this runtime": f"{row['ms', IN_CONV3D] / row['ms', 'ctnet_r50']:.2f}",
            "Gain over Conv3d in PyTorch": f"{first / row['ms', 'ctnet_r50']:.2f}",
        }
        for backend, row in frame.loc[[b for b in RUNTIMES if b in frame.index]].iterrows()
    ]
    kept = speed("conv3d")
    caption = f"One CT-Net, written in two ways: a clip of {kept['frames']} x {kept['size']} x {kept['size']}."
    notes = (
        f"Medians of {kept['rounds']} rounds, {kept['threads']} thread, fp32 but for the row with 8 bits.",
        _matrix_rate(kept),
    )
    return BookTable(pd.DataFrame(rows), caption, notes=notes)


def network_table() -> BookTable:
    """Every measured network: multiply-adds, milliseconds and rate."""
    frame = times("networks").pivot_table(index="model", columns="backend", values=["gmacs", "ms", "rate", "share"])
    frame = frame.sort_values(("gmacs", "eager"))
    rows = [
        {
            "Network": model,
            "GMACs": f"{row['gmacs', 'eager']:.2f}",
            "PyTorch, ms": f"{row['ms', 'eager']:.0f}",
            "optimized, ms": f"{row['ms', 'optimized']:.0f}",
            "gain": f"{row['ms', 'eager'] / row['ms', 'optimized']:.2f}",
            "optimized, GMAC/s": f"{row['rate', 'optimized']:.0f}",
            "of the matrix rate, PyTorch": f"{row['share', 'eager']:.0%}",
            "optimized": f"{row['share', 'optimized']:.0%}",
        }
        for model, row in frame.iterrows()
    ]
    kept = speed("networks")
    caption = f"A clip of {kept['frames']} x {kept['size']} x {kept['size']}, one thread."
    return BookTable(pd.DataFrame(rows), caption, notes=(_matrix_rate(kept),))


def _matrix_rate(kept: dict[str, Any]) -> str:
    return f"A product of matrices, timed before and after, reached {roof(kept):.0f} GMAC/s on that core."


def plot_speed() -> Figure:
    """Multiply-adds against milliseconds for every measured network; the line is the rate of a matrix product."""
    frame, kept = times("networks"), speed("networks")
    figure = BookFigure(figsize=(WIDTH, 4.6))
    axes = figure.subplots()
    for backend, rows in frame.groupby("backend"):
        axes.scatter(rows["gmacs"], rows["ms"], color=SHADES[str(backend)], label=RUNTIMES[str(backend)], zorder=3)
    fast = frame[frame["backend"] == "optimized"].set_index("model")
    placed: list[tuple[float, float]] = []
    for model in dict.fromkeys(("ctnet_r50", "tsn_r50", *fast.sort_values("gmacs").index)):  # where there is room
        at = (math.log(fast.loc[model, "gmacs"]), math.log(fast.loc[model, "ms"]))
        if all(abs(at[0] - x) > 0.4 or abs(at[1] - y) > 0.12 for x, y in placed) or model == "tsn_r50":
            placed.append(at)
            side = (-4, 4, "right") if model == "ctnet_r50" else (5, -7, "left")
            axes.annotate(model, fast.loc[model, ["gmacs", "ms"]], xytext=side[:2], textcoords="offset points",
                          ha=side[2], fontsize=7)  # fmt: skip
    ends = [frame["gmacs"].min(), frame["gmacs"].max()]
    axes.plot(ends, [1e3 * gmacs / roof(kept) for gmacs in ends], color=COLORS["published"], linestyle="--",
              linewidth=1, label="rate of a matrix product")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="GMACs of a clip, logarithmic", ylabel="ms, logarithmic")
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis)
    axes.legend()
    return figure


def profile_totals() -> pd.DataFrame:
    """Kept shares summed over the sizes of maps: a row for each kind, columns ("gmacs" or "ms", runtime, network)."""
    from ctnet.deploy.profiling import KINDS

    columns = ["backend", "model"]
    summed = shares().pivot_table(index="kind", columns=columns, values=["gmacs", "ms"], aggfunc="sum", fill_value=0.0)
    return summed.reindex(list(KINDS))


def plot_profile() -> Figure:
    """Where a clip's time goes in TSN and CT-Net, by kind of operation, as PyTorch runs them and optimized."""
    totals = profile_totals()
    found: dict[Any, dict[str, float]] = totals["ms"].to_dict()
    figure = BookFigure(figsize=(WIDTH, 3.2))
    axes = figure.subplots()
    bars = [(backend, model) for backend in PROFILE.backends for model in PROFILE.models]
    labels = [f"{NAMES[model]}, {RUNTIMES[backend]}" for backend, model in bars]
    left = [0.0] * len(bars)
    for color, kind in zip(PALETTE, totals.index, strict=False):
        milliseconds = [found[bar][kind] for bar in bars]
        axes.barh(labels, milliseconds, left=left, color=color, label=kind)
        left = [sum(pair) for pair in zip(left, milliseconds, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms of a clip on one core")
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def profile_table() -> BookTable:
    """Multiply-adds and optimized milliseconds of TSN and CT-Net by kind of operation, and what each kind reaches."""
    frame = profile_totals()
    frame.loc["all"] = frame.sum()
    found: dict[Any, dict[str, float]] = frame.to_dict()
    rows = []
    for kind in frame.index:
        row = {"Kind": str(kind)}
        for model, name in NAMES.items():
            gmacs, ms = (found[value, "optimized", model][kind] for value in ("gmacs", "ms"))
            rate = f"{1e3 * gmacs / ms:.0f}" if gmacs > SMALL else "–"
            row |= {f"{name}, GMACs": f"{gmacs:.2f}", f"{name}, ms": f"{ms:.0f}", f"{name}, GMAC/s": rate}
        rows.append(row)
    caption = (
        f"Where a clip of {PROFILE.frames} x {PROFILE.size} x {PROFILE.size} spends its time after ctnet.optimize."
    )
    return BookTable(pd.DataFrame(rows), caption, notes=["GMACs of convolutions alone; the head has next to none."])


def plot_groups(rates: pd.DataFrame) -> Figure:
    """Rates of a convolution in ever smaller groups; `rates` as `study.speed.group_rates` returns them."""
    figure = BookFigure(figsize=(WIDTH, 2.8))
    axes = figure.subplots()
    groups = sorted(rates["group"].unique(), reverse=True)
    for shift, kernel in ((-0.2, "library"), (0.2, "own")):
        rows = rates[rates["kernel"] == kernel]
        at = [groups.index(group) + shift for group in rows["group"]]
        axes.bar(at, rows["rate"], width=0.4, color=SHADES[kernel], label=f"{kernel} kernel")
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.set(xlabel="channels of a group", ylabel="GMAC/s")
    axes.legend()
    return figure


def exports_told() -> Markdown:
    """How many networks were exported, and which of them do not give the same scores."""
    found, names = exports(), list_models()
    same = [outcome["difference"] for outcome in found.values() if is_same(outcome)]
    text = f"All {len(names)} networks of the package"
    if len(same) < len(names):
        tried = f"`python -m study exports` has tried {len(found)}"
        text = f"Of the {len(names)} networks of the package, {tried}. {len(same)}"
    text += " give the same scores in ONNX Runtime"
    text += f", to {max(same):.0e} of the largest one." if same else "."
    others = {name: outcome for name, outcome in found.items() if not is_same(outcome)}
    reasons = {
        name: outcome.get("error", f"differs by {outcome.get('difference')}") for name, outcome in others.items()
    }
    lines = [f"- `{name}`: {reason}" for name, reason in reasons.items()]
    return Markdown("\n".join([text, *([""] if lines else []), *lines]))


def estimated_times() -> pd.DataFrame:
    """Rows of Table 4 whose network was measured, with "ms": what its printed clip costs at the rate it reached.

    The printed cost is of the paper's own frames and size. The rate is that of `ctnet.optimize` on the kept clip.
    """
    fast = times("networks").query("backend == 'optimized'").set_index("model")["rate"]
    printed, milliseconds = table("4").printed, {}
    for row in table("4").rows.values():
        names = {network.model for network in row.networks}
        if len(names) == 1 and (name := names.pop()) in fast.index and row.printed.get("clip_gflops"):
            milliseconds[row.id] = 1e3 * float(row.printed["clip_gflops"]) / fast[name]
    return printed.loc[list(milliseconds)].assign(ms=list(milliseconds.values()))


def plot_tradeoff_in_time() -> Figure:
    """Figure 5 with time as its axis: published accuracy against the estimated time of one clip on one core."""
    frame = estimated_times()
    figure = BookFigure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    for number, (method, rows) in enumerate(frame.groupby("method", sort=False)):
        ours = str(method).startswith("CT-Net")
        color = COLORS["ct"] if ours else PALETTE[1:][number % (len(PALETTE) - 1)]
        ordered = rows.astype({"top1": float}).sort_values("ms")
        axes.plot(ordered["ms"] / 1e3, ordered["top1"], "osD^vP*X"[number % 8], ls="-", color=color, label=str(method))
    axes.set(
        xscale="log",
        xlabel="seconds of one clip on one core, logarithmic",
        ylabel="top-1 on Kinetics-400, %, published",
    )
    plain_ticks(axes.xaxis)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def twins_table(found: list[Any]) -> BookTable:
    """Timings that were measured now: milliseconds and rate."""
    rows = [
        {
            "Network": timing.model,
            "Runtime": RUNTIMES[timing.backend],
            "GMACs": f"{timing.gmacs:.3f}",
            "ms": f"{timing.processor_ms:.1f}",
            "GMAC/s": f"{1e3 * timing.gmacs * timing.clips / timing.processor_ms:.1f}",
        }
        for timing in found
    ]
    return BookTable(pd.DataFrame(rows), "Twins, measured as this page was built: a clip of 8 x 32 x 32, one thread.")

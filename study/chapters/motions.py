"""The chapter on motions: which ones each network tells apart, where two networks differ, and what is mistaken."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ctnet.micro import MicroSomething
from ctnet.micro.drawing import MOTIONS
from study.chapters.explorers import drawn, explorer
from study.chapters.markup import BookTable
from study.chapters.style import COLORS, WIDTH, BookFigure
from study.directions import directions
from study.runs import Twin, answers, correct_by_seed, labels_of, paired, protocol_of, seeds_of, twins_of
from study.statistics import LEVEL, corrected, paired_difference

NETWORKS = {
    "TSN": ("3", "tsn-8", "v1_top1"),
    "C3D-Module": ("2a", "c3d-module", "top1"),
    "R(2+1)D-Module": ("2a", "r-2-1-d-module", "top1"),
    "CSN-Module": ("2a", "csn-module", "top1"),
    "CT-Module": ("2a", "ct-module", "top1"),
    "CT-Net": ("3", "ct-net-8", "v1_top1"),
    "CT-Net, 4×4 maps": ("fig3", "ct-module-pwconv-te", "top1"),
    "TSM": ("3", "tsm-8", "v1_top1"),
    "TEA": ("3", "tea-8", "v1_top1"),
    "TEINet": ("3", "teinet-8", "v1_top1"),
}
"""What stands side by side: a name, and the table, the row and the column of its twin. All follow one protocol."""
ORDER = tuple(MOTIONS)
"""The motions as they are shown: each beside the one that it is in reverse."""
LARGE = 10.0
"""Points; a larger difference, as those to TSN are, does not hang on a few motions."""
PAIRED = sum(MOTIONS[motion].opposite != motion for motion in ORDER)
"""How many motions have an opposite; they come first."""
_OF_LABEL = np.array([ORDER.index(item.motions[0]) for item in MicroSomething.classes])


def twin_of(network: str) -> Twin:
    """The twin of one of `NETWORKS`."""
    name, row, column = NETWORKS[network]
    return twins_of(name)[row, column]


def motions_of(twin: Twin) -> NDArray[np.int64]:
    """The motion of every clip that a twin is tested on, as its place in `ORDER`, (clips,)."""
    parts = twin.runs[:1] if twin.fused else twin.runs
    return _OF_LABEL[np.concatenate([labels_of(run) for run in parts])]


def motion_accuracies() -> pd.DataFrame:
    """Mean accuracy in points, a line for each motion and a column for each network; NaN of what was not run."""
    found = {}
    for network in NETWORKS:
        twin = twin_of(network)
        right = list(correct_by_seed(twin).values())
        mean = 100 * np.mean(right, axis=0) if right else np.full(len(motions_of(twin)), np.nan)
        found[network] = [mean[motions_of(twin) == place].mean() for place in range(len(ORDER))]
    return pd.DataFrame(found, index=list(ORDER))


def plot_motions(accuracies: pd.DataFrame) -> Figure:
    """Accuracies, as `motion_accuracies` gives them, as a map with the means below."""
    figure = BookFigure(figsize=(WIDTH, 7.0))
    axes = figure.subplots()
    shown = pd.concat([accuracies, accuracies.mean().to_frame("all motions").T])
    sns.heatmap(
        shown,
        ax=axes,
        vmin=0,
        vmax=100,
        cmap=sns.light_palette(COLORS["ct"], as_cmap=True),
        annot=True,
        fmt=".0f",
        annot_kws={"size": 8},
        cbar=False,
        linewidths=0.5,
    )
    for line in (*range(2, PAIRED + 1, 2), len(ORDER)):  # between pairs, before those without one, and before the means
        axes.axhline(line, color="white", linewidth=2.5)
    axes.xaxis.tick_top()
    axes.set_xticks(axes.get_xticks(), shown.columns, rotation=40, ha="left", rotation_mode="anchor")
    axes.tick_params(left=False, top=False, pad=1)
    return figure


def difference_by_motion(one: str, other: str) -> pd.DataFrame:
    """How much more accurate one network is than another on each motion, over the seeds that both were run with.

    Columns: "mean", "low" and "high" of the 95 % interval, in points, and "p" after Holm's correction over all motions.
    """
    twins = [twin_of(one), twin_of(other)]
    right, motion = paired(twins), motions_of(twins[0])
    if right is None:
        return pd.DataFrame(columns=["mean", "low", "high", "p"])
    found = [paired_difference(*(each[:, motion == place] for each in right)) for place in range(len(ORDER))]
    rows = [(each.mean, each.low, each.high, p) for each, p in zip(found, corrected(found), strict=True)]
    return pd.DataFrame(rows, columns=["mean", "low", "high", "p"], index=list(ORDER))


def motion_differences(one: str, other: str) -> HTML:
    """An explorer of the differences by motion between any two networks that are run with all seeds; first these.

    As long as these two are not, a picture of what there is.
    """
    right = {name: correct_by_seed(twin_of(name)) for name in NETWORKS}
    whole = [name for name, found in right.items() if len(found) == len(seeds_of(NETWORKS[name][0]))]
    networks = {name: _by_seed(right[name], motions_of(twin_of(name))) for name in whole}
    pairs = {f"{a}|{b}": _intervals(a, b) for a, b in combinations(whole, 2)}
    data = {"motions": ORDER, "networks": networks, "pairs": pairs, "chosen": [one, other]}
    picture = _picture(one, other, f"Differences of accuracy between {one} and {other} by motion, with 95 % intervals.")
    if not {one, other} <= set(whole):
        return HTML(picture)
    return explorer("motions", "Differences between two networks by motion", data, picture)


def _by_seed(right: dict[int, NDArray[np.bool_]], motion: NDArray[np.int64]) -> list[list[float]]:
    """Accuracy in points, a list over the seeds for each motion."""
    found = np.stack(list(right.values()))
    return [(100 * found[:, motion == place].mean(1)).round(2).tolist() for place in range(len(ORDER))]


def _intervals(one: str, other: str) -> list[list[float | bool]]:
    """Ends of the interval of every motion, and whether it is one of those that stand after correction."""
    frame = difference_by_motion(one, other)
    numbers = frame[["low", "high", "p"]].to_numpy(float)
    return [[round(float(low), 1), round(float(high), 1), bool(p < LEVEL)] for low, high, p in numbers]


def _picture(one: str, other: str, alt: str) -> str:
    frame = difference_by_motion(one, other)
    figure = BookFigure(figsize=(WIDTH, 5.0))
    axes = figure.subplots()
    places = np.arange(len(frame))
    axes.axvline(0, color=COLORS["published"], linewidth=1)
    axes.hlines(places, frame["low"], frame["high"], color=COLORS["ct"], linewidth=1.5)
    axes.plot(frame["mean"], places, "o", color=COLORS["ct"], markersize=4)
    axes.set_yticks(places, frame.index)
    axes.invert_yaxis()
    axes.set_xlabel(f"{one} − {other}, points")
    return drawn(figure, alt)


def order_table(hard: Sequence[str]) -> BookTable:
    """How often networks find the pair of opposite motions that a clip is of, and how often then which of the two.

    Args:
        hard: motions whose pairs stand apart from the other pairs.
    """
    apart = [ORDER.index(motion) for motion in hard]
    groups = {" and ".join(hard): apart, "the other pairs": [place for place in range(PAIRED) if place not in apart]}
    rows = []
    for network in NETWORKS:
        predicted, labels = _answers(network)
        row: dict[tuple[str, str], str] = {("", "Network"): network}
        for name, places in groups.items():
            chosen = np.isin(labels, places)
            same = predicted[chosen] // 2 == labels[chosen] // 2
            row[name, "pair found, %"] = _share(same)
            row[name, "then the order, %"] = _share((predicted == labels)[chosen][same])
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(frame.columns))  # type: ignore[arg-type]
    guessed = 100 * 2 / len(ORDER)
    note = f"Guessing finds {guessed:.0f} % of the pairs, and then 50 % of the orders."
    return BookTable(frame, "Pairs of opposite motions, and their order in time; all seeds.", notes=[note])


def _answers(network: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The motions that a network tells, and those of the clips, as places in `ORDER`: (seeds * clips,) each."""
    twin = twin_of(network)
    found = [found for seed in seeds_of(twin.row.table) if (found := answers(twin, seed))]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    predicted, labels = (_OF_LABEL[np.concatenate(parts)] for parts in zip(*found, strict=True))
    return predicted, labels


def _share(right: NDArray[np.bool_]) -> str:
    return f"{100 * right.mean():.1f}" if len(right) else "–"


def mistakes_table(networks: Sequence[str], count: int = 5) -> BookTable:
    """The mistakes that networks make most: the motion of the clips, what is said instead, and in how many of them."""
    rows = []
    for network in networks:
        predicted, labels = (part.tolist() for part in _answers(network))
        clips = Counter(labels)
        wrong = Counter(pair for pair in zip(labels, predicted, strict=True) if pair[0] != pair[1])
        rows += [
            {
                "Network": network,
                "The motion": ORDER[label],
                "is taken for": ORDER[said],
                "% of its clips": f"{100 * number / clips[label]:.1f}",
            }
            for (label, said), number in wrong.most_common(count)
        ]
    return BookTable(pd.DataFrame(rows), "The commonest mistakes, all seeds.")


def lead_table(network: str, hard: Sequence[str]) -> BookTable:
    """How far a network is ahead of every other on some motions together, and on the rest, with 95 % intervals."""
    rows = []
    for other in NETWORKS:
        twins = [twin_of(network), twin_of(other)]
        right, apart = paired(twins), _is_of(hard, twins[0])
        if other == network or right is None:
            continue
        found = [paired_difference(*(each[:, chosen] for each in right)) for chosen in (apart, ~apart)]
        told = [f"{each.mean:+z.1f} ({each.low:+z.1f} to {each.high:+z.1f})" for each in found]
        rows.append({"Network": f"{network} − {other}", " and ".join(hard): told[0], "all other motions": told[1]})
    caption = f"{network}'s lead, in points, with 95 % intervals that are not corrected for their number."
    return BookTable(pd.DataFrame(rows), caption)


def rest_table(without: Sequence[str]) -> BookTable:
    """Differences between rows that are tested as this chapter's networks, with and without the clips of some motions.

    Those of more than `LARGE` points are left out.
    """
    rows, tested = [], {_tested(twin_of(network)) for network in NETWORKS}
    for direction in directions():
        of_rows = (twins_of(direction.table).get((row, direction.column)) for row in direction.subject.split(" > "))
        twins = [twin for twin in of_rows if twin and _tested(twin) in tested]
        if direction.found is None or abs(direction.found.mean) > LARGE or len(twins) < 2:
            continue
        seeds = range(direction.found.seeds) if direction.look == 2 else None
        right, rest = paired(twins, seeds), ~_is_of(without, twins[0])
        assert right, "the direction has been found"
        found = paired_difference(*(each[:, rest] for each in right))
        rows.append(
            {
                "Difference": f"{direction.label}, Table {direction.table}",
                "All motions, points": f"{direction.found.mean:+z.1f}",
                f"Without {' and '.join(without)}": f"{found.mean:+z.1f} ({found.low:+z.1f} to {found.high:+z.1f})",
            }
        )
    note = f"Differences of more than {LARGE:g} points are left out. Those with a second look are over all its seeds."
    caption = "What is left of differences. The 95 % intervals are not corrected for their number, and give no verdict."
    return BookTable(pd.DataFrame(rows), caption, notes=[note])


def _tested(twin: Twin) -> tuple[int, str, int | None, float | None]:
    """The protocol that a twin follows, and the clips that it is tested on."""
    recipe = twin.runs[0].recipe
    return protocol_of(twin.row.table), recipe.dataset, recipe.val_clips, recipe.difficulty


def _is_of(motions: Sequence[str], twin: Twin) -> NDArray[np.bool_]:
    """Whether a clip that a twin is tested on shows one of some motions, (clips,)."""
    return np.isin(motions_of(twin), [ORDER.index(motion) for motion in motions])


def seeds_table(networks: Iterable[str], without: Sequence[str]) -> BookTable:
    """How far the seeds of networks lie apart, with and without the clips of some motions."""
    rows = []
    for network in networks:
        twin = twin_of(network)
        found = list(correct_by_seed(twin).values())
        if len(found) < 2:
            continue
        left_out = _is_of(without, twin)
        chosen = (left_out | True, ~left_out, left_out)
        whole, rest, these = (100 * np.stack(found)[:, each].mean(1) for each in chosen)
        rows.append(
            {
                "Network": network,
                "Standard deviation, points": f"{whole.std(ddof=1):.1f}",
                f"Without {' and '.join(without)}": f"{rest.std(ddof=1):.1f}",
                "Lowest and highest seed on these, %": f"{these.min():.0f} to {these.max():.0f}",
                "Their share of its mistakes, %": _share(left_out[np.nonzero(~np.stack(found))[1]]),
            }
        )
    return BookTable(pd.DataFrame(rows), "How far the seeds of a network lie apart.")

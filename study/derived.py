"""What the paper says of its own numbers, recomputed from the tables that it prints."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from study.claims import Claim
from study.paper import half_a_digit, table

SECTIONS = ("4.1", "4.2", "A.3", "A.4", "A.5", "A.7")
"""Sections whose text makes claims that are decided here."""
_ORDER = "order of the printed accuracies"
_FUSED = "8-12-16-24-"  # rows of the ensemble of four, by their views
_SLOWFAST = "slowfast-3d-r50-r50-40-8-32-x3x10"
FIGURE_5 = ("CorrNet", "SlowFast", "ip-CSN", "TSM", "bLVNet-TAM")
"""Other methods that the paper's Figure 5 draws, by its legend; Table 4 has more."""


def _derived(
    where: str,
    about: str,
    subject: str,
    statement: str,
    published: Any,
    recomputed: Any,
    holds: bool,
    rule: str = _ORDER,
    note: str = "",
    column: str = "",
) -> Claim:
    """A claim of a section or a table, on the numbers of a table."""
    verdict = "consistent" if holds else "inconsistent"
    return Claim(
        "derived", where, subject, column, statement, published, recomputed, verdict, note, rule, topics=(about,)
    )


def derived_claims() -> Iterator[Claim]:
    """Every claim on the paper's own numbers."""
    yield from _factors_and_gains()
    yield from _orders()
    yield from _alike()
    yield from _majorities()
    yield from _frames_and_views(table("6").printed)
    yield from _transfer()
    yield from _views(table("4").printed)


def _factors_and_gains() -> Iterator[Claim]:
    """Sections 4.1 and 4.2: "49.1x fewer GFLOPs", "improves by 2.1 points"."""
    t2e, t2g, t3, t4 = (table(name).printed for name in ("2e", "2g", "3", "4"))
    ct3, nl, slowfast = t3.loc["ct-net-8"], t3.loc["nl-i3d-gcn-32x3x2"], t4.loc["slowfast-80-16-64-x3x10"]
    r101, ensemble = t4.loc["ct-net-r101-16x3x4"], t4.loc["ct-net-en-16-16-x3x4"]
    figures = [
        ("4.2", "3", "49.1x fewer GFLOPs than NL I3D + GCN", 49.1, nl.gflops / ct3.gflops),
        ("4.2", "3", "4.0 points more than NL I3D + GCN", 4.0, ct3.v1_top1 - nl.v1_top1),
        ("4.2", "4", "3.7x fewer GFLOPs than SlowFast-R101", 3.7, slowfast.gflops / r101.gflops),
        ("4.2", "4", "ensemble 2.4x faster than SlowFast-R101", 2.4, slowfast.gflops / ensemble.gflops),
        ("4.2", "4", "ensemble 0.9 points better than SlowFast-R101", 0.9, ensemble.top1 - slowfast.top1),
        ("4.1", "2e", "stages 2 and 3 add 0.4 points", 0.4, t2e.loc["blocks-7"].top1 - t2e.loc["blocks-4"].top1),
        (
            "4.1",
            "2g",
            "TE adds 2.1 points",
            2.1,
            t2g.loc["ct-module-pwconv-te"].top1 - t2g.loc["ct-module-pwconv"].top1,
        ),
    ]
    rule = "recomputed from the printed tables, rounds to the printed digit"
    for where, about, statement, printed, value in figures:
        yield _derived(where, about, statement, statement, printed, value, bool(round(value, 1) == printed), rule)


def _orders() -> Iterator[Claim]:
    """One printed accuracy above all those that the text compares it with."""
    t3, t4, t6 = (table(name).printed for name in ("3", "4", "6"))
    v1, v2, kinetics = t3.v1_top1, t3.v2_top1, t4.top1
    single = t3[~t3.frames.str.contains("x[0-9]+x|[+]")].drop("ct-net-16")  # one clip, one network
    rivals = t3[~t3.method.str.startswith("CT-Net")]
    stages = table("2e").printed.top1
    flat = t4[t4.backbone.str.startswith(("2D", "bL"), na=False) & ~t4.backbone.str.contains("R101", na=False)]
    r50, fused = kinetics["ct-net-r50-16x3x4"], f"{_FUSED}x3x2"
    heavy = t4.loc["smallbignet-32x3x4"]
    large = (
        f"SmallBigNet on a ResNet-101, {heavy.top1:g} % at {heavy.clip_gflops:g} GFLOPs for a clip, is not lightweight"
    )
    theirs = f"{kinetics[_SLOWFAST]:g} is what the authors reached with it"
    reproduced = f"{theirs}, below its own paper; they name missing videos as a cause"
    light = "more accurate than all lightweight models on a 2D backbone"
    comparisons: list[tuple[str, str, str, float, pd.Series, str]] = [
        (
            "4.2",
            "3",
            "8 frames, 3x2: more accurate than ir-CSN R152",
            v1["ct-net-8x3x2"],
            v1[["ir-csn-3d-r152-32x1x10"]],
            "",
        ),
        ("4.2", "3", "16 frames: more accurate on V1 than all with one clip", v1["ct-net-16"], single.v1_top1, ""),
        ("4.2", "3", "16 frames: more accurate on V2 than all with one clip", v2["ct-net-16"], single.v2_top1, ""),
        ("4.2", "3", "ensemble: more accurate on V1 than all", v1["ct-net-en-8-12-16-24"], rivals.v1_top1, ""),
        ("4.2", "3", "ensemble: more accurate on V2 than all", v2["ct-net-en-8-12-16-24"], rivals.v2_top1, ""),
        ("4.2", "4", "R50: more accurate than SlowFast R50", r50, kinetics[[_SLOWFAST]], reproduced),
        ("4.2", "4", f"R50: {light}", r50, flat.top1.drop("ct-net-r50-16x3x4"), large),
        ("4.1", "2e", "one block in stage 5 brings 16.9 to 42.3", stages["blocks-1"], stages[["blocks-0"]], ""),
        ("A.4", "6", "the ensemble of four is the best on V1", t6.v1_top1[fused], rivals.v1_top1, ""),
        ("A.4", "6", "the ensemble of four is the best on V2", t6.v2_top1[fused], rivals.v2_top1, ""),
    ]
    rule = f"{_ORDER}: the published one above the best of those it is compared with"
    for where, about, statement, value, lower, note in comparisons:
        best = lower.dropna().max()
        yield _derived(
            where, about, statement, statement, value, f"others up to {best:g}", bool(value > best), rule, note
        )


def _alike() -> Iterator[Claim]:
    """What the text calls comparable, similar or much lower; how much that is, it does not say."""
    t2a, t2b, t4, t7 = (table(name).printed for name in ("2a", "2b", "4", "7"))
    ct, r101, x3d = t2a.loc["ct-module"], t4.loc["ct-net-r101-16x3x4"], t4.loc["x3d-xl-16x3x10"]
    accurate = [
        ("4.1", "2b", "K = 4: accuracy comparable to K = 1", t2b.top1["k4"], t2b.top1["k1"]),
        ("4.2", "4", "R101: accuracy comparable to SlowFast-R101", r101.top1, t4.top1["slowfast-80-16-64-x3x10"]),
        ("4.2", "4", "R101: accuracy comparable to X3D-XL", r101.top1, x3d.top1),
    ]
    for where, about, statement, ours, other in accurate:
        gap = f"{ours - other:+z.1f} points"
        rule, bound = "printed accuracies within half a point", "half a point is this study's bound"
        holds = bool(abs(ours - other) <= 0.5)
        yield _derived(where, about, statement, statement, "comparable", gap, holds, rule, bound)
    clips = (
        f"of one clip {r101.clip_gflops:g} against {x3d.clip_gflops:g}, {r101.clip_gflops / x3d.clip_gflops:.1f} times"
    )
    similar = [
        ("4.1", "2a", "CT-Module: computation similar to the CSN-Module's", ct.gflops / t2a.gflops["csn-module"], ""),
        ("4.2", "4", "R101: GFLOPs similar to X3D-XL's", r101.gflops / x3d.gflops, clips),
    ]
    for where, about, statement, ratio, note in similar:
        rule, bound = "printed GFLOPs of all views within a quarter of each other", "a quarter is this study's bound"
        holds, told = bool(4 / 5 <= ratio <= 5 / 4), "; ".join(filter(None, (note, bound)))
        yield _derived(where, about, statement, statement, "similar", f"{ratio:.2f} times", holds, rule, told)
    statement = "CT-Module: much lower computation than the R(2+1)D-Module's"
    ratio = ct.gflops / t2a.gflops["r-2-1-d-module"]
    rule, bound = "printed GFLOPs lower by a fifth or more", "a fifth is this study's bound"
    holds = bool(ratio <= 4 / 5)
    yield _derived("4.1", "2a", statement, statement, "much lower", f"{ratio:.2f} times", holds, rule, bound)
    orders = [
        " < ".join(printed.sort_values().index)
        for printed in (t2a.top1, t7.mini_kinetics_top1.astype(float), t7.v2_top1.astype(float))
    ]
    statement = "Table 7 has the modules in the order of Table 2a"
    same = f"the same in {sum(order == orders[0] for order in orders[1:])} of 2 columns"
    rule = "order of the printed top-1 accuracies of the four modules"
    yield _derived("A.5", "7", statement, statement, "similar trend", same, len(set(orders)) == 1, rule)


def _majorities() -> Iterator[Claim]:
    """ "Most": of the models with several clips (4.2), of the methods (Table 3, A.7)."""
    t3, t4 = table("3").printed, table("4").printed
    rivals = t3[~t3.method.str.startswith("CT-Net") & t3.frames.str.contains("x[0-9]+x")]
    columns = ["v1_top1", "v2_top1"]
    below, results = (rivals[columns] < t3.loc["ct-net-16", columns]).sum().sum(), rivals[columns].count().sum()
    yield _derived(
        "4.2",
        "3",
        "16 frames: more accurate than most with several clips",
        "16 frames, one clip: more accurate than most models with several clips",
        f"more than half of {results} results on V1 and V2",
        f"{below} of {results}",
        bool(2 * below > results),
        note="; ".join(
            f"{(rivals[column] < t3.loc['ct-net-16', column]).sum()} of {rivals[column].count()} on {name}"
            for name, column in (("V1", "v1_top1"), ("V2", "v2_top1"))
        ),
    )
    others = t3[~t3.method.str.startswith("CT-Net")]
    dearer = (others.gflops > t3.gflops["ct-net-en-8-12-16-24"]).sum()
    yield _derived(
        "4.2",
        "3",
        "ensemble: very low computation",
        "Table 3's caption: the ensemble outperforms all methods with very lower computation",
        f"below more than half of {len(others)}",
        f"below {dearer} of {len(others)}",
        bool(2 * dearer > len(others)),
        "its printed GFLOPs below those of most rows that it is compared with",
    )
    clips, ours = t4.clip_gflops, t4.method.str.startswith("CT-Net")
    beaten = [
        row
        for row in t4.index[~ours]
        if any(clips[row] >= clips[own] and t4.top1[row] <= t4.top1[own] for own in t4.index[ours])
    ]
    shown = t4.index[t4.method.isin(FIGURE_5)]
    below = sum(t4.top1[own] < t4.top1["x3d-xl-16x3x10"] for own in t4.index[ours])
    yield _derived(
        "A.7",
        "4",
        "better trade-off than most methods on Kinetics-400",
        "Fig. 5, over all rows of Table 4: a better trade-off of GFLOPs per clip and accuracy than most methods",
        f"more than half of {(~ours).sum()}",
        f"{len(beaten)} of {(~ours).sum()}",
        bool(2 * len(beaten) > (~ours).sum()),
        "rows of Table 4 that some CT-Net matches in accuracy with no more GFLOPs per clip",
        f"of the {len(shown)} that Figure 5 draws, {len(shown.intersection(beaten))}: "
        f"{', '.join(t4.method[shown.intersection(beaten, sort=False)])}. X3D-XL has fewer GFLOPs and is more accurate "
        f"than {below} of the {ours.sum()} CT-Nets",
    )


def _frames_and_views(printed: pd.DataFrame) -> Iterator[Claim]:
    """Appendix A.4 on Table 6, on both datasets."""
    columns = {"V1": "v1_top1", "V2": "v2_top1"}
    rising = [
        printed[column][more] > printed[column][fewer]
        for column in columns.values()
        for fewer, more in pairwise(("8", "12", "16"))
    ]
    statement = "more frames up to 16 raise accuracy"
    asked, found = (f"{count} of {len(rising)} steps" for count in (len(rising), sum(rising)))
    yield _derived("A.4", "6", statement, statement, asked, found, all(rising), f"{_ORDER} on V1 and V2, one clip")
    steps = [
        printed[column][f"{frames}{more}"] > printed[column][f"{frames}{fewer}"]
        for column in columns.values()
        for frames in (8, 12, 16, 24)
        for fewer, more in pairwise(("", "x1x2", "x3x2"))
    ]
    yield _derived(
        "A.4",
        "6",
        "more crops and clips raise accuracy",
        "more clips, and more crops, raise the accuracy of every single network",
        f"{len(steps)} of {len(steps)} steps",
        f"{sum(steps)} of {len(steps)} steps",
        all(steps),
        f"{_ORDER} on V1 and V2",
        f"of the ensemble they do not: on V1 it has {printed.v1_top1[f'{_FUSED}x1x1']:g} throughout, on V2 a second "
        "clip adds nothing",
    )
    pairs = [
        np.sign(printed[f"{dataset}_top{k}"][f"24{views}"] - printed[f"{dataset}_top{k}"][f"16{views}"])
        for dataset in ("v1", "v2")
        for views in ("", "x1x2", "x3x2")
        for k in (1, 5)
    ]
    below, equal, above = (pairs.count(sign) for sign in (-1, 0, 1))
    yield _derived(
        "A.4",
        "6",
        "24 frames are worse than 16",
        "24 frames are worse than 16",
        f"less accurate in more than half of {len(pairs)}",
        f"less in {below}, equal in {equal}, more in {above}",
        2 * below > len(pairs),
        "printed top-1 and top-5 on V1 and V2 in every view, since the sentence names none",
        "with one clip the top-1 is equal on V1, and that of 24 frames is 0.1 higher on V2",
    )


def _transfer() -> Iterator[Claim]:
    """Appendix A.3 on Table 5."""
    flat = table("5").printed
    flat = flat[flat.backbone.str.startswith("2D")]
    for column in ("ucf101", "hmdb51"):
        value, best = flat[column]["ct-net"], flat[column].drop("ct-net").max()
        statement = f"as accurate on {column.upper()} as the best on a 2D ResNet"
        yield _derived("A.3", "5", column, statement, value, f"others up to {best:g}", bool(value >= best))


def _views(printed: pd.DataFrame) -> Iterator[Claim]:
    """Table 4: the GFLOPs of a clip, times views, are the GFLOPs of a row."""
    rule = "within what the rounding of both figures leaves open"
    for row_id, row in printed.to_dict(orient="index").items():
        clip, views, gflops = row["clip_gflops"], row["views"], row["gflops"]
        if views is not None:
            slack = views * half_a_digit(clip) + half_a_digit(gflops)  # both figures are rounded
            statement = f"Table 4, {row['method']}, {row['frames']}: {clip:g} x {views} = {gflops} GFLOPs"
            holds = abs(clip * views - gflops) <= slack
            yield _derived("4", "views", str(row_id), statement, gflops, clip * views, holds, rule, column="views")

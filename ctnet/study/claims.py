"""Claims of the paper on costs, receptive fields and its own arithmetic, each with its rule and its verdict."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import torch

from ctnet.analysis import Cost, progressive_fields, receptive_field
from ctnet.models import CTModule, c3d_module, compared, csn_module, r2plus1d_module
from ctnet.models.peers import PEERS
from ctnet.study.costs import cost_file, is_stale, measure_and_keep, networks, record, total
from ctnet.study.experiments import IN_TEXT, NOT_REPRODUCED, PLAIN, ROWS, Network
from ctnet.study.provenance import config_hash
from ctnet.study.published import published_table, row_label


@dataclass(frozen=True)
class Claim:
    """One claim and what became of it.

    Attributes:
        id: name in the ledger.
        kind: "exact", measured on the full-size network; "derived", recomputed from the paper's own numbers;
            "direction", tested on twins; "full size", an accuracy that only a run on the real dataset can measure;
            "text", a sentence of the paper that other claims decide.
        statement: in words.
        published, measured: values, where there are any.
        verdict: one of `ctnet.study.ledger.VERDICTS`.
        note: why the verdict is what it is, where that needs a word.
        rule: what decides.
        evidence: files under `results` that the measured value comes from.
        stale: whether such a file was made by other code than today's.
    """

    id: str
    kind: str
    statement: str
    published: Any
    measured: Any
    verdict: str
    note: str = ""
    rule: str = ""
    evidence: tuple[str, ...] = ()
    stale: bool = False


def tolerance(published: float) -> float:
    """Largest difference in GFLOPs that counts as reproduced: 0.1, or 0.15 % above 120.

    A figure printed with fewer digits stands for every number that rounds to it.
    """
    half_a_digit = 0.5 if isinstance(published, int) else 0.05
    return max(0.1 if published <= 120 else 0.0015 * published, half_a_digit)


INFERRED = {
    **{
        f"pem-tdloss-{view}": "the backbone TIM alone, without PEM"
        for view in ("8", "16", "8x3x2", "16x3x2", "16x3x10")
    },
    "corrnet-32x1x10": "the stem's 32 channels and the strides were chosen to fit",
}
"""Row -> what its network leaves out, or what in it was chosen for the printed cost."""
UNREADABLE = {("6", "8x1x2")}
"""Printed GFLOPs that could not be read, so that there is nothing to hold a measurement against."""
OWN_SUMS = {("6", "16x1x2"): ("560 - 75 - 112 - 224", 149)}
"""Printed GFLOPs that another printed sum contradicts: the sum's other terms taken away, and what they leave."""


def gmacs_verdict(
    published: float, measured: float, views: int = 1, own_sum: tuple[str, float] | None = None
) -> tuple[str, str]:
    """Verdict on printed GFLOPs, and the arithmetic behind it when they are the paper's slip.

    A slip is a figure outside the tolerance that the paper's own numbers explain: it contradicts their sum, or it is
    the figure of one clip, rounded first and then multiplied by the views.
    """
    if abs(measured - published) <= tolerance(published):
        return "reproduced", ""
    if own_sum and abs(measured - own_sum[1]) <= tolerance(own_sum[1]):
        return "paper inconsistent", f"the paper's own sum gives {own_sum[0]} = {own_sum[1]:g}"
    clip = measured / views
    if views > 1 and views * round(clip) == published:
        slip = f"{views} x {round(clip)} = {published:g} was rounded before it was multiplied"
        return "paper inconsistent", f"{slip}; {views} x {clip:.2f} = {measured:.1f}"
    return "differs", ""


PEER_TOLERANCE = 0.01
"""Largest relative difference of a peer's GFLOPs that counts as reproduced."""
GMACS_RULE = "measured at full size: within 0.1 GFLOPs, or 0.15 % above 120, or what the printed digits leave open"
PEER_RULE = "measured at full size: all operators, or convolutions and linear layers alone, within 1 %"


def peer_verdict(published: float, gmacs: float, conv_linear_gmacs: float) -> tuple[str, float, str]:
    """Verdict on the printed GFLOPs of a peer, the count that is nearest to them, and both counts in words.

    The paper took its peers' costs from their own papers. Some of those count all operators, as it does itself, some
    convolutions and linear layers alone: the words end with the counts that round to the printed figure.
    """
    counts = {"all operators": gmacs, "convolutions and linear layers": conv_linear_gmacs}
    nearest = min(counts.values(), key=lambda count: abs(count - published))
    verdict = "reproduced" if abs(nearest - published) <= PEER_TOLERANCE * published else "differs"
    digits = 0 if isinstance(published, int) else 1
    exact = [name for name, count in counts.items() if round(count, digits) == published]
    which = "both" if len(exact) == 2 else exact[0] if exact else "neither"
    listed = ", ".join(f"{name} {count:.2f}" for name, count in counts.items())
    return verdict, nearest, f"{listed}; to the printed digit: {which}"


def cost_claims(table: str, costs: Mapping[str, Cost], stale: Collection[str] = ()) -> Iterator[Claim]:
    """The printed GFLOPs and parameters of a table, against the costs of its networks.

    Args:
        table: of the paper.
        costs: of every network of the table, under the hash of its configuration.
        stale: hashes of costs that other code than today's has measured.
    """
    printed = published_table(table)
    for row_id, row in ROWS.get(table, {}).items():
        gmacs, conv_linear, params = total(row, costs)
        hashes = [config_hash(network.config()) for network in row.networks]
        evidence = tuple(f"cost/{cost_file(network).name}" for network in row.networks)
        outdated = not set(hashes).isdisjoint(stale)
        of_peer = any(network.model in PEERS for network in row.networks)
        label = f"Table {table}, {row_label(printed, row_id)}"
        for column, views in (("gflops", row.views), ("clip_gflops", 1)):
            value: Any = printed.loc[row_id].get(column)
            if value is not None:
                measured = gmacs / row.views * views
                if of_peer:
                    verdict, measured, note = peer_verdict(value, measured, conv_linear / row.views * views)
                    note += "; " * (row_id in INFERRED) + INFERRED.get(row_id, "")
                else:
                    verdict, note = gmacs_verdict(value, measured, views, OWN_SUMS.get((table, row_id)))
                if (table, row_id) in UNREADABLE:
                    verdict, note = "inconclusive", str(printed.loc[row_id]["note"])
                statement = f"{label}: {_gflops(value, column)}"
                rule = PEER_RULE if of_peer else GMACS_RULE
                yield Claim(
                    f"{table}/{row_id}/{column}",
                    "exact",
                    statement,
                    value,
                    measured,
                    verdict,
                    note,
                    rule,
                    evidence,
                    outdated,
                )
        value = printed.loc[row_id].get("params")
        if value is not None:
            verdict = "reproduced" if round(params, 1) == value else "differs"
            statement = f"{label}: {value} M parameters"
            rule = "rounds to the printed digit"
            yield Claim(
                f"{table}/{row_id}/params", "exact", statement, value, params, verdict, "", rule, evidence, outdated
            )
    for row_id, reason in NOT_REPRODUCED.get(table, {}).items():
        for column in ("gflops", "clip_gflops"):
            value = printed.loc[row_id].get(column)
            if value is not None:
                statement = f"Table {table}, {row_label(printed, row_id)}: {_gflops(value, column)}"
                yield Claim(
                    f"{table}/{row_id}/{column}", "exact", statement, value, None, "not reproduced", reason, PEER_RULE
                )


def _gflops(value: float, column: str) -> str:
    return f"{value} GFLOPs" + (" per clip" if column == "clip_gflops" else "")


def _check(
    id: str, kind: str, statement: str, published: Any, measured: Any, holds: bool, note: str = "", rule: str = ""
) -> Claim:
    verdict = {("exact", True): "reproduced", ("exact", False): "differs", ("derived", True): "consistent"}
    return Claim(id, kind, statement, published, measured, verdict.get((kind, holds), "inconsistent"), note, rule)


def _lowest_last(gmacs: list[float]) -> bool:
    return gmacs[-1] == min(gmacs)


def _falling(gmacs: list[float]) -> bool:
    return all(a > b for a, b in pairwise(gmacs))


def _by_reach(gmacs: list[float]) -> bool:
    """Of kernels 1-3, 1-5, 3-3, 3-5 and 5-5, but for the first."""
    one_five, three_three, three_five, five_five = gmacs[1:]
    return three_three < one_five < three_five < five_five


_ORDERS: dict[str, tuple[str, str, Callable[[list[float]], bool], str]] = {
    "2b": ("the higher the dimension K, the smaller the GFLOPs", "falling", _falling, ""),
    "2d": ("the cost is lowest when C2 = sqrt(C)", "lowest in the last row", _lowest_last, ""),
    "2e": ("replacing more blocks decreases the GFLOPs", "falling", _falling, ""),
    "2f": (
        "larger kernels bring more computation",
        "rising",
        _by_reach,
        "kernels of 3 and 3 cost less than 1 and 5, which reach as far",
    ),
}
"""Table -> what the text says of how the cost moves along it, in a word, as a test of the GFLOPs, and a note."""


def _order_claims(table: str, costs: Mapping[str, Cost]) -> Iterator[Claim]:
    if table in _ORDERS:
        statement, order, holds, note = _ORDERS[table]
        gmacs = [round(total(row, costs)[0], 2) for row in ROWS[table].values()]
        rule = "order of the costs measured at full size"
        yield _check(f"{table}/text", "exact", statement, order, gmacs, holds(gmacs), note, rule)


def _field_claims() -> Iterator[Claim]:
    """Table 1 and the captions of Fig. 1, measured from gradients at C = 64."""
    rule = "where the gradient of one output is not zero"
    channels = 64
    for name, build in (("C3D", c3d_module), ("R(2+1)D", r2plus1d_module), ("CSN", csn_module)):
        field = receptive_field(build(channels), channels)
        measured = "x".join(map(str, field.extent))
        yield _check(
            f"1/{name}", "exact", f"{name}: interact field 3^3", "3x3x3", measured, measured == "3x3x3", rule=rule
        )
    for k in (1, 2, 3):
        module = CTModule(channels, sizes=k, **PLAIN)
        fields = progressive_fields(module, channels)
        extent = f"{2 * k + 1}x" * 2 + f"{2 * k + 1}"
        measured = "x".join(map(str, fields[-1].extent))
        note = f"the parallel connection reaches {fields[-1].filled:.0%} of the positions in this box"
        statement = f"CT-Module, K = {k}: interact field (2K+1)^3"
        yield _check(f"1/CT K={k}", "exact", statement, extent, measured, measured == extent, note, rule)
        reached = [field.channels for field in fields]
        expected = [int(n) for n in torch.tensor(module.sizes).cumprod(0)]
        statement = f"CT-Module, K = {k}: C_1, then C_1 x C_2, ... = C channels interact"
        holds = reached == expected and reached[-1] == channels
        yield _check(f"1/CT K={k} channels", "exact", statement, expected, reached, holds, rule=rule)


def special_case_difference(
    special_case: Callable[..., torch.nn.Module], definition: Callable[..., torch.nn.Module]
) -> float:
    """Largest difference between a special case of the CT-Module and its own paper's module, with shared weights.

    Both are built for 16 channels, get the same random parameters and statistics, and see the same clip (section 3.3).
    """
    generator = torch.Generator().manual_seed(0)
    ours, theirs = special_case(16, 16).eval(), definition(16, 16).eval()
    for mine, value in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) / max(value[0].numel(), 1) ** 0.5)
            mine.copy_(value.reshape(mine.shape))
    clip = torch.randn(2, 16, 6, 9, 7, generator=generator)
    with torch.no_grad():
        return float((ours(clip) - theirs(clip)).abs().max())


SPECIAL_CASES = {
    "C3D": (c3d_module, compared.c3d),
    "R(2+1)D": (r2plus1d_module, compared.r2plus1d),
    "CSN": (csn_module, compared.csn),
}
"""Name -> (the CT-Module's special case, the module as its own paper defines it)."""


def _special_case_claims() -> Iterator[Claim]:
    for name, (special_case, definition) in SPECIAL_CASES.items():
        difference = special_case_difference(special_case, definition)
        statement = f"{name} is a special case of the CT-Module (section 3.3): outputs agree to 1e-5"
        rule = "largest difference of the outputs, with the same weights"
        yield _check(f"3.3/{name}", "exact", statement, "equal", difference, difference <= 1e-5, rule=rule)


def _every_second_block(records: Mapping[str, dict[str, Any]]) -> Claim:
    """Section 3.3's rule for ResNet-101, against the cost in Table 4."""
    row, published = IN_TEXT["3.3"]["resnet-101"], published_table("4")["clip_gflops"]["ct-net-r101-16x3x4"]
    (network,) = row.networks
    content = records[config_hash(network.config())]
    gmacs = content["cost"].gmacs
    verdict, _ = gmacs_verdict(published, gmacs)
    statement = f"one of every two blocks of ResNet-101, in every stage, costs the {published} GFLOPs of Table 4"
    note = "that is 15 blocks; the 11 blocks that fit the printed cost are an inference"
    evidence, stale = (f"cost/{cost_file(network).name}",), is_stale(content)
    return Claim("3.3/ResNet-101", "exact", statement, published, gmacs, verdict, note, GMACS_RULE, evidence, stale)


_SLOWFAST = "slowfast-3d-r50-r50-40-8-32-x3x10"


def _derived_claims() -> Iterator[Claim]:
    """What the running text says of the tables' numbers, recomputed from them."""
    t2e, t2g, t3, t4, t6 = (published_table(table) for table in ("2e", "2g", "3", "4", "6"))
    ct3, nl, slowfast = t3.loc["ct-net-8"], t3.loc["nl-i3d-gcn-32x3x2"], t4.loc["slowfast-80-16-64-x3x10"]
    r101, ensemble = t4.loc["ct-net-r101-16x3x4"], t4.loc["ct-net-en-16-16-x3x4"]
    figures = [
        ("4.2", "49.1x fewer GFLOPs than NL I3D + GCN", 49.1, nl.gflops / ct3.gflops),
        ("4.2", "4.0 points more than NL I3D + GCN", 4.0, ct3.v1_top1 - nl.v1_top1),
        ("4.2", "3.7x fewer GFLOPs than SlowFast-R101", 3.7, slowfast.gflops / r101.gflops),
        ("4.2", "ensemble 2.4x faster than SlowFast-R101", 2.4, slowfast.gflops / ensemble.gflops),
        ("4.2", "ensemble 0.9 points better than SlowFast-R101", 0.9, ensemble.top1 - slowfast.top1),
        ("4.1", "stages 2 and 3 add 0.4 points", 0.4, t2e.loc["blocks-7"].top1 - t2e.loc["blocks-4"].top1),
        ("4.1", "TE adds 2.1 points", 2.1, t2g.loc["ct-module-pwconv-te"].top1 - t2g.loc["ct-module-pwconv"].top1),
    ]
    for where, statement, printed, value in figures:
        holds, rule = (
            bool(round(value, 1) == printed),
            "recomputed from the printed tables, rounds to the printed digit",
        )
        yield _check(f"{where}/{statement}", "derived", statement, printed, value, holds, rule=rule)

    single = t3[~t3.frames.str.contains("x[0-9]+x|[+]")]  # one clip, one network
    others = single.drop("ct-net-16")
    v1, v2, kinetics, stages, frames = t3.v1_top1, t3.v2_top1, t4.top1, t2e.top1, t6.v1_top1
    rivals = t3[~t3.method.str.startswith("CT-Net")]
    comparisons = [
        ("4.2", "8 frames, 3x2: more accurate than ir-CSN R152", v1["ct-net-8x3x2"], v1[["ir-csn-3d-r152-32x1x10"]]),
        ("4.2", "16 frames: more accurate on V1 than all with one clip", v1["ct-net-16"], others.v1_top1),
        ("4.2", "16 frames: more accurate on V2 than all with one clip", v2["ct-net-16"], others.v2_top1),
        ("4.2", "ensemble: more accurate on V1 than all", v1["ct-net-en-8-12-16-24"], rivals.v1_top1),
        ("4.2", "ensemble: more accurate on V2 than all", v2["ct-net-en-8-12-16-24"], rivals.v2_top1),
        (
            "4.2",
            "R50: more accurate than SlowFast R50",
            kinetics["ct-net-r50-16x3x4"],
            kinetics[[_SLOWFAST]],
        ),
        ("4.1", "one block in stage 5 brings 16.9 to 42.3", stages["blocks-1"], stages[["blocks-0"]]),
        ("A.4", "more frames up to 16 raise accuracy", frames["16"], frames[["8", "12"]]),
        ("A.4", "the ensemble of four is the best on V1", frames["8-12-16-24-x3x2"], rivals.v1_top1),
        ("A.4", "the ensemble of four is the best on V2", t6.v2_top1["8-12-16-24-x3x2"], rivals.v2_top1),
    ]
    for where, statement, value, lower in comparisons:
        best = lower.dropna().max()
        rule = "order of the printed accuracies: the published one above the best of those it is compared with"
        yield _check(f"{where}/{statement}", "derived", statement, value, best, bool(value > best), rule=rule)
    clips, ours = t4.clip_gflops, t4.method.str.startswith("CT-Net")
    beaten = [
        row
        for row in t4.index[~ours]
        if any(clips[row] >= clips[own] and t4.top1[row] <= t4.top1[own] for own in t4.index[ours])
    ]
    yield _check(
        "A.7/better trade-off than most methods on Kinetics-400",
        "derived",
        "Fig. 5: a better trade-off of GFLOPs per clip and accuracy than most methods",
        f"more than half of {(~ours).sum()}",
        f"{len(beaten)} of {(~ours).sum()}",
        bool(2 * len(beaten) > (~ours).sum()),
        "X3D-XL has fewer GFLOPs and is more accurate than two of the three CT-Nets",
        "methods of Table 4 that some CT-Net matches in accuracy with no more GFLOPs per clip",
    )
    yield from _frames_and_views(t6)
    multi_clip = rivals[rivals.frames.str.contains("x[0-9]+x")]
    below = sum((multi_clip[column] < t3[column]["ct-net-16"]).sum() for column in ("v1_top1", "v2_top1"))
    results = multi_clip[["v1_top1", "v2_top1"]].count().sum()
    yield _check(
        "4.2/16 frames: more accurate than most with several clips",
        "derived",
        "16 frames, one clip: more accurate than most models with several clips",
        f"more than half of {results} results on V1 and V2",
        f"{below} of {results}",
        bool(2 * below > results),
        rule="order of the printed accuracies",
    )
    small = t4[t4.backbone.str.startswith(("2D", "bL"), na=False) & ~t4.backbone.str.contains("R101", na=False)]
    value, best = t4.top1["ct-net-r50-16x3x4"], small.top1.drop("ct-net-r50-16x3x4").max()
    yield _check(
        "4.2/R50: more accurate than all lightweight models on a 2D backbone",
        "derived",
        "R50: more accurate than all lightweight models on a 2D backbone",
        value,
        best,
        bool(value > best),
        "SmallBigNet on a ResNet-101, 77.4 % at 546 GFLOPs for a clip, counts as not lightweight",
        "order of the printed accuracies, of backbones with at most 50 layers",
    )
    flat = published_table("5")
    flat = flat[flat.backbone.str.startswith("2D")]
    for column in ("ucf101", "hmdb51"):
        value, best = flat[column]["ct-net"], flat[column].drop("ct-net").max()
        statement, rule = (
            f"as accurate on {column.upper()} as the best on a 2D ResNet",
            "order of the printed accuracies",
        )
        yield _check(f"A.3/{column}", "derived", statement, value, best, bool(value >= best), rule=rule)
    for row_id, row in t4.to_dict(orient="index").items():
        clip, views, printed = row["clip_gflops"], row["views"], row["gflops"]
        if views is not None:
            slack = views * (0.5 if isinstance(clip, int) else 0.05) + 0.5  # both figures are rounded
            statement = f"Table 4, {row['method']}, {row['frames']}: {clip:g} x {views} = {printed} GFLOPs"
            holds, rule = abs(clip * views - printed) <= slack, "within what the rounding of both figures leaves open"
            yield _check(f"4/{row_id}/views", "derived", statement, printed, clip * views, holds, rule=rule)


def _frames_and_views(printed: pd.DataFrame) -> Iterator[Claim]:
    """What appendix A.4 says of Table 6, on both datasets."""
    columns = {"V1": "v1_top1", "V2": "v2_top1"}
    steps = [
        printed[column][f"{frames}{more}"] > printed[column][f"{frames}{fewer}"]
        for column in columns.values()
        for frames in (8, 12, 16, 24)
        for fewer, more in pairwise(("", "x1x2", "x3x2"))
    ]
    yield _check(
        "A.4/more crops and clips raise accuracy",
        "derived",
        "more clips, and more crops, raise the accuracy of every single network",
        f"{len(steps)} of {len(steps)} steps",
        f"{sum(steps)} of {len(steps)} steps",
        all(steps),
        "of the ensemble on V1 they do not: 56.6 throughout",
        "order of the printed accuracies on V1 and V2",
    )
    gaps = {name: float(printed[column]["24"] - printed[column]["16"]) for name, column in columns.items()}
    yield _check(
        "A.4/24 frames are worse than 16",
        "derived",
        "24 frames are worse than 16",
        "less accurate",
        ", ".join(f"{gap:+.1f} on {name}" for name, gap in gaps.items()),
        max(gaps.values()) < 0,
        "Table 6 prints equal accuracies on V1 and a higher one on V2; with more views, 24 frames are below on V2 only",
        "order of the printed accuracies, one clip",
    )


SECTIONS = ("3.3", "4.1", "4.2", "A.3", "A.4", "A.7")
"""Sections whose text makes claims that are decided here."""


def decide_costs(
    tables: list[str] | None = None, live: bool = False, progress: Callable[[list[Network]], Any] = list
) -> list[Claim]:
    """Decide every claim on costs, receptive fields, special cases, and figures of the text.

    Args:
        tables: only claims on these tables, or of these sections of the text; all claims unless given.
        live: measure all costs again, and keep them, instead of reading `results/cost`.
        progress: wraps the list of networks that are measured or read, for a progress bar.

    Raises:
        ValueError: when a kept result is damaged.
        FileNotFoundError: when a result is missing.
    """
    wanted = set(["1", *ROWS, *SECTIONS] if tables is None else tables)
    chosen = [table for table in ROWS if table in wanted]
    needed = networks([*chosen, *wanted.intersection(IN_TEXT)])
    if live:
        for network in progress(list(needed.values())):
            measure_and_keep(network)
    records = {key: record(network) for key, network in needed.items()}
    costs = {key: content["cost"] for key, content in records.items()}
    stale = {key for key, content in records.items() if is_stale(content)}

    decided: list[Claim] = []
    for table in chosen:
        decided += [*cost_claims(table, costs, stale), *_order_claims(table, costs)]
    if "1" in wanted:
        decided += _field_claims()
    if "3.3" in wanted:
        decided += [*_special_case_claims(), _every_second_block(records)]
    return decided + [claim for claim in _derived_claims() if claim.id.split("/")[0] in wanted]

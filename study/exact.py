"""What can be measured exactly: claims on costs, receptive fields and special cases, each with its verdict."""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from ctnet.analysis import Cost, progressive_fields, receptive_field
from ctnet.models import CTModule, c3d_module, csn_module, network_family, r2plus1d_module
from study.claims import Claim
from study.costs import cost_file, is_stale, measure_and_keep, networks, record, total
from study.experiments import IN_TEXT, NOT_REPRODUCED, PLAIN, ROWS, Network
from study.published import half_a_digit, published_table, row_label
from study.special_cases import SPECIAL_CASES, special_case_difference


def tolerance(published: float) -> float:
    """Largest difference in GFLOPs that counts as reproduced: 0.1, or 0.15 % above 120.

    A figure printed with fewer digits stands for every number that rounds to it.
    """
    return max(0.1 if published <= 120 else 0.0015 * published, half_a_digit(published))


INFERRED = {
    **{
        f"pem-tdloss-{view}": "the backbone TIM alone, without PEM"
        for view in ("8", "16", "8x3x2", "16x3x2", "16x3x10")
    },
    "corrnet-32x1x10": "the stem's 32 channels and the strides were chosen to fit",
    **dict.fromkeys(("ct-net-r101-16x3x4", "ct-net-en-16-16-x3x4"), "the blocks of ResNet-101 were chosen to fit"),
    "ct-net-inceptionv3": "the convolutions of InceptionV3 were chosen to fit",
}
"""Row -> what its network leaves out, or what in it was chosen for the printed cost."""
UNREADABLE = {("6", "8x1x2")}
"""Printed GFLOPs that could not be read, so that there is nothing to hold a measurement against."""
OTHER_FIGURES = {("6", "16x1x2"): ("447 / 3", 149)}
"""Printed GFLOPs that another printed figure contradicts: here that of three times the views, and what it leaves."""


def gmacs_verdict(
    published: float, measured: float, views: int = 1, other: tuple[str, float] | None = None
) -> tuple[str, str]:
    """Verdict on printed GFLOPs, and the arithmetic behind it when they are the paper's slip.

    A slip is a figure outside the tolerance that the paper's own numbers explain: it contradicts another, or it is
    the figure of one clip, rounded first and then multiplied by the views.
    """
    if abs(measured - published) <= tolerance(published):
        return "reproduced", ""
    if other and abs(measured - other[1]) <= tolerance(other[1]):
        return "paper inconsistent", f"another printed figure gives {other[0]} = {other[1]:g}"
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
    listed = ", ".join(f"{name} {count:.2f}" for name, count in counts.items())
    return verdict, nearest, f"{listed}; to the printed digit: {printed_count(published, gmacs, conv_linear_gmacs)}"


def printed_count(published: float, gmacs: float, conv_linear_gmacs: float) -> str:
    """Which count of a peer rounds to its printed GFLOPs, in words: one of the two, "both" or "neither"."""
    counts = {"all operators": gmacs, "convolutions and linear layers": conv_linear_gmacs}
    digits = 0 if isinstance(published, int) else 1
    exact = [name for name, count in counts.items() if round(count, digits) == published]
    return "both" if len(exact) == 2 else exact[0] if exact else "neither"


COLUMNS = {"gflops": "GFLOPs", "clip_gflops": "GFLOPs per clip", "params": "M parameters"}
"""Columns of costs, and what stands behind their numbers."""


def cost_claims(table: str, costs: Mapping[str, Cost], stale: Collection[str] = ()) -> Iterator[Claim]:
    """The printed GFLOPs and parameters of a table, against the costs of its networks.

    Args:
        table: of the paper.
        costs: of every network of the table, under the hash of its configuration.
        stale: hashes of costs that other code than today's has measured.
    """
    printed = published_table(table)
    built, reasons = ROWS.get(table, {}), NOT_REPRODUCED.get(table, {})
    for row_id in (*built, *reasons):
        behind = built[row_id].networks if row_id in built else ()
        for column, unit in COLUMNS.items():
            value = printed.loc[row_id].get(column)
            if value is None:
                continue
            absent = _Found(None, "not reproduced", reasons.get(row_id, ""), PEER_RULE)
            yield Claim(
                f"{table}/{row_id}/{column}",
                "exact",
                f"Table {table}, {row_label(printed, row_id)}: {value} {unit}",
                value,
                *(_compare(table, row_id, column, value, costs) if behind else absent),
                evidence=tuple(f"cost/{cost_file(network).name}" for network in behind),
                stale=any(network.key in stale for network in behind),
            )


class _Found(NamedTuple):
    """What became of a printed cost, as a claim has it."""

    measured: float | None
    verdict: str
    note: str
    rule: str


def _compare(table: str, row_id: str, column: str, value: Any, costs: Mapping[str, Cost]) -> _Found:
    """Hold a printed cost against those of the row's networks."""
    row = ROWS[table][row_id]
    measured, conv_linear, params = total(row, costs)
    views = row.views
    if column == "clip_gflops":
        measured, conv_linear, views = measured / views, conv_linear / views, 1
    if column == "params":
        measured, rule, note = params, "rounds to the printed digit", ""
        verdict = "reproduced" if round(params, 1) == value else "differs"
    elif any(network_family(network.model) != "module" for network in row.networks):
        rule = PEER_RULE
        verdict, measured, note = peer_verdict(value, measured, conv_linear)
    else:
        rule = GMACS_RULE
        verdict, note = gmacs_verdict(value, measured, views, OTHER_FIGURES.get((table, row_id)))
        if (table, row_id) in UNREADABLE:
            verdict, note = "inconclusive", str(published_table(table).loc[row_id]["note"])
    return _Found(measured, verdict, "; ".join(filter(None, (note, INFERRED.get(row_id)))), rule)


def _check(
    id: str, statement: str, published: Any, measured: Any, holds: bool, note: str = "", rule: str = ""
) -> Claim:
    return Claim(id, "exact", statement, published, measured, "reproduced" if holds else "differs", note, rule)


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
        yield _check(f"{table}/text", statement, order, gmacs, holds(gmacs), note, rule)


def _field_claims() -> Iterator[Claim]:
    """Table 1 and the captions of Fig. 1, measured from gradients at C = 64."""
    rule = "where the gradient of one output is not zero"
    channels = 64
    for name, build in (("C3D", c3d_module), ("R(2+1)D", r2plus1d_module), ("CSN", csn_module)):
        field = receptive_field(build(channels), channels)
        measured = "x".join(map(str, field.extent))
        yield _check(f"1/{name}", f"{name}: interact field 3^3", "3x3x3", measured, measured == "3x3x3", rule=rule)
    for k in (1, 2, 3):
        module = CTModule(channels, sizes=k, **PLAIN)
        fields = progressive_fields(module, channels)
        extent = f"{2 * k + 1}x" * 2 + f"{2 * k + 1}"
        measured = "x".join(map(str, fields[-1].extent))
        note = f"the parallel connection reaches {fields[-1].filled:.0%} of the positions in this box"
        statement = f"CT-Module, K = {k}: interact field (2K+1)^3"
        yield _check(f"1/CT K={k}", statement, extent, measured, measured == extent, note, rule)
        reached = [field.channels for field in fields]
        expected = [int(n) for n in torch.tensor(module.sizes).cumprod(0)]
        statement = f"CT-Module, K = {k}: C_1, then C_1 x C_2, ... = C channels interact"
        holds = reached == expected and reached[-1] == channels
        yield _check(f"1/CT K={k} channels", statement, expected, reached, holds, rule=rule)


def _special_case_claims() -> Iterator[Claim]:
    for name, (special_case, definition) in SPECIAL_CASES.items():
        difference = special_case_difference(special_case, definition)
        statement = f"{name} is a special case of the CT-Module (section 3.3): outputs agree to 1e-5"
        rule = "largest difference of the outputs, with the same weights"
        yield _check(f"3.3/{name}", statement, "equal", difference, difference <= 1e-5, rule=rule)


def _every_second_block(records: Mapping[str, dict[str, Any]]) -> Claim:
    """Section 3.3's rule for ResNet-101, against the cost in Table 4."""
    row, published = IN_TEXT["3.3"]["resnet-101"], published_table("4")["clip_gflops"]["ct-net-r101-16x3x4"]
    (network,) = row.networks
    content = records[network.key]
    gmacs = content["cost"].gmacs
    verdict, _ = gmacs_verdict(published, gmacs)
    statement = f"one of every two blocks of ResNet-101, in every stage, costs the {published} GFLOPs of Table 4"
    note = "that is 15 blocks; the 11 blocks that fit the printed cost are an inference"
    evidence, stale = (f"cost/{cost_file(network).name}",), is_stale(content)
    return Claim("3.3/ResNet-101", "exact", statement, published, gmacs, verdict, note, GMACS_RULE, evidence, stale)


def exact_claims(tables: list[str], live: bool, progress: Callable[[list[Network]], Any]) -> list[Claim]:
    """Decide every claim on costs, receptive fields and special cases.

    Args:
        tables: that the claims are on; "3.3" is that section.
        live: measure all costs again, and keep them, instead of reading `results/cost`.
        progress: wraps the list of networks that are measured, for a progress bar.

    Raises:
        ValueError: when a kept result is damaged.
        FileNotFoundError: when a result is missing.
    """
    chosen = [table for table in ROWS if table in tables]
    needed = networks([*chosen, *IN_TEXT.keys() & tables])
    if live:
        for network in progress(list(needed.values())):
            measure_and_keep(network)
    records = {key: record(network) for key, network in needed.items()}
    costs = {key: content["cost"] for key, content in records.items()}
    stale = {key for key, content in records.items() if is_stale(content)}

    decided: list[Claim] = []
    for table in chosen:
        decided += [*cost_claims(table, costs, stale), *_order_claims(table, costs)]
    if "1" in tables:
        decided += _field_claims()
    if "3.3" in tables:
        decided += [*_special_case_claims(), _every_second_block(records)]
    return decided

"""What can be measured exactly: claims on costs, receptive fields and special cases, each with its verdict."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import mul
from typing import Any

from study.claims import Claim
from study.costs import RowCost, cost_file, costs_of, kept
from study.fields import CHANNELS, measure_fields
from study.measured import measured
from study.paper import Network, Row, half_a_digit, table


def tolerance(published: float) -> float:
    """Largest difference in GFLOPs that counts as reproduced: 0.1, or 0.15 % above 120.

    A figure printed with fewer digits stands for every number that rounds to it.
    """
    return max(0.1 if published <= 120 else 0.0015 * published, half_a_digit(published))


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
PARAMS_RULE = "rounds to the printed digit"
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


def cost_claims(name: str, costs: Mapping[str, RowCost]) -> Iterator[Claim]:
    """The printed GFLOPs and parameters of a table, against the costs of its rows' networks.

    Args:
        name: of the table.
        costs: of its rows, from `study.costs.costs_of`.
    """
    for row in table(name).rows.values():
        for column, unit in COLUMNS.items():
            value = row.printed.get(column)
            if value is None or not (row.networks or row.not_measured):
                continue
            theirs = any(network.is_other_method for network in row.networks) or not row.networks
            measured, verdict, note = _compare(row, column, value, costs.get(row.id), theirs)
            yield Claim(
                "cost",
                name,
                row.id,
                column,
                f"Table {name}, {row.label}: {value} {unit}",
                value,
                measured,
                verdict,
                "; ".join(filter(None, (note, row.inferred, row.not_measured))),
                PARAMS_RULE if column == "params" else PEER_RULE if theirs else GMACS_RULE,
                tuple(map(cost_file, row.networks)),
                ("other method",) * theirs + ("fitted",) * bool(row.inferred),
            )


def _compare(row: Row, column: str, value: Any, cost: RowCost | None, theirs: bool) -> tuple[float | None, str, str]:
    """What was measured for a printed cost, the verdict, and a note."""
    if cost is None:
        return None, "not reproduced", ""
    measured = cost.column(column)
    if column == "params":
        return measured, "reproduced" if round(measured, 1) == value else "differs", ""
    counted = cost.clip if column == "clip_gflops" else cost
    if theirs:
        verdict, measured, note = peer_verdict(value, counted.gmacs, counted.conv_linear_gmacs)
    elif column in row.unreadable:
        verdict, note = "inconclusive", row.note
    else:
        verdict, note = gmacs_verdict(value, measured, counted.views, row.other_figure)
    return measured, verdict, note


def _check(
    table: str,
    subject: str,
    statement: str,
    published: Any,
    measured: Any,
    holds: bool,
    note: str = "",
    rule: str = "",
    topics: tuple[str, ...] = (),
) -> Claim:
    verdict = "reproduced" if holds else "differs"
    return Claim("exact", table, subject, "", statement, published, measured, verdict, note, rule, topics=topics)


def _order_claims(name: str, costs: Mapping[str, RowCost]) -> Iterator[Claim]:
    if told := table(name).costs:
        named = {row for pair in told.dearer for row in pair}
        gmacs = {row: round(cost.gmacs, 2) for row, cost in costs.items() if row in named}
        holds = all(gmacs[dear] > gmacs[cheap] for dear, cheap in told.dearer)
        rule = "order of the costs measured at full size"
        yield _check(name, "text", told.statement, told.order, list(gmacs.values()), holds, told.note, rule)


_FIELD_CODE = ("ctnet/models", "ctnet/analysis/fields.py", "study/fields.py", "study/paper.py")
_CASE_CODE = ("ctnet/models", "study/special_cases.py")


def _field_claims() -> Iterator[Claim]:
    """Table 1 and the captions of Fig. 1, measured from gradients at C = 64."""
    rule = "where the gradient of one output is not zero"
    found = measured("fields", measure_fields, _FIELD_CODE)
    for name in ("C3D", "R(2+1)D", "CSN"):
        extent = "x".join(map(str, found[name]["extent"]))
        yield _check("1", name, f"{name}: interact field 3^3", "3x3x3", extent, extent == "3x3x3", rule=rule)
    for k in (1, 2, 3):
        field = found[f"CT K={k}"]
        expected, extent = f"{2 * k + 1}x" * 2 + f"{2 * k + 1}", "x".join(map(str, field["extent"]))
        note = f"the parallel connection reaches {field['filled']:.0%} of the positions in this box"
        statement = f"CT-Module, K = {k}: interact field (2K+1)^3"
        yield _check("1", f"CT K={k}", statement, expected, extent, extent == expected, note, rule)
        reached, products = field["channels"], list(accumulate(field["sizes"], mul))
        statement = f"CT-Module, K = {k}: C_1, then C_1 x C_2, ... = C channels interact"
        holds = reached == products and reached[-1] == CHANNELS
        yield _check("1", f"CT K={k} channels", statement, products, reached, holds, rule=rule)


_CASE_NOTES = {
    "C3D": "in the coupled connection",
    "R(2+1)D": "in the coupled connection, with C1 = C2 = C as listed, which do not multiply to C",
    "CSN": "in the coupled connection; a ReLU stands between its convolutions, which its own paper has not",
}


def _special_case_claims() -> Iterator[Claim]:
    for name, difference in measured("special-cases", _special_cases, _CASE_CODE).items():
        statement = f"{name} is a special case of the CT-Module (section 3.3): outputs agree to 1e-5"
        rule = "largest difference of the outputs, with the same weights"
        holds, note = difference <= 1e-5, _CASE_NOTES[name]
        yield _check("3.3", name, statement, "equal", difference, holds, note, rule, ("special cases",))


def _special_cases() -> dict[str, float]:
    from study.special_cases import SPECIAL_CASES, special_case_difference

    return {name: special_case_difference(*pair) for name, pair in SPECIAL_CASES.items()}


EVERY_SECOND_BLOCK = Network("ctnet_r101", {"blocks": "odd"}, frames=16, classes=400)
"""Section 3.3's rule for ResNet-101, which no table has."""


def _every_second_block() -> Claim:
    """Section 3.3's rule for ResNet-101, against the cost in Table 4."""
    published, gmacs = table("4").rows["ct-net-r101-16x3x4"].printed["clip_gflops"], kept(EVERY_SECOND_BLOCK).gmacs
    verdict, _ = gmacs_verdict(published, gmacs)
    statement = f"one of every two blocks of ResNet-101, in every stage, costs the {published} GFLOPs of Table 4"
    note = "that is 15 blocks; the 11 blocks that fit the printed cost are an inference"
    evidence = (cost_file(EVERY_SECOND_BLOCK),)
    return Claim(
        "exact", "3.3", "ResNet-101", "", statement, published, gmacs, verdict, note, GMACS_RULE, evidence, ("4",)
    )


def networks_of(tables: Iterable[str]) -> dict[str, Network]:
    """Every network whose cost some tables or sections need, once, under the hash of its configuration."""
    found: dict[str, Network] = {}
    for name in tables:
        found |= {EVERY_SECOND_BLOCK.key: EVERY_SECOND_BLOCK} if name == "3.3" else table(name).networks
    return found


def exact_claims(tables: list[str]) -> list[Claim]:
    """Decide every claim on costs, receptive fields and special cases.

    Args:
        tables: that the claims are on; "3.3" is that section.

    Raises:
        ValueError: when a kept result is damaged.
        FileNotFoundError: when a result is missing.
    """
    decided: list[Claim] = []
    for name in tables:
        if name == "3.3":
            decided += [*_special_case_claims(), _every_second_block()]
            continue
        costs = costs_of(table(name).rows)
        decided += [*cost_claims(name, costs), *_order_claims(name, costs)]
        if name == "1":
            decided += _field_claims()
    return decided

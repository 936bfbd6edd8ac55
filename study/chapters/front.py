"""The first screen of the book: what was found in numbers, and something to play with."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

from IPython.display import HTML

from study.chapters.diagrams import draw_tensorization
from study.chapters.explorers import drawn, receptive_fields
from study.chapters.verdicts import ANSWERS, verdict_bar
from study.claims import HOLDS, Claim
from study.directions import decide_together, directions
from study.paper import text_claims
from study.runs import outcome, runs_of


def numbers(decided: Sequence[Claim]) -> dict[str, int | str]:
    """The numbers that the first page tells, by the names that its text has for them.

    Args:
        decided: all claims, as `study.ledger.claims` returns them.
    """
    kinds = {kind: [claim for claim in decided if claim.kind == kind] for kind in ("derived", "direction", "full size")}
    costs = [claim for claim in decided if claim.kind == "cost"]
    own = [claim for claim in costs if "other method" not in claim.topics]
    theirs = [claim for claim in costs if "other method" in claim.topics]
    names = {claim.id for claim in kinds["direction"]}
    ordered = Counter(claim.verdict for claim in kinds["direction"])
    strictly = Counter(decide_together(directions()))
    return {
        "own": len(own),
        "own_held": _held(own),
        "theirs": len(theirs),
        "theirs_held": _held(theirs),
        "fitted": sum("fitted" in claim.topics and claim.verdict in HOLDS for claim in costs),
        "derived": len(kinds["derived"]),
        "derived_held": _held(kinds["derived"]),
        "derived_products": sum(claim.column == "views" for claim in kinds["derived"]),
        "accuracies": len(kinds["full size"]),
        "accuracies_run": (tested := sum(claim.verdict != "not run here" for claim in kinds["full size"])),
        "accuracies_answer": f"{tested} of {len(kinds['full size'])} were measured." if tested else "Not measured.",
        "accuracies_measured": f"{tested} accurac{'y' if tested == 1 else 'ies'}" if tested else "no accuracy",
        "directions": len(kinds["direction"]),
        "directions_told": len({name for text in text_claims() for name in text["decided_by"]} & names),
        "supported": ordered["supported"],
        "contradicted": ordered["contradicted"],
        "equivalent": ordered["equivalent"],
        "strictly_supported": strictly["supported"],  # corrected over all directions at once
        "strictly_contradicted": strictly["contradicted"],
        "second_looks": sum(direction.look == 2 for direction in directions()),
        "undecided": sum(ordered[verdict] for verdict in ANSWERS["undecided"]),
        "runs": sum(outcome(name) is not None for name in runs_of()),
        "version": version("ctnet"),
    }


def _held(claims: Sequence[Claim]) -> int:
    return sum(claim.verdict in HOLDS for claim in claims)


def bars(decided: Sequence[Claim]) -> dict[str, HTML]:
    """A bar for each question of the first page: on "costs", "orders" and "accuracies"."""
    return {
        "costs": verdict_bar([claim for claim in decided if claim.kind == "cost"]),
        "orders": verdict_bar([claim for claim in decided if claim.kind == "direction"]),
        "accuracies": verdict_bar([claim for claim in decided if claim.kind == "full size"]),
    }


def idea() -> HTML:
    """The receptive field that grows over the channel grid, to play with."""
    return receptive_fields(fields_picture(), compact=True)


def fields_picture() -> str:
    """What stands in place of the explorer of receptive fields where scripts do not run."""
    from ctnet.analysis import progressive_fields
    from ctnet.models import CTModule
    from study.paper import PLAIN

    module = CTModule(16, sizes=2, **PLAIN)
    figure = draw_tensorization(module.sizes, progressive_fields(module, channels=16))  # type: ignore[arg-type]
    return drawn(figure, "Two sub-operations along a grid of 4 x 4 channels, and the positions that each has reached.")

"""Filing the scores of full-scale runs, as `ctnet test --scores` keeps them, as accuracies of the paper's rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctnet.engine import Recipe, Scores, View, fuse
from ctnet.engine.evaluation import data_identity
from ctnet.engine.recipe import EXECUTION, REPAIRS
from ctnet.errors import did_you_mean
from study.fullscale import SEVERAL_CLIPS, Target, wilson
from study.paper import all_rows, table
from study.runs import USUAL
from study.store import write


def record(files: Sequence[Path], name: str) -> Path:
    """File kept scores, of one network or of an ensemble, as the accuracy of a row of the paper.

    Args:
        files: that `ctnet test --scores` wrote.
        name: table and row, such as "3/ct-net-8x3x2".

    Returns:
        The file under `results/full-scale`.

    Raises:
        FileNotFoundError: when there are no such scores.
        ValueError: when scores do not tell where they come from, or are not those of that very row.
    """
    kept = [Scores.load(path) for path in files]
    recipes = [_recipe(path, scores) for path, scores in zip(files, kept, strict=True)]
    about = [scores.about for scores in kept]
    views = sorted({each["view"] for each in about})
    if len(views) > 1:
        raise ValueError(f"a row is about one view, and these are scores of {' and '.join(views)}")
    averages = sorted({each.get("average", "probabilities") for each in about})
    if len(averages) > 1:
        raise ValueError(f"the members average views differently, by {' and '.join(averages)}: test all alike")
    target = find_target(name, recipes, View.parse(views[0]), {field for each in about for field in each["changed"]})
    scores = fuse(kept)
    target.check_videos(len(scores.classes), len(scores.labels))
    shares = {f"top{k}": scores.accuracy(k) for k in (1, 5)}
    content = {
        **asdict(target),
        "view": views[0],
        "average": averages[0],
        "videos": len(scores.labels),
        "metrics": shares,
        "interval": {metric: wilson(share, len(scores.labels)) for metric, share in shares.items()},
        "networks": [{"weights": each["weights"], "recipe": each["recipe"]} for each in about],
        "precision": " + ".join(sorted({each["precision"] for each in about})),
        "provenance": {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(sum(each["seconds"] for each in about), 2),
            "behaviour": _behaviour(about),
            "versions": about[0]["versions"],
            "devices": " + ".join(sorted({each["devices"] for each in about})),
        },
    }
    return write(target.file, content)


def _recipe(path: Path, scores: Scores) -> Recipe:
    """The recipe of the network that scores are of; raises ValueError when they do not tell all that a row needs."""
    needed = (
        "weights",
        "recipe",
        "changed",
        "view",
        "precision",
        "devices",
        "seconds",
        "versions",
        "behaviour",
        "data",
    )
    if any(key not in scores.about for key in needed):
        raise ValueError(f"{path} does not tell how its network was trained and tested: use `ctnet test --scores`")
    if scores.about["data"] != data_identity(scores):
        raise ValueError(f"{path} holds scores of other videos than were tested")
    return Recipe(**scores.about["recipe"])


def _behaviour(about: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Versions of behaviour that the scores of all members were made by; raises ValueError when they differ."""
    found: dict[str, Any] = {}
    networks: dict[str, int] = {}
    for each in about:
        parts = {part: version for part, version in each["behaviour"].items() if part != "networks"}
        if found and parts != found:
            raise ValueError("the members of the ensemble were tested by different versions: test all with one")
        found = parts
        networks |= each["behaviour"]["networks"]
    return found | {"networks": networks}


def find_target(name: str, recipes: Sequence[Recipe], view: View, changed: Iterable[str] = ()) -> Target:
    """The row that a test of networks fills, which must be a test of that very row.

    Args:
        name: table and row, such as "3/ct-net-8x3x2".
        recipes: that trained the networks, one or those of an ensemble.
        view: how videos are looked at.
        changed: fields of the recipes that are others than in training.

    Raises:
        ValueError: for an unknown row, or one that is about other networks, another dataset or other views.
    """
    if others := set(changed) - EXECUTION - REPAIRS - {"test_size"}:
        raise ValueError(f"a row takes networks as they were trained: test without {', '.join(sorted(others))}")
    known = {f"{row.table}/{row.id}": row for row in all_rows() if row.networks}
    if name not in known:
        raise ValueError(f"no row {name!r} that a run could fill; {did_you_mean(name, known)}")
    row = known[name]

    def wrong(what: str, there: object, here: object) -> ValueError:
        return ValueError(f"row {name} is about {what} {there}, and this is a test of {here}")

    datasets = {column.dataset for column in table(row.table).accuracies.values()}
    found = {recipe.dataset for recipe in recipes}
    if len(found) != 1 or not found <= datasets:
        raise wrong("the dataset", " or ".join(sorted(map(str, datasets))), " and ".join(sorted(found)))
    theirs = [_network(n.model, n.options, n.frames, n.size) for n in row.networks]
    ours = [_network(r.model, r.options, r.frames, view.size or r.eval_size) for r in recipes]
    if sorted(theirs) != sorted(ours):
        raise wrong("the network", " + ".join(theirs), " + ".join(ours))
    sides, trained = {recipe.size for recipe in recipes}, row.printed.get("train")
    if trained is not None and sides != {trained}:
        raise wrong("training at", f"{trained} pixels", " + ".join(map(str, sorted(sides))))
    looked = f"{view.crops}x{view.clips}"
    if (row.table, *found) in SEVERAL_CLIPS:
        if looked == "1x1":
            raise wrong("crops x clips", "of more than 1x1", looked)
    elif looked != row.view:
        raise wrong("crops x clips", row.view, looked)
    return Target(row.table, row.id, found.pop())


def _network(model: str, options: Mapping[str, Any], frames: int, size: int) -> str:
    """A network in words; what it has anyway is not told, so that equal ones are called the same."""
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    named = [f"{name} {value}" for name, value in sorted(told.items()) if value != USUAL.get(name)]
    words = [f"{frames} frames", f"{size} pixels", *named]
    return f"{model} ({', '.join(words)})"

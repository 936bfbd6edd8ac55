"""Words that errors have in common."""

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is like `name`, whatever its case, as "did you mean 'lr'?"; what there is if none is."""
    by_lower = {each.lower(): each for each in known}
    holding = [each for each in by_lower if name.lower() in each] if len(name) > 1 else []
    nearest = difflib.get_close_matches(name.lower(), holding or by_lower, n=1, cutoff=0 if holding else 0.5)
    if nearest:
        return f"did you mean {by_lower[nearest[0]]!r}?"
    if len(by_lower) > 40:
        return "none is like it."
    return f"there are {', '.join(by_lower.values())}." if by_lower else ""


def some(items: Sequence[str], most: int = 5) -> str:
    """The first of some items, and how many more there are: "a; b and 3 more"."""
    return "; ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def printable(text: str) -> str:
    """A text in one line, with signs that are no text, such as bytes of a name that is not in UTF-8, written out."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())

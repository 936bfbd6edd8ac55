"""Words that errors have in common."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, whatever its case, as "did you mean 'lr'?"; "" if none is known."""
    by_lower = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0)
    return f"did you mean {by_lower[nearest[0]]!r}?" if nearest else ""

"""Tells in every table which cells are headings of columns and which of rows, as readers of screens need to know."""

import re
from typing import Any

from sphinx.application import Sphinx


def scoped(html: str) -> str:
    """HTML in which every heading of a table has a scope: of columns in the head of the table, of rows below it."""
    parts = re.split(r"(</?thead\b[^>]*>)", html)
    inside = False
    for place, part in enumerate(parts):
        if part.startswith(("<thead", "</thead")):
            inside = part.startswith("<thead")
        else:
            parts[place] = re.sub(r"<th\b(?![^>]*\bscope=)", f'<th scope="{"col" if inside else "row"}"', part)
    return "".join(parts)


def _scope(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if "body" in context:
        context["body"] = scoped(context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.connect("html-page-context", _scope)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

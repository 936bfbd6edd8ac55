"""Tells readers of screens what Sphinx leaves out: which cells of a table are headings, and of what."""

import re
from typing import Any

from sphinx.application import Sphinx


def accessible(html: str) -> str:
    """HTML whose headings of tables have a scope: of columns in the head of a table, of rows below it.

    The bibliography is no list in name alone: its entries have a role of their own, which a list must not hold.
    """
    parts = re.split(r"(</?thead\b[^>]*>)", html.replace('<div role="list" class="citation-list">', "<div>"))
    inside = False
    for place, part in enumerate(parts):
        if part.startswith(("<thead", "</thead")):
            inside = part.startswith("<thead")
        else:
            parts[place] = re.sub(r"<th\b(?![^>]*\bscope=)", f'<th scope="{"col" if inside else "row"}"', part)
    return "".join(parts)


def _improve(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if "body" in context:
        context["body"] = accessible(context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.connect("html-page-context", _improve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

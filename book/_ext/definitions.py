"""Shows a word's definition when a reader points at it: links to the glossary get it as their title."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "glossary"


def _definitions(app: Sphinx) -> dict[str, str]:
    """Definition of each word by the anchor that links lead to."""
    if GLOSSARY not in app.env.found_docs:
        return {}
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        text = " ".join(part.astext() for part in item.findall(nodes.definition)).replace("\n", " ")
        found |= {anchor: text for term in item.findall(nodes.term) for anchor in term["ids"]}
    return found


def _explain(app: Sphinx, doctree: nodes.document, page: str) -> None:
    links = [link for link in doctree.findall(nodes.reference) if "term-" in str(link.get("refuri", ""))]
    if links and page != GLOSSARY:
        known = _definitions(app)
        for link in links:
            if text := known.get(link["refuri"].partition("#")[2]):
                link["reftitle"] = text


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the build."""
    app.connect("doctree-resolved", _explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

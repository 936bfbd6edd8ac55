"""Labels the bibliography as the chapters cite it, by author and year, and leaves numbers of figures to the paper."""

from collections.abc import Iterable
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


class AuthorYear(BaseLabelStyle):
    """Labels such as "Li et al., 2021"; the years of a bibliography's file tell two papers of one year apart."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterable[str]:
        """A label for each entry."""
        for entry in sorted_entries:
            names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
            several = {1: names[0], 2: " and ".join(names[:2])}
            yield f"{several.get(len(names), f'{names[0]} et al.')}, {entry.fields['year']}"


class Style(Plain):
    """The plain style, with these labels, sorted by them."""

    default_sorting_style = "author_year_title"
    default_label_style = AuthorYear


def _number_no_figures(app: Sphinx, config: Any) -> None:
    config.numfig = False  # "Figure 3" is the paper's; Jupyter Book has another extension turn this on


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the style known."""
    register_plugin("pybtex.style.formatting", "author_year", Style)
    app.connect("config-inited", _number_no_figures, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

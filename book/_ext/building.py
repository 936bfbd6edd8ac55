"""Builds the book from what changed, and publishes it when it is whole; `study.building` does the work.

Before Sphinx reads a page, the chapters whose inputs changed are executed, side by side, into a cache that myst-nb
takes their outputs from. Sphinx works in a folder of its own, whose pages replace the published ones at the end.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

try:
    from ctnet.processes import cores
    from study.building.book import Book
    from study.building.execution import report
except ModuleNotFoundError as error:
    raise ExtensionError(
        f"{error}: the book is built in a clone, from an installation that follows it: `make book`, or "
        "`pip install --constraint constraints.txt --editable '.[book]'`"
    ) from error

LOGGER = logging.getLogger(__name__)


class Build:
    """One build of a book; its methods are called as Sphinx goes along."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.changed: set[str] = set()
        self.states: dict[str, str] = {}

    def execute(self, app: Sphinx) -> None:
        """Execute the chapters whose inputs changed; when one fails, say which and end."""
        if self.publishes(app):
            app.outdir = app.builder.outdir = type(app.outdir)(self.book.pages.html)
        Path(app.outdir).mkdir(parents=True, exist_ok=True)
        jobs = cores()
        if app.config.measure_first:
            import_module(app.config.measure_first).measure_all(jobs, LOGGER.info)
        chapters = self.book.chapters
        if names := chapters.outdated():
            LOGGER.info(f"executing {len(names)} of {len(chapters.sources)} chapters, {jobs} side by side")
        if failures := chapters.execute(names, jobs, LOGGER.info, app.config.kernels_import):
            sys.stdout.flush()
            print(report(failures), file=sys.stderr, flush=True)
            raise SystemExit(1)
        self.states = self.book.states()  # what is saved from now on counts as changed in the next build
        self.changed = self.book.changed(self.states)
        self.book.pages.begin()

    def publishes(self, app: Sphinx) -> bool:
        """Whether this makes the pages; others, such as `linkcheck`, have what jupyter-book tells of the same folder.

        They leave the folder of work without its mark, so that the next build renders and publishes all pages.
        """
        return app.builder.name == "html"

    def outdated(self, app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> Iterable[str]:
        """Pages to be read again."""
        return self.changed & env.found_docs

    def rewritten(self, app: Sphinx, env: Any) -> Iterable[str]:
        """Pages to be written: all when one changed, for each shows the titles of others."""
        return env.found_docs if self.changed else ()

    def publish(self, app: Sphinx, exception: Exception | None) -> None:
        """Replace the published pages, unless the build failed."""
        if exception is None and self.publishes(app):
            self.book.pages.publish(self.book.shared, self.states, anew=bool(self.changed))
            app.outdir = type(app.outdir)(self.book.pages.published)  # what Sphinx says last
        self.book.pages.close()


def _begin(app: Sphinx, config: Any) -> None:
    """Turn a build of `_build/html` into one that publishes there; one of a single page, or elsewhere, is plain."""
    root = Path(app.srcdir).parent.resolve()
    if Path(app.outdir).resolve() != root / "_build" / "html":
        return
    book = Book(root)
    book.pages.open(book.shared, LOGGER.info)
    app.doctreedir = type(app.doctreedir)(book.pages.doctrees)
    config.nb_execution_mode = "cache"
    config.nb_execution_cache_path = str(book.chapters.folder / "cache")
    build = Build(book)
    app.connect("builder-inited", build.execute, priority=1)
    app.connect("env-get-outdated", build.outdated)
    app.connect("env-updated", build.rewritten)
    app.connect("build-finished", build.publish, priority=1000)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.add_config_value("measure_first", "", "", (str,))
    app.add_config_value("kernels_import", [], "", (list,))
    app.connect("config-inited", _begin, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A book as it is built: its chapters, what its pages are rendered from, and whether they are those of today."""

from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml

from study.building.execution import Chapters
from study.building.inputs import Places, environment, repository, tree_state
from study.building.pages import Pages
from study.measured import measured_dir
from study.store import results_dir

_KINDS = (".ipynb", ".md")


class Book:
    """A book in a clone: `_config.yml` in its root, sources in `book`, pages in `_build/html`.

    Args:
        root: of the clone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        source, build = self.root / "book", self.root / "_build"
        listed = [(name, source / f"{name}{kind}") for name in parse_toc_yaml(source / "_toc.yml") for kind in _KINDS]
        self.files = {name: path for name, path in listed if path.is_file()}
        packages = [Path(str(found.origin)).parent for name in ("ctnet", "study") if (found := find_spec(name))]
        roots = [self.root, *(package.parent.resolve() for package in packages), results_dir().resolve()]
        self._places = Places(tuple(dict.fromkeys(roots)), results_dir().resolve(), measured_dir().resolve(), build)
        others = [path for path in sorted(source.iterdir()) if path not in self.files.values()]
        self._environment = environment()
        state = tree_state([*others, self.root / "_config.yml", *packages])
        self.shared = f"{self._environment} {state} {repository(self.root)}"
        self.pages = Pages(build / "html")

    @cached_property
    def chapters(self) -> Chapters:
        """The chapters with code, and what is known of their last execution when this is first asked for."""
        notebooks = {name: path for name, path in self.files.items() if path.suffix == ".ipynb"}
        return Chapters(self.root / "_build" / "chapters", notebooks, self._places, self.root, self._environment)

    def states(self) -> dict[str, str]:
        """What each page is rendered from: its source, and what the last execution of its chapter gave."""
        return {
            name: f"{tree_state([path])} {self.chapters.outputs(name) if path.suffix == '.ipynb' else ''}"
            for name, path in self.files.items()
        }

    def changed(self, states: Mapping[str, str]) -> set[str]:
        """Pages that have to be rendered again, to be of some states."""
        rendered = self.pages.rendered()
        return {name for name, state in states.items() if rendered.get(name) != state}

    def lacks(self) -> str:
        """What the published pages lack to be a whole book of today's sources, code and results; empty when nothing."""
        if not self.pages.published.is_dir():
            return "the book is not built"
        if not self.pages.is_whole():
            return "the last build of the book did not go through"
        if not self.pages.is_whole(self.shared):
            return "the book was built from other code or packages"
        changed = sorted(self.changed(self.states()) | set(self.chapters.outdated()))
        return f"{', '.join(changed)} changed since the book was built" if changed else ""

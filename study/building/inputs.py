"""What a chapter has read, what pages tell of the clone, and whether it is today what it was then."""

import hashlib
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import source_from_cache
from pathlib import Path

from packaging.requirements import Requirement

from study.measured import value_state

ABSENT = "absent"
CHANGED = "changed while the chapter ran"


@dataclass(frozen=True)
class Places:
    """Where chapters read what they depend on.

    Attributes:
        roots: folders whose files count: the clone, that of the packages, that of the results.
        results: folder of the results.
        measured: folder of `study.measured`.
        build: folder that the book is built in; nothing in it counts but what is measured.
    """

    roots: tuple[Path, ...]
    results: Path
    measured: Path
    build: Path
    _digests: dict[tuple[Path, int, int], str] = field(default_factory=dict)

    def states(self, log: Iterable[str], started: float | None = None) -> dict[str, str]:
        """The state of everything that a chapter has read, by its path.

        Args:
            log: lines of `study.building.recording`.
            started: when the chapter was started; what has changed since is `CHANGED`, a state that nothing has.
        """
        found: dict[str, str] = {}
        for line in log:
            kind, _, name = line.rstrip("\n").partition("\t")
            if counted := self._counted(kind, Path(name)):
                found[counted] = self.state(counted)
        if any(Path(name.partition(" ")[2]).is_relative_to(self.results) for name in found):
            found["results"] = self.state("results")
        if started is not None:
            for name, state in found.items():
                if state != ABSENT and self._changed(name) >= started:
                    found[name] = CHANGED
        return found

    def _changed(self, name: str) -> float:
        """When a file, or the names in a folder of results, last changed; infinity while they do.

        Folders of code change with the bytecode that is kept in them. What is imported from them are files.
        """
        kind, _, path = name.partition(" ")
        paths = [Path(path)] if kind == "file" or Path(path).is_relative_to(self.results) else []
        if name == "results":
            paths = [self.results, *(folder for folder in self.results.rglob("*") if folder.is_dir())]
        try:
            return max((path.stat().st_ctime for path in paths if kind != "measured"), default=0.0)
        except OSError:  # a run has just written its file
            return math.inf

    def unchanged(self, states: Mapping[str, str]) -> bool:
        """Whether everything is in the state that it was in."""
        return all(self.state(name) == state for name, state in states.items())

    def _counted(self, kind: str, path: Path) -> str | None:
        """The name of an input; None for what does not count: caches, and what is neither code nor result."""
        if path.is_relative_to(self.measured):
            return f"measured {path}" if path.suffix == ".json" and kind == "file" else None
        within = min((path.relative_to(r).parts for r in self.roots if path.is_relative_to(r)), key=len, default=())
        if path.is_relative_to(self.build) or not {".venv", ".git", "site-packages"}.isdisjoint(within):
            return None
        if path.suffix == ".pyc":
            try:
                path = Path(source_from_cache(str(path)))
            except ValueError:
                return None
        return f"{kind} {path}"

    def state(self, name: str) -> str:
        """The state of an input: a hash of a file's content, of a folder's names, or of a measured value."""
        if name == "results":
            return self._results()
        kind, _, path = name.partition(" ")
        if kind == "measured":
            return value_state(Path(path))
        return self._file(Path(path)) if kind == "file" else self._folder(Path(path))

    def _file(self, path: Path) -> str:
        try:
            status = path.stat()
            key = path, status.st_mtime_ns, status.st_size
            if key not in self._digests:
                self._digests[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._digests[key]
        except OSError:
            return ABSENT

    def _folder(self, path: Path) -> str:
        """Of a folder of results all names count, of another one those that an import could mean."""
        try:
            found = sorted(path.iterdir())
        except OSError:
            return ABSENT
        if not path.is_relative_to(self.results):
            found = [each for each in found if each.suffix == ".py" or (each / "__init__.py").is_file()]
        return _hash(each.name for each in found)

    def _results(self) -> str:
        """All names of results: a chapter may ask whether one is there. And the weights, which are read unseen."""
        found = []
        for folder, folders, files in os.walk(self.results, followlinks=True):  # what is gone meanwhile has no files
            folders[:] = [name for name in folders if not name.startswith(".")]  # in which runs write what is not whole
            found += [Path(folder, name) for name in files if not name.startswith(".")]
        return _hash(
            f"{path.relative_to(self.results)} {'' if path.suffix == '.json' else self._file(path)}"
            for path in sorted(found)
        )


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def environment() -> str:
    """Hash of what every chapter depends on: Python, the packages of a book, and how chapters are executed."""
    own = [path.read_text() for path in sorted(Path(__file__).parent.rglob("*.py"))]
    return _hash([platform.python_version(), os.environ.get("CTNET_RESULTS", ""), *packages("ctnet[book]"), *own])


def packages(wanted: str) -> list[str]:
    """A package and all that it needs, directly or not, as far as they are installed: names with versions.

    Whatever else is installed reaches no page, such as what only tests need.
    """
    found: dict[tuple[str, str], str] = {}
    left = [Requirement(wanted)]
    while left:
        asked = left.pop()
        for extra in {"", *asked.extras} - {extra for name, extra in found if name == asked.name}:
            try:
                package = distribution(asked.name)
            except PackageNotFoundError:
                continue
            found[asked.name, extra] = f"{package.metadata['Name']}=={package.version}"
            needs = map(Requirement, package.requires or ())
            left += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return sorted(set(found.values()))


def tree_state(paths: Iterable[Path]) -> str:
    """Hash of some files, and of all files in some folders, by name and content; caches and hidden files left out."""
    lines = []
    for place in paths:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            within = path.relative_to(place.parent).parts
            if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in within):
                lines.append(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return _hash(lines)


def commit(root: Path) -> str:
    """The commit of a clone, "+" behind it when files differ from it; empty outside a clone."""
    return _git(root, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+")


@dataclass(frozen=True)
class Repository:
    """A public repository on GitHub.

    Attributes:
        name: "owner/name".
        branch: that is checked out in the clone.
    """

    name: str
    branch: str

    @property
    def address(self) -> str:
        """Of its page, and to clone it from."""
        return f"https://github.com/{self.name}"


def repository(root: Path) -> Repository | None:
    """Where a clone comes from: its remote "origin"; None if that is not on GitHub, or no branch is checked out."""
    origin = re.fullmatch(
        r"(?:https://(?:[^@/]+@)?|(?:ssh://)?git@)github\.com[/:]([^/]+/[^/]+?)(?:\.git)?/?",
        _git(root, "remote", "get-url", "origin"),
    )
    branch = _git(root, "branch", "--show-current")
    return Repository(origin[1], branch) if origin and branch else None


def _git(root: Path, *arguments: str) -> str:
    """What git says of a clone; empty when it fails, or is not there."""
    run = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

"""Pages that are never half: rendered into a folder of work, and published by a rename when all of them are whole."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ctnet.files import write_text

WHOLE = "whole.json"


class Pages:
    """The published pages of a book, and the folder in which the next ones are rendered.

    The folder of work is used again, so that only what changed is read again. A mark tells that its last build went
    through: without it, after a kill or a failure, the folder is begun anew.

    Args:
        published: folder of the pages that are read; the work lies beside it.
    """

    def __init__(self, published: Path) -> None:
        self.published = published
        self.work = published.with_name("work")
        self.html, self.doctrees = self.work / "html", self.work / "doctrees"
        self._old, self._new = (published.with_name(f".{published.name}-{name}") for name in ("old", "new"))
        self._lock = FileLock(published.with_name(".lock"))

    def open(self, shared: str, tell: Callable[[str], object] = print) -> None:
        """Make the folder of work ready; another process that builds the same book is waited for.

        Args:
            shared: state of what all pages depend on; where it differs from the last one, all are rendered anew.
            tell: takes a line when there is such a process.
        """
        self.published.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            tell("another process builds this book: waiting until it has ended")
            self._lock.acquire()
        if self.published.is_dir() and not any(self.published.iterdir()):
            self.published.rmdir()
        if self._old.is_dir() and not self.published.is_dir():
            self._old.rename(self.published)  # a publication was cut off between its two renames
        shutil.rmtree(self._old, ignore_errors=True)
        if not self.is_whole(shared):
            shutil.rmtree(self.work, ignore_errors=True)
        self.html.mkdir(parents=True, exist_ok=True)

    def is_whole(self, shared: str | None = None) -> bool:
        """Whether the last build went through, and with this state of what all pages depend on, if it is given."""
        mark = self._mark()
        return "shared" in mark and shared in (None, mark["shared"])

    def rendered(self) -> dict[str, str]:
        """The state of every page in the folder of work, as `publish` was told it."""
        pages: dict[str, str] = self._mark().get("pages", {})
        return pages

    def begin(self) -> None:
        """Take the mark away: from here on the folder of work is neither the old pages nor the new."""
        (self.work / WHOLE).unlink(missing_ok=True)

    def publish(self, shared: str, pages: Mapping[str, str], anew: bool = True) -> None:
        """Replace the published pages by those in the folder of work, and mark that as whole.

        Args:
            shared: as `open` was told.
            pages: the state of every page, for `rendered` to tell the next build.
            anew: whether any page was rendered; otherwise they are published only where some are lost.
        """
        if anew or self._lost():
            shutil.rmtree(self._new, ignore_errors=True)
            shutil.copytree(self.html, self._new)
            if self.published.is_dir():
                self.published.rename(self._old)
            self._new.rename(self.published)
            shutil.rmtree(self._old, ignore_errors=True)
        write_text(self.work / WHOLE, json.dumps({"shared": shared, "pages": dict(pages)}))

    def _lost(self) -> bool:
        """Whether something that was published is not there any more."""
        return any(not (self.published / path.relative_to(self.html)).exists() for path in self.html.rglob("*"))

    def close(self) -> None:
        """Let another process build."""
        self._lock.release()

    def _mark(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.work / WHOLE).read_text())
            return content
        except (OSError, ValueError):
            return {}

"""Work shared out to processes that may hang or die: each item has its time, and a process that fails is replaced."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ctnet.errors import printable
from ctnet.processes import importing_once


def results(
    work: Callable[[Path], str | None], paths: Sequence[Path], workers: int, seconds: float
) -> Iterator[tuple[Path, str | None]]:
    """Call `work` with every path; yields (path, result) as they come.

    Args:
        work: can be pickled.
        paths: what to work on.
        workers: number of processes, at least 1.
        seconds: for one path. Where they are over, or the process ends, the result tells so.

    Raises:
        RuntimeError: when a process ends before it begins to work, which is no path's fault.
    """
    left = iter(paths)
    running = [_Worker(work, path, seconds) for path in islice(left, workers)]
    try:
        while running:
            deadline = min(worker.deadline for worker in running)
            wait([worker.pipe for worker in running], min(max(0, deadline - time.monotonic()), 3600))
            for place, worker in enumerate(running):
                if (worker.pipe.poll() and worker.is_ready()) or time.monotonic() > worker.deadline:
                    yield worker.path, worker.outcome()
                    following = next(left, None)
                    if following is None:
                        running.pop(place).stop()
                        break
                    running[place] = worker.go_on(following)
    finally:
        for worker in running:
            worker.stop()


class _Worker:
    """A process that works on a path, and the pipe to it; time runs from when it has imported what it needs."""

    def __init__(self, work: Callable[[Path], str | None], path: Path, seconds: float) -> None:
        self.work, self.path, self.seconds, self.deadline = work, path, seconds, math.inf
        context = importing_once("ctnet.data.video")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        with suppress(OSError):  # it has ended: `is_ready` finds that out
            self.pipe.send(path)

    def is_ready(self) -> bool:
        """Whether what lies in the pipe is a result; the first message only says that the process has begun."""
        if self.deadline < math.inf:
            return True
        try:
            self.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(
                "the processes that read videos end before they begin, as their own errors say; in a script, call this "
                'under `if __name__ == "__main__":`'
            ) from None
        self.deadline = time.monotonic() + self.seconds
        return False

    def outcome(self) -> str | None:
        """The result, or what became of the process."""
        try:
            if self.pipe.poll():
                return self.pipe.recv()
            reason = f"takes more than {self.seconds:g} s"
        except (EOFError, OSError):
            reason = "ends the process that reads it"
        self.stop()
        return printable(f"{self.path}: {reason}")

    def go_on(self, path: Path) -> "_Worker":
        """Begin with another path, in a new process if this one is at an end."""
        if self.pipe.closed:
            return _Worker(self.work, path, self.seconds)
        self.path, self.deadline = path, time.monotonic() + self.seconds
        try:
            self.pipe.send(path)
        except OSError:  # it has ended since
            self.stop()
            return _Worker(self.work, path, self.seconds)
        return self

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(work: Callable[[Path], str | None], pipe: Connection) -> None:
    try:
        pipe.send(None)
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):  # the other side has gone
        return

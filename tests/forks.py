"""What runs in a process of its own, forked from the one of the tests: that has loaded torch already, in seconds."""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any


@dataclass
class Done:
    """How a process ended; the names are those of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


class Fork:
    """A process that calls a function and ends.

    Args:
        function: its SystemExit is the exit status, as that of a command line.
        arguments: of the function.
        variables: of the environment, that it has besides those of the tests.
    """

    def __init__(self, function: Callable[..., object], *arguments: Any, **variables: str) -> None:
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 - closed at its end
        self._process = get_context("fork").Process(target=self._call, args=(function, arguments, variables))
        self._process.start()

    def _call(self, function: Callable[..., object], arguments: tuple[Any, ...], variables: dict[str, str]) -> None:
        os.setsid()
        for number, file in enumerate(self._files, start=1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = self._files
        os.environ.update(variables)
        function(*arguments)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it has started."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> Done:
        """Kill it, as `kill -9` does."""
        self._process.kill()
        return self.end()

    def end(self, seconds: float | None = None) -> Done:
        """Wait for its end; what takes longer than some seconds is killed."""
        self._process.join(seconds)
        if self._process.is_alive():
            return self.kill()
        said = []
        for file in self._files:
            file.seek(0)
            said.append(file.read())
            file.close()
        assert self._process.exitcode is not None
        return Done(self._process.exitcode, *said)


def command(main: Callable[[], object], *words: object) -> None:
    """Call the function behind a command line with some words; for a `Fork`."""
    sys.argv = [main.__module__, *map(str, words)]
    main()

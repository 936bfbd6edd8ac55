"""Commands of the package, run in a chapter as a reader runs them in a terminal."""

import os
import shlex
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from ctnet.processes import importing_once

WIDTH = 78  # characters that fit into the box of an output
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")  # Jupyter sets them, and bold letters would come out as escape codes


def shell(command: str, folder: Path, status: int = 0, mark: str = "") -> None:
    """Run a command line that begins with `ctnet` or `python -m study`, and print what it says, without progress.

    Args:
        command: one line, or several with a backslash at their ends.
        folder: to run it in.
        status: exit status that is expected; for 2, a mistake, the message is printed too.
        mark: what every line that the command says begins with, such as "rehearsal | ".

    Raises:
        RuntimeError: when it ends with another status.
    """
    words, width = shlex.split(command.replace("\\\n", " ")), WIDTH - len(mark)
    if words[0] == "ctnet":
        module, arguments = "ctnet.cli", words[1:]
    elif words[:3] == ["python", "-m", "study"]:
        module, arguments = "study.__main__", words[3:]
    else:
        raise ValueError(f"{words[0]!r} is no command of this project")
    others = {name: value for name, value in os.environ.items() if name not in COLOURS}
    code, out, errors = _run(module, arguments, folder, others | {"TQDM_DISABLE": "1", "COLUMNS": str(width)})
    if code != status:
        raise RuntimeError(f"{command} ended with status {code}: {errors.strip()}")
    print(f"$ {command}")
    for line in (out + (errors if status == 2 else "")).rstrip().splitlines():
        for part in textwrap.wrap(line, width, subsequent_indent="    ", drop_whitespace=False) or [""]:
            print(mark + part)


def _run(module: str, arguments: list[str], folder: Path, variables: dict[str, str]) -> tuple[int, str, str]:
    """Call the `main` of a module in a process of its own: its exit status, and what it printed and complained of.

    The process is forked from one that has imported what commands need, which takes seconds.
    """
    context = importing_once("ctnet.engine.testing", "ctnet.analysis.overlay", "study.chapters.shell")
    with TemporaryDirectory() as scratch:
        files = [Path(scratch, name) for name in ("out", "errors")]
        process = context.Process(target=_be, args=(module, arguments, folder, variables, files))
        before = dict(os.environ)
        try:
            _put_on(variables)  # libraries look at some of them when they are imported
            process.start()
        finally:
            _put_on(before)
        process.join()
        assert process.exitcode is not None
        out, errors = (file.read_text() if file.exists() else "" for file in files)
        return process.exitcode, out, errors


def _be(module: str, arguments: list[str], folder: Path, variables: dict[str, str], files: list[Path]) -> None:
    """Be the process of a command."""
    os.chdir(folder)
    _put_on(variables)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [module, *arguments]
    import_module(module).main()


def _put_on(variables: dict[str, str]) -> None:
    """Let this process's environment be these variables."""
    os.environ.clear()
    os.environ.update(variables)

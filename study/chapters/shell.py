"""Commands of the package, run in a chapter as a reader runs them in a terminal."""

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

from study.store import ROOT

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
    words = shlex.split(command.replace("\\\n", " "))
    if words[0] == "ctnet":
        module, arguments = "ctnet.cli", words[1:]
    elif words[:3] == ["python", "-m", "study"]:
        module, arguments = "study", words[3:]
    else:
        raise ValueError(f"{words[0]!r} is no command of this project")
    environment = {name: value for name, value in os.environ.items() if name not in COLOURS} | {"TQDM_DISABLE": "1"}
    width = WIDTH - len(mark)
    environment["COLUMNS"] = str(width)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command_line = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command_line, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != status:
        raise RuntimeError(f"{command} ended with status {done.returncode}: {done.stderr.strip()}")
    print(f"$ {command}")
    for line in (done.stdout + (done.stderr if status == 2 else "")).rstrip().splitlines():
        for part in textwrap.wrap(line, width, subsequent_indent="    ", drop_whitespace=False) or [""]:
            print(mark + part)

"""A process that imports some modules once, and forks kernels that find them imported.

    python -P zygote.py MODULE ...

Each line of its input asks for a kernel: {"words": [...], "folder": ..., "variables": {...}}. It answers with the
number of the process. It imports nothing of the clone: what a kernel reads there is for the kernel to read.
"""

import gc
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any


def main() -> None:
    """Import, and fork a kernel for each line until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what imports print is no answer
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # so that kernels share the memory
    signal.signal(signal.SIGCHLD, reap)
    own = os.getpid()
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            os.close(answers)
            become_kernel(own, **json.loads(line))
        os.write(answers, f"{number}\n".encode())


def reap(number: int, frame: object) -> None:
    """Let kernels that have ended go; their processor time counts as this process's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become_kernel(parent: int, words: list[str], folder: str, variables: dict[str, str]) -> None:
    """Be what `python -m ipykernel_launcher`, with these words behind it, is in a folder and an environment.

    It ends with its parent, also if that has ended already.
    """
    from ipykernel import kernelapp

    if os.getppid() != parent:
        os._exit(1)
    os.setsid()  # signals to the kernel reach what it starts, and not its siblings
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["ipykernel_launcher", *words, f"--IPKernelApp.parent_handle={parent}"]
    sys.modules.pop("sitecustomize", None)  # of the system's Python, which has imported its own
    try:
        importlib.import_module("sitecustomize")  # as Python does when it starts
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    launch: Any = kernelapp.launch_new_instance
    launch()
    sys.exit()


if __name__ == "__main__":
    main()

"""Kernels that are forked from one process, which has imported what takes seconds."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

ZYGOTE = Path(__file__).with_name("zygote.py")


class Zygote:
    """The process that kernels are forked from, see `study.building.zygote`.

    Args:
        modules: that it imports, none of them from the clone.
        variables: its environment, before that of a kernel.
    """

    def __init__(self, modules: Sequence[str], variables: Mapping[str, str]) -> None:
        others = {name: value for name, value in variables.items() if name != "PYTHONPATH"}
        others.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as a kernel sets it, but earlier
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(ZYGOTE), "ipykernel.kernelapp", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=others,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._questions, self._answers, self._asking = self._process.stdin, self._process.stdout, threading.Lock()

    def fork(self, words: Sequence[str], folder: str, variables: Mapping[str, str]) -> int:
        """Start a kernel; returns the number of its process.

        Raises:
            RuntimeError: when the process that it would be forked from has ended.
        """
        question = {"words": list(words), "folder": folder, "variables": dict(variables)}
        with self._asking:
            with suppress(BrokenPipeError):
                self._questions.write(f"{json.dumps(question)}\n")
                self._questions.flush()
            answer = self._answers.readline()
        if not answer:
            raise RuntimeError("the process that kernels are forked from has ended")
        return int(answer)

    def close(self) -> None:
        """End it."""
        with suppress(BrokenPipeError):
            self._questions.close()
        self._answers.close()
        self._process.wait()


def forked_kernel(name: str, zygote: Zygote) -> AsyncKernelManager:
    """A manager whose kernel, of this kind, will be forked from a process; one that runs no such Python is started."""
    manager = AsyncKernelManager(kernel_name=name)
    manager.provisioner = _Forks(zygote, kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager)
    return manager


class _Forks(LocalProvisioner):
    def __init__(self, zygote: Zygote, **traits: Any) -> None:
        super().__init__(**traits)
        self.zygote = zygote

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        start = [sys.executable, "-m", "ipykernel_launcher"]
        if cmd[:3] != start:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.zygote.fork(cmd[3:], str(kwargs["cwd"]), kwargs["env"])
        self.pgid = self.pid
        self.process = _Process(self.pid)  # type: ignore[assignment]
        self.cwd = kwargs["cwd"]
        return self.connection_info


class _Process:
    """A process that another one has started, as `subprocess.Popen` shows it; how it ended is not known."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.02)
        return 0

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

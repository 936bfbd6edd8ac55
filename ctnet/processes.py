"""Processes: how many may work, and how they start with what takes seconds to import and end with who started them."""

import math
import os
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

CONTROL = Path("/sys/fs/cgroup")
"""Where Linux tells what a container may use."""
QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files with the processor time of a period and that period, of the second and the first version of these."""


def cores() -> int:
    """Processors that this process may use: those that it is bound to, and as many as a container's quota is for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(bound, _quota())))


def _quota() -> float:
    """Processors whose whole time a container may use; without end where nothing limits it."""
    for names in QUOTAS:
        try:
            time, period = " ".join((CONTROL / name).read_text(encoding="ascii") for name in names).split()
            return int(time) / int(period) if int(time) > 0 else math.inf
        except (OSError, ValueError, ZeroDivisionError):  # "max", or no such file
            continue
    return math.inf


def importing_once(*modules: str) -> Any:
    """How to start processes that need some modules: a context of `multiprocessing`.

    They are forked from a process that has imported the modules; where the system cannot fork, each imports them. That
    process is started with the first of them and serves whoever asks later: modules that only these name are imported
    by each.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


def end_with_parent() -> None:
    """Let this process end as soon as the one that has asked for it has ended, in whatever way.

    A worker that waits for work does not notice otherwise, for it holds the other end of its pipe itself.
    """
    if parent := parent_process():
        Thread(target=_end_behind, args=(parent,), daemon=True).start()


def _end_behind(parent: Any) -> None:
    parent.join()
    os._exit(1)

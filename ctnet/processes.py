"""Processes that need what takes seconds to import."""

from multiprocessing import get_all_start_methods, get_context
from typing import Any


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

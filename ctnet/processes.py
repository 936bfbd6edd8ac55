"""Processes that need what takes seconds to import, and that end with those that have started them."""

import os
from multiprocessing import get_all_start_methods, get_context, parent_process
from threading import Thread
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


def end_with_parent() -> None:
    """Let this process end as soon as the one that has asked for it has ended, in whatever way.

    A worker that waits for work does not notice otherwise, for it holds the other end of its pipe itself.
    """
    if parent := parent_process():
        Thread(target=_end_behind, args=(parent,), daemon=True).start()


def _end_behind(parent: Any) -> None:
    parent.join()
    os._exit(1)

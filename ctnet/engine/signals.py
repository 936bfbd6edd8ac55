"""Signals that ask a run to stop, as a cluster and `timeout` send them to all of its processes.

The process that trains notes one and saves; those that load its data take no notice, since it ends them itself.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
AGAIN = 30.0  # seconds for which the same signal is the same request: a cluster sends it, and `torchrun` passes it on


@contextmanager
def noted() -> Iterator[list[int]]:
    """A list that gets the number of a signal that arrives meanwhile; a later one acts as it always does.

    What comes within `AGAIN` seconds is no later one. The list stays empty outside the main thread.
    """
    asked: list[int] = []
    kinds = STOPS if threading.current_thread() is threading.main_thread() else []
    before = {kind: signal.getsignal(kind) or signal.SIG_DFL for kind in kinds}
    times: dict[int, float] = {}

    def note(number: int, frame: object) -> None:
        if number not in times:
            asked.append(number)
            times[number] = time.monotonic()
        elif time.monotonic() - times[number] >= AGAIN:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def held() -> Iterator[None]:
    """Keep signals waiting, for this process and for those that it starts meanwhile, which keep them so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Take no notice of signals from here on, nor of those that wait."""
    for kind in STOPS:
        signal.signal(kind, signal.SIG_IGN)

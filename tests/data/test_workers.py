"""One item that hangs, or kills its process, is one line; the others are done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctnet.data.workers import results

ROOT = Path(__file__).parents[2]


def work(path):
    if "hang" in path.name:
        time.sleep(1000)
    if "die" in path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"did {path}" if "tell" in path.name else None


def test_what_hangs_or_dies_is_told_and_the_rest_is_done(tmp_path):
    names = ["a", "hang", "tell", "die", "b"]
    begin = time.monotonic()
    found = dict(results(work, [tmp_path / name for name in names], 2, seconds=3))
    assert time.monotonic() - begin < 900
    assert found == {
        tmp_path / "a": None,
        tmp_path / "b": None,
        tmp_path / "tell": f"did {tmp_path / 'tell'}",
        tmp_path / "hang": f"{tmp_path / 'hang'}: takes more than 3 s",
        tmp_path / "die": f"{tmp_path / 'die'}: ends the process that reads it",
    }


LATE = """
import time
from multiprocessing.connection import Connection
send = Connection.send
Connection.send = lambda pipe, message: (time.sleep(5), send(pipe, message))
"""


@pytest.mark.parametrize("before", ["", LATE], ids=["at once", "when they have ended"])
def test_processes_that_cannot_begin_are_no_fault_of_a_video(before, tmp_path):
    """As in a script without `if __name__ == "__main__":`, which each of them runs again and so fails."""
    script = tmp_path / "unguarded.py"
    use = "from ctnet.data.workers import results\nprint(list(results(len, ['a', 'b'], 1, 60)))\n"
    script.write_text(f"{before}\n{use}")
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: the processes that read videos end before they begin")
    assert done.stdout == ""


def test_who_stops_early_leaves_no_process(tmp_path):
    import multiprocessing

    others = set(multiprocessing.active_children())
    running = results(work, [tmp_path / name for name in ("a", "hang", "b")], 2, seconds=60)
    next(running)
    running.close()
    assert set(multiprocessing.active_children()) <= others

"""Processes that a pool has forked know when their code was read, and leave nothing behind."""

import subprocess
import sys

import psutil

SCRIPT = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from ctnet.processes import end_with_parent, importing_once

def about(_):
    import psutil
    from study import measured
    time.sleep(0.5)  # so that both workers have one
    return os.getpid(), measured._BEGAN, psutil.Process().create_time()

if __name__ == "__main__":
    with ProcessPoolExecutor(2, importing_once("study.measured"), end_with_parent) as pool:
        for found in pool.map(about, range(2)):
            print(*found, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_know_when_code_was_read_before_them_and_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True) as process:
        found = [process.stdout.readline().split() for _ in range(2)]  # workers that stay keep it open
    assert len({number for number, _, _ in found}) == 2
    assert all(float(read) < float(began) for _, read, began in found)
    workers = [psutil.Process(int(number)) for number, _, _ in found if psutil.pid_exists(int(number))]
    assert psutil.wait_procs(workers, timeout=60)[1] == []

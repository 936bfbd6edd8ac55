"""As many processes as there are processors for; they know when their code was read, and leave nothing behind."""

import os
import subprocess
import sys

import psutil
import pytest

from ctnet import processes

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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "what\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, 8),
    ],
)
def test_a_container_is_not_asked_for_more_than_its_quota(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(processes, "CONTROL", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processes.cores() == expected

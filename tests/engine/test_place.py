"""Which process this is, as `torchrun` says, or the group that the caller has joined."""

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from forks import Fork

from ctnet.engine import distributed
from ctnet.engine.place import device_named


@pytest.fixture(autouse=True)
def without_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def join(file, rank, world):
    dist.init_process_group("gloo", f"file://{file}", rank=rank, world_size=world)
    try:
        for _ in range(2):  # it is left as it was
            with distributed() as place:
                print(place.rank, place.world, place.first, place.mean(torch.tensor([float(place.rank)])).item())
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(("gpus", "names"), [(0, ["cpu"]), (2, ["cpu", "cuda", "cuda:1"])])
def test_devices_that_a_machine_has_are_found_by_name(gpus, names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [device_named(name) for name in names] == list(map(torch.device, names))
    for missing in ("cuda:2", "cuda" if not gpus else "cuda:9", "gpu", "meta", "cpu:1"):
        with pytest.raises(
            ValueError, match=f"no device '{missing}' here: take one of {'cpu, cuda' if gpus else 'cpu'}"
        ):
            device_named(missing)


def test_processes_of_torchrun_join_as_often_as_they_like(tmp_path):
    """As a script does that trains on one fold after the other."""
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom ctnet.engine import distributed\n"
        "for turn in range(8):\n    with distributed() as place:\n"
        "        assert place.mean(torch.tensor([float(place.rank + turn)])).item() == 0.5 + turn\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(torchrun, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_group_a_process_is_alone():
    with distributed() as place:
        assert (place.rank, place.world, place.first) == (0, 1, True)
        assert not dist.is_initialized()


@pytest.mark.parametrize("world", [1, 2])
def test_a_group_that_the_caller_started_is_joined(tmp_path, world):
    """Nothing in the environment tells of such a group."""
    processes = [Fork(join, tmp_path / "group", rank, world) for rank in range(world)]
    for rank, process in enumerate(processes):
        done = process.end(120)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{rank} {world} {rank == 0} {(world - 1) / 2}\n" * 2


@pytest.mark.parametrize(
    ("gpu", "error", "left"),
    [(True, None, 1), (True, SystemExit, 1), (True, ValueError, 0), (False, ValueError, 1)],
)
def test_a_process_that_fails_on_a_gpu_waits_for_nobody(gpu, error, left, monkeypatch):
    """NCCL's end of a group waits for all processes, and the others wait for this one in a step."""
    ended = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append(True))
    with pytest.raises(error) if error else nullcontext(), distributed():
        if error:
            raise error
    assert len(ended) == left

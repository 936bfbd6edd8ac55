"""Which process this is, as `torchrun` says, or the group that the caller has joined."""

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
    monkeypatch.setattr(dist, "init_process_group", lambda backend: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append(True))
    with pytest.raises(error) if error else nullcontext(), distributed():
        if error:
            raise error
    assert len(ended) == left

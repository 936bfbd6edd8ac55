"""One process or many: everything that asks which process this is, and on what device."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where this process stands among those that train together."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            dist.barrier()

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values of some tensors, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, element by element."""
        if self.world == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world

    def interleave(self, rows: Tensor, total: int) -> Tensor:
        """Join rows that were dealt out: row i of process r is row `i * world + r` of the (total, ...) result."""
        if self.world == 1:
            return rows
        most = -(-total // self.world)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(gathered, padded)
        return torch.stack(gathered, 1).flatten(0, 1)[:total]


_JOINED = count()
"""Numbers of the groups that this process joins, one after the other: the same in all processes."""


def _join(backend: str) -> None:
    """Join the group that the environment tells of; another time too, without what is left of earlier groups."""
    store, rank, world = _meeting(*map(os.environ.get, ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")))
    dist.init_process_group(
        backend, store=dist.PrefixStore(f"ctnet/{next(_JOINED)}", store), rank=rank, world_size=world
    )


@cache
def _meeting(*environment: str | None) -> tuple[dist.Store, int, int]:
    """What all processes write to and read from, kept as long as this one lives; its rank, and their number."""
    return next(dist.rendezvous("env://"))


def device_named(name: str) -> torch.device:
    """The device of a name, such as "cpu", "cuda" or "cuda:1"; raises ValueError where this machine has none."""
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if (device.index or 0) >= there.get(device.type, 0):
        raise ValueError(f"there is no device {name!r} here: take one of {', '.join(k for k, n in there.items() if n)}")
    return device


@contextmanager
def distributed() -> Iterator[Place]:
    """Join the processes that `torchrun` started (nccl on GPUs, gloo on CPUs); a single process without it.

    A group that the caller has joined already is used, and left as it is.
    """
    gpu = torch.cuda.is_available()
    if gpu and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    if dist.is_available() and dist.is_initialized():
        yield Place(device, dist.get_rank(), dist.get_world_size())
        return
    if "WORLD_SIZE" not in os.environ:
        yield Place(device)
        return
    _join("nccl" if gpu else "gloo")
    together = False
    try:
        yield Place(device, dist.get_rank(), dist.get_world_size())
        together = True
    except SystemExit:  # all were asked to stop
        together = True
        raise
    finally:
        if together or not gpu:  # nccl would wait for the others, who wait for this one in a step, and hide its error
            dist.destroy_process_group()

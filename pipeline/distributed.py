"""Let several processes train one model. `torchrun` starts them and numbers them."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Which process this is: number `rank` of `size`. A single process is number 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """This process writes the files and prints."""
        return self.rank == 0

    def largest(self, value: float) -> float:
        """The largest value of all processes. It makes them decide alike although clocks differ."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_device())
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return float(shared)

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of the tensor over all processes."""
        if self.size > 1:
            shared = tensor.to(_device())
            distributed.all_reduce(shared)
            return shared.to(tensor.device)
        return tensor

    def agreed(self, mine: T) -> T:
        """The first process's value, in every process."""
        if self.size == 1:
            return mine
        said = [mine]
        distributed.broadcast_object_list(said)
        return said[0]

    def merged(self, mine: dict[int, T]) -> dict[int, T]:
        """The entries of the dicts of all processes."""
        if self.size == 1:
            return mine
        parts: list[dict[int, T]] = [{} for _ in range(self.size)]
        distributed.all_gather_object(parts, mine)
        return {key: value for part in parts for key, value in part.items()}


def memory_per_process() -> float:
    """Bytes of physical memory per process on this machine; inf if the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return math.inf
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return memory / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def current_world() -> World:
    """The group that this process belongs to."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return World()
    return World(distributed.get_rank(), distributed.get_world_size())


def _device() -> torch.device:
    nccl = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


@contextmanager
def process_group(device: str) -> Iterator[tuple[World, str]]:
    """Join the processes that torchrun started. Yields the group and this process's device.

    Without torchrun there is one process. With GPUs, each process gets its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(), device
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield current_world(), "cpu" if not on_gpu else device
        # Free the object that averages gradients before its group, and leave only when all
        # processes are done. Otherwise a process sometimes aborts.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()

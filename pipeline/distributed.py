"""Several processes that train one model; `torchrun` starts them and tells each its number."""

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
    """This process among `size` of them; 0 of 1 where there is no other."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The one that writes files and talks."""
        return self.rank == 0

    def largest(self, value: float) -> float:
        """The largest of what the processes say: clocks differ, decisions must not."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_device())
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return float(shared)

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of what the processes have."""
        if self.size > 1:
            shared = tensor.to(_device())
            distributed.all_reduce(shared)
            return shared.to(tensor.device)
        return tensor

    def agreed(self, mine: T) -> T:
        """What the first process says, for all."""
        if self.size == 1:
            return mine
        said = [mine]
        distributed.broadcast_object_list(said)
        return said[0]

    def merged(self, mine: dict[int, T]) -> dict[int, T]:
        """The entries of all processes."""
        if self.size == 1:
            return mine
        parts: list[dict[int, T]] = [{} for _ in range(self.size)]
        distributed.all_gather_object(parts, mine)
        return {key: value for part in parts for key, value in part.items()}


def memory_per_process() -> float:
    """Bytes of physical memory for each process on this machine; inf where the system hides it."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return math.inf
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return memory / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def current_world() -> World:
    if not (distributed.is_available() and distributed.is_initialized()):
        return World()
    return World(distributed.get_rank(), distributed.get_world_size())


def _device() -> torch.device:
    nccl = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


@contextmanager
def process_group(device: str) -> Iterator[tuple[World, str]]:
    """Join the processes that torchrun started; yields this one and its device.

    Without torchrun there is one process and nothing to join. On GPUs each process takes its own.
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
        # What averages gradients must be gone before its group is, and no process may leave while
        # another still needs it: else the process aborts now and then.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()

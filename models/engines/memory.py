"""How much memory a device has, and how many windows run through a network together in it."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from touchline.models.backbone import Backbone

MOST_WINDOWS = 8
"""Windows at once on a machine that has the memory. On a CPU, more are not faster."""

MOST_WINDOWS_ON_CUDA = 32

SHARE = 0.25
"""The share of the memory that windows may take: weights, frames and other programs need theirs."""

CGROUPS = Path("/sys/fs/cgroup")


def batch_that_fits(backbone: Backbone, device: torch.device, dtype: torch.dtype) -> int:
    """Return how many windows run through a network together: a power of two, at least one.

    It follows from all of the memory that the device has, not from what is free at the moment. So
    it is the same in the next run, and scores are, too.

    Args:
        backbone: The network, on its device.
        device: The device.
        dtype: The type of its clips.
    """
    most = MOST_WINDOWS_ON_CUDA if device.type == "cuda" else MOST_WINDOWS
    room = SHARE * memory_bytes(device)
    if math.isinf(room):
        return most
    fits = max(1, int(min(most, room / _window_bytes(backbone, device, dtype))))
    return int(2 ** (fits.bit_length() - 1))


def memory_bytes(device: torch.device) -> float:
    """Return the memory of a GPU, or of the machine; inf if the system does not say.

    A control group (a container) may have less than the machine.

    Args:
        device: The device.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    if device.type != "cpu" or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return math.inf
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float(min([machine, *_group_limits()]))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left; on a CPU torch has no type for it.

    Args:
        error: The error.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _group_limits() -> list[int]:
    """The limits in bytes of the control groups of this process."""
    places = [CGROUPS / "memory.max", CGROUPS / "memory" / "memory.limit_in_bytes"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, group = line.split(":", 2)
            if not kinds:
                places.append(CGROUPS / group[1:] / "memory.max")
            elif "memory" in kinds.split(","):
                places.append(CGROUPS / "memory" / group[1:] / "memory.limit_in_bytes")
    found = []
    for place in places:
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(place.read_text(encoding="ascii")))
    return found


@torch.inference_mode()
def _window_bytes(backbone: Backbone, device: torch.device, dtype: torch.dtype) -> float:
    """The memory that one window takes on its way through the trunk."""
    spec = backbone.spec
    shape = (1, 3, spec.num_frames, spec.size_px, spec.size_px)
    # Pictures, and three copies in float32 while they are normalised.
    pictures = 13 * math.prod(shape)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        backbone.features(torch.zeros(shape, device=device, dtype=dtype))
        return float(pictures + torch.cuda.max_memory_allocated(device) - before)
    largest = 0

    def after(_: torch.nn.Module, given: tuple[Any, ...], out: Any) -> None:
        nonlocal largest
        tensors = [x for x in (*given, out) if isinstance(x, torch.Tensor)]
        largest = max(largest, sum(x.nbytes for x in tensors))

    leaves = [module for module in backbone.stages.modules() if not any(module.children())]
    hooks = [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        backbone.features(torch.zeros(shape, device=device, dtype=dtype))
    finally:
        for hook in hooks:
            hook.remove()
    # A layer has its input and its output, and beside them there may be those of a shortcut.
    return float(pictures + 2 * largest)

"""Options of a run over many matches: plain values, quick to import."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEVICE = re.compile(r"(auto|cpu|cuda|mps|xpu)(:\d+)?")


@dataclass(frozen=True)
class RunOptions:
    """How a run goes through its matches. Nothing here changes a result.

    Attributes:
        again: Analyse every match, also those that are done.
        workers: Processes that analyse matches side by side. 0: this process, one after the other.
            None: one per device, or 0 without devices. On Ray None or 0: one per GPU of the
            cluster, or one per core.
        devices: The device of each worker, in turn. Empty: that of `DetectOptions`.
        on: "local" (this machine) or "ray" (a Ray cluster).
        ray_address: The cluster, such as "auto" or "ray://head:10001". None: Ray starts one on this
            machine.
        hang_s: A worker that makes no progress for this long is killed.
    """

    again: bool = False
    workers: int | None = None
    devices: tuple[str, ...] = ()
    on: str = "local"
    ray_address: str | None = None
    hang_s: float = 900.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers is {self.workers}; it must be 0 or more")
        if self.on not in ("local", "ray"):
            raise ValueError(f"on is {self.on!r}; it must be local or ray")
        if self.on == "ray" and self.devices:
            raise ValueError("devices cannot be chosen on ray, which places one worker per GPU")
        for name in self.devices:
            if not DEVICE.fullmatch(name):
                raise ValueError(
                    f"devices has {name!r}, which is no device. Use --devices with cpu, cuda, "
                    "cuda:1 or mps, separated by commas."
                )
        if len({name.partition(":")[0] for name in self.devices}) > 1:
            raise ValueError(
                f"devices is {','.join(self.devices)}; all must be of one kind, because results "
                "differ in the last digits between kinds"
            )

    @staticmethod
    def named(text: str) -> tuple[str, ...]:
        """Return the devices in a comma-separated list."""
        return tuple(name.strip() for name in text.split(",") if name.strip())

    @property
    def num_workers(self) -> int:
        """How many worker processes there are; 0 for none."""
        return len(self.devices) if self.workers is None else self.workers


@dataclass(frozen=True)
class WatchOptions:
    """How footage that arrives in a folder is found.

    Attributes:
        rest_s: Seconds for which a file must stay the same before it is analysed.
    """

    rest_s: float = 30.0

"""Memory and processor time of a process and of all that it has started, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """One process at one moment.

    Attributes:
        pid: Its number.
        parent: The number of the process that started it.
        role: What it is: "main", "decoder", "worker", or "other".
        rss_mb: Memory it holds, with all of what it shares with others.
        pss_mb: The same, with its share of what it shares with others.
        processor_s: Processor time it has used.
    """

    pid: int
    parent: int
    role: str
    rss_mb: float
    pss_mb: float
    processor_s: float


def usage(pid: int) -> list[Usage]:
    """Return a process and all that it has started; nothing if it has ended."""
    found, waiting = [], [(pid, 0)]
    while waiting:
        one, parent = waiting.pop(0)
        try:
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
            found.append(_one(one, parent, "main" if one == pid else _role(one)))
        except (OSError, KeyError):  # it has ended
            continue
        waiting += [(int(child), one) for child in children]
    return found


def _one(pid: int, parent: int, role: str) -> Usage:
    rows = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage(
        pid,
        parent,
        role,
        rss_mb=int(rows["Rss"].split()[0]) * 1024 / 1e6,
        pss_mb=int(rows["Pss"].split()[0]) * 1024 / 1e6,
        # User and system time are fields 14 and 15, counted from the process number (proc(5)).
        processor_s=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


def _role(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    if b"isolation_worker" in command:
        return "decoder"
    return "worker" if b"spawn_main" in command else "other"

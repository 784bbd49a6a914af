"""Measure what the parent and each worker of a run hold and use: python measure_workers.py [N]

N workers (2) analyse 16 matches of 5 minutes with a small 3-D network. Twice a second the memory
and the processor time of all processes are noted. Memory is the most that a process held: RSS
counts what it shares with others in full, PSS its share of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from processes import Usage, usage
from tiny import small_3d_model, write_levels

from touchline.models.checkpoint import save_checkpoint

MATCHES, MATCH_S, RATE, SIZE = 16, 300, 16, 224
TICK_S = 0.5


def matches(folder: Path) -> Path:
    """Write the matches: five minutes with a bright event in each, sixteen times."""
    folder.mkdir()
    levels = [235 if 100 <= k / RATE < 104 else 20 for k in range(MATCH_S * RATE)]
    first = write_levels(folder / "m00.mp4", levels, rate=RATE, size=SIZE)
    for k in range(1, MATCHES):
        shutil.copy(first, folder / f"m{k:02d}.mp4")
    return folder


def measure(workers: int, folder: Path) -> tuple[list[Usage], float]:
    """Run and watch; return for each process the most memory and the processor time.

    Also return the processor time of the parent before the first worker: it is spent once per run.
    """
    model = folder / "model.safetensors"
    save_checkpoint(model, small_3d_model())
    process = subprocess.Popen(
        [sys.executable, "-m", "touchline.tools.cli", "detect", str(matches(folder / "m")),
         "--model", str(model), "-o", str(folder / "out"), "--device", "cpu", "--engine", "torch",
         "--decode-workers", "1", "--workers", str(workers), "--quiet"],
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    seen: dict[int, list[Usage]] = defaultdict(list)
    start_up_s = 0.0
    while process.poll() is None:
        now = usage(process.pid)
        for one in now:
            seen[one.pid].append(one)
        if now and not any(one.role == "worker" for one in now) and len(seen) == 1:
            start_up_s = now[0].processor_s
        time.sleep(TICK_S)
    assert process.returncode == 0
    found = [
        Usage(
            rows[0].pid,
            rows[0].parent,
            # A process is a copy of its parent until its own command has begun.
            rows[-1].role,
            max(row.rss_mb for row in rows),
            max(row.pss_mb for row in rows),
            rows[-1].processor_s,
        )
        for rows in seen.values()
    ]
    return found, start_up_s


def main() -> None:
    workers = int(sys.argv[1]) if sys.argv[1:] else 2
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        found, start_up_s = measure(workers, Path(folder))
        seconds = time.monotonic() - began
    total_s = sum(one.processor_s for one in found)
    print(f"{seconds:.0f} s with making the matches, {total_s:.1f} s of processor time")
    print("| process | RSS, MB | PSS, MB | processor, s | share |")
    print("|---|---|---|---|---|")
    order = ("main", "worker", "decoder", "other")
    for one in sorted(found, key=lambda one: order.index(one.role)):
        print(
            f"| {one.role} | {one.rss_mb:.0f} | {one.pss_mb:.0f} | {one.processor_s:.1f} "
            f"| {one.processor_s / total_s:.1%} |"
        )
    print(f"{start_up_s:.1f} s of the parent's come before the first worker")


if __name__ == "__main__":
    main()

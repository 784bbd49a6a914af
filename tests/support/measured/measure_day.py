"""Measure the memory of `touchline detect` over a day of footage: python measure_day.py [WAY ...]

A day of small pictures (see long_streams.py) goes through a network that tells light from dark, as
fast as possible. Every second the memory of the main process and of its decoder is noted, and how
much footage has been done. The table compares the first hour with the rest.

mp4, ts:      the whole file, offline
pipe:         the transport stream on standard input, live
growing:      the transport stream as a file that grows by 1 MiB each second, live
tcp:          the transport stream over TCP, as fast as it is taken, live
wrap:         as pipe; the clock of the stream begins half an hour before its 33 bits are full
HOURS=6 in front of the command measures six hours.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from long_streams import EVERY_S, WRAP_S, long_model, write_long
from processes import usage

WAYS = ("mp4", "ts", "pipe", "growing", "tcp", "wrap")
HOP_S = 1.0
TICK_S = 1.0
BEFORE_WRAP_S = 1800


@dataclass
class Measured:
    """One run.

    Attributes:
        rows: (seconds of footage done, MB of the main process, MB of decoders), as time passes.
        events: The accepted events, as in events.json.
        written_mb: The most memory of the main process while results are written.
        seconds: Wall-clock time.
        said: What was printed for people.
    """

    rows: list[tuple[float, float, float]] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)
    written_mb: float = 0.0
    seconds: float = 0.0
    said: str = ""

    def first_hour(self, column: int) -> float:
        """The most memory within the first hour, or the first quarter of shorter footage."""
        until_s = min(3600.0, self.rows[-1][0] / 4)
        return max(row[column] for row in self.rows if row[0] <= until_s)

    def later(self, column: int) -> float:
        """The most memory after that, up to the end of the footage."""
        return max(row[column] for row in self.rows)


def run(way: str, hours: float, folder: Path) -> Measured:
    """Detect in a stream of some hours, sent in one of WAYS, and watch the memory."""
    is_live = way not in ("mp4", "ts")
    start_s = WRAP_S - BEFORE_WRAP_S if way == "wrap" else WRAP_S * 0
    footage = write_long(folder / f"day.{'mp4' if way == 'mp4' else 'ts'}", hours, start_s=start_s)
    out, measured = folder / "out", Measured()
    began = time.monotonic()
    with ExitStack() as stack:
        source, stdin = _source(way, footage, folder, stack)
        process = subprocess.Popen(
            [sys.executable, __file__, "detect", source, "--model", "bright", "-o", str(out),
             "--hop", str(HOP_S), "--device", "cpu", "--engine", "torch",
             *(("--live", "--wait", "10") if is_live else ("--quiet",))],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                # Threads that wait for each other spin: beside other work that takes minutes.
                "OMP_NUM_THREADS": "1",
            },
        )  # fmt: skip
        with process:
            if is_live:
                _watch_lines(process, measured, out)
            else:
                _watch_scores(process, measured, hours, out)
    measured.seconds = time.monotonic() - began
    assert process.returncode == 0, measured.said
    (events,) = out.glob("*/events.json")
    measured.events = json.loads(events.read_text())["events"]
    return measured


def _source(way: str, footage: Path, folder: Path, stack: ExitStack) -> tuple[str, IO[bytes] | int]:
    if way in ("pipe", "wrap"):
        return "-", stack.enter_context(footage.open("rb"))
    if way == "tcp":
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=_serve, args=(listening, footage), daemon=True).start()
        return f"tcp://127.0.0.1:{listening.getsockname()[1]}", subprocess.DEVNULL
    if way == "growing":
        growing = folder / "growing.ts"
        growing.touch()
        threading.Thread(target=_grow, args=(growing, footage), daemon=True).start()
        return str(growing), subprocess.DEVNULL
    return str(footage), subprocess.DEVNULL


def _serve(listening: socket.socket, footage: Path) -> None:
    connection, _ = listening.accept()
    with connection, footage.open("rb") as file:
        connection.sendfile(file)


def _grow(growing: Path, footage: Path) -> None:
    with footage.open("rb") as file, growing.open("ab", buffering=0) as out:
        while part := file.read(1 << 20):
            out.write(part)
            time.sleep(1.0)


def _watch_lines(process: subprocess.Popen[str], measured: Measured, out: Path) -> None:
    """Events come as lines: the latest one says how much has been done."""
    done_s, said = 0.0, []

    def read() -> None:
        nonlocal done_s
        assert process.stdout is not None
        for line in process.stdout:
            done_s = json.loads(line)["end_s"]

    def listen() -> None:
        assert process.stderr is not None
        said.extend(process.stderr)

    threads = [threading.Thread(target=task, daemon=True) for task in (read, listen)]
    for thread in threads:
        thread.start()
    while process.poll() is None:
        _note(process.pid, measured, done_s, is_writing=any(out.glob("*/*.json")))
        time.sleep(TICK_S)
    for thread in threads:
        thread.join()
    measured.said = "".join(said)


def _watch_scores(
    process: subprocess.Popen[str], measured: Measured, hours: float, out: Path
) -> None:
    """Scores go to a file as they come: its size says how much has been done."""
    sizes: list[int] = []
    while process.poll() is None:
        kept = list(out.glob("*/scores.part"))
        try:
            sizes.append(kept[0].stat().st_size if kept else sizes[-1] if sizes else 0)
        except FileNotFoundError:  # removed just now
            sizes.append(sizes[-1])
        _note(process.pid, measured, float(len(sizes) - 1), is_writing=bool(sizes[-1] and not kept))
        time.sleep(TICK_S)
    measured.said = process.communicate()[1]
    assert process.returncode == 0, measured.said
    per_byte = hours * 3600 / max(sizes)
    measured.rows = [(sizes[int(k)] * per_byte, *rest) for k, *rest in measured.rows]


def _note(pid: int, measured: Measured, done_s: float, *, is_writing: bool) -> None:
    found = usage(pid)
    main_mb = sum(one.rss_mb for one in found if one.role == "main")
    if is_writing:
        measured.written_mb = max(measured.written_mb, main_mb)
    elif main_mb:
        decoders_mb = sum(one.rss_mb for one in found if one.role == "decoder")
        measured.rows.append((done_s, main_mb, decoders_mb))


def main() -> None:
    hours = float(os.environ.get("HOURS", "24"))
    for way in sys.argv[1:] or WAYS:
        with tempfile.TemporaryDirectory() as folder:
            done = run(way, hours, Path(folder))
            size_mb = sum(f.stat().st_size for f in Path(folder).glob("out/*/*")) / 1e6
        if os.environ.get("ROWS"):
            for row in done.rows[:: max(1, len(done.rows) // 25)]:
                print("   {:8.0f} s {:6.0f} {:6.0f}".format(*row))
        print(done.said, file=sys.stderr)
        expected = int(hours * 3600 / EVERY_S)
        wrong = sum(
            abs(float(b["peak_s"]) - float(a["peak_s"]) - EVERY_S) > HOP_S
            for a, b in itertools.pairwise(done.events)
        )
        print(
            f"{way}: main {done.first_hour(1):.0f} MB in the first hour, {done.later(1):.0f} at "
            f"most, {done.written_mb:.0f} while results ({size_mb:.0f} MB) are written; decoder "
            f"{done.first_hour(2):.0f} and {done.later(2):.0f} MB; {len(done.events)} of "
            f"{expected} events, {wrong} at a wrong distance; {done.seconds:.0f} s",
            flush=True,
        )


def command() -> None:
    """Run touchline with the network that tells light from dark."""
    from touchline.models import load
    from touchline.tools import cli

    load.load_model = lambda *_, **__: long_model()
    cli.main()


if __name__ == "__main__":
    command() if sys.argv[1:2] == ["detect"] else main()

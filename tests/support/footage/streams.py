"""Senders of live streams on this machine, and footage to send."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np

RATE = 16


def write_stream(path: Path, levels: list[int], *, size: int = 48, rate: int = RATE) -> Path:
    """A transport stream of flat grey frames with a key frame every second, as encoders send it."""
    with av.open(str(path), "w", format="mpegts") as container:
        options = {"qp": "0", "g": str(rate), "bf": "0", "x264-params": "scenecut=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for level in levels:
            pixels = np.full((size, size, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def flashes(seconds: int, every: int = 8) -> list[int]:
    """Two bright seconds in every `every`, from the fourth on; the rest is dark."""
    return [235 if k // RATE % every in (4, 5) else 20 for k in range(seconds * RATE)]


def seconds_of(path: Path) -> list[bytes]:
    """The bytes of a transport stream, cut before each key frame: one second each."""
    content = path.read_bytes()
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux(video=0) if p.size and p.is_keyframe]
    # The tables of the stream come before its first key frame.
    edges = [0, *places[1:], len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


Sender = Callable[[socket.socket], None]
"""Sends to one who has connected. The connection is closed when it returns."""


@contextmanager
def tcp_server(*senders: Sender) -> Iterator[str]:
    """An address at which each connection in turn gets what the next sender sends; then no more."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    def serve() -> None:
        for send in senders:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                send(connection)
        # A closed socket refuses the next one who connects.
        listening.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        listening.close()


@contextmanager
def udp_sender(parts: list[bytes], pauses_s: list[float], *, port: int) -> Iterator[str]:
    """Send each part after its pause, in datagrams of seven packets, as broadcasters do."""
    stopped = threading.Event()

    def send() -> None:
        wait_for_udp(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for part, pause_s in zip(parts, pauses_s, strict=True):
                if stopped.wait(pause_s):
                    return
                for k in range(0, len(part), 7 * 188):
                    sender.sendto(part[k : k + 7 * 188], ("127.0.0.1", port))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield f"udp://127.0.0.1:{port}"
    finally:
        stopped.set()
        thread.join()


def grow(path: Path, parts: list[bytes], pause_s: float) -> threading.Thread:
    """Append the parts to a file, one after each pause."""

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for part in parts:
                file.write(part)
                time.sleep(pause_s)

    path.touch()
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def feed(descriptor: int, parts: list[bytes], pause_s: float) -> threading.Thread:
    """Write the parts to a pipe and close it."""

    def write() -> None:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for part in parts:
                file.write(part)
                time.sleep(pause_s)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def wait_for_udp(port: int, within_s: float = 60.0) -> None:
    """Wait until somebody on this machine receives at a port."""
    wanted = f":{port:04X} "
    until = time.monotonic() + within_s
    while not any(wanted in line for line in Path("/proc/net/udp").read_text().splitlines()):
        assert time.monotonic() < until, f"nobody receives at port {port}"
        time.sleep(0.05)

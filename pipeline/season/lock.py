"""One run at a time in an output folder: a lock that says who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"


@contextmanager
def hold(out: Path) -> Iterator[str | None]:
    """Hold the lock of an output folder. The system gives it up when the process ends.

    Yields:
        Who held it and ended without giving it up, such as a killed run; None if nobody did.

    Raises:
        TouchlineError: Another run holds it; the message says which.
    """
    lock = FileLock(out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _holder(out) or "another run"
        raise TouchlineError(
            out,
            f"{holder} is writing to this folder. Wait for it, stop it, or choose another folder.",
        ) from None
    try:
        gone = _holder(out)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        write_atomic(out / HOLDER_FILE, json.dumps(me) + "\n")
        try:
            yield gone
        finally:
            (out / HOLDER_FILE).unlink(missing_ok=True)
    finally:
        lock.release()


def now() -> str:
    """Return the local time to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _holder(out: Path) -> str | None:
    try:
        holder: dict[str, Any] = json.loads((out / HOLDER_FILE).read_text(encoding="utf-8"))
        return f"a run with process number {holder['pid']} on {holder['host']}, since " + str(
            holder["since"]
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "a run that cannot be named"

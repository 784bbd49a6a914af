"""One run at a time in an output folder: a lock that says who holds it.

In a remote store the lock is a lease. Its file is written anew while the run goes on.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.season.store import Store

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"

# A lease is renewed every RENEW_S. One that was not renewed for LEASE_S belongs to a run that died.
RENEW_S, LEASE_S = 20.0, 90.0


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
        raise _held(out, _holder(out) or "another run") from None
    try:
        gone = _holder(out)
        write_atomic(out / HOLDER_FILE, json.dumps(_me()) + "\n")
        try:
            yield gone
        finally:
            (out / HOLDER_FILE).unlink(missing_ok=True)
    finally:
        lock.release()


@contextmanager
def lease(store: Store, on_renew: Callable[[], None]) -> Iterator[str | None]:
    """Hold the lock of a remote folder until the end of the block.

    Two runs that begin in the same second may both get it: not every store can refuse the second.

    Args:
        store: The folder.
        on_renew: Called, in a thread, whenever the lease has been renewed.

    Yields:
        Who held it and ended without giving it up; None if nobody did.

    Raises:
        TouchlineError: Another run holds it, or the store does not answer.
    """
    content = store.read(HOLDER_FILE)
    holder = None if content is None else _parsed(content)
    gone = None if content is None else _named(holder)
    if holder is not None and _is_alive(holder):
        raise _held(store.address, str(gone))
    me = _me()

    def renew(*, patient: bool) -> None:
        text = json.dumps(me | {"seen_s": round(time.time())}) + "\n"
        store.write(HOLDER_FILE, text.encode(), patient=patient)

    renew(patient=True)
    over = threading.Event()

    def keep() -> None:
        while not over.wait(RENEW_S):
            with suppress(TouchlineError):  # it is renewed next time
                renew(patient=False)
                on_renew()

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield gone
    finally:
        over.set()
        keeper.join()
        with suppress(TouchlineError):  # the lease ends by itself
            store.remove(HOLDER_FILE)


def now() -> str:
    """Return the local time to the second, with its offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _held(out: Path, holder: str) -> TouchlineError:
    message = f"{holder} is writing to this folder. Wait for it, stop it, or choose another folder."
    return TouchlineError(out, message)


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}


def _holder(out: Path) -> str | None:
    try:
        return _named(_parsed((out / HOLDER_FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except OSError:
        return _named(None)


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        holder = json.loads(content)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _named(holder: dict[str, Any] | None) -> str:
    if holder is None or not {"pid", "host", "since"} <= holder.keys():
        return "a run that cannot be named"
    return f"a run with process number {holder['pid']} on {holder['host']}, since {holder['since']}"


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the holder of a lease renewed it lately, and did not end on this machine."""
    pid, seen_s = holder.get("pid"), holder.get("seen_s")
    if not isinstance(seen_s, int | float) or time.time() - seen_s > LEASE_S:
        return False
    if holder.get("host") == socket.gethostname() and isinstance(pid, int):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
    return True

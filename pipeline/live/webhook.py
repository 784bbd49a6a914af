"""Send each event to a web server, without ever holding up the detection."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

ANSWER_S = 10.0

# Pauses before the second, third, ... try.
PAUSES_S = (1.0, 2.0, 4.0, 8.0)

# Events that wait while the server does not answer.
MAX_WAITING = 1000

# How long the end of a run waits for events that have not been sent.
FAREWELL_S = 15.0


class Webhook:
    """Posts JSON objects in order, from a thread of its own.

    Args:
        url: Where to post, http:// or https://.
        tell: Called with a sentence about each event that could not be sent.
        pauses_s: How long to wait before each further try.

    Raises:
        ValueError: `url` is no web address.
    """

    def __init__(self, url: str, tell: Callable[[str], None]) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError(f"--post is {url!r}; it must be an address with http:// or https://")
        self._url = url
        self._tell = tell
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def post(self, row: Mapping[str, Any]) -> None:
        """Send an object soon. If too many wait, it is not sent, and that is said."""
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._tell(f"{MAX_WAITING} events wait for the web server; one more is not sent")

    def end(self, wait_s: float = FAREWELL_S) -> None:
        """Wait a short while until all events are sent; report those that are not."""
        until = time.monotonic() + wait_s
        while self._waiting.full() and time.monotonic() < until:
            time.sleep(0.1)
        if not self._waiting.full():
            self._waiting.put(None)
            self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._tell(f"the web server did not take the last {self._waiting.qsize()} events")

    def _run(self) -> None:
        while (row := self._waiting.get()) is not None:
            why = self._sent(json.dumps(row).encode())
            if why is not None:
                self._tell(f"{row.get('label')} at {row.get('peak_s')} s was not posted ({why})")

    def _sent(self, body: bytes) -> str | None:
        """Post; return why it failed, None if it did not."""
        why = ""
        for pause_s in (0.0, *PAUSES_S):
            time.sleep(pause_s)
            try:
                request = Request(
                    self._url, data=body, headers={"Content-Type": "application/json"}
                )
                with urlopen(request, timeout=ANSWER_S):
                    return None
            except HTTPError as error:
                why = f"status {error.code}"
                if error.code < 500 and error.code not in (408, 429):
                    return why
            except (URLError, OSError, ValueError) as error:
                why = str(getattr(error, "reason", error))
        return why

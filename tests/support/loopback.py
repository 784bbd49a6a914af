"""A web server on this machine that misbehaves as it is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Loopback:
    """The address, and each request's path and headers as they came."""

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


Behaviour = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers one GET; the number counts requests from 0."""


@contextmanager
def serve(behave: Behaviour) -> Iterator[Loopback]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = len(loopback.requests)
            loopback.requests.append((self.path, dict(self.headers)))
            try:
                behave(self, number)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    loopback = Loopback(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield loopback
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    *,
    length: int | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    """An answer that claims `length` bytes and has those of `body`; None claims the truth."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
    handler.close_connection = True


def first_byte(handler: BaseHTTPRequestHandler) -> int | None:
    """What a Range header asks for."""
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
    return int(match[1]) if match else None


def send_honestly(
    handler: BaseHTTPRequestHandler, content: bytes, *, headers: dict[str, str] | None = None
) -> None:
    """What a good server does: the whole, the rest asked for, or 416."""
    start = first_byte(handler)
    total = len(content)
    if start is None:
        send(handler, content, headers=headers)
    elif start >= total:
        send(handler, b"", status=416, headers={"Content-Range": f"bytes */{total}"})
    else:
        span = f"bytes {start}-{total - 1}/{total}"
        send(
            handler,
            content[start:],
            status=206,
            headers={**(headers or {}), "Content-Range": span},
        )

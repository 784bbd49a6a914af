"""Servers on this machine that misbehave as they are told: a web server, an S3 store."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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


BUCKET = "season"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@dataclass
class S3:
    """The server's address, what it was asked, and which requests it answers with 503.

    Attributes:
        url: The address.
        fails: Told the method and the path of a request, says whether it fails.
        requests: Method, path and whether it failed, of each request.
    """

    url: str
    fails: Callable[[str, str], bool] = lambda method, path: False
    requests: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def writes(self) -> list[str]:
        """The names of the files that were written, in order."""
        prefix = f"/{BUCKET}/"
        return [
            path.removeprefix(prefix)
            for method, path, failed in self.requests
            if method == "PUT" and not failed
        ]


@contextmanager
def serve_s3() -> Iterator[S3]:
    """Serve an empty store that has one bucket."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    store = S3("")
    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        failed = store.fails(method, path)
        store.requests.append((method, path, failed))
        if failed:
            start("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        return application(environ, start)

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            pass

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.reset()
    backend.create_bucket(BUCKET, "us-east-1")
    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

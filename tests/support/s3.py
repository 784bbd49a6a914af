"""An S3 server on this machine that fails when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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

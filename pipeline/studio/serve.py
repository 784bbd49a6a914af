"""Run the studio: open the project, start its work, and serve its page until it is stopped."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from touchline.models.atomic_files import atomic_path
from touchline.models.errors import TouchlineError
from touchline.pipeline.studio.engine import Engine
from touchline.pipeline.studio.server import Studio
from touchline.pipeline.teaching.output import open_trunk
from touchline.pipeline.teaching.project import Project

LOCAL = "127.0.0.1"
PAGE_FILE = ".page"
"""In the project's folder: token and port of the last time. Only its owner can read it."""


def serve(
    project: Project,
    *,
    host: str = LOCAL,
    port: int = 0,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a project until SIGINT or SIGTERM.

    On this machine alone it takes token and port of the last time again, so that pages which are
    open go on.

    Args:
        project: The open project; it stays open.
        host: The address to listen at. Everybody who can reach it and has the token can use it.
        port: The port; 0 takes that of the last time, or a free one.
        on_ready: Called with the address to open, which holds the token.

    Raises:
        TouchlineError: The address cannot be listened at.
    """
    is_local = host in (LOCAL, "localhost")
    token, last_port = _recall(project.folder) if is_local else (None, 0)
    token = token or secrets.token_urlsafe(32)
    listener = _listen(host, port) if port else _listen_again(host, last_port)
    port = listener.getsockname()[1]
    if is_local:
        _remember(project.folder, token, port)
    names = {host, LOCAL, "localhost"} if is_local else _names_of(host)
    hosts = frozenset(f"{_bracketed(name)}:{port}" for name in names)
    engine = Engine(project, lambda: open_trunk(project.options))
    studio = Studio(project, engine, token=token, hosts=hosts)
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
    base = f"http://{_bracketed(shown)}:{port}/"
    config = uvicorn.Config(
        studio.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2
    )
    server = _Server(config, on_stop=studio.close)
    project.announce(base)
    engine.start()
    threading.Thread(
        target=_when_started, args=(server, lambda: on_ready(f"{base}?token={token}"))
    ).start()
    try:
        server.run(sockets=[listener])
    finally:
        studio.close()
        engine.stop()
        listener.close()
        project.write_labels()


class _Server(uvicorn.Server):
    """Tell the streams of updates to end before waiting for them."""

    def __init__(self, config: uvicorn.Config, *, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)


def _when_started(server: uvicorn.Server, then: Callable[[], None]) -> None:
    while not (server.started or server.should_exit):
        threading.Event().wait(0.05)
    if server.started:
        then()


def _recall(folder: Path) -> tuple[str | None, int]:
    try:
        token, port = (folder / PAGE_FILE).read_text(encoding="utf-8").split()
        return token, int(port)
    except (OSError, ValueError):
        return None, 0


def _remember(folder: Path, token: str, port: int) -> None:
    # A page that has to be opened anew is no reason to stop.
    with suppress(OSError), atomic_path(folder / PAGE_FILE) as part:
        part.touch(mode=0o600)
        part.write_text(f"{token} {port}\n", encoding="utf-8")


def _listen_again(host: str, last_port: int) -> socket.socket:
    try:
        return _listen(host, last_port)
    except TouchlineError:
        return _listen(host, 0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        hint = "another program uses this port; choose another --port" if taken else error.strerror
        raise TouchlineError(Path(f"{host}:{port}"), f"cannot be listened at: {hint}") from None
    return listener


def _names_of(host: str) -> set[str]:
    if host not in ("0.0.0.0", "::"):
        return {host}
    name = socket.gethostname()
    found = {row[4][0] for row in socket.getaddrinfo(name, None)}
    return {str(address) for address in found} | {name, LOCAL, "localhost"}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

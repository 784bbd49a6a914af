"""`touchline studio` as a process of its own, and a client that can say anything to it."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PRELOADED = ["studio_process", "touchline.tools.cli", "touchline.pipeline.studio.serve"]


def run_touchline(arguments: list[str], output: str) -> None:
    """Run the command in this process, with what it prints in a file."""
    from studio_material import mean_colours

    from touchline.models import catalog
    from touchline.tools import cli

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    catalog.BACKBONES["colours"] = mean_colours
    sys.argv = ["touchline", *arguments]
    cli.main()


def start_touchline(arguments: list[str], output: Path) -> Any:
    """Start a process; it is forked from one that has imported everything already."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    process = forks.Process(target=run_touchline, args=(arguments, str(output)), daemon=True)
    process.start()
    return process


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RunningStudio:
    """A studio on a project; its port and token are new at each start."""

    def __init__(self, project: Path, *arguments: object) -> None:
        self.project_folder = project
        self.output = project.with_name(f"{project.name}.txt")
        self._arguments = ["studio", *map(str, arguments), "-o", str(project), "--no-open"]

    def start(self) -> RunningStudio:
        self.output.unlink(missing_ok=True)
        self.process = start_touchline(self._arguments, self.output)
        found = wait_for(lambda: self._address() or not self.process.is_alive())
        if not isinstance(found, re.Match):
            raise AssertionError(f"the studio did not start: {self.printed}")
        self.port, self.token = int(found[1]), found[2]
        self.cookie = f"touchline_studio_{self.port}={self.token}"
        return self

    def _address(self) -> re.Match[str] | None:
        return re.search(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", self.printed)

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | str | None = None,
        leave_out: tuple[str, ...] = (),
        **headers: str,
    ) -> Answer:
        """One request as the page makes it, with other headers where they are given."""
        sent = {
            "Host": f"127.0.0.1:{self.port}",
            "Cookie": self.cookie,
            "Sec-Fetch-Site": "same-origin",
        }
        if body is not None:
            sent |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            content = body.encode() if isinstance(body, str) else body
            if content is not None and "Transfer-Encoding" not in sent:
                sent.setdefault("Content-Length", str(len(content)))
            for name, value in sent.items():
                if name not in leave_out:
                    connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            got = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, got, answer.read())
        finally:
            connection.close()

    def project(self) -> Any:
        return self.ask("/api/project").json

    def act(self, **action: object) -> Answer:
        return self.post("/api/do", action)

    def do(self, **action: object) -> str:
        answer = self.act(**action)
        assert answer.status == 200, answer
        return str(answer.json["id"])

    def post(self, path: str, body: object) -> Answer:
        return self.ask(path, method="POST", body=json.dumps(body))

    def wait(self, happened: Callable[[Any], object], *, timeout_s: float = 60.0) -> Any:
        """Wait until something is true of the project; return it."""
        return wait_for(lambda: happened(self.project()), timeout_s=timeout_s)

    @contextmanager
    def updates(self) -> Iterator[Iterator[Any]]:
        """The server-sent events, one parsed object after the other."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Cookie": self.cookie, "Accept": "text/event-stream"}
        connection.request("GET", "/api/updates", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200

        def events() -> Iterator[Any]:
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

        try:
            yield events()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)
        self.process.join(timeout=60)
        return int(self.process.exitcode)


def wait_for(happened: Callable[[], object], *, timeout_s: float = 60.0) -> Any:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if value := happened():
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not happen in {timeout_s} s")

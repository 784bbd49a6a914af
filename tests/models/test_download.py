"""A download ends with the right bytes under the right name, or with neither."""

from __future__ import annotations

import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from loopback import Behaviour, first_byte, send, send_honestly, serve

from touchline.models.errors import WeightsError
from touchline.models.weights.download import Patience, fetch

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
HALF = 51_200
HASTE = Patience(timeout_s=5.0, attempts=3, pause_s=0.01)
STALL_S = 1.0


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pt"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def check(part: Path) -> None:
    if part.read_bytes() != CONTENT:
        raise WeightsError(part, "wrong bytes")


def fetch_from(behave: Behaviour, target: Path, *, patience: Patience = HASTE) -> list[str | None]:
    """Fetch from a server that behaves so; the ranges that it was asked for."""
    with serve(behave) as server:
        fetch(server.url + "/weights.pt", target, check=check, patience=patience)
    assert target.read_bytes() == CONTENT
    assert left_over(target) == []
    return server.ranges


def left_over(target: Path) -> list[str]:
    """What is next to the target, except the lock."""
    lock = target.name + ".lock"
    return sorted(p.name for p in target.parent.iterdir() if p.name not in (target.name, lock))


def assert_refused(behave: Behaviour, target: Path, message: str) -> list[str | None]:
    with serve(behave) as server, pytest.raises(WeightsError, match=message):
        fetch(server.url + "/weights.pt", target, check=check, patience=HASTE)
    assert not target.exists()
    return server.ranges


def test_a_whole_file_comes_in_one_request(target: Path) -> None:
    assert fetch_from(lambda h, n: send_honestly(h, CONTENT), target) == [None]


def test_a_file_that_is_there_is_not_asked_for(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with serve(lambda h, n: send(h, b"theirs")) as server:
        fetch(server.url, target, check=check)
    assert server.requests == []
    assert target.read_bytes() == b"mine"


def test_a_truncated_transfer_is_resumed_where_it_broke(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            send(handler, CONTENT[:HALF], length=len(CONTENT))
        else:
            send_honestly(handler, CONTENT)

    assert fetch_from(behave, target) == [None, f"bytes={HALF}-"]


def test_a_server_that_refuses_ranges_sends_all_of_it_again(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        body = CONTENT[:HALF] if number == 0 else CONTENT
        send(handler, body, length=len(CONTENT))

    assert fetch_from(behave, target) == [None, f"bytes={HALF}-"]


def test_a_server_that_always_truncates_is_given_up(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT[:HALF], length=len(CONTENT))

    ranges = assert_refused(behave, target, "ended after 51200 of 102400 bytes")
    assert len(ranges) == HASTE.attempts
    assert left_over(target) == ["weights.pt.part"]


def test_a_server_that_sends_a_byte_at_a_time_is_given_up(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        start = first_byte(handler) or 0
        headers = {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        send(
            handler,
            CONTENT[start : start + 1],
            length=len(CONTENT) - start,
            status=206 if start else 200,
            headers=headers,
        )

    assert len(assert_refused(behave, target, "of 102400 bytes")) == HASTE.attempts


def test_an_interrupted_run_is_resumed_by_the_next(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("weights.pt.part").write_bytes(CONTENT[:1000])
    assert fetch_from(lambda h, n: send_honestly(h, CONTENT), target) == ["bytes=1000-"]


def test_a_part_that_was_whole_already_is_taken(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("weights.pt.part").write_bytes(CONTENT)
    ranges = fetch_from(lambda h, n: send_honestly(h, CONTENT), target)
    assert ranges == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_thrown_away(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("weights.pt.part").write_bytes(CONTENT + b"more")
    ranges = fetch_from(lambda h, n: send_honestly(h, CONTENT), target)
    assert ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_part_of_another_version_is_not_spliced(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            old = b"x" * HALF
            send(handler, old, length=len(CONTENT), headers={"ETag": '"old"'})
        elif handler.headers.get("If-Range") == '"old"':
            send(handler, CONTENT, headers={"ETag": '"new"'})
        else:
            send_honestly(handler, CONTENT)

    assert fetch_from(behave, target) == [None, f"bytes={HALF}-"]


def test_another_range_than_the_one_asked_for_is_not_appended(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if first_byte(handler) is None and number == 0:
            send(handler, CONTENT[:HALF], length=len(CONTENT))
        elif first_byte(handler) is not None:
            span = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
            send(handler, CONTENT, status=206, headers=span)
        else:
            send(handler, CONTENT)

    with serve(behave) as server:  # no check: most files of the table have no digest
        fetch(server.url, target, check=lambda part: None, patience=HASTE)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_a_stalled_connection_is_dropped_and_resumed(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            send(handler, CONTENT[:HALF], length=len(CONTENT))
            handler.close_connection = False
            time.sleep(2 * STALL_S)
        else:
            send_honestly(handler, CONTENT)

    patience = Patience(timeout_s=STALL_S, attempts=3, pause_s=0.01)
    assert fetch_from(behave, target, patience=patience) == [None, f"bytes={HALF}-"]


def test_a_server_that_never_answers_is_given_up(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        time.sleep(1.0)

    patience = Patience(timeout_s=0.2, attempts=2, pause_s=0.01)
    with serve(behave) as server, pytest.raises(WeightsError, match=r"for 0\.2 s|timed out"):
        fetch(server.url, target, check=check, patience=patience)
    assert len(server.requests) == 2


def test_a_length_that_is_too_large_is_found_out(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            send(handler, CONTENT, length=len(CONTENT) + 100)
        else:
            send_honestly(handler, CONTENT)

    assert fetch_from(behave, target) == [None, f"bytes={len(CONTENT)}-"]


def test_a_length_that_is_too_small_is_found_out_by_the_check(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT, length=len(CONTENT) - 10 if number == 0 else None)

    assert fetch_from(behave, target) == [None, None]


def test_wrong_bytes_never_get_the_name(target: Path) -> None:
    ranges = assert_refused(lambda h, n: send(h, b"x" * len(CONTENT)), target, "wrong bytes")
    assert ranges == [None, None]
    assert left_over(target) == []


def test_a_bad_part_is_fetched_again_from_the_start(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("weights.pt.part").write_bytes(b"x" * HALF)
    ranges = fetch_from(lambda h, n: send_honestly(h, CONTENT), target)
    assert ranges == [f"bytes={HALF}-", None]


def test_a_missing_file_is_not_asked_for_twice(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, b"no such thing", status=404)

    assert assert_refused(behave, target, "weights.pt .*HTTP 404") == [None]


def test_a_busy_server_is_asked_again(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number < 2:
            send(handler, b"", status=503)
        else:
            send(handler, CONTENT)

    assert fetch_from(behave, target) == [None] * 3


def test_a_redirect_is_followed(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        if handler.path == "/weights.pt":
            send(handler, b"", status=302, headers={"Location": "/elsewhere.pt"})
        else:
            send(handler, CONTENT)

    assert len(fetch_from(behave, target)) == 2


def test_without_network_the_error_says_what_was_wanted(target: Path) -> None:
    with serve(lambda h, n: None) as server:
        pass
    with pytest.raises(WeightsError, match=f"{server.url}/weights.pt .*refused"):
        fetch(server.url + "/weights.pt", target, check=check, patience=HASTE)


def test_progress_counts_bytes_here_of_bytes_in_all(target: Path) -> None:
    news: list[tuple[int, int | None]] = []
    target.parent.mkdir()
    target.with_name("weights.pt.part").write_bytes(CONTENT[:HALF])
    with serve(lambda h, n: send_honestly(h, CONTENT)) as server:
        fetch(
            server.url,
            target,
            check=check,
            on_progress=lambda done, total: news.append((done, total)),
        )
    assert [total for _, total in news] == [len(CONTENT)] * len(news)
    done = [d for d, _ in news]
    assert done == sorted(done)
    assert done[0] > HALF
    assert done[-1] == len(CONTENT)


def test_the_proxy_of_the_environment_is_asked(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(lambda h, n: send(h, CONTENT)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetch("http://weights.invalid/x.pt", target, check=check, patience=HASTE)
    assert [path for path, _ in proxy.requests] == ["http://weights.invalid/x.pt"]


def test_no_proxy_names_hosts_that_are_asked_directly(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(lambda h, n: send(h, b"", status=502)) as proxy,
        serve(lambda h, n: send(h, CONTENT)) as server,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetch(server.url + "/weights.pt", target, check=check, patience=HASTE)
    assert proxy.requests == []
    assert len(server.requests) == 1


def test_two_processes_fetch_a_file_once(target: Path) -> None:
    def behave(handler: BaseHTTPRequestHandler, number: int) -> None:
        time.sleep(1.0)  # so long that both are there
        send(handler, CONTENT)

    program = (
        "import sys; from pathlib import Path\n"
        "from touchline.models.weights.download import fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), check=lambda part: None)"
    )
    with serve(behave) as server:
        command = [sys.executable, "-c", program, server.url + "/weights.pt", str(target)]
        running = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT

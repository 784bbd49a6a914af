"""Footage sent in real time: each event is given within the stated latency, as in the offline run.

With `-s` the latencies are printed; docs/live.md quotes them.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from streams import (
    flashes,
    free_port,
    grow,
    seconds_of,
    tcp_server,
    udp_sender,
    wait_for_udp,
    write_stream,
)
from tiny import brightness_model

from touchline.pipeline.detection.detect import detect, make_scorer
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.live.detect import LiveRun
from touchline.pipeline.live.options import LiveOptions
from touchline.pipeline.live.source import live_source
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.types import Event

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/udp says who receives"),
]

OPTIONS = DetectOptions(hop_s=0.25, device="cpu", batch_size=1, mode="windows")
SECONDS = 60

# What a busy machine may add to the stated latency.
LATE_S = 3.0

# Nothing is sent in this time, while the stream goes on.
CUT_S = (26, 36)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute with seven flashes, the fourth one inside the cut."""
    return write_stream(tmp_path_factory.mktemp("real_time") / "stream.ts", flashes(SECONDS))


@pytest.fixture(scope="module")
def offline(footage: Path) -> MatchResult:
    return detect(footage, brightness_model(), OPTIONS)


class Sent:
    """A stream that is sent second by second, and when each event came out of it."""

    def __init__(self, way: str, parts: list[bytes], pauses_s: list[float], folder: Path) -> None:
        self.began_s: float | None = None
        self.events: list[tuple[Event, float]] = []
        self.told: list[str] = []
        with ExitStack() as stack:
            address = self._address(way, parts, pauses_s, folder, stack)
            live = LiveOptions(wait_s=15.0)
            source = live_source(address, wait_s=live.wait_s, asked=True)
            assert source is not None
            run = LiveRun(
                source, make_scorer(brightness_model(), OPTIONS), OPTIONS, live,
                on_event=self._on_event, tell=self.told.append,
            )  # fmt: skip
            self.stated_s = run.latency_s()
            self.result = run.run()

    def _on_event(self, event: Event) -> None:
        self.events.append((event, time.monotonic()))

    def late_s(self) -> list[float]:
        """For each event, how long after its end it was given."""
        assert self.began_s is not None
        return [at_s - self.began_s - event.end_s for event, at_s in self.events]

    def _address(
        self, way: str, parts: list[bytes], pauses_s: list[float], folder: Path, stack: ExitStack
    ) -> str:
        if way == "udp":
            port = free_port(socket.SOCK_DGRAM)
            address = stack.enter_context(udp_sender(parts, pauses_s, port=port))
            threading.Thread(target=self._begins_with_udp, args=(port,), daemon=True).start()
            return address
        if way == "tcp":

            def send(connection: socket.socket) -> None:
                self.began_s = time.monotonic()
                for part, pause_s in zip(parts, pauses_s, strict=True):
                    time.sleep(pause_s)
                    connection.sendall(part)

            return stack.enter_context(tcp_server(send))
        self.began_s = time.monotonic()
        grow(folder / "growing.ts", parts, 1.0)
        return str(folder / "growing.ts")

    def _begins_with_udp(self, port: int) -> None:
        wait_for_udp(port)
        self.began_s = time.monotonic()


@pytest.mark.parametrize("way", ["udp", "tcp", "growing"])
def test_each_event_of_a_stream_in_real_time_is_given_within_the_stated_latency(
    way: str, footage: Path, offline: MatchResult, tmp_path: Path
) -> None:
    # A second of footage is sent when it is over; a file gets it at its beginning.
    parts = seconds_of(footage)
    sent = Sent(way, parts, [1.0] * len(parts), tmp_path)
    assert sent.result.accepted == offline.accepted
    assert sorted(e.start_s for e, _ in sent.events) == [e.start_s for e in offline.accepted]
    print(way, f"stated {sent.stated_s:.2f} s:", *(f"{late_s:.2f}" for late_s in sent.late_s()))
    assert len(sent.events) == 7
    assert max(sent.late_s()) < sent.stated_s + LATE_S


def test_ten_seconds_without_a_stream_shift_no_time(
    footage: Path, offline: MatchResult, tmp_path: Path
) -> None:
    parts = seconds_of(footage)
    kept = parts[: CUT_S[0]] + parts[CUT_S[1] :]
    pauses_s = [1.0] * len(kept)
    pauses_s[CUT_S[0]] += CUT_S[1] - CUT_S[0]
    sent = Sent("udp", kept, pauses_s, tmp_path)
    print(f"stated {sent.stated_s:.2f} s:", *(f"{late_s:.2f}" for late_s in sent.late_s()))
    away = [e for e in offline.accepted if not CUT_S[0] < e.peak_s < CUT_S[1] + 2]
    assert [e for e in sent.result.accepted if e in away] == away
    assert len(sent.result.accepted) == 6
    [after] = [e for e in sent.result.accepted if e not in away]
    assert after.peak_s == pytest.approx(37, abs=0.5)
    [(start_s, end_s)] = sent.result.health.gaps_s
    assert (start_s, end_s) == (pytest.approx(26, abs=0.2), pytest.approx(36, abs=0.2))
    assert max(sent.late_s()) < sent.stated_s + LATE_S

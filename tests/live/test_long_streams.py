"""Streams of many hours: read to their end with right times, and in flat memory."""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from long_streams import BRIGHT_S, EVERY_S, RATE, WRAP_S, write_long
from measure_day import WAYS, Measured, run

from touchline.pipeline.live.reader import Reader
from touchline.pipeline.live.source import live_source

HOURS = 3

# Where the clock of the stream begins: at 0, and so that its 33 bits are full after half an hour.
STARTS = {"from zero": Fraction(0), "across the wrap": WRAP_S - 1800}


@pytest.mark.parametrize("start", STARTS)
def test_a_stream_of_hours_is_read_to_its_end_with_right_times(start: str, tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.ts", HOURS, start_s=STARTS[start])
    source = live_source(str(path), wait_s=0.1, asked=True)
    assert source is not None
    told: list[str] = []
    reader = Reader(source, None, tell=told.append)
    reader.start()
    ((footage, packets),) = ((of, list(packets)) for of, packets in reader.connections())
    times = [footage.seconds(packet.pts) for packet in packets if packet.pts is not None]
    assert len(times) == HOURS * 3600 * RATE
    assert {b - a for a, b in itertools.pairwise(times)} == {Fraction(1, RATE)}
    assert told == ["the stream ended (the file has not grown for 0.1 s)"]


def check_events(measured: Measured, hours: float) -> None:
    """There is one event in each minute, where the pictures are bright."""
    middle_s = sum(BRIGHT_S) / 2
    peaks = [float(str(event["peak_s"])) for event in measured.events]
    assert len(peaks) == round(hours * 3600 / EVERY_S)
    assert all(abs(p - k * EVERY_S - middle_s) < 1.0 for k, p in enumerate(peaks))


# Each takes one to three minutes here; the machine may be five times slower.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory is used")
@pytest.mark.parametrize("way", WAYS)
def test_memory_is_flat_over_hours(way: str, tmp_path: Path) -> None:
    hours = 4
    measured = run(way, hours, tmp_path)
    check_events(measured, hours)
    for column in (1, 2):
        assert measured.later(column) - measured.first_hour(column) < 50
    assert measured.written_mb - measured.first_hour(1) < 100

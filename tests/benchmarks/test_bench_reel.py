"""The reel whose making is timed: three ways give the same match, sound with the picture."""

from itertools import pairwise
from pathlib import Path

import pytest

from touchline.pipeline.benchmarks.reel import (
    PART_S,
    RATE,
    ReelRow,
    bench_reel,
    made_match,
    marks_heard,
    marks_seen,
    spread_events,
    stream_ends,
)


def check(rows: list[ReelRow], *, num_cuts: int) -> None:
    assert [row.mode for row in rows] == ["encode", "exact", "copy"]
    encode, exact, copy = (row.reel for row in rows)
    assert encode.num_encoded == encode.num_frames == exact.num_frames
    assert 0 < exact.num_encoded < exact.num_frames / 2
    assert copy.num_encoded == 0
    assert encode.duration_s == pytest.approx(exact.duration_s) == encode.num_frames / RATE
    # Copied cuts begin at the key frame before: at most two seconds and some frames longer.
    assert 0 <= copy.duration_s - exact.duration_s <= num_cuts * (2 + 0.2)
    for row in rows:
        assert len(row.reel.cuts) == num_cuts
        assert row.video_end_s == pytest.approx(row.reel.duration_s, abs=0.001)
        assert row.audio_end_s == pytest.approx(row.reel.duration_s, abs=0.025)
        assert row.num_marks >= row.reel.duration_s - 2 * num_cuts
        assert row.apart_s < 0.03


@pytest.mark.slow
def test_every_way_keeps_length_and_sound(tmp_path: Path) -> None:
    check(list(bench_reel(tmp_path, num_parts=2, height_px=90, num_events=4)), num_cuts=4)


@pytest.mark.slow
def test_twenty_events_of_ten_minutes_keep_length_and_sound(tmp_path: Path) -> None:
    check(list(bench_reel(tmp_path, height_px=360)), num_cuts=20)


def test_the_match_made_for_it_marks_every_second_in_picture_and_sound(tmp_path: Path) -> None:
    path = made_match(tmp_path / "match.mp4", num_parts=2, height_px=90)
    expected = [k + 0.48 for k in range(2 * PART_S)]
    assert marks_seen(path) == pytest.approx(expected, abs=0.001)
    assert marks_heard(path) == pytest.approx(expected, abs=0.002)
    assert stream_ends(path)["video"] == pytest.approx(2 * PART_S)


def test_its_events_are_far_enough_apart_to_be_cuts_of_their_own() -> None:
    starts = [event.start_s for event in spread_events(20, 608)]
    assert min(b - a for a, b in pairwise(starts)) > 9 + 2
    assert starts[0] > 5
    assert starts[-1] < 600

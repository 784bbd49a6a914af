"""Readings of a clock to stretches in which it runs: misread digits, cuts, stops, countdowns."""

from __future__ import annotations

import numpy as np
import pytest

from touchline.pipeline.scoreboard.fit import Piece, fit, values
from touchline.pipeline.scoreboard.read_clock import ScoreboardClock, match_clock


def shown(clock_s: float) -> str:
    return f"{int(clock_s) // 60:02d}:{int(clock_s) % 60:02d}"


def at(pieces: list[Piece], time_s: float) -> float | None:
    return ScoreboardClock(tuple(pieces), None, 0).at(time_s)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:34", (754.0,)),
        ("7:05", (425.0,)),
        ("1234", (754.0, 94.0)),
        ("12134", (7294.0, 754.0)),
        ("45:00+2:13", (2700.0, 2833.0)),
        ("120:00", (7200.0,)),
        ("", ()),
        ("12", ()),
        ("12:34:56", ()),
        ("+", ()),
        ("999:00", ()),
    ],
)
def test_what_a_reading_may_mean(text: str, expected: tuple[float, ...]) -> None:
    assert values(text) == expected


def test_two_halves_with_a_break_between() -> None:
    times = np.arange(0, 3600, 2.0)
    texts = [shown(t + 60) if t < 1500 else "" if t < 2000 else shown(t + 700) for t in times]
    pieces = fit(times, texts)
    assert [piece.slope for piece in pieces] == [1, 1]
    assert at(pieces, 1000) == pytest.approx(1060, abs=1)
    assert at(pieces, 3000) == pytest.approx(3700, abs=1)
    assert at(pieces, 1750) is None
    clock = match_clock(ScoreboardClock(tuple(pieces), None, 0))
    assert clock is not None
    assert clock.kickoff_s == {1: pytest.approx(-60, abs=1), 2: pytest.approx(2000, abs=1)}


def test_a_misread_digit_for_a_minute_does_not_move_the_clock() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 1200, 2.0)
    texts = [shown(t) for t in times]
    for k in range(200, 230):
        texts[k] = shown(times[k] + 600)
    for k in rng.choice(600, 120, replace=False):
        texts[k] = str(rng.choice(["", "8", "88:88", shown(rng.integers(0, 6000))]))
    pieces = fit(times, texts)
    assert len(pieces) == 1
    errors = [abs((at(pieces, t) or -99) - t) for t in times[2:-2]]
    assert max(errors) <= 1


def test_noise_and_standing_digits_are_no_clock() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(0, 3600, 2.0)
    assert fit(times, [shown(rng.integers(0, 6000)) for _ in times]) == []
    assert fit(times, ["20:15" for _ in times]) == []
    assert fit(times, ["" for _ in times]) == []
    assert fit([], []) == []


def test_a_clock_that_counts_down_and_stops() -> None:
    times = np.arange(0, 400, 1.0)
    left, clock = 600.0, []
    for t in times:
        clock.append(left)
        left -= 0 if 100 <= t < 130 or 250 <= t < 260 else 1
    pieces = fit(times, [shown(value) for value in clock])
    assert {piece.slope for piece in pieces} == {0, -1}
    errors = [abs((at(pieces, t) or -99) - value) for t, value in zip(times, clock, strict=True)]
    assert np.mean(np.array(errors) <= 1.1) > 0.97
    assert match_clock(ScoreboardClock(tuple(pieces), None, 0), 10.0) is None


def test_added_time_beside_a_clock_that_stands() -> None:
    times = np.arange(2400, 3000, 2.0)
    texts = [shown(t) if t < 2700 else f"45:00+{shown(t - 2700)[1:]}" for t in times]
    pieces = fit(times, texts)
    assert at(pieces, 2900) == pytest.approx(2900, abs=1)
    standing = fit(times, [shown(min(t, 2700)) for t in times])
    assert at(standing, 2600) == pytest.approx(2600, abs=1)
    for found in (pieces, standing):
        clock = match_clock(ScoreboardClock(tuple(found), None, 0))
        assert clock is not None
        assert clock.text(2833.5) == "1H 45:00+2:13"


def test_a_period_with_two_clocks_gives_no_kick_off() -> None:
    times = np.arange(0, 600, 2.0)
    cut = fit(times, [shown(t if t < 300 else t + 400) for t in times])
    assert [piece.slope for piece in cut] == [1, 1]
    assert at(cut, 500) == pytest.approx(900, abs=1)
    assert match_clock(ScoreboardClock(tuple(cut), None, 0)) is None

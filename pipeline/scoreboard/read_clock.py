"""Footage to match clock: find the scoreboard clock, read it, and fit what was read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.scoreboard.fit import LEAST_SHARE, Piece, fit, values
from touchline.pipeline.scoreboard.locate import (
    BURST_RATE_HZ,
    BURST_S,
    Place,
    merged,
    ticking_places,
)
from touchline.pipeline.scoreboard.options import ClockOptions
from touchline.pipeline.timecode import FOOTBALL_PERIOD_MIN, MatchClock
from touchline.pipeline.types import UInt8

Read = Callable[[Sequence[UInt8]], list[str]]
"""Pictures (H, W, 3) RGB -> the digits and signs in each."""

LOCATE_PX = 360
READ_PX = 720
# How far a clock reaches to the left of its last digit's right edge, in heights of a digit.
LEFT = (2.6, 3.3, 4.2, 5.2)
_MARGIN = 0.25
_WIDE = 7.5
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d:\d\d")
_NEAR_S = 5.0
_TRIAL_S = 6.0
_LEAST_TICKS, _ENOUGH_TICKS = 2, 9


@dataclass(frozen=True)
class ScoreboardClock:
    """What the scoreboard shows over the footage.

    Attributes:
        pieces: Stretches in which the clock runs or stands, in time order; none without a clock.
        place: Where the clock is. None without a clock.
        reads: Readings that may be a clock.
        why: Why there is no clock, or no match clock.
    """

    pieces: tuple[Piece, ...]
    place: Place | None
    reads: int
    why: str = ""

    def at(self, time_s: float) -> float | None:
        """Return the seconds on the clock at a time of the file; None where that is not known."""
        for piece in self.pieces:
            if piece.start_s - _NEAR_S <= time_s <= piece.end_s + _NEAR_S:
                return piece.at(time_s)
        return None


def read_clock(
    path: str | os.PathLike[str], read: Read, options: ClockOptions | None = None
) -> ScoreboardClock:
    """Read the scoreboard clock of footage.

    Args:
        path: The footage.
        read: Reads digits in pictures, such as `Recogniser.read`.
        options: How to search and read.

    Raises:
        FootageError: The footage cannot be read.
    """
    options = options or ClockOptions()
    health = probe_footage(path)
    duration_s = health.duration_s
    places = merged(
        place
        for begin_s in _burst_starts(duration_s, options.bursts)
        for place in _places_in(path, begin_s)
    )
    if not places:
        return ScoreboardClock((), None, 0, "No place of the picture changes once a second.")
    crops = [(place, left) for place in places for left in LEFT]
    chosen = _most_clocklike(path, read, crops, _burst_starts(duration_s, options.bursts))
    if chosen is None:
        return ScoreboardClock((), None, 0, "No place that changes once a second reads as a clock.")
    return _read_all(path, read, chosen, options)


def _burst_starts(duration_s: float, count: int) -> list[float]:
    """Starts of stretches spread over the footage; one from the beginning if it is short."""
    last_s = duration_s - BURST_S
    if last_s <= BURST_S * count:
        return [float(s) for s in np.arange(0, max(last_s, 0) + 0.01, BURST_S)][:count]
    return [float(s) for s in np.linspace(0, last_s, 2 * count + 1)[1::2]]


def _places_in(path: str | os.PathLike[str], begin_s: float) -> list[Place]:
    with decode(
        path, rate_hz=BURST_RATE_HZ, size_px=LOCATE_PX, start_s=begin_s, end_s=begin_s + BURST_S
    ) as stream:
        chunks = [frames.pixels for frames in stream]
    return ticking_places(np.concatenate(chunks)) if chunks else []


def _most_clocklike(
    path: str | os.PathLike[str],
    read: Read,
    crops: list[tuple[Place, float]],
    starts: Sequence[float],
) -> tuple[Place, float] | None:
    """The crop whose readings in the bursts go on as a clock does; None if none does."""
    points = [0] * len(crops)
    same = [0] * len(crops)
    for begin_s in starts:
        if max(points) >= _ENOUGH_TICKS:
            break
        times, pictures = [], []
        with decode(
            path, rate_hz=1, size_px=READ_PX, start_s=begin_s, end_s=begin_s + _TRIAL_S
        ) as stream:
            for frames in stream:
                times += frames.sample_s.tolist()
                pictures += list(frames.pixels)
        texts = [read([crop(p, place, left) for p in pictures]) for place, left in crops]
        for k, (place, _) in enumerate(crops):
            points[k] += _ticks(times, texts[k])
            others = [texts[j] for j, (other, _) in enumerate(crops) if other == place and j != k]
            same[k] += sum(a == b for other in others for a, b in zip(texts[k], other, strict=True))
    # A crop that is too narrow ticks, too, without the first digit. Most crops see all digits.
    good = [k for k in range(len(crops)) if points[k] >= max(_LEAST_TICKS, 0.7 * max(points))]
    return crops[max(good, key=lambda k: (same[k], crops[k][1]))] if good else None


def _ticks(times: Sequence[float], texts: Sequence[str]) -> int:
    """How often a reading follows from the one before by the seconds between them."""
    found = 0
    for k in range(1, len(texts)):
        step_s = times[k] - times[k - 1]
        pairs = [(a, b) for a in values(texts[k - 1]) for b in values(texts[k])]
        found += any(abs(abs(b - a) - step_s) < 0.5 for a, b in pairs)
    return found


def _read_all(
    path: str | os.PathLike[str], read: Read, chosen: tuple[Place, float], options: ClockOptions
) -> ScoreboardClock:
    place, left = chosen
    times: list[float] = []
    texts: list[str] = []
    wide: list[str] = []
    with decode(path, rate_hz=options.rate_hz, size_px=READ_PX) as stream:
        for frames in stream:
            times += frames.sample_s.tolist()
            texts += read([crop(picture, place, left) for picture in frames.pixels])
            # A time of day has hours to the left of what looks like a clock.
            few = frames.pixels[:: max(1, len(frames) // 2)]
            wide += read([crop(picture, place, _WIDE) for picture in few])
    reads = sum(bool(values(text)) for text in texts)
    if sum(bool(_TIME_OF_DAY.search(text)) for text in wide) > LEAST_SHARE * len(wide):
        return ScoreboardClock((), None, reads, "The clock shows the time of day.")
    pieces = fit(times, texts)
    if not pieces:
        return ScoreboardClock((), None, reads, "The readings do not follow one clock.")
    return ScoreboardClock(tuple(pieces), place, reads)


def crop(picture: UInt8, place: Place, left: float) -> UInt8:
    """Cut a clock out of a picture.

    Args:
        picture: (3, H, W) RGB.
        place: Where the last digit is.
        left: How far the clock reaches to the left, in heights of a digit.
    """
    _, H, W = picture.shape
    height = place.height * H
    right = (place.x + place.width) * W
    x0, x1 = right - left * height, right + _MARGIN * height
    y0, y1 = place.y * H - _MARGIN * height, (place.y + place.height) * H + _MARGIN * height
    x0, y0 = max(0, round(x0)), max(0, round(y0))
    x1, y1 = max(x0 + 2, round(x1)), max(y0 + 2, round(y1))
    return np.ascontiguousarray(picture[:, y0:y1, x0:x1].transpose(1, 2, 0))


def match_clock(clock: ScoreboardClock, period_min: float | None = None) -> MatchClock | None:
    """Return kick-offs that say the same as the scoreboard; None if kick-offs cannot say it.

    They cannot if the clock counts down, or if a period has two clocks, as in cut footage.

    Args:
        clock: What the scoreboard shows.
        period_min: Minutes of a period. None: football.
    """
    kickoffs: dict[int, float] = {}
    for piece in clock.pieces:
        if piece.slope == -1:
            return None
        if piece.slope == 0:
            continue
        period, start_s = _period(piece, kickoffs, period_min)
        kickoff_s = piece.start_s - (piece.clock_s - start_s)
        if abs(kickoffs.setdefault(period, kickoff_s) - kickoff_s) > 2:
            return None
    try:
        return MatchClock(kickoffs, period_min) if kickoffs else None
    except ValueError:
        return None


def _period(piece: Piece, before: dict[int, float], period_min: float | None) -> tuple[int, float]:
    """The period of a running piece, and the seconds on the clock at its kick-off."""
    minutes = FOOTBALL_PERIOD_MIN[:4] if period_min is None else [k * period_min for k in range(99)]
    starts = [60.0 * m for m in minutes]
    # Added time goes on after the period's end: the same kick-off explains it.
    for period, kickoff_s in before.items():
        if abs(piece.start_s - (piece.clock_s - starts[period - 1]) - kickoff_s) <= 2:
            return period, starts[period - 1]
    # A kick-off shows a few seconds of the clock before the first reading.
    period = max(k for k, start in enumerate(starts, start=1) if start <= piece.clock_s + 2)
    return period, starts[period - 1]


def minutes_seconds(clock_s: float) -> str:
    """Write seconds as a scoreboard does: 07:05."""
    minutes, seconds = divmod(round(clock_s), 60)
    return f"{minutes:02d}:{seconds:02d}"


def piece_rows(clock: ScoreboardClock) -> list[dict[str, float | int]]:
    """Return the stretches as rows: times of the file, and what the clock shows there."""
    return [
        {
            "start_s": round(piece.start_s, 3),
            "end_s": round(piece.end_s, 3),
            "clock_start_s": round(piece.clock_s, 3),
            "clock_end_s": round(piece.at(piece.end_s), 3),
            "slope": piece.slope,
            "reads": piece.reads,
            "share": round(piece.share, 3),
        }
        for piece in clock.pieces
    ]

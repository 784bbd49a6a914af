"""Find the clock that explains what was read: stretches in which it runs or stands.

Readings hold misread digits, and a misread digit agrees with itself for a minute. So a change to
another clock costs much, and a reading that is missing costs little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from touchline.pipeline.types import Float64, Int64

TOLERANCE_S = 1.1
LEAST_READS = 8
LEAST_SHARE = 0.3

_JUMP = 30.0
_STOP_OR_GO = 2.0
_CONTINUOUS_S = 1.6
_MISSING = 0.35
_MISMATCH = 1.0
_NO_CLOCK = 0.7
_MOST_STATES = 400
_LEAST_VOTES = 4
MOST_MINUTES = 200

_CLOCK = re.compile(r"(\d{1,3}):(\d\d)")
_ADDED = re.compile(r"(\d{1,3}):(\d\d)\+(\d{1,2}):(\d\d)")


@dataclass(frozen=True)
class Piece:
    """A stretch of the footage in which the clock runs or stands.

    Attributes:
        start_s: Its first reading, in seconds of the file.
        end_s: Its last reading.
        clock_s: What the clock shows at the start.
        slope: 1 running, 0 standing, -1 counting down.
        reads: Readings that it explains.
        share: The share of readings in it that it explains.
    """

    start_s: float
    end_s: float
    clock_s: float
    slope: int
    reads: int
    share: float

    def at(self, time_s: float) -> float:
        """What the clock shows at a time of the file."""
        return self.clock_s + self.slope * (time_s - self.start_s)


def values(text: str) -> tuple[float, ...]:
    """Return the seconds that a reading may mean; the colon may be missing, or read as a digit."""
    if added := _ADDED.fullmatch(text):
        minutes, seconds, more_minutes, more_seconds = map(int, added.groups())
        return _in_range((minutes, seconds), (minutes + more_minutes, seconds + more_seconds))
    if clock := _CLOCK.fullmatch(text):
        return _in_range((int(clock[1]), int(clock[2])))
    if not text.isdecimal() or not 3 <= len(text) <= 6:
        return ()
    plain = (int(text[:-2]), int(text[-2:]))
    with_sign = (int(text[:-3]), int(text[-2:])) if len(text) > 3 else plain
    return _in_range(plain, with_sign)


def _in_range(*clocks: tuple[int, int]) -> tuple[float, ...]:
    fitting = [60 * m + s for m, s in clocks if m < MOST_MINUTES and s < 120]
    return tuple(dict.fromkeys(map(float, fitting)))


def fit(time_s: Sequence[float], texts: Sequence[str]) -> list[Piece]:
    """Return the stretches of the clock that explains most readings; none without a clock.

    Args:
        time_s: When each reading was taken, in seconds of the file.
        texts: What was read.
    """
    times = np.asarray(time_s, np.float64)
    meant = [values(text) for text in texts]
    best: tuple[int, list[Piece]] = (0, [])
    for direction in (1, -1):
        pieces = _pieces(times, meant, direction)
        running = sum(piece.reads for piece in pieces if piece.slope)
        if running >= LEAST_READS and running > best[0]:
            best = (running, pieces)
    return best[1]


def _pieces(times: Float64, meant: Sequence[tuple[float, ...]], direction: int) -> list[Piece]:
    slopes, offsets = _states(times, meant, direction)
    if not len(slopes):
        return []
    shown = slopes[:, None] * times + offsets[:, None]
    explained = np.zeros(shown.shape, bool)
    for k, candidates in enumerate(meant):
        for value in candidates:
            explained[:, k] |= np.abs(shown[:, k] - value) <= TOLERANCE_S
    present = np.array([bool(candidates) for candidates in meant])
    path = _best_path(shown, explained, present)
    pieces = []
    begin = 0
    for end in range(1, len(path) + 1):
        if end < len(path) and path[end] == path[begin]:
            continue
        state = path[begin]
        if state < len(slopes):
            hits = begin + np.flatnonzero(explained[state, begin:end])
            pieces += _piece(times, shown[state], hits, present, int(slopes[state]))
        begin = end
    return _without_lone_stops(pieces)


def _piece(
    times: Float64, shown: Float64, hits: Int64, present: np.ndarray, slope: int
) -> list[Piece]:
    """The piece over its explained readings; none if they are too few."""
    if not len(hits):
        return []
    first, last = int(hits[0]), int(hits[-1])
    share = len(hits) / max(1, int(present[first : last + 1].sum()))
    least = LEAST_READS if slope == 1 else _LEAST_VOTES
    if len(hits) < least or share < LEAST_SHARE:
        return []
    start_s = float(times[first])
    return [Piece(start_s, float(times[last]), float(shown[first]), slope, len(hits), share)]


def _without_lone_stops(pieces: list[Piece]) -> list[Piece]:
    """Drop standing stretches that no running one leads to: digits that never change."""
    kept = []
    for k, piece in enumerate(pieces):
        around = [p for p in pieces[max(0, k - 1) : k + 2] if p.slope]
        joined = any(
            abs(p.at(piece.start_s) - piece.clock_s) < 10
            or abs(p.clock_s - piece.clock_s) < 10
            or abs(p.at(p.end_s) - piece.clock_s) < 10
            for p in around
        )
        if piece.slope or joined:
            kept.append(piece)
    return kept


def _states(
    times: Float64, meant: Sequence[tuple[float, ...]], direction: int
) -> tuple[Float64, Float64]:
    """Slopes and offsets of clocks that some readings agree on."""
    votes: Counter[tuple[int, int]] = Counter()
    for time, candidates in zip(times, meant, strict=True):
        for value in candidates:
            votes[direction, round(value - direction * time)] += 1
            votes[0, round(value)] += 1
    # Readings of one clock lie on both sides of a whole second.
    common = [
        (slope, offset)
        for (slope, offset), n in votes.most_common()
        if n + max(votes[slope, offset - 1], votes[slope, offset + 1]) >= _LEAST_VOTES
        and n >= max(votes[slope, offset - 1], votes[slope, offset + 1])
    ][:_MOST_STATES]
    table = np.array(common, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _best_path(shown: Float64, explained: np.ndarray, present: np.ndarray) -> list[int]:
    """The cheapest state at each reading (Viterbi); the last state is "no clock"."""
    S, N = shown.shape
    cost = np.zeros(S + 1)
    came = np.zeros((N, S + 1), np.int32)
    every = np.arange(S + 1)
    for k in range(N):
        if k:
            # From any state, by a jump.
            cheapest = int(cost.argmin())
            before = np.where(cost <= cost[cheapest] + _JUMP, every, cheapest)
            reached = np.minimum(cost, cost[cheapest] + _JUMP)
            # From a state that shows the same: the clock stops or goes on.
            near = np.abs(shown[:, k][:, None] - shown[:, k][None, :]) <= _CONTINUOUS_S
            joined = np.where(near, cost[:S][None, :] + _STOP_OR_GO, np.inf)
            source = joined.argmin(axis=1)
            smooth = joined[np.arange(S), source]
            better = smooth < reached[:S]
            reached[:S][better] = smooth[better]
            before[:S][better] = source[better]
            came[k] = before
            cost = reached
        if present[k]:
            cost[:S] += np.where(explained[:, k], 0.0, _MISMATCH)
            cost[S] += _NO_CLOCK
        else:
            cost[:S] += _MISSING
    path = [int(cost.argmin())]
    for k in range(N - 1, 0, -1):
        path.append(int(came[k, path[-1]]))
    return path[::-1]

"""Rules among the events of one class: near ones give way to better ones, replays to the first."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

import numpy as np

from touchline.pipeline.types import MICROSECOND_S, Event


def in_time(event: Event) -> tuple[float, float, str]:
    """Sort key: start, then peak, then label."""
    return event.start_s, event.peak_s, event.label


def suppress_near(
    events: list[Event], *, window_s: float, soft: bool = False, floor: float = 0.0
) -> list[Event]:
    """Non-maximum suppression among events of one class, by the distance of their peaks.

    Best first (ties: the earlier), an event takes out the others whose peak is at most `window_s`
    away; with `soft` it multiplies their score by (distance / window_s)^2 instead (Bodla et al.
    2017, with the quadratic weight that Soares & Shah 2022 use for spots), and what falls below
    `floor` goes.
    """
    if window_s <= 0 or len(events) < 2:
        return events
    events = sorted(events, key=in_time)
    peak_s = np.array([event.peak_s for event in events])
    score = np.array([event.score for event in events])
    kept: list[Event] = []
    while True:
        best = int(score.argmax())
        if score[best] < floor or score[best] <= 0:
            return sorted(kept, key=in_time)
        kept.append(replace(events[best], score=float(score[best])))
        score[best] = -1.0
        near = np.abs(peak_s - peak_s[best]) <= window_s + MICROSECOND_S
        if soft:
            weight = np.minimum(np.abs(peak_s[near] - peak_s[best]) / window_s, 1.0) ** 2
            score[near] = np.where(score[near] > 0, np.round(score[near] * weight, 6), -1.0)
        else:
            score[near] = -1.0


def suppress_replays(events: list[Event], *, refractory_s: float) -> list[Event]:
    """Drop events of one class that peak at most `refractory_s` after the last one kept.

    The first stays whatever the scores: a replay, seen closer, often scores higher.
    """
    kept: list[Event] = []
    for event in sorted(events, key=in_time):
        since_s = event.peak_s - kept[-1].peak_s if kept else np.inf
        if refractory_s <= 0 or since_s > refractory_s + MICROSECOND_S:
            kept.append(event)
    return kept


def without_replays_of(
    kept: list[Event], candidates: list[Event], refractory_s: float
) -> list[Event]:
    """Candidates that replay neither an accepted event nor a better candidate; best first."""
    if refractory_s <= 0:
        return candidates
    before = sorted(event.peak_s for event in kept)
    rest = []
    for event in sorted(candidates, key=lambda event: (-event.score, event.peak_s)):
        i = bisect_right(before, event.peak_s)
        if i == 0 or event.peak_s - before[i - 1] > refractory_s + MICROSECOND_S:
            before.insert(i, event.peak_s)
            rest.append(event)
    return rest

"""Drop events of one class that are near a better one, or that replay an earlier one."""

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
    """Apply non-maximum suppression to events of one class, by the distance of their peaks.

    Best first (of equal scores the earlier), an event removes the others whose peak is close. With
    `soft` it lowers their scores instead (Bodla et al. 2017, with the quadratic weight that Soares
    & Shah 2022 use for spots).

    Args:
        events: Events of one class.
        window_s: Largest distance of the peaks, in seconds; 0 keeps all events.
        soft: Multiply the scores of close events by (distance / window_s)^2.
        floor: Events whose lowered score is below this are dropped.
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

    The first stays even if its score is lower: a replay is a closer view and often scores higher.
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
    """Drop candidates that replay an accepted event or a better candidate; best first.

    Args:
        kept: The accepted events of the class.
        candidates: Its events below the threshold.
        refractory_s: Largest time from an event's peak to its replay's; 0 keeps all.
    """
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

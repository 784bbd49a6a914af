"""Find places of the picture that change once a second and at no other time.

A place is a candidate only. Reading it decides whether it is a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from touchline.pipeline.types import Float32, UInt8

BURST_S = 8.0
BURST_RATE_HZ = 12

# A tick changes a place by this much more than everything else does, in grey levels.
_TICK = 25
_ELSE = 85
_ELSE_FACTOR = 2.5
_LEAST = 3.0
_POOL = 2
MOST_PLACES = 4


@dataclass(frozen=True)
class Place:
    """Where the last digit of a clock may be, as shares of the picture.

    Attributes:
        x: Left edge, in [0, 1].
        y: Upper edge.
        width: Width.
        height: Height.
        strength: How clearly it changes once a second.
    """

    x: float
    y: float
    width: float
    height: float
    strength: float

    def is_near(self, other: Place) -> bool:
        """Whether two places overlap, or nearly so."""
        gap_x = abs(self.x + self.width - other.x - other.width)
        gap_y = abs(self.y + self.height / 2 - other.y - other.height / 2)
        return gap_x < max(self.height, other.height) and gap_y < max(self.height, other.height) / 2


def ticking_places(pixels: UInt8) -> list[Place]:
    """Return the places that change at one phase of the second, strongest first.

    Args:
        pixels: (T, 3, H, W) uint8. Some seconds at BURST_RATE_HZ.
    """
    if len(pixels) < 3 * BURST_RATE_HZ:
        return []
    strength = _ticking(pixels)
    H, W = strength.shape
    spots = (strength > _LEAST).astype(np.uint8)
    # The strokes of one digit belong together, those of another line of text do not.
    joined = cv2.morphologyEx(spots, cv2.MORPH_CLOSE, np.ones((3, 5), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(joined)
    places = []
    for k in range(1, count):
        x, y, w, h, _ = (int(value) for value in stats[k])
        if not (3 <= h <= H / 6 and 1 <= w <= 3 * h):
            continue
        top = float(strength[parts == k].max())
        places.append(Place(x / W, y / H, w / W, h / H, top))
    return sorted(places, key=lambda place: -place.strength)[:MOST_PLACES]


def _ticking(pixels: UInt8) -> Float32:
    """(H / 2, W / 2): change at the ticks of the best phase, less what changes at other times."""
    grey = pixels.mean(axis=1, dtype=np.float32)
    steps = np.abs(np.diff(grey, axis=0))
    H, W = (size // _POOL for size in grey.shape[1:])
    change = np.stack([cv2.resize(step, (W, H), interpolation=cv2.INTER_AREA) for step in steps])
    change = change.reshape(len(change), -1)
    best = np.zeros(change.shape[1], np.float32)
    phase = np.arange(len(change)) % BURST_RATE_HZ
    for tick in range(BURST_RATE_HZ):
        # Compression may spread a tick over the frame after it.
        near = (phase - tick) % BURST_RATE_HZ
        at_tick = np.percentile(change[near == 0], _TICK, axis=0)
        (few,) = np.nonzero(at_tick > np.maximum(best, _LEAST))
        elsewhere = np.percentile(change[near > 1][:, few], _ELSE, axis=0)
        best[few] = np.maximum(best[few], at_tick[few] - _ELSE_FACTOR * elsewhere)
    return best.reshape(H, W)


def merged(places: Iterable[Place]) -> list[Place]:
    """Places of several bursts, each once, those found most often first."""
    groups: list[list[Place]] = []
    for place in places:
        for group in groups:
            if group[0].is_near(place):
                group.append(place)
                break
        else:
            groups.append([place])
    groups.sort(key=lambda group: -sum(place.strength for place in group))
    return [_median(group) for group in groups[:MOST_PLACES]]


def _median(group: list[Place]) -> Place:
    # One burst may see two digits change, and another only one: the right edge is common.
    right = float(np.median([place.x + place.width for place in group]))
    width = float(np.median([place.width for place in group]))
    y, height = (float(np.median([getattr(p, name) for p in group])) for name in ("y", "height"))
    return Place(right - width, y, width, height, sum(place.strength for place in group))

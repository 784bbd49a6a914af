"""Options for scoring labelled clips and for turning scores into events: quick to import."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from touchline.models.training_record import PeakWidths


@dataclass(frozen=True)
class OperatingPoint:
    """When the scores of one class become an event.

    Spots have no length, so `join_s`, `min_length_s` and `max_length_s` do not apply to them.

    Attributes:
        threshold: The least score at an event's peak, in (0, 1].
        low: An event lasts while the score is at least this. None: the same as `threshold`.
        join_s: Two runs at most this far apart become one event.
        min_length_s: Shorter events are dropped.
        max_length_s: A longer event is cut to this length around its peak. None: no limit.

    Example:
        >>> from touchline.pipeline import OperatingPoint
        >>> OperatingPoint(threshold=0.8, join_s=2.0).max_length_s is None
        True
        >>> OperatingPoint(threshold=1.5)
        Traceback (most recent call last):
        ...
        ValueError: threshold is 1.5; it must be in (0, 1]
    """

    threshold: float = 0.5
    low: float | None = None
    join_s: float = 1.0
    min_length_s: float = 0.0
    max_length_s: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}; it must be in (0, 1]")
        if self.low is not None and not 0.0 < self.low <= self.threshold:
            raise ValueError(f"low is {self.low}; it must be in (0, {self.threshold}]")
        for name in ("join_s", "min_length_s"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name} is {seconds}; it must be 0 or more seconds")
        longest_s = self.max_length_s
        if longest_s is not None and not (
            0 < longest_s < math.inf and longest_s >= self.min_length_s
        ):
            raise ValueError(
                f"max_length_s is {longest_s}; it must be a number above 0 and at least "
                f"min_length_s, {self.min_length_s}"
            )


@dataclass(frozen=True)
class EventOptions:
    """How scores become events.

    Attributes:
        smooth_s: Standard deviation of the Gaussian that smooths the scores. 0: no smoothing.
            None: the class's own in `widths`, else one hop (the median distance between windows),
            else 0.8 s for scores of single frames.
        spots: Every local maximum that reaches the threshold is an event without length.
        nms_s: Non-maximum suppression: if the peaks of two events of a class are at most this far
            apart, the lower one is dropped. None: 0 for intervals. For spots the class's own in
            `widths`, else one window (the median), because windows that overlap see the same
            moment, else 2 s for scores of single frames.
        soft_nms: Multiply the lower one's score by (distance / nms_s)^2 instead of dropping it.
        refractory_s: An event whose peak comes at most this long after another of its class is
            taken for its replay and dropped. 0: keep replays.
        widths: Smoothing and suppression of single classes, as `touchline calibrate` chose them.
            `smooth_s` and `nms_s`, where given, hold for every class instead.

    Example:
        >>> from touchline.pipeline import EventOptions
        >>> EventOptions(spots=True, nms_s=5.0).refractory_s
        0.0
    """

    smooth_s: float | None = None
    spots: bool = False
    nms_s: float | None = None
    soft_nms: bool = False
    refractory_s: float = 0.0
    widths: Mapping[str, PeakWidths] | None = None

    def __post_init__(self) -> None:
        for name in ("smooth_s", "nms_s", "refractory_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 <= seconds < math.inf:
                raise ValueError(f"{name} is {seconds}; it must be 0 or more seconds")


@dataclass(frozen=True)
class ClipOptions:
    """How labelled clips are scored.

    Attributes:
        views: Windows per clip, spread evenly.
        max_clip_s: Use at most this many seconds of a clip. None: all of it.
        max_bad: How many unreadable clips are skipped before it is an error.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "float32" or "bf16".
        batch_size: Windows that go through the network at once.
    """

    views: int = 3
    max_clip_s: float | None = None
    max_bad: int = 0
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.max_clip_s is not None and not 0 < self.max_clip_s < math.inf:
            raise ValueError(f"max_clip_s is {self.max_clip_s}; it must be more than 0 and finite")
        for name, least in (("views", 1), ("batch_size", 1), ("max_bad", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")

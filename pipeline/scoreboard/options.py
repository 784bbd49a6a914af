"""How the scoreboard clock is searched for and read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClockOptions:
    """Options of `read_clock`.

    Attributes:
        bursts: Stretches of footage that are searched for a place that changes once a second.
        rate_hz: Readings per second of footage.
        period_min: Minutes of a period. None: football.

    Raises:
        ValueError: There is no burst, the rate is not in (0, 2], or a period has no length.
    """

    bursts: int = 8
    rate_hz: float = 0.5
    period_min: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bursts <= 100:
            raise ValueError(f"bursts is {self.bursts}; it must be in [1, 100]")
        if not 0 < self.rate_hz <= 2:
            raise ValueError(f"rate_hz is {self.rate_hz}; it must be in (0, 2]")
        if self.period_min is not None and not 0 < self.period_min <= 200:
            raise ValueError(f"period_min is {self.period_min}; it must be in (0, 200]")

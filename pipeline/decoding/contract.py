"""What a decoder hands over: frames with the time a player shows them, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, ZERO, exact
from touchline.pipeline.types import UInt8


class Picture(Protocol):
    """A decoded picture that has not been scaled yet."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) at the size asked for."""

    def draw(self, out: UInt8) -> None:
        """Put the picture, RGB and upright, into (3, H, W) uint8."""


@dataclass(frozen=True)
class StampedFrame:
    """A decoded frame as it comes: its raw time may be missing, doubled or wrong.

    stamp_s:    presentation time minus the container's start, None where the file has none.
    duration_s: how long the file says the frame is shown.
    until_s:    when the next frame is shown, where that is known although it is not decoded.
    after_loss: at least one frame between the one before and this one is lost.
    left_out_s: when the frames between are shown that are whole and were not asked for.
    """

    picture: Picture
    stamp_s: Fraction | None
    duration_s: Fraction
    damaged: bool = False
    after_loss: bool = False
    until_s: Fraction | None = None
    left_out_s: tuple[Fraction, ...] = ()


@dataclass(frozen=True)
class ShownFrame:
    """A frame with the time a player first shows it; times grow strictly from frame to frame.

    hole_from_s: since when the frame before stood in for frames that are lost or missing.
    """

    picture: Picture
    time_s: Fraction
    duration_s: Fraction
    damaged: bool = False
    hole_from_s: Fraction | None = None


@dataclass(frozen=True)
class Instants:
    """The sample instants k / rate_hz in [start_s, end_s); every frame where rate_hz is None."""

    rate_hz: Fraction | None
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None

    @classmethod
    def of(cls, rate_hz: float | None, start_s: float, end_s: float | None) -> Instants:
        """The exact fractions behind plain numbers (23.976 is 2997/125)."""
        return cls(
            rate_hz=None if rate_hz is None else exact(rate_hz),
            start_s=exact(start_s),
            end_s=None if end_s is None else exact(end_s),
        )

    def first_at(self, time_s: Fraction) -> int:
        """The number k of the first instant at which a frame that starts at time_s is shown."""
        begin = max(time_s - TIMESTAMP_ROUNDING_S, self.start_s, ZERO)
        rate = self._rate()
        return -(-begin.numerator * rate.numerator // (begin.denominator * rate.denominator))

    def time_of(self, k: int) -> Fraction:
        """When instant k is."""
        return k / self._rate()

    def before_end(self, k: int) -> bool:
        """Whether instant k still lies in the part asked for."""
        return self.end_s is None or self.time_of(k) < self.end_s

    def past_end(self, time_s: Fraction) -> bool:
        """Whether no instant falls on a frame shown from time_s on, nor on any after it."""
        return self.end_s is not None and time_s >= self.end_s + TIMESTAMP_ROUNDING_S

    def between(self, time_s: Fraction, until_s: Fraction) -> Iterator[Fraction]:
        """The instants at which a frame shown from time_s is shown, those before until_s."""
        k = self.first_at(time_s)
        while self.time_of(k) < until_s and self.before_end(k):
            yield self.time_of(k)
            k += 1

    def any_shows(self, time_s: Fraction, until_s: Fraction) -> bool:
        """Whether an instant falls on a frame shown from time_s until until_s."""
        if self.rate_hz is None:
            return True
        k = self.first_at(time_s)
        return self.time_of(k) < until_s - TIMESTAMP_ROUNDING_S and self.before_end(k)

    def cover(self, time_s: Fraction | None) -> bool:
        """Whether a time lies in the part asked for."""
        if time_s is None:
            return True
        return self.start_s <= time_s and (self.end_s is None or time_s < self.end_s)

    def _rate(self) -> Fraction:
        if self.rate_hz is None:
            raise ValueError("every frame is asked for: there are no sample instants")
        return self.rate_hz


@dataclass(frozen=True)
class Wanted:
    """Which frames of a file to give, and how.

    size_px: the shorter side after scaling, None as stored. stream: the container's index of the
    video stream, None for the likeliest. threads: how many to decode in, 0 as many as suit.
    """

    instants: Instants
    size_px: int | None = None
    stream: int | None = None
    threads: int = 0

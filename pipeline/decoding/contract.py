"""Define what decoders are asked for and what they give: sample instants and frames with times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S
from touchline.pipeline.types import UInt8

_ZERO = Fraction(0)


class Picture(Protocol):
    """A decoded picture that has not been scaled yet."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) after scaling."""

    def draw(self, out: UInt8) -> None:
        """Write the picture, RGB and upright, into `out`: (3, H, W) uint8."""


@dataclass(frozen=True)
class StampedFrame:
    """A frame as the decoder gives it. Its timestamp may be missing, repeated or wrong.

    Attributes:
        picture: The picture.
        stamp_s: Presentation time minus the container's start, in seconds; None if there is none.
        duration_s: How long the file says the frame is shown, in seconds.
        damaged: Whether damage reaches the frame.
        after_loss: Whether at least one frame between this one and the one before is lost.
        until_s: When the next frame is shown, if it is known although it was not decoded.
        left_out_s: When the undamaged frames before this one are shown that were not decoded.
        seq: The number of its packet, counted in decode order from where reading began; None if
            it is not known.
    """

    picture: Picture
    stamp_s: Fraction | None
    duration_s: Fraction
    damaged: bool = False
    after_loss: bool = False
    until_s: Fraction | None = None
    left_out_s: tuple[Fraction, ...] = ()
    seq: int | None = None


@dataclass(frozen=True)
class ShownFrame:
    """A frame with the time at which a player first shows it. Times grow from frame to frame.

    Attributes:
        picture: The picture.
        time_s: Presentation time minus the container's start, in seconds.
        duration_s: How long the frame is shown, in seconds.
        damaged: Whether damage reaches the frame.
        hole_from_s: From when on the frame before stood in for lost or missing frames, if it did.
        seq: The number of its packet, counted in decode order from where reading began; None if
            it is not known.
    """

    picture: Picture
    time_s: Fraction
    duration_s: Fraction
    damaged: bool = False
    hole_from_s: Fraction | None = None
    seq: int | None = None


@dataclass(frozen=True)
class Instants:
    """The sample instants zero_s + k / rate_hz in [start_s, end_s), or every frame in it.

    Attributes:
        rate_hz: Samples per second; None asks for every frame once.
        start_s: Start of the part asked for, in seconds.
        end_s: End of the part asked for, in seconds; None is the end of the footage.
        zero_s: The time of instant 0, in seconds. No instant is earlier.
    """

    rate_hz: Fraction | None
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    zero_s: Fraction = _ZERO

    @classmethod
    def of(cls, rate_hz: float | None, start_s: float, end_s: float | None) -> Instants:
        """Make exact fractions of plain numbers (23.976 becomes 2997/125).

        Args:
            rate_hz: Samples per second; None asks for every frame once.
            start_s: Start of the part asked for, in seconds.
            end_s: End of the part asked for, in seconds; None is the end of the footage.
        """
        return cls(
            rate_hz=None if rate_hz is None else _exact(rate_hz),
            start_s=_exact(start_s),
            end_s=None if end_s is None else _exact(end_s),
        )

    def first_at(self, time_s: Fraction) -> int:
        """Return the number k of the first instant that shows a frame starting at `time_s`."""
        begin = max(time_s - TIMESTAMP_ROUNDING_S, self.start_s, self.zero_s)
        if self.zero_s:
            begin -= self.zero_s
        rate = self._rate()
        return -(-begin.numerator * rate.numerator // (begin.denominator * rate.denominator))

    def time_of(self, k: int) -> Fraction:
        """Return the time of instant k in seconds."""
        return k / self._rate() + self.zero_s

    def before_end(self, k: int) -> bool:
        """Tell whether instant k is before the end of the part asked for."""
        return self.end_s is None or self.time_of(k) < self.end_s

    def past_end(self, time_s: Fraction) -> bool:
        """Tell whether no instant can show a frame that starts at `time_s` or later."""
        return self.end_s is not None and time_s >= self.end_s + TIMESTAMP_ROUNDING_S

    def between(self, time_s: Fraction, until_s: Fraction) -> Iterator[Fraction]:
        """Yield the instants, in seconds, that show a frame which starts at `time_s`.

        Only the instants before `until_s` are given.
        """
        k = self.first_at(time_s)
        while self.time_of(k) < until_s and self.before_end(k):
            yield self.time_of(k)
            k += 1

    def any_shows(self, time_s: Fraction, until_s: Fraction) -> bool:
        """Tell whether any instant shows a frame that is on screen from `time_s` to `until_s`."""
        if self.rate_hz is None:
            return True
        k = self.first_at(time_s)
        return self.time_of(k) < until_s - TIMESTAMP_ROUNDING_S and self.before_end(k)

    def cover(self, time_s: Fraction | None) -> bool:
        """Tell whether a time is in the part asked for. An unknown time counts as in it."""
        if time_s is None:
            return True
        return self.start_s <= time_s and (self.end_s is None or time_s < self.end_s)

    def _rate(self) -> Fraction:
        if self.rate_hz is None:
            raise ValueError("rate_hz is None, which asks for every frame: there are no instants")
        return self.rate_hz


@dataclass(frozen=True)
class Wanted:
    """Which frames of a file to decode, and how.

    Attributes:
        instants: The sample instants.
        size_px: The shorter side after scaling, in pixels; None keeps the stored size.
        stream: Index of the video stream in the container; None chooses one.
        threads: Number of decoding threads; 0 lets the decoder choose.
        from_beginning: Read the file from its beginning even if only a later part is wanted.
    """

    instants: Instants
    size_px: int | None = None
    stream: int | None = None
    threads: int = 0
    from_beginning: bool = False


def _exact(number: float) -> Fraction:
    """The fraction that a decimal number stands for, to a millionth."""
    return Fraction(number).limit_denominator(1_000_000)

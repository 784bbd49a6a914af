"""What a decoder hands over: frames with the time a player shows them, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from touchline.pipeline.types import UInt8

# Containers round timestamps (Matroska to 1 ms): a frame this little late counts as on time.
TIMESTAMP_ROUNDING_S = Fraction(1, 1000)

ZERO = Fraction(0)

# A frame that stands longer than this (and longer than four of the file's usual intervals) stands
# in for frames that are missing.
GAP_S = Fraction(2)

# Timestamps that step back this far, or jump ahead that far, come from another clock.
STEP_BACK_S = Fraction(1)
JUMP_AHEAD_S = Fraction(3600)

# So many frames in a row without a later timestamp: the timestamps are not to be used.
STUCK_FRAMES = 8


@dataclass
class DecodeLog:
    """What decoding learnt on the way; complete once the frames have been read to the end.

    num_frames:  frames of the part asked for that went by, looked at or not.
    num_skipped: of them, frames never decoded: no sample instant falls on them.
    num_packets: packets read from the file, the measure of progress.
    end_s:       when the last frame stops being shown.
    damaged_s:   spans whose pictures are damaged or missing, in time order.
    gaps_s:      spans in which the footage has no frames; the frame before stands.
    """

    num_frames: int = 0
    end_s: float = 0.0
    damaged_s: list[tuple[float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    num_skipped: int = 0
    num_packets: int = 0
    gaps_s: list[tuple[float, float]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything: decoding begins anew."""
        self.__dict__.update(DecodeLog().__dict__)

    def warn(self, message: str) -> None:
        """Note a warning once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def damage(self, start_s: Fraction, end_s: Fraction) -> None:
        """Note a damaged span, joining it to the last one where they touch."""
        _join(self.damaged_s, float(start_s), float(end_s))

    def gap(self, start_s: Fraction, end_s: Fraction) -> None:
        """Note a span without frames."""
        _join(self.gaps_s, float(start_s), float(end_s))


def _join(spans: list[tuple[float, float]], start_s: float, end_s: float) -> None:
    if spans and start_s <= spans[-1][1] + float(TIMESTAMP_ROUNDING_S):
        spans[-1] = (min(spans[-1][0], start_s), max(spans[-1][1], end_s))
    else:
        spans.append((start_s, end_s))


class Picture(Protocol):
    """A decoded picture that has not been scaled yet."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) at the size asked for."""

    def draw(self, out: UInt8) -> None:
        """Put the picture, RGB and upright, into (3, H, W) uint8."""


@dataclass(frozen=True)
class Stamped:
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
class Shown:
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


def exact(number: float) -> Fraction:
    """The fraction a decimal number stands for, to a millionth."""
    return Fraction(number).limit_denominator(1_000_000)


def continuous(frames: Iterable[Stamped], interval_s: Fraction, log: DecodeLog) -> Iterator[Shown]:
    """Frames on one clock that never stops or runs back; a repaired stamp is warned about.

    A duplicate or backward stamp, or a single one far ahead, is put between its neighbours. From
    a step back of STEP_BACK_S or a jump ahead of JUMP_AHEAD_S on, the clock goes on from the
    frame before: the recording was restarted, or pieces were joined without correction.
    """
    clock = _Clock(interval_s, log)
    held: Stamped | None = None
    for frame in frames:
        if held is not None:
            yield clock.shown(held, frame.stamp_s)
        held = frame
    if held is not None:
        yield clock.shown(held, None)


class _Clock:
    def __init__(self, interval_s: Fraction, log: DecodeLog) -> None:
        self.interval_s = interval_s
        self.log = log
        self.offset_s = Fraction(0)
        self.previous_s: Fraction | None = None
        self.previous_damaged = False
        self.until_s: Fraction | None = None
        self.stuck = 0

    def shown(self, frame: Stamped, next_stamp_s: Fraction | None) -> Shown:
        stamp = None if frame.stamp_s is None else frame.stamp_s + self.offset_s
        following = None if next_stamp_s is None else next_stamp_s + self.offset_s
        time_s = self._time(stamp, following)
        hole_from_s = self._hole(time_s, frame)
        self.previous_damaged = frame.damaged
        self.previous_s = time_s
        self.until_s = frame.until_s if time_s == frame.stamp_s else None
        duration_s = frame.duration_s if 0 < frame.duration_s < JUMP_AHEAD_S else self.interval_s
        self.log.end_s = float(time_s + duration_s)
        if frame.damaged:
            self.log.damage(time_s, time_s + duration_s)
        return Shown(frame.picture, time_s, duration_s, frame.damaged, hole_from_s)

    def _hole(self, time_s: Fraction, frame: Stamped) -> Fraction | None:
        """Where the frame before begins to stand in for missing ones, if it does."""
        if self.previous_s is None:
            return None
        hole_from_s = self.previous_s + self.interval_s
        if frame.after_loss or frame.damaged or self.previous_damaged:
            lost_from_s = self._past(hole_from_s, frame.left_out_s)
            if time_s > lost_from_s + self.interval_s / 2:
                self.log.damage(lost_from_s, time_s)
                return lost_from_s
        until_s = time_s if self.until_s is None else self.until_s
        if until_s - self.previous_s > max(GAP_S, 4 * self.interval_s):
            self.log.gap(hole_from_s, until_s)
            self.log.warn("gaps without frames: the frame before stands, marked as damaged")
            return hole_from_s
        return None

    def _past(self, since_s: Fraction, left_out_s: tuple[Fraction, ...]) -> Fraction:
        """When the last of the frames stops being shown that follow on each other since a time."""
        for time_s in left_out_s:
            if time_s <= since_s + self.interval_s / 2:
                since_s = max(since_s, time_s + self.interval_s)
        return since_s

    def _time(self, stamp: Fraction | None, following: Fraction | None) -> Fraction:
        previous = self.previous_s
        if previous is None:
            return Fraction(0) if stamp is None else stamp
        if stamp is None:
            self.log.warn("frames without timestamps: their times follow from the frame rate")
            return previous + self.interval_s
        lone = following is not None and previous < following
        if stamp > previous:
            self.stuck = 0
            if lone and following is not None and stamp > following:
                self.log.warn("a timestamp runs ahead of the next one: put between its neighbours")
                return self._between(previous, following)
            if stamp - previous > JUMP_AHEAD_S:
                return self._restart(previous, stamp, "jump ahead")
            return stamp
        if previous - stamp >= STEP_BACK_S and not lone and following is not None:
            return self._restart(previous, stamp, "step back")
        self.log.warn("duplicate or backward timestamps: put between their neighbours")
        self.stuck += 1
        return self._between(previous, following)

    def _between(self, previous: Fraction, following: Fraction | None) -> Fraction:
        if following is not None and following > previous:
            return previous + min(self.interval_s, (following - previous) / 2)
        if following is None or self.stuck > STUCK_FRAMES:
            return previous + self.interval_s
        # Barely later, so that the clock is back on the file's own as soon as its stamps go on.
        return previous + self.interval_s / 64

    def _restart(self, previous: Fraction, stamp: Fraction, what: str) -> Fraction:
        time_s = previous + self.interval_s
        self.log.warn(
            f"timestamps {what} by {abs(float(stamp - previous)):.3f} s at {float(time_s):.3f} s: "
            "time goes on at the frame rate"
        )
        self.offset_s += time_s - stamp
        return time_s

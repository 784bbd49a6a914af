"""Give decoded frames times on one clock that never stops and never runs backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from touchline.pipeline.decoding.contract import ShownFrame, StampedFrame
from touchline.pipeline.footage.log import GAP_S, JUMP_AHEAD_S, STEP_BACK_S, DecodeLog

# The log names at most this many breaks of the clock one by one.
RESTARTS_TOLD = 5

# After this many frames in a row without a later timestamp, the timestamps are not used.
STUCK_FRAMES = 8

GAPS = "gaps without frames. The frame before each gap is repeated and marked as damaged."
NO_TIMESTAMPS = "frames without timestamps. Their times are computed from the frame rate."
KEPT_GAP = (
    "a gap of {gap_s:.0f} s without frames at {at_s:.3f} s. Times after it are the container's, as "
    "in a player."
)
MORE_RESTARTS = "timestamps step back or jump ahead at more places. Times continue there too."
RUNS_AHEAD = "a timestamp runs ahead of the next one. The frame is placed between its neighbours."
NOT_GROWING = "duplicate or backward timestamps. The frames are placed between their neighbours."


def continuous(
    frames: Iterable[StampedFrame],
    interval_s: Fraction,
    log: DecodeLog,
    *,
    keeps_gaps: bool = False,
) -> Iterator[ShownFrame]:
    """Give each frame the time at which a player shows it; times grow from frame to frame.

    A frame with a repeated or backward timestamp, or with a single one far ahead, is placed between
    its neighbours. If timestamps step back by STEP_BACK_S or jump ahead by JUMP_AHEAD_S, the
    recording was restarted or joined from pieces: the clock continues from the frame before.

    Args:
        frames: Decoded frames in presentation order, with the timestamps of the file.
        interval_s: The usual time between frames, in seconds.
        log: Gets damage, gaps and a warning for each kind of repair.
        keeps_gaps: The container's times are those of its timeline, so a single jump ahead is a
            gap that a player shows too, and not another clock.
    """
    clock = _Clock(interval_s, log, keeps_gaps=keeps_gaps)
    held: StampedFrame | None = None
    for frame in frames:
        if held is not None:
            yield clock.shown(held, frame.stamp_s)
        held = frame
    if held is not None:
        yield clock.shown(held, None)


class _Clock:
    def __init__(self, interval_s: Fraction, log: DecodeLog, *, keeps_gaps: bool) -> None:
        self.keeps_gaps = keeps_gaps
        self.interval_s = interval_s
        self.log = log
        self.offset_s = Fraction(0)
        self.previous_s: Fraction | None = None
        self.previous_damaged = False
        self.until_s: Fraction | None = None
        self.stuck = 0

    def shown(self, frame: StampedFrame, next_stamp_s: Fraction | None) -> ShownFrame:
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
        return ShownFrame(frame.picture, time_s, duration_s, frame.damaged, hole_from_s, frame.seq)

    def _hole(self, time_s: Fraction, frame: StampedFrame) -> Fraction | None:
        """The time from which the frame before replaces missing frames; None if it does not."""
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
            self.log.warn(GAPS)
            return hole_from_s
        return None

    def _past(self, since_s: Fraction, left_out_s: tuple[Fraction, ...]) -> Fraction:
        """When the unbroken run of skipped frames from a time on ends."""
        for time_s in left_out_s:
            if time_s <= since_s + self.interval_s / 2:
                since_s = max(since_s, time_s + self.interval_s)
        return since_s

    def _time(self, stamp: Fraction | None, following: Fraction | None) -> Fraction:
        previous = self.previous_s
        if previous is None:
            return Fraction(0) if stamp is None else stamp
        if stamp is None:
            self.log.warn(NO_TIMESTAMPS)
            return previous + self.interval_s
        lone = following is not None and previous < following
        if stamp > previous:
            self.stuck = 0
            if lone and following is not None and stamp > following:
                self.log.warn(RUNS_AHEAD)
                return self._between(previous, following)
            if stamp - previous > JUMP_AHEAD_S:
                # Where every frame is far from the next one, it is the clock that is wrong.
                steady = following is not None and following - stamp < JUMP_AHEAD_S
                last = following is None and not self.log.num_restarts
                if not (self.keeps_gaps and (steady or last)):
                    return self._restart(previous, stamp, "jump ahead")
                gap_s, at_s = float(stamp - previous), float(previous)
                self.log.warn(KEPT_GAP.format(gap_s=gap_s, at_s=at_s))
            return stamp
        if previous - stamp >= STEP_BACK_S and not lone and following is not None:
            return self._restart(previous, stamp, "step back")
        self.log.warn(NOT_GROWING)
        self.stuck += 1
        return self._between(previous, following)

    def _between(self, previous: Fraction, following: Fraction | None) -> Fraction:
        if following is not None and following > previous:
            return previous + min(self.interval_s, (following - previous) / 2)
        if following is None or self.stuck > STUCK_FRAMES:
            return previous + self.interval_s
        # Barely later: the clock follows the file's own times again as soon as they grow.
        return previous + self.interval_s / 64

    def _restart(self, previous: Fraction, stamp: Fraction, what: str) -> Fraction:
        time_s = previous + self.interval_s
        self.log.num_restarts += 1
        if self.log.num_restarts <= RESTARTS_TOLD:
            self.log.warn(
                f"timestamps {what} by {abs(float(stamp - previous)):.3f} s at "
                f"{float(time_s):.3f} s. From there on, times continue as if there were no break."
            )
        else:
            self.log.warn(MORE_RESTARTS)
        self.offset_s += time_s - stamp
        return time_s

"""Collect what decoding finds out about a file: frames, damage, gaps and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

# Containers round timestamps (Matroska to 1 ms). A frame that starts this late is still on time.
TIMESTAMP_ROUNDING_S = Fraction(1, 1000)

# A gap: no new frame for longer than this, and for longer than four of the usual intervals.
GAP_S = Fraction(2)

# Timestamps that step back by this much come from another clock.
STEP_BACK_S = Fraction(1)

# Timestamps that jump ahead by this much come from another clock.
JUMP_AHEAD_S = Fraction(3600)


@dataclass
class DecodeLog:
    """What decoding has found out so far; complete when the last frame has been read.

    Attributes:
        num_frames: Frames in the part that was asked for, decoded or not.
        end_s: When the last frame stops being shown, in seconds.
        damaged_s: Spans (start, end) in seconds, in time order, whose frames are damaged or lost.
        warnings: One sentence or two per problem, each problem once.
        num_skipped: Frames among `num_frames` that were not decoded, as no sample needs them.
        num_packets: Packets read from the file. This number shows that decoding makes progress.
        gaps_s: Spans (start, end) in seconds without frames. The frame before each is repeated.
        num_restarts: How often the clock of the file restarts; its breaks were closed.
    """

    num_frames: int = 0
    end_s: float = 0.0
    damaged_s: list[tuple[float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    num_skipped: int = 0
    num_packets: int = 0
    gaps_s: list[tuple[float, float]] = field(default_factory=list)
    num_restarts: int = 0

    def reset(self) -> None:
        """Forget everything, because decoding starts again."""
        self.become(DecodeLog())

    def become(self, other: DecodeLog) -> None:
        """Take over everything that another log says, its lists included."""
        self.__dict__.update(other.__dict__)

    def warn(self, message: str) -> None:
        """Add a warning, unless it is already there."""
        if message not in self.warnings:
            self.warnings.append(message)

    def damage(self, start_s: Fraction, end_s: Fraction) -> None:
        """Add a damaged span. It is joined to the last one if they touch."""
        _join(self.damaged_s, float(start_s), float(end_s))

    def gap(self, start_s: Fraction, end_s: Fraction) -> None:
        """Add a span without frames. It is joined to the last one if they touch."""
        _join(self.gaps_s, float(start_s), float(end_s))


def _join(spans: list[tuple[float, float]], start_s: float, end_s: float) -> None:
    if spans and start_s <= spans[-1][1] + float(TIMESTAMP_ROUNDING_S):
        spans[-1] = (min(spans[-1][0], start_s), max(spans[-1][1], end_s))
    else:
        spans.append((start_s, end_s))

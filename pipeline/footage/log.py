"""Record what decoding learns about a file: frames, damage, gaps and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

# Containers round timestamps (Matroska to 1 ms): a frame this little late counts as on time.
TIMESTAMP_ROUNDING_S = Fraction(1, 1000)

ZERO = Fraction(0)

# A frame that stands longer than this (and longer than four of the file's usual intervals) stands
# in for frames that are missing.
GAP_S = Fraction(2)

# Timestamps that jump ahead this far come from another clock.
JUMP_AHEAD_S = Fraction(3600)


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


def exact(number: float) -> Fraction:
    """The fraction a decimal number stands for, to a millionth."""
    return Fraction(number).limit_denominator(1_000_000)

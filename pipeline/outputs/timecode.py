"""Seconds as people and editors write them: H:MM:SS.mmm, SMPTE timecode, match clock.

SMPTE timecode counts frames. At 29.97 and 59.94 frames per second a count of 30 or 60 per second
runs 3.6 s per hour late, so drop-frame timecode leaves out numbers, never frames (SMPTE ST 12-1):
the first 2 (or 4) of every minute that is not a multiple of ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from touchline.pipeline.types import FootageHealth

# What editors know. A declared rate within a thousandth of one of them is meant to be it.
STANDARD_RATES = tuple(
    Fraction(rate)
    for rate in (
        "24000/1001",
        "24",
        "25",
        "30000/1001",
        "30",
        "48",
        "50",
        "60000/1001",
        "60",
        "100",
        "120000/1001",
        "120",
    )
)

# Football's halves, extra time and penalties: minutes on the match clock at which they start.
FOOTBALL_PERIOD_MIN = (0, 45, 90, 105, 120)

_TIME = re.compile(r"(-?)(?:(?:(\d+):)?([0-5]?\d):)?([0-5]?\d(?:\.\d+)?)")
_SECONDS = re.compile(r"-?\d+(?:\.\d+)?")
_SMPTE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d\d?)")


def timecode(time_s: float) -> str:
    """H:MM:SS.mmm, rounded to the millisecond before it is divided (59.9996 -> 0:01:00.000)."""
    if not math.isfinite(time_s):
        raise ValueError(f"time_s is {time_s}; it must be a finite number of seconds")
    milliseconds = math.floor(abs(time_s) * 1000 + 0.5)
    minutes, ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if time_s < 0 and milliseconds else ""
    return f"{sign}{hours}:{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}"


def parse_time(text: str) -> float:
    """Seconds from "H:MM:SS", "MM:SS" (either with decimals) or a number of seconds."""
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time; write H:MM:SS, such as 1:02:03.5")
    sign, hours, minutes, seconds = match.groups()
    time_s = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    return -time_s if sign else time_s


@dataclass(frozen=True)
class FrameRate:
    """Frames per second, and whether timecode at this rate drops numbers.

    Drop-frame exists at 29.97, 59.94 and 119.88 only.
    """

    rate: Fraction
    drop_frame: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}; it must be above 0")
        if self.drop_frame and self.rate not in (
            Fraction(30000, 1001),
            Fraction(60000, 1001),
            Fraction(120000, 1001),
        ):
            raise ValueError(f"{float(self.rate):g} frames per second have no drop-frame timecode")

    @property
    def nominal(self) -> int:
        """Frame numbers per second of timecode: 30 at 29.97."""
        return math.ceil(self.rate)

    def frame(self, time_s: float) -> int:
        """The frame whose start is nearest to `time_s`: never more than half a frame away."""
        return math.floor(Fraction(time_s) * self.rate + Fraction(1, 2))

    def seconds(self, frame: int) -> Fraction:
        """When a frame starts, exactly."""
        return frame / self.rate

    def smpte(self, frame: int) -> str:
        """HH:MM:SS:FF (a semicolon before FF where frames are dropped), modulo a day."""
        if frame < 0:
            raise ValueError(f"frame is {frame}; timecode starts at 0")
        n = self.nominal
        if self.drop_frame:
            dropped = n // 15
            per_minute = 60 * n - dropped
            tens, rest = divmod(frame, 10 * per_minute + dropped)
            # The first minute of ten keeps all its numbers.
            frame += dropped * (9 * tens + max(0, rest - dropped) // per_minute)
        seconds, ff = divmod(frame, n)
        minutes, ss = divmod(seconds, 60)
        hours, mm = divmod(minutes, 60)
        width = len(str(n - 1))
        mark = ";" if self.drop_frame else ":"
        return f"{hours % 24:02d}:{mm:02d}:{ss:02d}{mark}{ff:0{max(2, width)}d}"

    def frame_number(self, text: str) -> int:
        """The frame that a timecode names: the inverse of `smpte` within a day."""
        match = _SMPTE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a timecode; it must be HH:MM:SS:FF")
        hh, mm, ss, ff = (int(match[k]) for k in (1, 2, 3, 5))
        if mm > 59 or ss > 59 or ff >= self.nominal:
            raise ValueError(f"{text!r} is not a timecode at {float(self.rate):g} per second")
        minutes = hh * 60 + mm
        frame = (minutes * 60 + ss) * self.nominal + ff
        if not self.drop_frame:
            return frame
        dropped = self.nominal // 15
        if mm % 10 and ss == 0 and ff < dropped:
            raise ValueError(f"{text!r} is a number that drop-frame timecode leaves out")
        return frame - dropped * (minutes - minutes // 10)


def parse_rate(text: str) -> FrameRate:
    """A rate from "25", "29.97", "30000/1001"; "29.97ndf" and "59.94ndf" count without dropping.

    29.97 and 59.94 are read as 30000/1001 and 60000/1001, 23.976 as 24000/1001.
    """
    number = text.strip().lower()
    suffix = next((s for s in ("ndf", "df") if number.endswith(s)), "")
    try:
        rate = nearest_standard(Fraction(number.removesuffix(suffix)))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not a frame rate; write 25, 29.97 or 30000/1001") from None
    if not 0 < rate <= 1000:
        raise ValueError(f"the frame rate is {text}; it must be in (0, 1000]")
    drops = rate.denominator == 1001 and rate.numerator % 30000 == 0
    return FrameRate(rate, drop_frame=suffix == "df" or (drops and suffix != "ndf"))


def nearest_standard(rate: Fraction) -> Fraction:
    """The standard rate within a thousandth of `rate`, else `rate` itself."""
    # 29.97 lies within a thousandth of 30 too: take the nearest.
    best = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return best if abs(best / rate - 1) <= Fraction(1, 1000) else rate


def rate_of_footage(health: FootageHealth) -> FrameRate | None:
    """The rate an editor would give the footage; None where the file declares none.

    Variable rate is conformed to the first standard rate that is not below the average, so that
    no frame is lost; so is what lost a few of its frames, up to one in a hundred. Its start
    timecode says whether numbers are dropped.
    """
    if health.frame_rate is None:
        return None
    declared = Fraction(health.frame_rate)
    rate = nearest_standard(declared)
    if rate not in STANDARD_RATES:
        faster = next((r for r in STANDARD_RATES if r >= declared), STANDARD_RATES[-1])
        if health.variable_rate or abs(faster / declared - 1) <= Fraction(1, 100):
            rate = faster
    drops = rate.denominator == 1001 and rate.numerator % 30000 == 0
    if health.start_timecode is not None:
        drops = drops and ";" in health.start_timecode
    return FrameRate(rate, drop_frame=drops)


@dataclass(frozen=True)
class MatchClock:
    """File time to match time: where each period kicks off in the file.

    kickoff_s: period (1, 2, ...) -> file time of its kick-off; negative: before the file starts.
    period_min: minutes of a period, None for football (45, then extra time of 15).
    """

    kickoff_s: Mapping[int, float]
    period_min: float | None = None

    def __post_init__(self) -> None:
        if not self.kickoff_s:
            raise ValueError("a match clock needs the kick-off of at least one period")
        times = [self.kickoff_s[period] for period in sorted(self.kickoff_s)]
        if not all(map(math.isfinite, times)):
            raise ValueError(f"kick-offs are at {times} s; each must be a time")
        if self.period_min is not None and not 0 < self.period_min < math.inf:
            raise ValueError(f"period_min is {self.period_min}; it must be more than 0 minutes")
        if times != sorted(set(times)):
            raise ValueError(f"kick-offs are at {times} s; each must be after the one before")
        last = len(FOOTBALL_PERIOD_MIN) if self.period_min is None else 99
        if bad := [p for p in self.kickoff_s if not 1 <= p <= last]:
            raise ValueError(f"there is no period {bad[0]}; periods are 1 to {last}")

    def period(self, time_s: float) -> int | None:
        """The period being played at a file time; None before the first kick-off."""
        started = [p for p, kickoff in self.kickoff_s.items() if kickoff <= time_s + 0.0005]
        return max(started, default=None)

    def text(self, time_s: float) -> str:
        """What the match clock shows: "1H 23:07", "2H 90:00+1:30"; empty before kick-off."""
        period = self.period(time_s)
        if period is None:
            return ""
        start_min, end_min = self.span_min(period)
        played_s = math.floor(time_s - self.kickoff_s[period] + 0.0005)
        over_s = played_s - round((end_min - start_min) * 60)
        name = self.period_name(period)
        if over_s >= 0 and end_min > start_min:
            return f"{name} {_min_sec(round(end_min * 60))}+{_min_sec(over_s)}"
        return f"{name} {_min_sec(round(start_min * 60) + played_s)}"

    def span_min(self, period: int) -> tuple[float, float]:
        """What the clock shows at the kick-off and at the end of a period, in minutes."""
        if self.period_min is not None:
            return (period - 1) * self.period_min, period * self.period_min
        ends = (*FOOTBALL_PERIOD_MIN[1:], FOOTBALL_PERIOD_MIN[-1])
        return FOOTBALL_PERIOD_MIN[period - 1], ends[period - 1]

    def period_name(self, period: int) -> str:
        """1H, 2H, ET1, ET2, PEN in football, else P1, P2, ..."""
        football = self.period_min is None
        return ("1H", "2H", "ET1", "ET2", "PEN")[period - 1] if football else f"P{period}"


def parse_kickoffs(
    texts: list[str], *, file_name: str | None = None, period_min: float | None = None
) -> MatchClock | None:
    """A clock from "1=0:02:10" and, for halves in several files, "2=FILE@1:05:00".

    Kick-offs of other files than `file_name` are left out; None where nothing is left.
    """
    kickoffs: dict[int, float] = {}
    for text in texts:
        period, equals, when = text.partition("=")
        file, at, time_text = when.rpartition("@")
        if not equals or not period.strip().isdigit():
            raise ValueError(f"kick-off {text!r} must be PERIOD=H:MM:SS, such as 1=0:02:10")
        if at and file_name is not None and file != file_name:
            continue
        if int(period) in kickoffs:
            raise ValueError(f"the kick-off of period {int(period)} is given twice")
        kickoffs[int(period)] = parse_time(time_text)
    return MatchClock(kickoffs, period_min) if kickoffs else None


def _min_sec(time_s: int) -> str:
    return f"{time_s // 60}:{time_s % 60:02d}"

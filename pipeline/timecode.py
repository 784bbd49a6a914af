"""Write and read times as people and editors do: H:MM:SS.mmm, SMPTE timecode, match clock.

SMPTE timecode counts frames. At 29.97 and 59.94 frames per second, a count of 30 or 60 per second
runs 3.6 s per hour late. Drop-frame timecode corrects that (SMPTE ST 12-1): it leaves out numbers,
never frames, namely the first 2 (or 4) of every minute that is not a multiple of ten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from touchline.pipeline.types import FootageHealth

# The rates that editors know. A declared rate within 0.1 % of one of them is taken for it.
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

DROP_FRAME_RATES = tuple(Fraction(rate, 1001) for rate in (30_000, 60_000, 120_000))

# Minutes on the match clock at the start of football's halves, extra time and penalties.
FOOTBALL_PERIOD_MIN = (0, 45, 90, 105, 120)

# After hours there are at most 59 minutes; alone there may be more, as on a match clock.
_TIME = re.compile(r"(-?)(?:(?:(\d+):([0-5]?\d)|(\d+)):)?([0-5]?\d(?:\.\d+)?)", re.ASCII)
_SECONDS = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_SMPTE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d\d?)", re.ASCII)


def timecode(time_s: float) -> str:
    """Write seconds as H:MM:SS.mmm, rounded to the millisecond (59.9996 -> 0:01:00.000).

    Raises:
        ValueError: The time is not finite.
    """
    if not math.isfinite(time_s):
        raise ValueError(f"time_s is {time_s}; it must be a finite number of seconds")
    milliseconds = math.floor(abs(time_s) * 1000 + 0.5)
    minutes, ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if time_s < 0 and milliseconds else ""
    return f"{sign}{hours}:{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}"


def parse_time(text: str) -> float:
    """Return the seconds of "H:MM:SS" or "MM:SS", either with decimals, or of a number.

    Raises:
        ValueError: The text is none of these.
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time. Write H:MM:SS, such as 1:02:03.5.")
    sign, hours, minutes, only_minutes, seconds = match.groups()
    time_s = int(hours or 0) * 3600 + int(minutes or only_minutes or 0) * 60 + float(seconds)
    return -time_s if sign else time_s


@dataclass(frozen=True)
class FrameRate:
    """A frame rate, and whether its timecode is drop-frame.

    Attributes:
        rate: Frames per second, exact.
        drop_frame: Drop-frame timecode is meant for 29.97, 59.94 and 119.88. Some cameras also
            write it at 30, 60 and 120.

    Raises:
        ValueError: The rate is not above 0, or has no drop-frame timecode.
    """

    rate: Fraction
    drop_frame: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}; it must be above 0")
        if self.drop_frame and self.rate not in (*DROP_FRAME_RATES, 30, 60, 120):
            raise ValueError(f"{float(self.rate):g} frames per second have no drop-frame timecode")

    @property
    def nominal(self) -> int:
        """Frame numbers per second of timecode, 30 at 29.97."""
        return math.ceil(self.rate)

    def frame(self, time_s: float) -> int:
        """Return the frame whose start is nearest to `time_s`, at most half a frame away."""
        return math.floor(Fraction(time_s) * self.rate + Fraction(1, 2))

    def seconds(self, frame: int) -> Fraction:
        """Return the exact start of a frame in seconds."""
        return frame / self.rate

    def smpte(self, frame: int) -> str:
        """Write a frame as HH:MM:SS:FF modulo a day, with ; before FF for drop-frame.

        Raises:
            ValueError: The frame is negative.
        """
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
        """Return the frame that a timecode names; the inverse of `smpte` within a day.

        Raises:
            ValueError: The text is not a timecode, or drop-frame leaves this number out.
        """
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
            raise ValueError(f"{text!r} does not exist, because drop-frame timecode leaves it out")
        return frame - dropped * (minutes - minutes // 10)


def parse_rate(text: str) -> FrameRate:
    """Read a frame rate: "25", "29.97", "30000/1001"; "29.97ndf" for non-drop-frame timecode.

    29.97 and 59.94 are read as 30000/1001 and 60000/1001, and 23.976 as 24000/1001.

    Raises:
        ValueError: The text is not a frame rate in (0, 1000].
    """
    number = text.strip().lower()
    suffix = next((s for s in ("ndf", "df") if number.endswith(s)), "")
    try:
        rate = nearest_standard(Fraction(number.removesuffix(suffix)))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not a frame rate. Write 25, 29.97 or 30000/1001.") from None
    if not 0 < rate <= 1000:
        raise ValueError(f"the frame rate is {text}; it must be in (0, 1000]")
    drops = rate in DROP_FRAME_RATES
    return FrameRate(rate, drop_frame=suffix == "df" or (drops and suffix != "ndf"))


def nearest_standard(rate: Fraction) -> Fraction:
    """Return the standard rate within 0.1 % of `rate`, else `rate` itself."""
    # 29.97 is within 0.1 % of 30 too, so take the nearest.
    best = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return best if abs(best / rate - 1) <= Fraction(1, 1000) else rate


def rate_of_footage(health: FootageHealth) -> FrameRate | None:
    """Return the rate an editor would give the footage; None if it is not known.

    Footage of variable rate gets the first standard rate that is not below its average, so that no
    frame is lost. So does footage that has lost up to 1 % of its frames. The start timecode says
    whether timecode is drop-frame.
    """
    average = _average_rate(health)
    if average is None:
        return None
    rate = nearest_standard(average)
    if rate not in STANDARD_RATES:
        faster = next((r for r in STANDARD_RATES if r >= average), STANDARD_RATES[-1])
        if health.variable_rate or abs(faster / average - 1) <= Fraction(1, 100):
            rate = faster
    drops = rate in DROP_FRAME_RATES
    if health.start_timecode is not None:
        drops = ";" in health.start_timecode and (drops or rate in (30, 60, 120))
    return FrameRate(rate, drop_frame=drops)


def _average_rate(health: FootageHealth) -> Fraction | None:
    """The declared rate; for footage of variable rate without one, the average of its frames."""
    if health.frame_rate is not None:
        return Fraction(health.frame_rate)
    shown_s = (health.actual_duration_s or 0.0) - health.first_frame_s
    if not health.actual_frames or shown_s <= 0:
        return None
    return (health.actual_frames / Fraction(shown_s)).limit_denominator(1001)


@dataclass(frozen=True)
class MatchClock:
    """Where the periods of a match kick off in the file, and the match clock that follows.

    Attributes:
        kickoff_s: Period (1, 2, ...) -> time of its kick-off in the file, in seconds. Negative: the
            period kicks off before the file begins.
        period_min: Minutes of a period. None: football (45 minutes, extra time of 15).

    Raises:
        ValueError: There is no kick-off, a period does not exist, or the times are not in order.

    Example:
        >>> from touchline.pipeline import MatchClock
        >>> clock = MatchClock({1: 130.0, 2: 3900.0})
        >>> clock.text(1517.0), clock.text(3000.0)
        ('1H 23:07', '1H 45:00+2:50')
    """

    kickoff_s: Mapping[int, float]
    period_min: float | None = None

    def __post_init__(self) -> None:
        if not self.kickoff_s:
            raise ValueError("there is no kick-off. A match clock needs at least one.")
        times = [self.kickoff_s[period] for period in sorted(self.kickoff_s)]
        if not all(map(math.isfinite, times)):
            raise ValueError(f"kick-offs are at {times} s; they must be finite")
        if self.period_min is not None and not 0 < self.period_min < math.inf:
            raise ValueError(f"period_min is {self.period_min}; it must be more than 0 minutes")
        if times != sorted(set(times)):
            raise ValueError(f"kick-offs are at {times} s; each must be later than the one before")
        last = len(FOOTBALL_PERIOD_MIN) if self.period_min is None else 99
        if bad := [p for p in self.kickoff_s if not 1 <= p <= last]:
            raise ValueError(f"there is no period {bad[0]}; periods are 1 to {last}")

    def period(self, time_s: float) -> int | None:
        """Return the period played at a time of the file; None before the first kick-off."""
        started = [p for p, kickoff in self.kickoff_s.items() if kickoff <= time_s + 0.0005]
        return max(started, default=None)

    def text(self, time_s: float) -> str:
        """Return what the match clock shows: "1H 23:07", "2H 90:00+1:30"; empty before kick-off."""
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
        """Return the minutes that the clock shows at the start and at the end of a period."""
        if self.period_min is not None:
            return (period - 1) * self.period_min, period * self.period_min
        ends = (*FOOTBALL_PERIOD_MIN[1:], FOOTBALL_PERIOD_MIN[-1])
        return FOOTBALL_PERIOD_MIN[period - 1], ends[period - 1]

    def period_name(self, period: int) -> str:
        """Return the name of a period: 1H, 2H, ET1, ET2, PEN in football, else P1, P2, ..."""
        football = self.period_min is None
        return ("1H", "2H", "ET1", "ET2", "PEN")[period - 1] if football else f"P{period}"


def parse_kickoffs(
    texts: list[str], *, file_name: str | None = None, period_min: float | None = None
) -> MatchClock | None:
    """Read a match clock from the command line's kick-offs; None if none is of this file.

    Args:
        texts: "PERIOD=H:MM:SS", such as "1=0:02:10". For halves in several files
            "PERIOD=FILE@H:MM:SS".
        file_name: Leave out kick-offs that name another file. None: leave out none.
        period_min: See `MatchClock`.

    Raises:
        ValueError: A text has another form, a period is given twice, or see `MatchClock`.
    """
    kickoffs: dict[int, float] = {}
    for text in texts:
        period, equals, when = text.partition("=")
        file, at, time_text = when.rpartition("@")
        if not equals or not period.strip().isdigit():
            raise ValueError(f"kick-off is {text!r}; it must be PERIOD=H:MM:SS, such as 1=0:02:10")
        if at and file_name is not None and file != file_name:
            continue
        if int(period) in kickoffs:
            raise ValueError(f"the kick-off of period {int(period)} is given twice")
        kickoffs[int(period)] = parse_time(time_text)
    return MatchClock(kickoffs, period_min) if kickoffs else None


def _min_sec(time_s: int) -> str:
    return f"{time_s // 60}:{time_s % 60:02d}"

"""Timecodes by hand: SMPTE ST 12-1 numbers, rates, the match clock."""

import math
from fractions import Fraction

import pytest

from touchline.pipeline.timecode import (
    FrameRate,
    MatchClock,
    parse_kickoffs,
    parse_rate,
    parse_time,
    rate_of_footage,
    timecode,
)
from touchline.pipeline.types import FootageHealth

DF30 = FrameRate(Fraction(30000, 1001), drop_frame=True)
DF60 = FrameRate(Fraction(60000, 1001), drop_frame=True)


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (0.0, "0:00:00.000"),
        (59.9996, "0:01:00.000"),
        (3599.9995, "1:00:00.000"),
        (5025.25, "1:23:45.250"),
        (36000.0004, "10:00:00.000"),
        (-1.5, "-0:00:01.500"),
        (-0.0001, "0:00:00.000"),
    ],
)
def test_timecode_rounds_before_it_divides(time_s: float, text: str) -> None:
    assert timecode(time_s) == text


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("12.5", 12.5),
        ("125", 125.0),
        ("2:05", 125.0),
        ("1:02:03.5", 3723.5),
        ("-0:00:10", -10.0),
        ("0:59:59.999", 3599.999),
    ],
)
def test_times_are_read_as_people_write_them(text: str, time_s: float) -> None:
    assert parse_time(text) == pytest.approx(time_s, abs=1e-9)


@pytest.mark.parametrize("text", ["", "1:60", "1:2:3:4", "abc", "1:00:60", "nan"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


# Frame numbers and timecodes by hand: 1800 frames in the first minute, 1798 in each of the next
# nine, 17982 in ten minutes, 107892 in an hour; twice that at 59.94, where 4 numbers are left out.
@pytest.mark.parametrize(
    ("rate", "frame", "text"),
    [
        (DF30, 0, "00:00:00;00"),
        (DF30, 1799, "00:00:59;29"),
        (DF30, 1800, "00:01:00;02"),
        (DF30, 1800 + 1797, "00:01:59;29"),
        (DF30, 1800 + 1798, "00:02:00;02"),
        (DF30, 17981, "00:09:59;29"),
        (DF30, 17982, "00:10:00;00"),
        (DF30, 17982 + 1800, "00:11:00;02"),
        (DF30, 107892, "01:00:00;00"),
        (DF30, 107892 * 10 + 17982, "10:10:00;00"),
        (DF60, 3599, "00:00:59;59"),
        (DF60, 3600, "00:01:00;04"),
        (DF60, 35964, "00:10:00;00"),
        (DF60, 215784, "01:00:00;00"),
        (FrameRate(Fraction(30000, 1001)), 1800, "00:01:00:00"),
        (FrameRate(Fraction(30000, 1001)), 108000, "01:00:00:00"),
        (FrameRate(Fraction(24000, 1001)), 86400, "01:00:00:00"),
        (FrameRate(Fraction(25)), 90024, "01:00:00:24"),
        (FrameRate(Fraction(50)), 180049, "01:00:00:49"),
        (FrameRate(Fraction(120)), 119, "00:00:00:119"),
    ],
)
def test_timecode_of_a_frame_and_back(rate: FrameRate, frame: int, text: str) -> None:
    assert rate.smpte(frame) == text
    assert rate.frame_number(text) == frame


def test_a_day_of_drop_frame_timecode_goes_there_and_back() -> None:
    for frame in range(0, 107892 * 24, 997):
        assert DF30.frame_number(DF30.smpte(frame)) == frame
    assert DF30.smpte(107892 * 24) == "00:00:00;00"


def test_drop_frame_timecode_stays_with_the_wall_clock() -> None:
    # 10 real minutes are 17982.02 frames at 30000/1001.
    assert DF30.smpte(DF30.frame(600.0)) == "00:10:00;00"
    assert FrameRate(Fraction(30000, 1001)).smpte(DF30.frame(600.0)) == "00:09:59:12"


@pytest.mark.parametrize("text", ["00:01:00;00", "00:01:00;01", "00:61:00;02", "00:00:00;30", "x"])
def test_numbers_that_drop_frame_timecode_lacks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DF30.frame_number(text)


@pytest.mark.parametrize(
    ("text", "rate", "drop_frame"),
    [
        ("25", "25", False),
        ("23.976", "24000/1001", False),
        ("23.98", "24000/1001", False),
        ("29.97", "30000/1001", True),
        ("29.97df", "30000/1001", True),
        ("29.97NDF", "30000/1001", False),
        ("30000/1001", "30000/1001", True),
        ("30", "30", False),
        ("59.94", "60000/1001", True),
        ("12.5", "25/2", False),
    ],
)
def test_rates_are_read_as_people_write_them(text: str, rate: str, drop_frame: bool) -> None:
    assert parse_rate(text) == FrameRate(Fraction(rate), drop_frame=drop_frame)


@pytest.mark.parametrize("text", ["25df", "fast", "0", "-25", "1/0", "4000"])
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the messages differ
        parse_rate(text)


@pytest.mark.parametrize(
    ("declared", "variable", "start", "expected"),
    [
        ("25/1", False, None, FrameRate(Fraction(25))),
        ("2997/100", False, None, DF30),
        ("30000/1001", False, "01:00:00:00", FrameRate(Fraction(30000, 1001))),
        ("30000/1001", False, "01:00:00;00", DF30),
        # Phones record 29.83 frames per second on average and mean 30.
        ("2983/100", True, None, DF30),
        ("2743/100", True, None, DF30),
        ("1201/50", True, None, FrameRate(Fraction(24))),
        ("25/2", False, None, FrameRate(Fraction(25, 2))),
        # One frame in 200 of 30 a second is lost: no editor counts at 29.9.
        ("17910/599", False, None, DF30),
        ("4975/200", False, None, FrameRate(Fraction(25))),
        (None, True, None, None),
        *(
            (f"{rate}/1", variable, None, FrameRate(Fraction(rate)))
            for rate in (24, 25, 30, 48, 50, 60, 120)
            for variable in (False, True)
        ),
    ],
)
def test_the_rate_an_editor_gives_footage(
    declared: str | None, variable: bool, start: str | None, expected: FrameRate | None
) -> None:
    health = FootageHealth("mov", "h264", 64, 36, declared, variable, 10.0, 0.0, start)
    assert rate_of_footage(health) == expected


def test_variable_rate_that_nothing_declares_is_counted_at_a_rate_above_its_average() -> None:
    health = FootageHealth(
        "matroska,webm", "vp9", 64, 36, None, True, 12.5, 0.0, first_frame_s=0.5,
        actual_duration_s=12.5, actual_frames=289,
    )  # fmt: skip
    # 289 frames in 12 s are 24.08 a second.
    assert rate_of_footage(health) == FrameRate(Fraction(25))


def test_the_nearest_frame_is_never_more_than_half_a_frame_away() -> None:
    for rate in (DF30, DF60, FrameRate(Fraction(24000, 1001)), FrameRate(Fraction(50))):
        for k in range(2000):
            time_s = k * 3.6177
            away = abs(float(rate.seconds(rate.frame(time_s))) - time_s)
            assert away <= 0.5 / float(rate.rate) + 1e-12


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (129.0, ""),
        (130.0, "1H 0:00"),
        (130.0 + 754.9, "1H 12:34"),
        (130.0 + 2700.0, "1H 45:00+0:00"),
        (130.0 + 2790.0, "1H 45:00+1:30"),
        (3900.0, "2H 45:00"),
        (3900.0 + 2701.0, "2H 90:00+0:01"),
        (7500.0, "ET1 90:00"),
    ],
)
def test_the_match_clock_shows_stoppage_time_and_extra_time(time_s: float, text: str) -> None:
    assert MatchClock({1: 130.0, 2: 3900.0, 3: 7500.0}).text(time_s) == text


def test_the_match_clock_of_a_sport_with_other_periods() -> None:
    clock = MatchClock({1: 0.0, 4: 100.0}, period_min=10)
    assert clock.text(99.0) == "P1 1:39"
    assert clock.text(100.0) == "P4 30:00"
    assert clock.text(100.0 + 605) == "P4 40:00+0:05"


@pytest.mark.parametrize(
    ("kickoff_s", "period_min"),
    [(math.inf, None), (math.nan, None), (0.0, math.inf), (0.0, math.nan), (0.0, 0.0)],
)
def test_a_match_clock_of_times_that_cannot_be_is_refused(
    kickoff_s: float, period_min: float | None
) -> None:
    with pytest.raises(ValueError, match=r"kick-offs are at|period_min is"):
        MatchClock({1: kickoff_s}, period_min)


def test_kick_offs_of_halves_in_two_files() -> None:
    texts = ["1=first.mp4@0:01:00", "2=second.mp4@-0:00:30"]
    first = parse_kickoffs(texts, file_name="first.mp4")
    second = parse_kickoffs(texts, file_name="second.mp4")
    assert first is not None
    assert second is not None
    assert first.text(61.0) == "1H 0:01"
    assert second.text(0.0) == "2H 45:30"
    assert parse_kickoffs(texts, file_name="third.mp4") is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["0:02:10"], "must be PERIOD=H:MM:SS"),
        (["1=soon"], "is not a time"),
        (["1=0:01:00", "1=0:02:00"], "given twice"),
        (["2=0:01:00", "1=0:02:00"], "each must be later than the one before"),
        (["6=0:01:00"], "no period 6"),
    ],
)
def test_bad_kick_offs_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_kickoffs(texts)

"""The clock of a drawn scoreboard over moving footage; no clock where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import touchline
from drawn_scoreboard import draw, minutes_seconds, moving_background, write_match
from tiny import small_3d_model

from touchline.models.checkpoint import save_checkpoint
from touchline.models.errors import WeightsError
from touchline.models.weights.installed import DIGIT_RECOGNISER, verified_file
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.scoreboard.locate import BURST_RATE_HZ, ticking_places
from touchline.pipeline.scoreboard.options import ClockOptions
from touchline.pipeline.scoreboard.read_clock import match_clock, read_clock
from touchline.pipeline.timecode import MatchClock

PICTURES = (".mp4", ".avi", ".wmv", ".gif", ".webm", ".mkv", ".mov")


@pytest.fixture(scope="module")
def recogniser():
    pytest.importorskip("onnxruntime")
    from touchline.pipeline.scoreboard.recognise import Recogniser

    try:
        path, _ = verified_file(DIGIT_RECOGNISER)
    except WeightsError as error:
        pytest.skip(str(error))
    return Recogniser(path, threads=1)


def text_width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 360 / 480, 1)[0][0]


def burst(text: object, seconds: float = 8) -> np.ndarray:
    pictures = []
    for k, picture in enumerate(islice(moving_background(360, 640), int(seconds * BURST_RATE_HZ))):
        draw(picture, text(k / BURST_RATE_HZ))
        pictures.append(picture.transpose(2, 0, 1))
    return np.stack(pictures)


def test_the_place_that_ticks_is_the_last_digit() -> None:
    place = ticking_places(burst(lambda t: minutes_seconds(754.4 + t)))[0]
    # The board begins at 6 % of the height; a digit is about 14 pixels wide.
    left, right = (29 + text_width(text) for text in ("12:3", "12:34"))
    assert place.x * 640 == pytest.approx(left, abs=4)
    assert (place.x + place.width) * 640 == pytest.approx(right, abs=4)
    assert 20 < place.y * 360 < 40
    assert 7 <= place.height * 360 <= 24


@pytest.mark.parametrize("text", [lambda t: "", lambda t: "12:34", lambda t: str(int(12 * t))])
def test_what_stands_or_changes_all_the_time_is_no_place(text: object) -> None:
    # In eight seconds, something in the background may change at every tick by chance.
    assert [place for place in ticking_places(burst(text)) if place.y < 0.15] == []


def halves(t: float) -> str:
    if 60 <= t < 75 or 100 <= t < 110:
        return ""
    return minutes_seconds(2610.3 + t) if t < 100 else minutes_seconds(2700.6 + t - 110)


def test_two_halves_are_read(recogniser, tmp_path: Path) -> None:
    path = write_match(tmp_path / "match.mp4", halves, seconds=190)
    found = read_clock(path, recogniser.read, ClockOptions(rate_hz=1))
    times = [t + 0.5 for t in range(190) if halves(t + 0.5)]
    truth = [2610.3 + t if t < 100 else 2700.6 + t - 110 for t in times]
    values = [found.at(t) for t in times]
    right = [v is not None and abs(v - true) <= 1.1 for v, true in zip(values, truth, strict=True)]
    assert np.mean(right) > 0.97
    clock = match_clock(found)
    assert clock is not None
    assert clock.kickoff_s == {
        1: pytest.approx(-2610, abs=1.1),
        2: pytest.approx(109.4, abs=1.1),
    }


@pytest.mark.slow
def test_a_countdown_is_read_and_makes_no_kick_off(recogniser, tmp_path: Path) -> None:
    path = write_match(
        tmp_path / "match.mp4", lambda t: minutes_seconds(600.5 - t), seconds=60, height=360
    )
    found = read_clock(path, recogniser.read, ClockOptions(rate_hz=1))
    assert found.at(30) == pytest.approx(570.5, abs=1.1)
    assert {piece.slope for piece in found.pieces} == {-1}
    assert match_clock(found) is None


@pytest.mark.slow
def test_the_time_of_day_is_no_match_clock(recogniser, tmp_path: Path) -> None:
    path = write_match(
        tmp_path / "match.mp4", lambda t: f"18:{minutes_seconds(754 + t)}", seconds=60, height=360
    )
    assert read_clock(path, recogniser.read, ClockOptions(rate_hz=1)).pieces == ()


def test_footage_without_a_clock_has_none(recogniser, tmp_path: Path) -> None:
    path = write_match(tmp_path / "match.mp4", lambda t: "", seconds=40)
    found = read_clock(path, recogniser.read)
    assert found.pieces == ()
    assert found.why


@pytest.mark.slow
def test_real_footage_without_a_clock_has_none(recogniser, shared: Path) -> None:
    paths = [p for p in (shared / "footage").rglob("*") if p.suffix.lower() in PICTURES]
    assert len(paths) > 10
    found = {path.name: read_clock(path, recogniser.read).pieces for path in paths}
    assert {name: pieces for name, pieces in found.items() if pieces} == {}


def fake_read(pictures: Sequence[np.ndarray]) -> list[str]:
    return ["88:88"] * len(pictures)


def test_readings_that_do_not_tick_are_no_clock(tmp_path: Path) -> None:
    path = write_match(tmp_path / "m.mp4", lambda t: minutes_seconds(100 + t), seconds=20)
    assert read_clock(path, fake_read).why == (
        "No place that changes once a second reads as a clock."
    )


def test_without_the_recogniser_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("touchline.models.weights.installed._located", lambda *_: None)
    assert touchline(monkeypatch, "clock", tmp_path / "match.mp4") == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "pip install --no-deps rapidocr==3.10.0" in message
    assert re.search(r"rapidocr is not installed", message)


def test_another_file_in_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "rec.onnx"
    other.write_bytes(b"x")
    monkeypatch.setattr("touchline.models.weights.installed._located", lambda *_: other)
    with pytest.raises(WeightsError, match="not the published file"):
        verified_file(DIGIT_RECOGNISER)


@pytest.mark.parametrize("options", [{"bursts": 0}, {"rate_hz": 0}, {"period_min": -1}])
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ClockOptions(**options)


def test_detect_takes_the_clock_of_the_scoreboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage = write_match(tmp_path / "match.mp4", halves, seconds=6)
    save_checkpoint(tmp_path / "model.safetensors", small_3d_model())
    asked: list[list[Path]] = []

    def clocks(files: list[Path], period_min: float | None) -> dict[Path, MatchClock]:
        asked.append(list(files))
        return {footage: MatchClock({1: -60.0}, period_min)}

    monkeypatch.setattr("touchline.tools.detect.scoreboard_clocks", clocks)

    def kickoffs(*options: str) -> object:
        words = ["detect", footage, "--model", tmp_path / "model.safetensors"]
        words += ["-o", tmp_path / "out", "--quiet", *options]
        assert touchline(monkeypatch, *words) == 0
        clock = read_events_json(tmp_path / "out/match/events.json").clock
        return None if clock is None else (dict(clock.kickoff_s), clock.period_min)

    assert kickoffs() is None
    assert asked == []
    assert kickoffs("--clock", "auto") == ({1: -60.0}, None)
    assert kickoffs("--clock", "auto", "--period-min", "10") == ({1: -60.0}, 10.0)
    assert asked == [[footage], [footage]]
    # What is given by hand wins.
    assert kickoffs("--clock", "auto", "--kickoff", "1=0:00:02") == ({1: 2.0}, None)
    assert len(asked) == 2

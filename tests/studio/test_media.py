"""The footage, its pictures and its sound, as the page gets them."""

import base64
import io

import numpy as np
import pytest
from drawn_footage import frame_number
from PIL import Image
from studio_process import wait_for

pytest.importorskip("starlette", reason="no studio: pip install 'touchline[studio]'")
pytest.importorskip("uvicorn", reason="no studio: pip install 'touchline[studio]'")


@pytest.fixture
def content(matches) -> bytes:
    return matches[1].read_bytes()


def test_the_footage_is_served_whole(studio, content):
    answer = studio.ask("/media/m2")
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.body == content
    head = studio.ask("/media/m2", method="HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("0-", 0, None), ("0-0", 0, 1), ("100-199", 100, 200), ("-10", -10, None),
     ("7-99999999", 7, None)],
)  # fmt: skip
def test_ranges_are_served(studio, content, asked, first, end):
    answer = studio.ask("/media/m2", Range=f"bytes={asked}")
    assert answer.status == 206
    assert answer.body == content[first:end]
    start = first % len(content)
    assert answer.headers["content-range"] == (
        f"bytes {start}-{start + len(answer.body) - 1}/{len(content)}"
    )
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=99999999-", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "bytes=--1", "bytes=-0",
        "lines=0-5", "0-5", "bytes=1-2-3", "bytes=" + "9" * 5000 + "-", "bytes=\xfc-",
    ],
)  # fmt: skip
def test_invalid_ranges_are_refused_or_left_out(studio, content, asked):
    answer = studio.ask("/media/m2", Range=asked)
    assert answer.status in (200, 206, 400, 416)
    if answer.status in (200, 206):
        assert answer.body in (content, content[1:3])
    assert answer.headers["content-security-policy"]
    assert studio.ask("/media/m2", Range="bytes=0-9").body == content[:10]


def test_thousands_of_ranges_do_not_hold_the_server_up(studio, content):
    asked = "bytes=" + ",".join(f"{2 * k}-{2 * k}" for k in range(6000))
    answer = studio.ask("/media/m2", Range=asked)
    assert answer.status in (200, 206, 400, 416, 431)
    assert studio.ask("/api/project").status == 200


@pytest.mark.parametrize("frame", [0, 1, 26, 77, 149])
def test_the_picture_of_a_time_shows_the_frame_shown_then(studio, frame):
    """drawn.mp4 has 25 frames per second, and each frame shows its number."""
    for within in (0.001, 0.02, 0.037):
        answer = studio.ask(f"/api/matches/m2/picture?t={frame / 25 + within}&w=320")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
        picture = Image.open(io.BytesIO(answer.body))
        assert picture.size == (320, 192)
        assert frame_number(np.asarray(picture)) == frame


@pytest.mark.parametrize("t", ["6.5", "1000", "9999999"])
def test_there_is_no_picture_behind_the_end(studio, t):
    answer = studio.ask(f"/api/matches/m2/picture?t={t}")
    assert answer.status in (200, 404)
    if answer.status == 404:
        assert answer.json["error"]


def test_small_pictures_are_kept_while_features_come(studio):
    studio.wait(lambda p: {m["features"]["state"] for m in p["matches"]} == {"done"})
    for time_s, shown in ((0.5, 0), (2.1, 50), (5.9, 100)):
        answer = studio.ask(f"/api/matches/m2/picture?t={time_s}&near=1")
        assert answer.status == 200
        picture = Image.open(io.BytesIO(answer.body))
        assert picture.height == 90
        # One of each two seconds is kept: the first one that was sampled.
        assert abs(frame_number(np.asarray(picture.resize((320, 192)))) - shown) <= 7
    assert studio.ask("/api/matches/m2/picture?t=5000&near=1").status == 404


def test_the_waveform_is_loud_where_the_beeps_are(studio):
    answer = studio.ask("/api/matches/m2/waveform").json
    levels = np.frombuffer(base64.b64decode(answer["values"]), np.uint8)
    assert answer["stepS"] == 0.5
    assert len(levels) in (12, 13)
    # A beep begins at every second, so every other half second is loud.
    assert (levels[0:12:2] > 100).all()
    assert (levels[1:12:2] < 60).all()
    assert studio.ask("/api/matches/m2/waveform").json == answer  # from disk


def test_without_sound_the_waveform_is_empty(studio):
    assert studio.ask("/api/matches/m1/waveform").json["values"] == ""


def test_a_copy_that_plays_has_the_times_of_the_footage(studio):
    """grass.mkv (FFV1) does not play in browsers; its copy does."""
    media = studio.project()["matches"][0]["media"]
    assert media["played"] is False
    assert "ffv1" in media["kind"]
    assert studio.post("/api/matches/m1/proxy", {}).status == 200
    assert studio.post("/api/matches/m1/proxy", {}).status == 200  # twice is once
    row = studio.wait(lambda p: p["matches"][0]["proxy"]["state"] == "done" and p)["matches"][0]
    assert (row["media"]["played"], row["media"]["kind"]) == (True, "h264 in mp4")
    answer = studio.ask(row["media"]["src"])
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.body[4:8] == b"ftyp"
    assert studio.ask("/media/m1").body[:4] == b"\x1a\x45\xdf\xa3"  # the footage itself
    assert row["media"]["offsetS"] == pytest.approx(0.0, abs=0.01)
    copies = list((studio.project_folder / "copies").iterdir())
    assert len([p for p in copies if p.suffix == ".mp4"]) == 1
    wait_for(lambda: studio.project()["matches"][0]["proxy"]["done"] == 1.0)

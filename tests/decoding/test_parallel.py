"""Several workers at one file: the frames of one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage_made import X264_B, cut, overwrite, packet_places, read_index, write_video

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.parallel import Passed, Request, bounds_here
from touchline.pipeline.footage import isolation
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.types import Frames

F = Fraction
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system"),
]

CLOSED = {**X264_B, "g": "10", "sc_threshold": "0"}
OPEN = {**X264_B, "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
UNEVEN = [F(k, 5) + F(k % 3, 50) for k in range(200)]


def footage(folder: Path, kind: str) -> Path:
    """40 s at 5 frames a second, a key frame every 2 s."""
    file, how = {
        "mp4": ("a.mp4", {"options": CLOSED}),
        "mkv": ("a.mkv", {"options": CLOSED}),
        "open": ("a.mp4", {"options": OPEN}),
        "vfr": ("a.mp4", {"options": CLOSED, "stamps": UNEVEN, "time_base": F(1, 1000)}),
        "intra": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
        "avi": ("a.avi", {"codec": "mpeg4", "options": {"g": "10"}}),
        "ts": ("a.ts", {"options": CLOSED}),
    }[kind]
    return write_video(folder / file, indices=range(200), rate=5, **how)


def joined(chunks: list[Frames]) -> tuple[np.ndarray, ...]:
    return tuple(
        np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("pixels", "time_s", "sample_s", "damaged")
    )


def bounds(path: Path) -> list[float]:
    request = Request(str(path), "pyav", Wanted(Instants(F(8))))
    return [float(bound) for bound in next(bounds_here(DecodeLog(), request=request))]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "open", "vfr", "intra", "avi", "ts"])
@pytest.mark.parametrize("rate_hz", [8, None])
def test_the_number_of_workers_changes_not_one_byte(
    kind: str, rate_hz: float | None, tmp_path: Path
):
    path = footage(tmp_path, kind)
    alone = decode(path, rate_hz=rate_hz, size_px=48)
    together = decode(path, rate_hz=rate_hz, size_px=48, workers=3)
    for a, b in zip(joined(list(alone)), joined(list(together)), strict=True):
        assert np.array_equal(a, b)
    assert together.log.num_frames == alone.log.num_frames == 200
    assert together.log.end_s == alone.log.end_s
    assert together.log.warnings == alone.log.warnings


def test_part_of_a_file_is_the_same_too(tmp_path: Path):
    path = footage(tmp_path, "mp4")
    how = {"rate_hz": 8, "size_px": 48, "start_s": 7.3, "end_s": 33.1}
    one = joined(list(decode(path, **how)))
    two = joined(list(decode(path, workers=2, **how)))
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a, b)
    assert one[2][0] == 7.375
    assert one[2][-1] == 33.0


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("a.mp4", {"options": {**X264_B, "g": "25", "sc_threshold": "0"}}),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    ],
    ids=["h264", "mjpeg"],
)
def test_segments_together_read_little_more_than_the_file(
    file: str, how: dict[str, object], tmp_path: Path
):
    path = write_video(tmp_path / file, indices=range(3000), **how)
    stream = decode(path, rate_hz=1, size_px=48, workers=2)
    assert sum(len(chunk) for chunk in stream) == 120
    assert stream.log.num_frames == 3000
    # 12 segments of 250 packets. Past its end each looks ahead at 34, and at one per thread.
    assert stream.log.num_packets < 1.5 * 3000


@pytest.mark.parametrize("kind", ["mp4", "mkv", "open", "intra"])
def test_segments_begin_at_key_frames_ten_seconds_apart(kind: str, tmp_path: Path):
    assert bounds(footage(tmp_path, kind)) == [10.0, 20.0, 30.0]


def test_footage_without_an_index_is_one_segment(tmp_path: Path):
    assert bounds(footage(tmp_path, "ts")) == []


def test_a_lost_index_is_not_made_again_by_reading_the_whole_file(tmp_path: Path):
    # Matroska's index (Cues) lies at the end, where an interrupted download has nothing. Reading
    # all of a large file in one call looks like a decoder that hangs.
    path = cut(footage(tmp_path, "mkv"), 0.9)
    assert b"\x1c\x53\xbb\x6b" not in path.read_bytes()[1000:]
    assert bounds(path) == []


def test_a_footage_whose_clock_jumps_is_one_segment(tmp_path: Path):
    stamps = [F(k, 5) + (7200 if k >= 100 else 0) for k in range(200)]
    path = write_video(
        tmp_path / "a.mp4", indices=range(200), rate=5, stamps=stamps, time_base=F(1, 1000)
    )
    assert bounds(path) == []


def test_damage_in_one_segment_stays_there(tmp_path: Path):
    path = footage(tmp_path, "intra")
    pos, size, _ = packet_places(path)[77]
    overwrite(path, pos, bytes(size))
    alone = decode(path, rate_hz=5, size_px=48)
    together = decode(path, rate_hz=5, size_px=48, workers=2)
    one, two = joined(list(alone)), joined(list(together))
    assert np.array_equal(one[3], two[3])
    assert one[3].sum() == 1
    assert together.log.damaged_s == alone.log.damaged_s
    assert together.log.damaged_s[0] == pytest.approx((15.4, 15.6))


def test_frames_come_in_order_and_early_leaving_ends_the_workers(tmp_path: Path):
    chunks = decode(footage(tmp_path, "mp4"), rate_hz=5, size_px=96, workers=3)
    first = next(chunks)
    assert [read_index(pixels) for pixels in first.pixels] == list(range(len(first)))
    chunks.close()
    assert not any(worker.busy for worker in isolation._living)


def test_a_file_that_cannot_be_read_is_refused_as_with_one_worker(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_text("no match today")
    with pytest.raises(FootageError, match="a text file, not a video"):
        next(decode(path, rate_hz=8, size_px=48, workers=2))


def test_several_workers_need_isolation(tmp_path: Path):
    with pytest.raises(ValueError, match="workers is 2; it must be 1, or more with isolation"):
        decode(tmp_path / "a.mp4", rate_hz=8, size_px=48, workers=2, isolation=False)


@pytest.mark.parametrize("kind", ["mp4", "open", "vfr", "damaged", "ts"])
def test_decoding_goes_on_behind_segments_that_are_done(kind: str, tmp_path: Path):
    path = footage(tmp_path, "intra" if kind == "damaged" else kind)
    if kind == "damaged":
        pos, size, _ = packet_places(path)[77]
        overwrite(path, pos, bytes(size))
    passed: list[Passed] = []
    whole = decode(path, rate_hz=8, size_px=48, workers=2, on_passed=passed.append)
    frames = joined(list(whole))
    assert [p.segments for p in passed] == [*range(1, 2 if kind == "ts" else len(passed) + 1)]
    for p in passed:
        rest = decode(path, rate_hz=8, size_px=48, workers=2, passed=p)
        chunks = list(rest)
        if chunks:
            for a, b in zip(frames, joined(chunks), strict=True):
                np.testing.assert_array_equal(a[p.samples :], b)
        assert sum(map(len, chunks)) == len(frames[1]) - p.samples
        assert rest.log == whole.log
    assert passed[-1].samples == len(frames[1])


def test_one_worker_cannot_leave_out_segments(tmp_path: Path):
    with pytest.raises(ValueError, match="only several workers"):
        decode(footage(tmp_path, "mp4"), rate_hz=8, size_px=48, passed=Passed(1, 80))

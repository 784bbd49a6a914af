"""A thumbnail shows the frame that a player shows at its time, upright."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from footage_bad_cases import CASES
from footage_made import read_index
from PIL import Image
from tiny import write_levels

from touchline.models.errors import DecoderError
from touchline.pipeline.decoding.contract import ShownFrame, Wanted
from touchline.pipeline.decoding.pyav import pyav_frames
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.reels import thumbnails
from touchline.pipeline.reels.thumbnails import make_thumbnails

TIMES = (0.9, 0.0, 0.5, 0.58, 5.0)


def shown(uri: str | None) -> int:
    """The number of the frame in a thumbnail."""
    assert uri is not None
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return read_index(np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "name",
    [
        *("h264.mp4", "h264.ts", "mpeg2.mpg", "vp9.webm"),
        # These are read in one pass.
        *("mpeg4_b_frames.avi", "raw.h264", "clock_restarts.mkv"),
        *("mirrored.mp4", "turned_and_mirrored.mp4", "edit_list_joins_two_parts.mp4"),
    ],
)
def test_a_thumbnail_is_the_frame_shown_at_its_time(name: str, tmp_path: Path) -> None:
    case = next(one for one in CASES if one.name == name)
    path = case.make(tmp_path)
    uris = make_thumbnails(path, TIMES, width_px=128, max_bytes=1_000_000)
    expected = [[n for n, t in case.frames if float(t) <= time_s + 1e-3][-1] for time_s in TIMES]
    assert [shown(uri) for uri in uris] == expected


def test_the_most_important_times_come_first_if_room_is_short(tmp_path: Path) -> None:
    case = next(one for one in CASES if one.name == "raw.h264")
    uris = make_thumbnails(case.make(tmp_path), TIMES, width_px=128, max_bytes=10)
    assert [uri is not None for uri in uris] == [True, False, False, False, False]
    assert shown(uris[0]) == 22


def test_a_thumbnail_late_in_a_match_does_not_read_all_that_comes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 640 + [235] * 160)
    logs: list[DecodeLog] = []

    def counted(path: Path, wanted: Wanted, log: DecodeLog) -> Iterator[ShownFrame]:
        logs.append(log)
        return pyav_frames(path, wanted, log)

    monkeypatch.setattr(thumbnails, "pyav_frames", counted)
    read = []
    for uri in thumbnails.thumbnails_here(
        DecodeLog(),
        path=str(match),
        times_s=[20.3, 45.7],
        width_px=32,
        max_bytes=10**6,
        stream=None,
    ):
        read.append((uri, logs[-1].num_packets))
    (dark, before), (light, after) = read
    assert dark != light
    # Key frames are a second apart. Reading begins up to two seconds earlier.
    assert max(before, after) < 64


def test_a_worker_that_is_killed_once_costs_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_levels(tmp_path / "a.mp4", [100] * 16)
    whole = make_thumbnails(path, [0.2, 0.8], width_px=32, max_bytes=10**6)
    isolated, tries = thumbnails.run_isolated, []

    def dies_first(*arguments: object, **options: object) -> Iterator[object]:
        tries.append(arguments)
        found = isolated(*arguments, **options)  # type: ignore[arg-type]
        yield next(found)
        if len(tries) == 1:
            raise DecoderError(path, "the worker was killed")
        yield from found

    monkeypatch.setattr(thumbnails, "run_isolated", dies_first)
    assert make_thumbnails(path, [0.2, 0.8], width_px=32, max_bytes=10**6) == whole
    assert len(tries) == 2
    assert None not in whole

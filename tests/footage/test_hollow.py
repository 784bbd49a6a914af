"""Packets without their contents: all else is as in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage_bad_cases import CASES
from footage_made import X264, X264_B, X265, with_edits, write_noise, write_video

from touchline.pipeline.footage import hollow
from touchline.pipeline.footage.address import BUFFER_BYTES
from touchline.pipeline.footage.hollow import can_be_hollow, sync_places, without_contents
from touchline.pipeline.footage.open import OpenFootage, open_footage, packets_of

OPEN = {**X264_B, "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}

FILES: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {"options": X264_B},
    "open.mp4": {"options": OPEN},
    "hevc.mp4": {"codec": "libx265", "options": X265},
    "sound.mov": {"options": X264_B, "audio_from": 0},
    "tables_first.mp4": {"options": X264_B, "muxer": {"movflags": "faststart"}},
    "edits.mp4": {"options": X264_B},
}


def facts(footage: OpenFootage, keys: Sequence[int] = ()) -> Iterator[tuple[Any, ...]]:
    for packet in packets_of(footage.container, footage.stream):
        is_key = packet.pos in keys if keys else packet.is_keyframe
        yield (
            packet.pts, packet.dts, packet.duration, packet.pos, packet.size, is_key,
            packet.is_discard,
        )  # fmt: skip


def made(folder: Path, name: str) -> Path:
    # Noise: more than FFmpeg looks at in opening.
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 128, 3), np.uint8)
    path = write_video(
        folder / name, indices=range(200), picture=lambda k: noise[k % 4], **FILES[name]
    )
    assert path.stat().st_size > 2 * BUFFER_BYTES
    return with_edits(path, [(400, 512), (800, 5120)]) if name == "edits.mp4" else path


@pytest.mark.parametrize("name", FILES)
def test_all_but_the_contents_of_packets_is_as_in_the_file(name: str, tmp_path: Path):
    footage = open_footage(made(tmp_path, name))
    with footage.container:
        assert can_be_hollow(footage)
        with without_contents(footage) as empty:
            got = list(facts(empty, sync_places(empty)))
        assert got == list(facts(footage))
        assert sum(fact[5] for fact in got) >= 4


def test_contents_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_noise(tmp_path / "a.mp4", num_frames=40)
    opened = []

    class Counted(hollow.HollowFile):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(hollow, "HollowFile", Counted)
    footage = open_footage(path)
    with footage.container, without_contents(footage) as empty:
        at_opening = opened[0].num_read
        packets = list(packets_of(empty.container, empty.stream))
    assert len(packets) == 40
    # FFmpeg's buffer held what opening had looked at.
    assert not any(bytes(packets[-1]))
    assert opened[0].num_read == at_opening


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mkv", {"options": X264}),
        ("a.mp4", {"options": X264, "muxer": {"movflags": "frag_keyframe+empty_moov"}}),
        ("a.ts", {"options": X264}),
        ("a.mp4", {"codec": "libvpx-vp9"}),
        ("a.avi", {"codec": "mpeg4", "options": {}}),
    ],
)
def test_other_files_are_read_as_they_are(name: str, how: dict[str, Any], tmp_path: Path):
    footage = open_footage(write_video(tmp_path / name, **how))
    with footage.container:
        assert not can_be_hollow(footage)


def test_fragments_after_the_first_table_are_read_as_they_are(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", options=X264)
    with path.open("ab") as file:
        file.write(b"\0\0\0\x08moof")
    footage = open_footage(path)
    with footage.container:
        assert footage.stream.frames == 25
        assert not can_be_hollow(footage)


@pytest.mark.parametrize(
    "name", ["index_calls_every_frame_key.mp4", "index_calls_wrong_frames_key.mp4"]
)
def test_an_index_that_names_wrong_key_frames_is_not_believed(name: str, tmp_path: Path):
    (case,) = (case for case in CASES if case.name == name)
    footage = open_footage(case.make(tmp_path))
    with footage.container:
        assert not can_be_hollow(footage)

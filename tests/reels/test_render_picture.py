"""Clips keep the shape of pixels, and do without sound that nothing decodes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from drawn_footage import write_footage

from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.render import cut_clips
from touchline.pipeline.types import Event

GOAL = Event("goal", 1.3, 2.1, 1.5, 0.9)
WIDE = Fraction(4, 3)


@pytest.fixture(scope="module")
def anamorphic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage whose container alone says that its pixels are wide."""
    folder = tmp_path_factory.mktemp("footage")
    path = folder / "wide.mp4"
    plain = write_footage(folder / "plain.mp4", seconds=4)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        taken = source.streams.video[0]
        stream = target.add_stream_from_template(taken)
        stream.codec_context.sample_aspect_ratio = WIDE
        for packet in source.demux(taken):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.sample_aspect_ratio, video.codec_context.sample_aspect_ratio) == (WIDE, None)
    return path


@pytest.mark.parametrize("mode", ["exact", "copy", "encode"])
def test_pixels_stay_as_wide_as_the_container_says(
    anamorphic: Path, tmp_path: Path, mode: str
) -> None:
    (made,) = cut_clips(anamorphic, [GOAL], tmp_path, options=RenderOptions(mode=mode))
    with av.open(str(made.path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == WIDE


@pytest.mark.parametrize("mode", ["exact", "copy"])
def test_sound_that_nothing_decodes_is_left_out(tmp_path: Path, mode: str) -> None:
    path = write_footage(tmp_path / "match.mp4", seconds=4)
    raw = path.read_bytes()
    assert raw.count(b"mp4a") == 1
    path.write_bytes(raw.replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    (made,) = cut_clips(path, [GOAL], tmp_path / "out", options=RenderOptions(mode=mode))
    with av.open(str(made.path)) as container:
        assert len(container.streams.video) == 1
        assert not container.streams.audio
    assert made.note == "without sound, because FFmpeg cannot decode it"

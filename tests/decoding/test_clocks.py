"""The same pictures are sampled in every container, and a clock that restarts is no obstacle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from drawn_footage import write_footage
from footage_bad_cases import long_video
from footage_made import read_index

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage


def remuxed(source: Path, target: Path) -> Path:
    """Picture and sound of a file in another container."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        streams = {s: writing.add_stream_from_template(s) for s in reading.streams}
        for packet in reading.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                writing.mux(packet)
    return target


@pytest.mark.parametrize("container", ["mkv", "ts", "flv", "mov"])
@pytest.mark.parametrize("rate_hz", [8.0, 12.5, 25.0])
def test_the_same_pictures_are_sampled_in_every_container(
    container: str, rate_hz: float, tmp_path: Path
) -> None:
    # AAC begins 1024 samples before the sound. MP4 hides them; elsewhere the picture starts later.
    source = write_footage(tmp_path / "a.mp4", seconds=4, options={"preset": "veryfast"})
    target = remuxed(source, tmp_path / f"b.{container}")
    sampled = []
    for path in (source, target):
        chunks = list(decode(path, rate_hz=rate_hz, size_px=96))
        sampled.append([p.tobytes() for chunk in chunks for p in chunk.pixels])
        first_s = probe_footage(path).first_frame_s
        # Times stay those that a player shows.
        assert chunks[0].sample_s[0] == pytest.approx(first_s, abs=1e-3)
    assert sampled[0] == sampled[1]
    if container in ("mkv", "ts"):
        assert first_s == pytest.approx(1024 / 48000, abs=1e-3)


def joined_recordings(folder: Path) -> Path:
    """Two transport streams, 4 s each, one after the other: the clock steps back from 4 to 2 s."""
    from_2_s = [2 + Fraction(k, 25) for k in range(100)]
    parts = [
        long_video(folder / "first.ts"),
        long_video(folder / "second.ts", stamps=from_2_s),
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("start_s", [1.0, 3.0, 5.0, 7.0])
def test_a_part_of_footage_whose_clock_restarts_is_that_part(
    start_s: float, tmp_path: Path
) -> None:
    path = joined_recordings(tmp_path)
    how = {"start_s": start_s, "end_s": start_s + 0.4}
    chunks = list(decode(path, rate_hz=25, size_px=96, **how))
    numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
    first = round(start_s * 25) % 100
    assert numbers == list(range(first, first + 10))

"""Each row of the table in docs/probe.md: its condition, made, gives its words."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from drawn_footage import write_footage
from footage_bad_cases import CASES, from_frame, long_video
from footage_made import overwrite, write_video

from touchline.pipeline.decoding.probe import probe_footage

PAGE = Path(__file__).parents[2] / "docs" / "probe.md"
FACTS = "## Facts"

pytestmark = pytest.mark.timeout(150)


def case(name: str) -> Callable[[Path], Path]:
    """A file of the decoder's tests."""
    return next(one for one in CASES if one.name == name).make


def many_breaks(folder: Path) -> Path:
    """Seven recordings in a row."""
    path = folder / "many.ts"
    path.write_bytes(long_video(folder / "one.ts").read_bytes() * 7)
    return path


def two_mp4(folder: Path) -> Path:
    """Two MP4 files joined byte by byte."""
    path = folder / "two.mp4"
    path.write_bytes(write_video(folder / "one.mp4").read_bytes() * 2)
    return path


def hours_apart(folder: Path) -> Path:
    """Ten hours between two frames."""
    stamps = [Fraction(k, 25) + (0 if k < 12 else 36_000) for k in range(25)]
    return write_video(folder / "a.mkv", stamps=stamps, time_base=Fraction(1, 1000))


def crashed(folder: Path) -> Path:
    """A recording to Matroska that ended inside a frame."""
    path = write_footage(folder / "a.mkv", seconds=2, muxer={"live": "1"})
    path.write_bytes(path.read_bytes()[:-1])
    return path


def declares_25(folder: Path) -> Path:
    """Matroska that declares 25 frames a second and has 50."""
    stamps = [Fraction(k, 50) for k in range(100)]
    return write_video(
        folder / "a.mkv", indices=range(100), stamps=stamps, time_base=Fraction(1, 1000)
    )


def longer_than_declared(folder: Path) -> Path:
    """Matroska whose header declares a second less than a twentieth of what there is."""
    path = long_video(folder / "a.mkv")
    body = path.read_bytes()
    k = body.index(b"\x44\x89\x88") + 3
    path.write_bytes(body[:k] + b"\x40\x69\x00\x00\x00\x00\x00\x00" + body[k + 8 :])
    return path


def empty_chunks(folder: Path) -> Path:
    """AVI in which every other frame is missing, as screen recorders write it."""
    path = folder / "a.avi"
    source = write_video(folder / "s.avi", indices=range(100), codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(source)) as reading, av.open(str(path), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for k, packet in enumerate(reading.demux(video=0)):
            if packet.size and k % 2 == 0:
                packet.stream, packet.pts, packet.dts = stream, k, k
                writing.mux(packet)
    return path


def astray(folder: Path) -> Path:
    """Matroska whose cues name times at which there is no frame."""
    path = long_video(folder / "a.mkv")
    body = bytearray(path.read_bytes())
    # CuePoint BB, CueTime B3 of two bytes, such as 800 ms.
    k = body.index(b"\xb3\x82\x03\x20", body.rindex(b"\x1c\x53\xbb\x6b"))
    body[k + 2 : k + 4] = (790).to_bytes(2, "big")
    path.write_bytes(body)
    return path


def size(W: int, H: int) -> Callable[[Path], Path]:
    """A file of this size."""
    return lambda folder: write_video(folder / "a.mkv", codec="ffv1", size=(W, H))


def unreadable(folder: Path) -> Path:
    """Raw pictures. One of them has no header."""
    path = write_video(folder / "a.y4m", codec="wrapped_avframe")
    return overwrite(path, path.read_bytes().index(b"FRAME", 200_000), b"XXXXX")


# The words of the table, and the file that gives them.
SAYS: dict[str, Callable[[Path], Path]] = {
    "its clock starts at ... s": case("far_start.ts"),
    "timestamps step back by ... s at ... s": case("clock_restarts.mkv"),
    "timestamps jump ahead by ... s at ... s": case("clock_jumps_ahead.ts"),
    "timestamps step back or jump ahead at more places": many_breaks,
    "a gap of ... s without frames at ... s": hours_apart,
    "gaps without frames": case("gap.mkv"),
    "duplicate or backward timestamps": case("duplicate_stamp.mkv"),
    "a timestamp runs ahead of the next one": case("stamp_far_ahead.mkv"),
    "frames without timestamps": case("few_stamps.mpg"),
    "a raw stream without timestamps": case("raw.h264"),
    "ends early: at ... s": case("cut_off_faststart.mp4"),
    "goes on after its declared end": longer_than_declared,
    "cut short: its last fragment is incomplete": case("cut_off_fragmented.mp4"),
    "cut short: the recording or the copy of it was not finished": crashed,
    "declares ... frames/s, but has ...": declares_25,
    "declared frames are empty": empty_chunks,
    "begins inside a group of pictures": from_frame("a.ts", 5),
    "pictures change their size or format": case("changes_size.ts"),
    "very small pictures": size(16, 16),
    "unusually long pictures": size(2048, 32),
    "its index declares pictures of ...": case("declares_huge_pictures.mp4"),
    "several video streams": case("two_videos.mp4"),
    "a second recording follows in the same file": two_mp4,
    "its index (cues) names wrong places": astray,
    "an unreadable place in the file": unreadable,
    "the container marks ... packets as damaged": case("packets_lost.ts"),
}

# Found without decoding only.
QUICK = {"the container marks ... packets as damaged"}


def rows(part: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_page_lists_all_that_is_tested_here_and_nothing_else() -> None:
    warnings, _ = PAGE.read_text(encoding="utf-8").split(FACTS)
    assert [words.strip("`") for _, words, _ in rows(warnings)] == list(SAYS)


@pytest.mark.parametrize("words", SAYS)
def test_probe_says_it(words: str, tmp_path: Path) -> None:
    depth = "packets" if words in QUICK else "frames"
    health = probe_footage(SAYS[words](tmp_path), depth=depth)
    pattern = re.escape(words).replace(re.escape("..."), ".+")
    assert [warning for warning in health.warnings if re.search(pattern, warning)]
    assert health.verdict != "ok"


def test_probe_says_nothing_about_plain_footage(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "a.mp4", seconds=3)
    health = probe_footage(path, depth="frames")
    assert (health.verdict, health.warnings) == ("ok", ())
    assert health.sound == "aac 48000 Hz mono"
    assert probe_footage(write_video(tmp_path / "mute.mp4")).sound == ""


def test_equal_tracks_of_sound_are_reported_once_in_words(tmp_path: Path) -> None:
    path = tmp_path / "camera.mxf"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [output.add_stream("pcm_s16le", rate=48000, layout="mono") for _ in range(8)]
        output.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(video.encode(None))
        for track in tracks:
            sound = av.AudioFrame("s16", "mono", 1920)
            sound.sample_rate = 48000
            output.mux(track.encode(sound))
            output.mux(track.encode(None))
    assert probe_footage(path).sound == "8 tracks of pcm_s16le 48000 Hz mono"


def test_fragments_whose_clock_starts_late_declare_their_length(tmp_path: Path) -> None:
    stamps = [3600 + Fraction(k, 25) for k in range(100)]
    path = write_video(
        tmp_path / "a.mp4", indices=range(100), stamps=stamps, time_base=Fraction(1, 1000),
        muxer={
            "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont",
            "avoid_negative_ts": "disabled",
        },
    )  # fmt: skip
    health = probe_footage(path, depth="frames")
    assert health.duration_s == pytest.approx(4.0)
    assert health.warnings == ()

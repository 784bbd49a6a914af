"""Clips and reels: the right frames at the right times, the sound with them.

Frame k of the footage shows k, and a beep begins at every full second, so that both can be read
back from what was cut.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_footage import frame_number, read_beeps, read_video, write_footage

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.footage.nal_units import parameter_sets
from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import cut_clips, cut_reel, render_cuts
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event

GOAL = Event("goal", 3.3, 4.1, 3.5, 0.9)
CARD = Event("card", 9.0, 11.0, 10.0, 0.8)
CORNER = Event("corner", 15.2, 16.0, 15.5, 0.7)
EVENTS = (GOAL, CARD, CORNER)

# An audio packet of AAC at 48 kHz lasts 21.3 ms; copied sound begins with the first whole one.
PACKET_S = 1024 / 48000


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s at 25 fps with B-frames and a key frame every second, MP4."""
    path = tmp_path_factory.mktemp("footage") / "match.mp4"
    return write_footage(path, seconds=20, options={"preset": "veryfast"})


def edges(cuts: Sequence[Cut]) -> list[float]:
    return [edge for cut in cuts for edge in (cut.start_s, cut.end_s)]


@cache
def source_video(path: Path) -> tuple[list[float], list[int]]:
    return read_video(path)


def numbers_of(source: Path, cuts: Sequence[Cut]) -> list[int]:
    """The frames that the footage shows from each cut's start up to its end."""
    shown = list(zip(*source_video(source), strict=True))
    return [n for c in cuts for t, n in shown if c.start_s - 1e-3 <= t < c.end_s - 1e-3]


def beeps_of(source: Path, cuts: Sequence[Cut]) -> list[float]:
    """Where the beeps of the footage lie in a reel of hard cuts."""
    beeps, at = [], 0.0
    for cut in cuts:
        beeps += [at + b - cut.start_s for b in read_beeps(source) if cut.start_s <= b < cut.end_s]
        at += cut.duration_s
    return beeps


def check(path: Path, source: Path, cuts: Sequence[Cut], *, sound_s: float = 0.002) -> None:
    """The file shows exactly the cuts' frames, evenly, and the beeps where they belong."""
    times, numbers = read_video(path)
    assert numbers == numbers_of(source, cuts)
    step_s = source_video(source)[0][2] - source_video(source)[0][1]
    assert times == pytest.approx([k * step_s for k in range(len(times))], abs=2e-3)
    heard = read_beeps(path)
    starts = [sum(c.duration_s for c in cuts[:k]) for k in range(len(cuts))]
    for beep_s in beeps_of(source, cuts):
        # A beep that begins with a cut may lose its first packet in copied sound.
        if sound_s >= PACKET_S and any(abs(beep_s - start) < 2 * PACKET_S for start in starts):
            continue
        assert min(abs(beep_s - heard_s) for heard_s in heard) < sound_s


def test_an_exact_reel_has_the_frames_asked_for_and_encodes_only_the_edges(
    match: Path, tmp_path: Path
) -> None:
    options = RenderOptions(before_s=1.1, after_s=1.0)
    reel = cut_reel(match, EVENTS, tmp_path / "reel.mp4", options=options)
    # 3.3 - 1.1 = 2.2 is frame 55; 4.1 + 1 = 5.1 ends in frame 127, which is still shown.
    assert edges(reel.cuts) == pytest.approx([2.2, 5.12, 7.88, 12.0, 14.08, 17.0])
    assert reel.duration_s == pytest.approx(2.92 + 4.12 + 2.92)
    check(reel.path, match, reel.cuts)
    assert reel.num_frames == 249
    # Copied: 3.0-5.12 except the frames behind the last clean point, 8-12, 15-17.
    assert 0 < reel.num_encoded <= 20 + 3 + 3 + 23
    assert reel.note == ""


def test_copied_and_encoded_parts_have_parameter_sets_of_their_own(
    match: Path, tmp_path: Path
) -> None:
    reel = render_cuts(match, [Cut(1.2, 4.0, ())], tmp_path / "clip.mp4")
    with av.open(str(match)) as container:
        _, ours = parameter_sets(container.streams.video[0].codec_context.extradata)
    with av.open(str(reel.path)) as container:
        sets, numbers = parameter_sets(container.streams.video[0].codec_context.extradata)
    # Two sequence and two picture parameter sets, the footage's numbers and another.
    assert [unit[0] & 31 for unit in sets] == [7, 7, 8, 8]
    assert ours < numbers
    assert len(numbers) == 2


def test_a_copied_reel_begins_at_key_frames_and_encodes_nothing(
    match: Path, tmp_path: Path
) -> None:
    options = RenderOptions(before_s=1.1, after_s=1.0, mode="copy")
    reel = cut_reel(match, EVENTS, tmp_path / "reel.mp4", options=options)
    assert reel.num_encoded == 0
    assert [cut.start_s for cut in reel.cuts] == [2.0, 7.0, 14.0]
    for cut, end_s in zip(reel.cuts, (5.1, 12.0, 17.0), strict=True):
        assert end_s <= cut.end_s + 1e-9 <= end_s + 5 / 25 + 1e-9
    check(reel.path, match, reel.cuts, sound_s=PACKET_S)


def test_a_copied_reel_stays_within_its_time_and_shows_nothing_twice(
    match: Path, tmp_path: Path
) -> None:
    # Key frames lie on full seconds: 2.2 to 5.1 becomes 2.0 to about 5.1, 5.4 begins at 5.0.
    near = Event("card", 6.5, 7.0, 6.8, 0.5)
    options = RenderOptions(before_s=1.1, after_s=1.0, mode="copy")
    reel = cut_reel(match, (GOAL, near), tmp_path / "a.mp4", options=options)
    assert len(reel.cuts) == 1
    assert read_video(reel.path)[1] == numbers_of(match, reel.cuts)
    # Uncopied the three would last 9.9 s; copied they are longer.
    reel = cut_reel(match, EVENTS, tmp_path / "b.mp4", options=options, max_s=10.0)
    assert reel.duration_s <= 10.0
    assert [event for cut in reel.cuts for event in cut.events] == [GOAL, CARD]


def test_an_encoded_reel_shows_the_same_frames_as_an_exact_one(match: Path, tmp_path: Path) -> None:
    options = RenderOptions(before_s=1.1, after_s=1.0, mode="encode", encoder="libx264")
    reel = cut_reel(match, EVENTS, tmp_path / "reel.mp4", options=options)
    check(reel.path, match, reel.cuts)
    assert reel.num_encoded == reel.num_frames == 249


def variant(tmp_path: Path, name: str) -> Path:
    """Footage of another kind, 12 s long."""
    suffix, options = {
        "transport stream": ("ts", {"preset": "veryfast"}),
        "matroska": ("mkv", {"preset": "veryfast"}),
        "open groups of pictures": ("mp4", {"preset": "veryfast", "x264-params": "open-gop=1"}),
        "one key frame": ("mp4", {"preset": "veryfast", "x264-params": "scenecut=0"}),
        "no B-frames": ("mp4", {"preset": "ultrafast", "tune": "zerolatency"}),
        "B-pyramid": ("mp4", {"preset": "medium", "x264-params": "bframes=7:b-adapt=0"}),
    }[name]
    gop = 1000 if name == "one key frame" else 25
    return write_footage(tmp_path / f"footage.{suffix}", seconds=12, gop=gop, options=options)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["exact", "copy"])
@pytest.mark.parametrize(
    "kind",
    [
        "transport stream",
        "matroska",
        "open groups of pictures",
        "one key frame",
        "no B-frames",
        "B-pyramid",
    ],
)
def test_footage_of_every_kind_is_cut_at_the_right_frames(
    tmp_path: Path, kind: str, mode: str
) -> None:
    path = variant(tmp_path, kind)
    cuts = [Cut(1.32, 3.6, (GOAL,)), Cut(4.0, 6.04, (GOAL,)), Cut(8.2, 11.96, (CARD,))]
    options = RenderOptions(mode=mode)
    if kind == "open groups of pictures" and mode == "copy":
        with pytest.raises(FootageError, match="groups of pictures are open"):
            render_cuts(path, [*cuts, Cut(11.2, 11.9, ())], tmp_path / "reel.mp4", options=options)
        cuts = cuts[:1]
    reel = render_cuts(path, cuts, tmp_path / "reel.mp4", options=options)
    if mode == "exact":
        assert edges(reel.cuts) == pytest.approx(edges(cuts), abs=0.04)
        if kind == "one key frame":
            assert reel.num_encoded == reel.num_frames
            assert "no key frame" in reel.note
        elif kind != "open groups of pictures":
            assert reel.num_encoded < reel.num_frames
    check(reel.path, path, reel.cuts, sound_s=PACKET_S if mode == "copy" else 0.003)


@pytest.mark.parametrize("mode", ["exact", "copy", "encode"])
def test_variable_frame_rate_keeps_every_frame_at_its_time(tmp_path: Path, mode: str) -> None:
    steps = [Fraction(1, 30) if k % 7 else Fraction(1, 10) for k in range(300)]
    times = [sum(steps[:k], Fraction(0)) for k in range(len(steps))]
    path = write_footage(tmp_path / "vfr.mp4", seconds=13, rate=30, times=times)
    options = RenderOptions(mode=mode, encoder="libx264")
    reel = render_cuts(path, [Cut(2.5, 7.7, (GOAL,))], tmp_path / "clip.mp4", options=options)
    start_s = reel.cuts[0].start_s
    shown = [k for k, t in enumerate(times) if start_s - 1e-6 <= t < reel.cuts[0].end_s - 1e-6]
    read_times, numbers = read_video(reel.path)
    assert numbers == shown
    assert read_times == pytest.approx([float(times[k]) - start_s for k in shown], abs=2e-3)


def test_ntsc_rates_do_not_drift(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    path = write_footage(tmp_path / "ntsc.mp4", seconds=20, rate=rate, gop=30)
    cuts = [Cut(k + 0.25, k + 1.5, (GOAL,)) for k in range(0, 18, 2)]
    reel = render_cuts(path, cuts, tmp_path / "reel.mp4")
    check(reel.path, path, reel.cuts)


def test_sound_stays_with_the_picture_where_it_starts_later(tmp_path: Path) -> None:
    # A file whose video starts 0.5 s after its audio: frame 0 is shown at 0.5 s.
    path = tmp_path / "late.mp4"
    times = [Fraction(k, 25) + Fraction(1, 2) for k in range(200)]
    write_footage(path, seconds=9, times=times)
    reel = render_cuts(path, [Cut(2.5, 5.5, (GOAL,))], tmp_path / "clip.mp4")
    _, numbers = read_video(reel.path)
    # 2.5 s in the file is frame 50, and the beep of second 3 follows half a second later.
    assert numbers[0] == 50
    assert read_beeps(reel.path) == pytest.approx([0.5, 1.5, 2.5], abs=0.003)


def test_cross_fades_overlap_picture_and_sound(match: Path, tmp_path: Path) -> None:
    cuts = [Cut(2.0, 5.0, (GOAL,)), Cut(9.0, 12.0, (CARD,))]
    options = RenderOptions(crossfade_s=0.4)
    reel = render_cuts(match, cuts, tmp_path / "reel.mp4", options=options)
    assert reel.duration_s == pytest.approx(6.0 - 0.4)
    assert reel.num_encoded < reel.num_frames
    times, numbers = read_video(reel.path)
    # Frames 50 to 114, then ten of the fade, then 235 to 299.
    assert numbers[:65] == list(range(50, 115))
    assert numbers[75:] == list(range(235, 300))
    assert len(times) == 140
    # The beeps of 2 and 3 and 4 s; then those of 9 (in the fade) and 10 and 11 s, 2.6 s on.
    heard = read_beeps(reel.path)
    assert heard[1:3] == pytest.approx([1.0, 2.0], abs=0.003)
    assert heard[-2:] == pytest.approx([3.6, 4.6], abs=0.003)


def test_in_the_middle_of_a_cross_fade_both_pictures_show(tmp_path: Path, match: Path) -> None:
    cuts = [Cut(2.0, 5.0, (GOAL,)), Cut(9.0, 12.0, (CARD,))]
    options = RenderOptions(crossfade_s=0.4, mode="encode", encoder="libx264")
    reel = render_cuts(match, cuts, tmp_path / "reel.mp4", options=options)
    with av.open(str(reel.path)) as container, av.open(str(match)) as source:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][70]
        originals = [f.to_ndarray(format="rgb24") for f in source.decode(video=0)]
    # Half way: frame 65 + 5 blends footage frames 120 and 230 in equal parts.
    expected = (originals[120].astype(float) + originals[230]) / 2
    assert np.abs(shown - expected).mean() < 6


def test_titles_are_burnt_in_and_only_they_are_encoded(match: Path, tmp_path: Path) -> None:
    options = RenderOptions(before_s=1.3, after_s=8.9, titles=True)
    clock = MatchClock({1: 0.5})
    plain = cut_reel(
        match, [GOAL], tmp_path / "plain.mp4", options=RenderOptions(before_s=1.3, after_s=8.9)
    )
    titled = cut_reel(match, [GOAL], tmp_path / "titled.mp4", options=options, clock=clock)
    # The title stays 5 s from 2.0 s on, and copying goes on at the key frame at 7 s.
    assert titled.num_encoded - plain.num_encoded == 125
    check(titled.path, match, titled.cuts)
    pictures = []
    for path in (plain.path, titled.path):
        with av.open(str(path)) as container:
            pictures.append([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    changed = [np.abs(a.astype(int) - b)[60:].mean() for a, b in zip(*pictures, strict=True)]
    assert min(changed[10:110]) > 4
    assert max(changed[130:]) < 1


def test_a_cut_without_events_has_no_title_and_no_chapter_name(match: Path, tmp_path: Path) -> None:
    cut = Cut(2.0, 4.0, ())
    reel = render_cuts(match, [cut], tmp_path / "a.mp4", options=RenderOptions(titles=True))
    assert reel.num_encoded <= 3
    with av.open(str(reel.path)) as container:
        assert [c["metadata"].get("title", "") for c in container.chapters()] == [""]


def test_clips_are_one_file_per_event_in_time_order(match: Path, tmp_path: Path) -> None:
    options = RenderOptions(before_s=0.5, after_s=0.5)
    clips = list(cut_clips(match, (CORNER, GOAL), tmp_path / "clips", options=options))
    assert [clip.path.name for clip in clips] == [
        "001-goal-0h00m03s.mp4",
        "002-corner-0h00m15s.mp4",
    ]
    for clip in clips:
        check(clip.path, match, clip.cuts)
    assert [c.duration_s for c in clips] == pytest.approx([1.84, 1.84], abs=0.041)


def test_a_reel_names_its_cuts_as_chapters(match: Path, tmp_path: Path) -> None:
    reel = cut_reel(match, EVENTS, tmp_path / "reel.mp4", options=RenderOptions(1.0, 1.0))
    with av.open(str(reel.path)) as container:
        chapters = container.chapters()
    assert [chapter["metadata"]["title"] for chapter in chapters] == ["goal", "card", "corner"]
    assert float(chapters[1]["start"] * chapters[1]["time_base"]) == pytest.approx(
        reel.cuts[0].duration_s, abs=0.001
    )


def test_footage_without_sound_gives_a_reel_without_sound(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "mute.mp4", seconds=5, beep_every_s=None)
    for mode in ("exact", "copy"):
        reel = render_cuts(
            path, [Cut(1.2, 3.0, ())], tmp_path / "clip.mp4", options=RenderOptions(mode=mode)
        )
        with av.open(str(reel.path)) as container:
            assert not container.streams.audio
        assert read_video(reel.path)[1] == numbers_of(path, reel.cuts)


def test_footage_of_another_codec_is_encoded_and_says_so(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "match.avi", seconds=6, codec="mpeg4", options={"b": "4M"})
    reel = render_cuts(
        path, [Cut(1.2, 3.0, ())], tmp_path / "c.mp4", options=RenderOptions(encoder="libx264")
    )
    assert reel.note == "the footage is mpeg4, not h264"
    assert read_video(reel.path)[1] == numbers_of(path, [Cut(1.2, 3.0, ())])


def test_a_codec_is_named_by_its_own_name_and_not_by_that_of_a_decoder(tmp_path: Path) -> None:
    path = write_footage(
        tmp_path / "download.webm", seconds=3, codec="libsvtav1", options={"preset": "12"}
    )
    reel = render_cuts(
        path, [Cut(1.2, 2.0, ())], tmp_path / "c.mp4", options=RenderOptions(encoder="libx264")
    )
    assert reel.note == "the footage is av1, not h264"


def test_a_smaller_reel_is_encoded_with_even_sides(match: Path, tmp_path: Path) -> None:
    options = RenderOptions(height_px=71, encoder="libx264")
    reel = render_cuts(match, [Cut(1.0, 2.0, ())], tmp_path / "c.mp4", options=options)
    with av.open(str(reel.path)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (118, 70)
    assert reel.note == "the size changes"


def test_rotated_footage_is_made_upright_or_copied_with_its_rotation(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "phone.mp4", seconds=4, rotation=90)
    cut = Cut(1.0, 2.0, ())
    reel = render_cuts(path, [cut], tmp_path / "a.mp4", options=RenderOptions(encoder="libx264"))
    assert reel.note == "the footage is rotated or mirrored"
    upright = next(decode(path, rate_hz=None, size_px=None, start_s=1.0)).pixels[0]
    with av.open(str(reel.path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (96, 160, 0)
        shown = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
    assert np.abs(shown.astype(int) - upright).mean() < 8
    copy = render_cuts(path, [cut], tmp_path / "b.mp4", options=RenderOptions(mode="copy"))
    with av.open(str(copy.path)) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_interlaced_footage_is_made_progressive(tmp_path: Path) -> None:
    options = {"preset": "veryfast", "x264-params": "tff=1", "flags": "+ildct+ilme"}
    path = write_footage(tmp_path / "broadcast.mp4", seconds=4, options=options)
    reel = render_cuts(
        path, [Cut(1.0, 2.0, ())], tmp_path / "a.mp4", options=RenderOptions(encoder="libx264")
    )
    assert reel.note == "the footage is interlaced"
    with av.open(str(reel.path)) as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))
    assert read_video(reel.path)[1] == list(range(25, 50))


def test_copied_hevc_is_named_as_apple_wants_it(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    path = write_footage(tmp_path / "match.mkv", seconds=4, codec="libx265", options=options)
    reel = render_cuts(
        path, [Cut(1.2, 2.0, ())], tmp_path / "a.mp4", options=RenderOptions(mode="copy")
    )
    with av.open(str(reel.path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    assert read_video(reel.path)[1] == numbers_of(path, reel.cuts)


def test_frame_numbers_survive_being_drawn_and_read(match: Path) -> None:
    times, numbers = read_video(match)
    assert numbers == list(range(500))
    assert frame_number(np.zeros((96, 160, 3), np.uint8)) == 0
    assert times[-1] == pytest.approx(19.96)

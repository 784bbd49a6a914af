"""Which sound a clip has, and that it stays with its picture when the sound itself changes."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_footage import read_beeps, write_footage
from footage_made import with_edits, write_video

from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import cut_clips, render_cuts
from touchline.pipeline.types import Event

RATE_HZ = 48_000


def tone(hertz: float, layout: str, seconds: float, codec: str) -> list[bytes]:
    """The packets of a tone."""
    context = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.format = RATE_HZ, layout, FORMATS[codec]
    context.time_base = Fraction(1, RATE_HZ)
    context.open()
    size = context.frame_size or 1000
    planar, whole = context.format.is_planar, context.format.name.startswith("s")
    channels = context.layout.nb_channels
    packets = []
    for k in range(int(seconds * RATE_HZ) // size):
        n = np.arange(k * size, (k + 1) * size)
        wave = 0.3 * np.sin(2 * np.pi * hertz * n / RATE_HZ)
        wave = (wave * 32767).astype(np.int16) if whole else wave.astype(np.float32)
        samples = np.repeat(wave[None], channels, 0) if planar else np.repeat(wave, channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format=context.format.name, layout=layout)
        frame.sample_rate, frame.pts = RATE_HZ, k * size
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


FORMATS = {"ac3": "fltp", "pcm_s16le": "s16"}
SAMPLES = {"ac3": 1536, "pcm_s16le": 1000}


def with_sound(
    path: Path, tracks: list[list[bytes]], *, codec: str, layout: str = "stereo", default: int = 0
) -> Path:
    """4 s of picture with these tracks of sound."""
    silent = write_video(path.with_name("silent.mp4"), indices=range(100))
    samples = SAMPLES[codec]
    with av.open(str(silent)) as reading, av.open(str(path), "w") as writing:
        picture = writing.add_stream_from_template(reading.streams.video[0])
        streams = []
        for k in range(len(tracks)):
            stream = writing.add_stream(
                codec, rate=RATE_HZ, layout=layout, options={"strict": "-2"}
            )
            mark = av.stream.Disposition.default
            stream.disposition = mark if k == default else av.stream.Disposition(0)
            streams.append(stream)
        packets = []
        for packet in reading.demux(video=0):
            if packet.size:
                packet.stream = picture
                packets.append((float(packet.dts * packet.time_base), len(packets), packet))
        for stream, bodies in zip(streams, tracks, strict=True):
            for k, body in enumerate(bodies):
                packet = av.Packet(body)
                packet.stream, packet.time_base = stream, Fraction(1, RATE_HZ)
                packet.pts = packet.dts = k * samples
                packet.duration, packet.is_keyframe = samples, True
                packets.append((k * samples / RATE_HZ, len(packets), packet))
        for _, _, packet in sorted(packets, key=lambda row: row[:2]):
            writing.mux(packet)
    return path


def pitches(path: Path) -> list[int]:
    """The pitch of each channel in hertz, to the nearest ten; 0 where it is silent."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        samples = np.concatenate(frames, axis=1).astype(np.float64)  # (C, n)
    found = []
    for channel in samples:
        strength = np.abs(np.fft.rfft(channel))
        loud = channel.std() > 0.01
        found.append(round(int(strength.argmax()) * RATE_HZ / len(channel), -1) if loud else 0)
    return [int(hertz) for hertz in found]


def test_the_default_track_is_taken_not_the_first(tmp_path: Path) -> None:
    tracks = [tone(440, "stereo", 4, "ac3"), tone(880, "stereo", 4, "ac3")]
    path = with_sound(tmp_path / "a.mkv", tracks, codec="ac3", default=1)
    for mode in ("exact", "copy"):
        clip = render_cuts(
            path, [Cut(1.0, 3.0, ())], tmp_path / f"{mode}.mp4", options=RenderOptions(mode=mode)
        )
        assert set(pitches(clip.path)) == {880}


def test_a_tone_stays_a_tone_where_timestamps_are_rounded(tmp_path: Path) -> None:
    # Blocks of 20.833 ms, whose timestamps Matroska rounds to milliseconds.
    path = with_sound(tmp_path / "a.mkv", [tone(440, "stereo", 4, "pcm_s16le")], codec="pcm_s16le")
    clip = render_cuts(path, [Cut(1.0, 3.0, ())], tmp_path / "clip.mp4")
    with av.open(str(clip.path)) as container:
        left = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    left = left[4800:-4800]
    turns = 2 * np.pi * 440 * np.arange(len(left)) / RATE_HZ
    waves = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    rest = left - waves @ np.linalg.lstsq(waves, left, rcond=None)[0]
    assert left.std() == pytest.approx(0.3 / np.sqrt(2), rel=0.02)
    assert rest.std() < 0.02 * left.std()


@pytest.mark.skipif(
    shutil.which("ffmpeg") is None,
    reason="PyAV has no encoder for TrueHD, and the program ffmpeg is not installed",
)
@pytest.mark.parametrize("mode", ["exact", "copy", "encode"])
def test_truehd_sound_is_kept(mode: str, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", indices=range(100))
    path = tmp_path / "a.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", silent, "-f", "lavfi", "-i", "sine=440:r=48000:d=4",
         "-ac", "2", "-c:v", "copy", "-c:a", "truehd", "-strict", "-2", path],
        check=True, timeout=60,
    )  # fmt: skip
    options = RenderOptions(mode=mode, encoder="libx264")
    clip = render_cuts(path, [Cut(1.0, 3.0, ())], tmp_path / "clip.mp4", options=options)
    assert pitches(clip.path) == [440, 440]


def test_a_mono_track_for_each_channel_becomes_stereo(tmp_path: Path) -> None:
    tracks = [tone(hertz, "mono", 4, "pcm_s16le") for hertz in (440, 880, 220, 330)]
    path = with_sound(tmp_path / "a.mov", tracks, codec="pcm_s16le", layout="mono")
    clip = render_cuts(path, [Cut(1.0, 3.0, ())], tmp_path / "clip.mp4")
    assert pitches(clip.path) == [440, 880]


@pytest.mark.parametrize("mode", ["exact", "encode", "copy"])
def test_sound_that_changes_from_surround_to_stereo_is_heard_throughout(
    mode: str, tmp_path: Path
) -> None:
    sound = tone(440, "5.1(side)", 2, "ac3") + tone(440, "stereo", 2, "ac3")
    path = with_sound(tmp_path / "a.ts", [sound], codec="ac3", layout="5.1(side)")
    clip = render_cuts(
        path,
        [Cut(1.0, 3.0, ())],
        tmp_path / "clip.mp4",
        options=RenderOptions(mode=mode, encoder="libx264"),
    )
    with av.open(str(clip.path)) as container:
        blocks = [frame.to_ndarray()[:2] for frame in container.decode(audio=0)]
    loud = [block.std() > 0.02 for block in blocks]
    assert sum(loud) > 0.95 * len(loud)


@pytest.mark.parametrize("mode", ["exact", "encode", "copy"])
def test_after_a_restart_of_the_clock_sound_moves_with_the_picture(
    mode: str, tmp_path: Path
) -> None:
    part = write_footage(tmp_path / "part.ts", seconds=4, options={"preset": "veryfast"})
    path = tmp_path / "two.ts"
    path.write_bytes(part.read_bytes() * 2)
    clip = render_cuts(
        path,
        [Cut(5.5, 7.6, ())],
        tmp_path / "clip.mp4",
        options=RenderOptions(mode=mode, encoder="libx264"),
    )
    (cut,) = clip.cuts
    # The second recording begins after the first one's last frame: its beeps come at 4, 5, ...
    for beep_s in (6.0, 7.0):
        assert min(abs(beep_s - cut.start_s - b) for b in read_beeps(clip.path)) < 0.06


def test_an_event_that_cannot_be_cut_does_not_keep_others_from_it(tmp_path: Path) -> None:
    path = with_edits(write_video(tmp_path / "a.mp4"), [(200, 0), (400, 5120)])
    events = [Event("goal", 0.0, 0.16, 0.1), Event("card", 0.2, 0.26, 0.22)]
    options = RenderOptions(before_s=0.0, after_s=0.0, mode="copy")
    uncut: list[tuple[str, str]] = []
    clips = list(
        cut_clips(
            path,
            events,
            tmp_path / "clips",
            options=options,
            on_uncut=lambda event, error: uncut.append((event.label, error.message)),
        )
    )
    assert [clip.path.name for clip in clips] == ["001-goal-0h00m00s.mp4"]
    ((label, why),) = uncut
    assert label == "card"
    assert "has no key frame before 0.200 s" in why

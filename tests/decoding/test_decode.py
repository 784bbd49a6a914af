"""Decoding against footage whose every frame and time is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from footage_bad_cases import CASES
from footage_cases import Case
from footage_made import read_index, write_video

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.parallel import Request, decode_segments
from touchline.pipeline.footage import isolation
from touchline.pipeline.footage.log import DecodeLog

pytestmark = pytest.mark.timeout(120)

Made = Callable[[Case], Path]

GOOD = [case for case in CASES if case.outcome in ("ok", "warn")]
DAMAGED = [case for case in CASES if case.outcome == "damaged"]
REFUSED = [case for case in CASES if case.outcome == "refuse"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
    """Makes each case's file once."""
    paths: dict[str, Path] = {}

    def make(case: Case) -> Path:
        if case.name not in paths:
            paths[case.name] = case.make(tmp_path_factory.mktemp("case"))
        return paths[case.name]

    return make


def every_frame(path: Path, **how: object) -> tuple[list[int], list[float], list[bool], DecodeLog]:
    """Numbers, times and damage marks of all frames, and the log."""
    stream = decode(path, rate_hz=None, size_px=how.pop("size_px", 96), **how)
    chunks = list(stream)
    numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
    times = [float(time) for chunk in chunks for time in chunk.time_s]
    marks = [bool(mark) for chunk in chunks for mark in chunk.damaged]
    return numbers, times, marks, stream.log


def test_there_are_at_least_eighty_cases_of_different_names():
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_every_frame_comes_once_at_its_true_time(case: Case, made: Made):
    numbers, times, marks, log = every_frame(made(case))
    assert numbers == [number for number, _ in case.frames]
    for time, (_, true) in zip(times, case.frames, strict=True):
        assert abs(time - float(true)) <= float(case.tolerance_s) + 1e-9
    assert not any(marks)
    assert log.damaged_s == []
    assert case.outcome == "warn" or log.warnings == []
    assert case.says in " | ".join(log.warnings)


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_pictures_have_square_pixels_and_the_size_asked_for(case: Case, made: Made):
    path = made(case)
    W, H = case.size
    assert next(decode(path, rate_hz=None, size_px=None)).pixels.shape[1:] == (3, H, W)
    short = next(decode(path, rate_hz=None, size_px=64)).pixels.shape[2:]
    assert min(short) == 64
    assert abs(max(short) - 64 * max(W, H) / min(W, H)) <= 0.5


@pytest.mark.parametrize("case", GOOD, ids=str)
@pytest.mark.parametrize("rate_hz", [8, 29.97])
def test_each_sample_is_the_frame_a_player_shows(case: Case, rate_hz: float, made: Made):
    chunks = list(decode(made(case), rate_hz=rate_hz, size_px=96))
    assert chunks
    slack = float(case.tolerance_s) + 0.001
    true = dict(case.frames)
    starts = sorted(float(time) for time in true.values())
    samples = [
        (float(s), read_index(p)) for c in chunks for s, p in zip(c.sample_s, c.pixels, strict=True)
    ]
    for k, (instant, number) in enumerate(samples):
        assert instant == pytest.approx(samples[0][0] + k / rate_hz, abs=1e-6)
        assert float(true[number]) <= instant + slack
        following = [start for start in starts if start > float(true[number])]
        assert not following or instant < following[0] + slack
    assert 0 <= samples[0][0] - starts[0] + slack <= 1 / rate_hz + slack
    assert starts[-1] - samples[-1][0] <= 1 / rate_hz


@pytest.mark.parametrize("case", GOOD, ids=str)
@pytest.mark.parametrize("start_s", [0.5, 0.77])
def test_decoding_from_a_time_gives_what_the_whole_file_gives_there(
    case: Case, start_s: float, made: Made
):
    path = made(case)
    instants, pixels = samples_of(path)
    wanted = instants >= start_s - 0.001
    some_instants, some_pixels = samples_of(path, start_s=start_s)
    assert np.array_equal(some_instants, instants[wanted])
    assert np.array_equal(some_pixels, pixels[wanted])


def samples_of(path: Path, **how: object) -> tuple[np.ndarray, np.ndarray]:
    """All sample instants at 25 Hz and their pictures."""
    chunks = list(decode(path, rate_hz=25, size_px=48, **how))
    if not chunks:
        return np.empty(0), np.empty((0, 3, 48, 64), np.uint8)
    pixels = np.concatenate([chunk.pixels for chunk in chunks])
    return np.concatenate([chunk.sample_s for chunk in chunks]), pixels


@pytest.mark.parametrize("format", ["mpeg", "vob"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_a_program_stream_with_many_frames_to_a_pack_has_its_times_from_anywhere(
    format: str, b_frames: str, tmp_path: Path
):
    # Flat pictures take some hundred bytes each, a pack 2048; only its first frame has a stamp.
    options = {"g": "12", "bf": b_frames}
    path = write_video(
        tmp_path / "a.mpg", indices=range(250), codec="mpeg2video", format=format, options=options
    )
    for k in range(8, 240, 9):
        how = {"start_s": k / 25, "end_s": (k + 5) / 25, "isolation": False}
        stream = decode(path, rate_hz=25, size_px=96, **how)
        numbers = [read_index(pixels) for chunk in stream for pixels in chunk.pixels]
        assert numbers == list(range(k, k + 5))
        assert stream.log.warnings == []


@pytest.mark.parametrize("case", DAMAGED, ids=str)
def test_what_is_not_marked_as_damaged_is_true(case: Case, made: Made):
    numbers, times, marks, log = every_frame(made(case))
    clean = [(n, t) for n, t, mark in zip(numbers, times, marks, strict=True) if not mark]
    true = {number: float(time) for number, time in case.frames}
    wrong = [(n, t) for n, t in clean if abs(t - true.get(n, -9.0)) > 0.002]
    assert [(n, t) for n, t in wrong if not case.blind_s[0] <= t < case.blind_s[1]] == []
    assert len(clean) - len(wrong) >= case.at_least
    assert case.says in " | ".join(log.warnings)


@pytest.mark.parametrize("case", REFUSED, ids=str)
@pytest.mark.timeout(40)
def test_what_is_not_footage_is_refused_in_one_line_that_names_it(case: Case, made: Made):
    path = made(case)
    with pytest.raises(FootageError) as caught:
        next(decode(path, rate_hz=8, size_px=64))
    assert str(caught.value).startswith(f"{path}: ")
    assert case.says in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 160


PLAIN = {
    "h264.mp4",
    "h264_b_frames.mp4",
    "h264.mkv",
    "hevc.mp4",
    "vp9.webm",
    "mpeg4.avi",
    "vfr.mp4",
}
INSTALLED = [name for name in ("decord", "cv2", "torchcodec") if find_spec(name) is not None]
OTHERS = ["opencv" if name == "cv2" else name for name in INSTALLED]


@pytest.mark.parametrize("case", GOOD, ids=str)
@pytest.mark.parametrize("decoder", OTHERS)
def test_other_decoders_give_the_same_frames_at_the_same_times_or_are_refused(
    case: Case, decoder: str, made: Made
):
    refusal = ""
    numbers, times = [], []
    try:
        numbers, times, _, _ = every_frame(made(case), decoder=decoder)
    except FootageError as error:
        refusal = error.message
    if refusal:
        assert case.name not in PLAIN
        assert refusal.startswith(decoder)
        assert refusal.endswith("Use the decoder pyav.")
        return
    assert numbers == [number for number, _ in case.frames]
    for time, (_, true) in zip(times, case.frames, strict=True):
        assert abs(time - float(true)) <= float(case.tolerance_s) + 1e-9


@pytest.mark.parametrize(
    ("case", "decoder", "why"),
    [
        ("edit_list_cuts_the_start.mp4", "decord", "an edit list"),
        ("h264.ts", "decord", "a transport stream"),
        ("interlaced_h264.mp4", "decord", "interlaced"),
        ("interlaced_h264.mp4", "opencv", "interlaced"),
        ("turned_90.mp4", "opencv", "turned"),
        ("hdr10.mp4", "opencv", "HDR"),
        ("two_videos.mkv", "opencv", "several video streams"),
        ("duplicate_stamp.mkv", "opencv", "double or backward timestamps"),
        ("name_not_utf8.mp4", "opencv", "a name that is not UTF-8"),
        ("zeros_in_the_middle.ts", "opencv", "unreadable places"),
        ("starts_inside_a_group.ts", "opencv", "a stream that starts between key frames"),
        ("starts_inside_a_group.mkv", "decord", "a stream that starts between key frames"),
    ],
)
def test_a_decoder_is_refused_for_what_it_gets_wrong(case: str, decoder: str, why: str, made: Made):
    if decoder == "decord":
        pytest.importorskip("decord", reason="decord has no wheel for this machine")
    path = made(next(one for one in CASES if one.name == case))
    with pytest.raises(FootageError) as caught:
        next(decode(path, rate_hz=8, size_px=64, decoder=decoder))
    assert why in caught.value.message
    assert caught.value.message.endswith("Use the decoder pyav.")


def test_decord_never_runs_in_this_process(made: Made):
    pytest.importorskip("decord", reason="decord has no wheel for this machine")
    for name in [name for name in sys.modules if name.split(".")[0] == "decord"]:
        del sys.modules[name]
    path = made(next(case for case in CASES if case.name == "h264.mp4"))
    assert next(decode(path, rate_hz=8, size_px=64, decoder="decord", isolation=False))
    assert "decord" not in sys.modules


def test_torchcodec_that_is_not_installed_is_said_plainly(made: Made):
    if find_spec("torchcodec") is not None:
        pytest.skip("torchcodec is installed")
    with pytest.raises(ValueError, match="the decoder torchcodec cannot be used here"):
        next(decode(made(CASES[0]), rate_hz=8, size_px=64, decoder="torchcodec"))


@pytest.mark.parametrize("decoder", ["pyav-cuda", "torchcodec-cuda"])
@pytest.mark.parametrize("isolation", [True, False])
def test_a_decoder_on_the_gpu_is_not_silently_another_one(
    decoder: str, isolation: bool, made: Made
):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    chunks = decode(made(CASES[0]), rate_hz=8, size_px=96, decoder=decoder, isolation=isolation)
    with pytest.raises(ValueError, match=f"the decoder {decoder} cannot be used here"):
        next(chunks)


ON_GPU = ["h264.mp4", "h264_b_frames.mp4", "hevc.mp4", "vp9.webm", "av1.mp4", "ten_bit_hevc.mp4"]


@pytest.mark.gpu
@pytest.mark.timeout(120)
@pytest.mark.parametrize("decoder", ["pyav-cuda", "torchcodec-cuda"])
@pytest.mark.parametrize("name", ON_GPU)
def test_decoders_on_the_gpu_give_the_same_frames_at_the_same_times(
    name: str, decoder: str, made: Made
):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if decoder.startswith("torchcodec"):
        pytest.importorskip("torchcodec", reason="torchcodec is not installed")
    case = next(one for one in CASES if one.name == name)
    numbers, times, marks, _ = every_frame(made(case), decoder=decoder)
    assert numbers == [number for number, _ in case.frames]
    for time, (_, true) in zip(times, case.frames, strict=True):
        assert abs(time - float(true)) <= float(case.tolerance_s) + 1e-9
    assert not any(marks)


def test_an_unknown_decoder_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(ValueError, match="it must be one of pyav, pyav-cuda, decord, opencv"):
        decode(tmp_path / "a.mp4", rate_hz=8, size_px=64, decoder="vlc")


@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
@pytest.mark.parametrize("case", GOOD, ids=str)
def test_the_number_of_workers_changes_nothing(case: Case, made: Made):
    path = made(case)
    request = Request(str(path), "pyav", Wanted(Instants(Fraction(25)), 48))
    alone, log = decode(path, rate_hz=25, size_px=48), DecodeLog()
    one = list(alone)
    many = list(decode_segments(request, workers=2, path=path, log=log, segment_s=Fraction(1, 5)))
    for name in ("pixels", "time_s", "sample_s", "damaged"):
        whole, parts = (np.concatenate([getattr(c, name) for c in all]) for all in (one, many))
        assert np.array_equal(whole, parts)
    assert log.num_frames == alone.log.num_frames
    assert log.end_s == alone.log.end_s
    assert log.damaged_s == alone.log.damaged_s
    assert log.warnings == alone.log.warnings


@pytest.mark.parametrize("case", [*GOOD, *DAMAGED], ids=str)
def test_isolation_changes_nothing(case: Case, made: Made):
    isolated, here = (
        decode(made(case), rate_hz=8, size_px=48, isolation=isolation)
        for isolation in (True, False)
    )
    for a, b in zip(isolated, here, strict=True):
        assert np.array_equal(a.time_s, b.time_s)
        assert np.array_equal(a.sample_s, b.sample_s)
        assert np.array_equal(a.damaged, b.damaged)
        # What FFmpeg puts in place of damage depends on how its threads happen to run.
        assert np.array_equal(a.pixels[~a.damaged], b.pixels[~b.damaged])
    assert isolated.log == here.log


@pytest.mark.parametrize("isolation", [True, False])
def test_a_stream_closed_early_gives_no_more_frames(isolation: bool, made: Made):
    with decode(made(CASES[0]), rate_hz=None, size_px=None, isolation=isolation) as stream:
        next(stream)
    assert list(stream) == []


@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
def test_a_stream_that_is_dropped_frees_its_worker(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", indices=range(500), size=(640, 480))
    stream = decode(path, rate_hz=None, size_px=None)
    next(stream)
    assert any(worker.busy for worker in isolation._living)
    del stream
    assert not any(worker.busy for worker in isolation._living)

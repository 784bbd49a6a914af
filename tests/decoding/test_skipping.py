"""Which packets are left out, and that leaving them out changes nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage_bad_cases import CASES
from footage_cases import Case
from footage_made import X264, X264_B, write_video

from touchline.pipeline.decoding.contract import Instants, ShownFrame, Wanted
from touchline.pipeline.decoding.decode import samples_of
from touchline.pipeline.decoding.pyav import pyav_frames
from touchline.pipeline.decoding.skipping import LOOK_AHEAD, Role, h264_role, hevc_role, mpeg12_role
from touchline.pipeline.footage.log import DecodeLog

F = Fraction


def sampled(path: Path, rate_hz: int, *, drop: bool) -> tuple[list[tuple[int, bytes]], DecodeLog]:
    """Number and picture of each sample."""
    instants, log = Instants(F(rate_hz)), DecodeLog()
    samples, held = [], None
    frames = pyav_frames(path, Wanted(instants, 48), log, drop_unneeded=drop)
    for shown in [*frames, None]:
        if held is not None:
            until = held.time_s + held.duration_s if shown is None else shown.time_s
            picture = drawn(held)
            samples += [(k, picture) for k in numbers(instants, held.time_s, until)]
        held = shown
    return samples, log


def numbers(instants: Instants, start: Fraction, until: Fraction) -> list[Fraction]:
    return list(instants.between(start, until - F(1, 1000)))


def drawn(shown: ShownFrame) -> bytes:
    out = np.empty(shown.picture.shape, np.uint8)
    shown.picture.draw(out)
    return out.tobytes()


WHOLE = [case for case in CASES if case.outcome == "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("case", WHOLE, ids=str)
@pytest.mark.parametrize("rate_hz", [1, 3, 8])
def test_leaving_packets_out_changes_no_sample(case: Case, rate_hz: int, tmp_path: Path):
    path = case.make(tmp_path)
    all_samples, everything = sampled(path, rate_hz, drop=False)
    some_samples, log = sampled(path, rate_hz, drop=True)
    assert some_samples == all_samples
    assert everything.num_skipped == 0
    assert log.num_frames == everything.num_frames
    assert log.end_s == everything.end_s


def skipped(path: Path, rate_hz: int) -> int:
    return sampled(path, rate_hz, drop=True)[1].num_skipped


def test_without_b_frames_only_what_follows_the_last_sample_of_a_group_is_left_out(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", options={**X264, "g": "100"}, indices=range(50))
    assert skipped(path, 5) == 0
    short = write_video(tmp_path / "b.mp4", options={**X264, "g": "5"}, indices=range(50))
    # Key frames 0, 5, ... are sampled at 5 Hz: the four frames after each serve nobody.
    # The last group's end is not known to be followed by a key frame, so it is decoded.
    assert skipped(short, 5) == 9 * 4


def test_of_frames_that_stand_alone_only_the_sampled_are_decoded(tmp_path: Path):
    path = write_video(
        tmp_path / "a.mov", codec="mjpeg", pix_fmt="yuvj420p", options={}, indices=range(50)
    )
    # 10 of 50 are sampled; of the last frame it is not known how long it is shown.
    assert skipped(path, 5) == 39


def test_unreferenced_b_frames_are_left_out(tmp_path: Path):
    plain = {**X264_B, "x264-params": "b-pyramid=0:b-adapt=0:keyint=100:scenecut=0"}
    path = write_video(tmp_path / "a.mp4", options=plain, indices=range(49))
    # Of I bbb P bbb P ... every fourth frame is referred to; 25 / 4 Hz samples just those.
    log = DecodeLog()
    list(pyav_frames(path, Wanted(Instants(F(25, 4)), 48), log))
    assert log.num_skipped == 36


def test_nothing_is_left_out_where_every_frame_is_asked_for(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", options=X264_B)
    log = DecodeLog()
    frames = list(pyav_frames(path, Wanted(Instants(None), 48), log))
    assert len(frames) == 25
    assert log.num_skipped == 0


def part(path: Path, end_s: int) -> DecodeLog:
    """What decoding the samples up to an end, at 5 Hz, has learnt."""
    instants, log = Instants(F(5), end_s=F(end_s)), DecodeLog()
    shown = pyav_frames(path, Wanted(instants, 48, threads=2), log)
    assert len(list(samples_of(shown, instants))) == 5 * end_s
    return log


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("a.mp4", {"options": {**X264_B, "g": "25", "sc_threshold": "0"}}),
        ("a.ts", {"options": {**X264_B, "g": "25", "sc_threshold": "0"}}),
        ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    ],
    ids=["h264.mp4", "h264.ts", "mjpeg.mov"],
)
def test_nothing_is_read_far_past_the_end(file: str, how: dict[str, object], tmp_path: Path):
    path = write_video(tmp_path / file, indices=range(1000), **how)
    # 100 frames are before the end. Read on are the group that it falls into, the packets looked
    # ahead at, and those that push the last frames out of the decoder.
    log = part(path, 4)
    assert 100 < log.num_packets < 100 + 25 + LOOK_AHEAD + 10
    assert log.num_frames == 100
    assert part(path, 2).num_packets == log.num_packets - 50


def test_what_lies_past_the_end_is_not_decoded_before_a_key_frame(tmp_path: Path):
    options = {**X264, "g": "25", "sc_threshold": "0"}
    path = write_video(tmp_path / "a.mp4", options=options, indices=range(200))
    instants, log = Instants(F(1), end_s=F(43, 10)), DecodeLog()
    frames = list(pyav_frames(path, Wanted(instants, 48), log))
    # The last sample shows frame 100. Of its group's rest no frame is asked for.
    times = [shown.time_s for shown in frames]
    assert times[:6] == [F(k) for k in range(6)]
    assert times[6:] == [5 + F(k, 25) for k in range(1, 75)]
    assert log.num_frames == 108


def nal(*first_bytes: int, length: int = 20) -> bytes:
    """A NAL unit behind its four-byte length."""
    body = bytes(first_bytes) + bytes(length - len(first_bytes))
    return length.to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("units", "role"),
    [
        ([0x65], Role.FRESH),  # IDR
        ([0x67, 0x68, 0x65], Role.FRESH),  # SPS, PPS, IDR
        ([0x41], Role.REFERENCE),  # P, nal_ref_idc 2
        ([0x61], Role.REFERENCE),  # nal_ref_idc 3
        ([0x01], Role.UNREFERENCED),  # nal_ref_idc 0
        ([0x06, 0x01, 0x01], Role.UNREFERENCED),  # SEI and two slices
        ([0x01, 0x21], Role.REFERENCE),  # a second field that is referred to
        ([0x06], Role.REFERENCE),  # no slice: nothing is known
    ],
)
def test_the_role_of_h264_packets(units: list[int], role: Role):
    lengths = b"".join(nal(unit) for unit in units)
    codes = b"".join(b"\0\0\0\1" + bytes([unit, 0x88, 0x80]) for unit in units)
    assert h264_role(memoryview(lengths), 4) is role
    assert h264_role(memoryview(codes), 0) is role


@pytest.mark.parametrize(
    ("kinds", "role"),
    [
        ([19], Role.FRESH),  # IDR_W_RADL
        ([20], Role.FRESH),  # IDR_N_LP
        ([21], Role.REFERENCE),  # CRA: what leads it may refer to what was before
        ([1], Role.REFERENCE),  # TRAIL_R
        ([0], Role.UNREFERENCED),  # TRAIL_N
        ([8], Role.UNREFERENCED),  # RASL_N
        ([32, 33, 34, 19], Role.FRESH),  # parameter sets before it
        ([39], Role.REFERENCE),  # SEI alone
    ],
)
def test_the_role_of_hevc_packets(kinds: list[int], role: Role):
    packet = b"".join(nal(kind << 1, 1) for kind in kinds)
    assert hevc_role(memoryview(packet), 4) is role


@pytest.mark.parametrize(
    ("kind", "role"), [(1, Role.REFERENCE), (2, Role.REFERENCE), (3, Role.UNREFERENCED)]
)
def test_the_role_of_mpeg2_packets(kind: int, role: Role):
    assert mpeg12_role(b"\0\0\1\0" + bytes([0, kind << 3, 0, 0])) is role


def test_a_packet_that_makes_no_sense_is_decoded():
    assert h264_role(memoryview(b""), 4) is Role.REFERENCE
    assert h264_role(memoryview(b"\xff" * 40), 4) is Role.REFERENCE
    assert hevc_role(memoryview(b"\0" * 3), 4) is Role.REFERENCE
    assert mpeg12_role(b"\0\0\1") is Role.REFERENCE

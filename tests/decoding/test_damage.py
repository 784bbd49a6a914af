"""Which frames count as damaged beside a spoilt packet, however many are decoded at once."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from footage_made import burn, overwrite, packet_places, write_video
from streams import flashes, seconds_of, write_stream

from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import chunks_of, decode, samples_of
from touchline.pipeline.decoding.pyav import pyav_frames
from touchline.pipeline.footage.log import DecodeLog

pytestmark = pytest.mark.timeout(60)

# A key frame every 4 s; half the frames are B frames that no other refers to.
GROUPS = {
    "preset": "veryfast",
    "g": "100",
    "keyint_min": "100",
    "sc_threshold": "0",
    "bf": "2",
    "threads": "1",
}
NOISE = np.random.default_rng(0).integers(0, 60, (96, 128, 3)).astype(np.uint8)


def moving(index: int) -> np.ndarray:
    """A picture in which everything moves, so that no packet is tiny."""
    still = np.roll(burn(index) * 0.8 + NOISE, index, axis=1)
    return still.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 25 frames a second."""
    return write_video(
        tmp_path_factory.mktemp("damage") / "whole.mp4",
        indices=range(300),
        options=GROUPS,
        picture=moving,
    )


def spoilt(whole: Path, folder: Path, packet: int) -> Path:
    """The same file with one packet, in decode order, overwritten with junk."""
    path = Path(shutil.copy(whole, folder / "spoilt.mp4"))
    pos, size, _ = packet_places(whole)[packet]
    return overwrite(path, pos + 4, np.random.default_rng(packet).bytes(size - 4))


def sampled(
    path: Path, rate_hz: Fraction, *, threads: int, drop: bool = True
) -> tuple[np.ndarray, np.ndarray, DecodeLog]:
    """Every sample's picture and whether it counts as damaged."""
    wanted, log = Wanted(Instants(rate_hz), 32, threads=threads), DecodeLog()
    shown = pyav_frames(path, wanted, log, drop_unneeded=drop)
    chunks = list(chunks_of(samples_of(shown, wanted.instants)))
    pixels = np.concatenate([chunk.pixels for chunk in chunks])
    return pixels, np.concatenate([chunk.damaged for chunk in chunks]), log


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4, 16])
@pytest.mark.parametrize("drop", [True, False])
def test_no_wrong_sample_goes_unmarked_however_many_frames_are_decoded_at_once(
    threads: int, drop: bool, whole: Path, tmp_path: Path
):
    wrong_in_all = 0
    for rate in (Fraction(8), Fraction(3)):
        right, _, _ = sampled(whole, rate, threads=1, drop=False)
        for packet in (110, 150, 188, 260):
            path = spoilt(whole, tmp_path, packet)
            pixels, damaged, _ = sampled(path, rate, threads=threads, drop=drop)
            difference = np.abs(pixels.astype(int) - right[: len(pixels)])
            wrong = difference.max(axis=(1, 2, 3)) > 12
            assert np.flatnonzero(wrong & ~damaged).tolist() == [], (rate, packet)
            wrong_in_all += int(wrong.sum())
    assert wrong_in_all > 5


@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(1), Fraction(8)])
def test_good_frames_left_out_before_damage_are_not_reported_as_damaged(
    rate: Fraction, whole: Path, tmp_path: Path
):
    # The key frame at 4 s is good. What is left out before it is another group's, and good too.
    _, _, log = sampled(spoilt(whole, tmp_path, 102), rate, threads=1)
    assert log.damaged_s == [pytest.approx((4.04, 8.0))]


def test_frames_left_out_behind_damage_count_as_damaged(whole: Path, tmp_path: Path):
    # Of 3 1/3 Hz the last sample before the key frame at 8 s is at 7.8 s: all after it is left out.
    _, damaged, log = sampled(spoilt(whole, tmp_path, 150), Fraction(10, 3), threads=1)
    assert log.num_skipped > 0
    ((start_s, end_s),) = log.damaged_s
    assert 5.9 <= start_s <= 6.04
    assert end_s == pytest.approx(8.0)
    assert not damaged[:18].any()


def test_what_comes_behind_megabytes_of_zeros_is_read(tmp_path: Path) -> None:
    """A transport stream whose middle was never written, as after a fault of the disk."""
    parts = seconds_of(write_stream(tmp_path / "whole.ts", flashes(20)))
    path = tmp_path / "hole.ts"
    path.write_bytes(b"".join([*parts[:10], bytes(8_000_000), *parts[10:]]))
    with decode(path, rate_hz=1, size_px=32, isolation=False) as stream:
        bright = np.concatenate([frames.pixels.mean(axis=(1, 2, 3)) > 128 for frames in stream])
    assert np.flatnonzero(bright).tolist() == [4, 5, 12, 13]
    assert any("an unreadable place" in warning for warning in stream.log.warnings)

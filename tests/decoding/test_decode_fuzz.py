"""Spoilt files by the thousand: frames or a refusal, never a dead caller, never a hang."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from footage_made import X264_B, write_video

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage import isolation

NUM_MUTATIONS = 2000
CASE_S = 20.0

FILES = {
    "a.mp4": {"options": X264_B},
    "b.mkv": {"codec": "libx265"},
    "c.webm": {"codec": "libvpx-vp9"},
    "d.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "e.avi": {"codec": "mpeg4"},
    "f.flv": {"codec": "flv"},
    "g.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "h.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "i.wmv": {"codec": "wmv2"},
    "j.mkv": {"codec": "libsvtav1"},
}


def mutated(body: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bits flipped, bytes replaced, pieces cut out, doubled or exchanged."""
    spoilt = bytearray(body)
    for _ in range(rng.randint(1, 8)):
        if len(spoilt) < 16:
            break
        # Headers lie at the ends: half of the changes go there.
        k = (
            rng.randrange(len(spoilt))
            if rng.random() < 0.5
            else rng.randrange(min(2000, len(body)))
        )
        k = min(k, len(spoilt) - 1)
        kind = rng.choice(("flip", "flip", "byte", "word", "cut", "drop", "swap", "double", "zero"))
        length = rng.randint(1, 200)
        if kind == "flip":
            spoilt[k] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            spoilt[k] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == "word":
            spoilt[k : k + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        elif kind == "cut":
            del spoilt[max(16, k) :]
        elif kind == "drop":
            del spoilt[k : k + length]
        elif kind == "swap":
            other = rng.randrange(len(spoilt))
            one, two = spoilt[k : k + length], spoilt[other : other + length]
            spoilt[k : k + length], spoilt[other : other + length] = two, one
        elif kind == "double":
            spoilt[k:k] = spoilt[k : k + length]
        else:
            spoilt[k : k + length] = bytes(min(length, len(spoilt) - k))
    return bytes(spoilt)


def outcome(path: Path) -> str:
    """What became of a file: frames, or the first words of the refusal."""
    try:
        num_frames = sum(len(chunk) for chunk in decode(path, rate_hz=8, size_px=32))
    except FootageError as error:
        message = error.message
        if "crashed" in message or "hung" in message or "memory" in message:
            return message
        return "refused"
    return "frames" if num_frames else "no frames"


def spoil_and_decode(folder: Path, num_mutations: int, seed: int) -> Counter[str]:
    sources = [write_video(folder / name, **how, indices=range(15)) for name, how in FILES.items()]
    bodies = [(source, source.read_bytes()) for source in sources]
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for k in range(num_mutations):
        source, body = bodies[k % len(bodies)]
        path = folder / f"spoilt{source.suffix}"
        path.write_bytes(mutated(body, rng))
        begin = time.monotonic()
        outcomes[outcome(path)] += 1
        assert time.monotonic() - begin < CASE_S, f"mutation {k} of {source.name}"
    return outcomes


@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
def test_a_hundred_spoilt_files_end_in_frames_or_a_refusal(tmp_path: Path):
    outcomes = spoil_and_decode(tmp_path, 100, seed=1)
    assert outcomes["frames"] > 20
    assert outcomes["refused"] > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
def test_two_thousand_spoilt_files_end_in_frames_or_a_refusal(tmp_path: Path):
    outcomes = spoil_and_decode(tmp_path, NUM_MUTATIONS, seed=20)
    print(dict(outcomes))
    assert sum(outcomes.values()) == NUM_MUTATIONS
    assert outcomes["no frames"] == 0
    assert outcomes["frames"] > NUM_MUTATIONS // 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
def test_spoilt_files_can_be_probed(tmp_path: Path):
    source = write_video(tmp_path / "a.mp4", options=X264_B)
    rng = random.Random(3)
    verdicts: Counter[str] = Counter()
    for _ in range(100):
        path = tmp_path / "spoilt.mp4"
        path.write_bytes(mutated(source.read_bytes(), rng))
        try:
            verdicts[probe_footage(path, depth="frames").verdict] += 1
        except FootageError:
            verdicts["refused"] += 1
    assert verdicts["refused"] > 0
    assert verdicts["damaged"] > 0

"""Cases about time: rates, edit lists, indexes, starts, wraps, wrong stamps, gaps."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
from footage_cases import CASES, MS, F, good, video, warned
from footage_made import X264, X264_B, edit_box, with_edits, write_video

__all__ = ["CASES"]


def at_rate(rate: Fraction, n: int = 25) -> tuple[tuple[int, Fraction], ...]:
    """Frames of a constant rate."""
    return tuple((k, k / rate) for k in range(n))


for label, rate in {"23.976": F(24000, 1001), "29.97": F(30000, 1001), "59.94": F(60000, 1001),
                    "50": F(50), "120": F(120), "1": F(1)}.items():  # fmt: skip
    good(f"rate_{label}.mp4", video("a.mp4", rate=rate), frames=at_rate(rate))
    good(f"rate_{label}.mkv", video("a.mkv", rate=rate), frames=at_rate(rate), tolerance_s=MS)
good("rate_29.97.ts", video("a.ts", rate=F(30000, 1001)), frames=at_rate(F(30000, 1001)),
     tolerance_s=F(1, 90_000))  # fmt: skip

UNEVEN = [F(k * k, 1000) + F(k, 100) for k in range(25)]
BURSTS = [F(k // 5, 1) + F(k % 5, 50) for k in range(25)]


def at(stamps: Sequence[Fraction]) -> tuple[tuple[int, Fraction], ...]:
    """Frames numbered from 0 at given times."""
    return tuple(enumerate(stamps))


good("vfr.mp4", video("a.mp4", stamps=UNEVEN, time_base=F(1, 90_000), options=X264_B),
     frames=at(UNEVEN), tolerance_s=F(1, 90_000))  # fmt: skip
good("vfr.mkv", video("a.mkv", stamps=UNEVEN, time_base=MS, options=X264_B), frames=at(UNEVEN))
good("vfr.ts", video("a.ts", stamps=UNEVEN, time_base=F(1, 90_000), options=X264_B),
     frames=at(UNEVEN))  # fmt: skip
good("vfr.webm", video("a.webm", codec="libvpx-vp9", stamps=BURSTS, time_base=MS),
     frames=at(BURSTS))  # fmt: skip
good("vfr.gif", video("a.gif", codec="gif", pix_fmt="rgb8", stamps=BURSTS, time_base=F(1, 100)),
     frames=at(BURSTS))  # fmt: skip


def edited(file: str, edits: Sequence[tuple[int, int]]) -> Callable[[Path], Path]:
    """A 25-frame MP4 (12800 ticks a second, key frame every 12) with an edit list."""
    return lambda folder: with_edits(write_video(folder / file), edits)


def steady(indices: Sequence[int]) -> tuple[tuple[int, Fraction], ...]:
    """These frames at 25 a second from 0."""
    return tuple((index, F(k, 25)) for k, index in enumerate(indices))


good("edit_list_cuts_the_start.mp4", edited("a.mp4", [(600, 5120)]), frames=steady(range(10, 25)))
good("edit_list_cuts_the_end.mp4", edited("a.mp4", [(400, 0)]), frames=steady(range(10)))
good(
    "edit_list_joins_two_parts.mp4",
    edited("a.mp4", [(200, 0), (400, 5120)]),
    frames=steady([*range(5), *range(10, 20)]),
)
good("edit_list_delays.mp4", edited("a.mp4", [(500, -1), (1000, 0)]))


KEY_TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stss")


def with_keys(numbers: Sequence[int]) -> Callable[[Path], Path]:
    """An MP4 whose index names these frames, counted from 1, as its key frames."""
    payload = struct.pack(f">II{len(numbers)}I", 0, len(numbers), *numbers)

    def make(folder: Path) -> Path:
        path = write_video(folder / "a.mp4", options=X264_B)
        path.write_bytes(edit_box(path.read_bytes(), KEY_TABLE, lambda old: payload))
        return path

    return make


def without(element: bytes, stand_in: bytes) -> Callable[[Path], Path]:
    """A Matroska file with one element's name made unknown."""

    def make(folder: Path) -> Path:
        path = write_video(folder / "a.mkv", options=X264_B)
        path.write_bytes(path.read_bytes().replace(element, stand_in))
        return path

    return make


# Real key frames are the first, the 13th and the 25th.
good("index_calls_every_frame_key.mp4", with_keys(range(1, 26)))
good("index_calls_wrong_frames_key.mp4", with_keys([1, 8, 16]))
good("index_without_key_frames.mp4", with_keys([]))
good("index_missing.mkv", without(b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6a"), tolerance_s=MS)


def late(start: Fraction) -> list[Fraction]:
    """Steady stamps from a start on."""
    return [start + F(k, 25) for k in range(25)]


warned(
    "far_start.ts",
    "its clock starts at 36000",
    video("a.ts", stamps=late(F(36_000)), time_base=F(1, 90_000)),
)
good("far_start.mkv", video("a.mkv", stamps=late(F(3600)), time_base=MS,
             muxer={"avoid_negative_ts": "disabled"}))  # fmt: skip
good("far_start.mp4", video("a.mp4", stamps=late(F(3600)), time_base=MS))
good("negative_start.mp4", video("a.mp4", stamps=late(F(-1, 5)), time_base=MS, options=X264,
                                 muxer={"use_editlist": "0"}))  # fmt: skip
# The 33-bit clock of a transport stream wraps after 26.5 hours: here in the middle of the file.
WRAP_S = F(2**33, 90_000)
good("clock_wraps.ts", video("a.ts", stamps=late(WRAP_S - F(1, 2)), time_base=F(1, 90_000),
                             options=X264_B), tolerance_s=F(1, 90_000))  # fmt: skip
good("video_after_audio.mp4", video("a.mp4", stamps=late(F(1, 2)), time_base=MS,
                                    audio_from=F(0)), frames=at(late(F(1, 2))))  # fmt: skip
good("video_after_audio.mkv", video("a.mkv", stamps=late(F(1, 2)), time_base=MS,
                                    audio_from=F(0)), frames=at(late(F(1, 2))))  # fmt: skip
good("video_after_audio.ts", video("a.ts", stamps=late(F(1, 2)), time_base=F(1, 90_000),
                                   audio_from=F(0)), frames=at(late(F(1, 2))),
     tolerance_s=MS)  # fmt: skip
good("video_before_audio.mp4", video("a.mp4", audio_from=F(1, 2)))
good("video_before_audio.ts", video("a.ts", audio_from=F(1, 2)))
OPEN_GOP = {**X264_B, "x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0"}
good("open_gop_h264.mp4", video("a.mp4", options=OPEN_GOP))
good("open_gop_h264.ts", video("a.ts", options=OPEN_GOP))
good("open_gop_hevc.mkv", video("a.mkv", codec="libx265", options={
    "preset": "veryfast",
    "x265-params": "log-level=none:pools=none:frame-threads=1:open-gop=1:keyint=8:bframes=3"}),
    tolerance_s=MS)  # fmt: skip
good("open_gop_mpeg2.ts", video("a.ts", codec="mpeg2video", options={"bf": "2", "g": "6"}))


def stamped(file: str, stamps: Sequence[Fraction]) -> Callable[[Path], Path]:
    """Matroska with any stamps in any order, which no muxer would write."""

    def make(folder: Path) -> Path:
        # The muxer is told times that grow, and the wanted ones are put in afterwards.
        growing = [F(k, 25) for k in range(len(stamps))]
        return restamp(write_video(folder / file), growing, stamps)

    return make


def restamp(path: Path, old: Sequence[Fraction], new: Sequence[Fraction]) -> Path:
    """A one-cluster Matroska file with the 16-bit times of its simple blocks replaced."""
    body = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [p.pos for p in container.demux(video=0) if p.size]
    for pos, was, stamp in zip(places, old, new, strict=True):
        # SimpleBlock: id A3, size, track number 81, int16 time relative to the cluster.
        k = body.index(b"\x81" + round(was * 1000).to_bytes(2, "big"), pos - 4)
        body[k + 1 : k + 3] = round(stamp * 1000).to_bytes(2, "big", signed=True)
    path.write_bytes(body)
    return path


def changed(changes: dict[int, Fraction]) -> list[Fraction]:
    """Steady stamps with some of them put wrong."""
    return [changes.get(k, F(k, 25)) for k in range(25)]


# A frame stamped like the one before lies between its neighbours: half-way, as nothing is known.
warned("duplicate_stamp.mkv", "duplicate or backward", stamped("a.mkv", changed({10: F(9, 25)})),
       frames=at(changed({10: F(10, 25)})))  # fmt: skip
warned("backward_stamp.mkv", "duplicate or backward", stamped("a.mkv", changed({10: F(5, 25)})),
       frames=at(changed({10: F(10, 25)})))  # fmt: skip
warned("stamp_far_ahead.mkv", "runs ahead", stamped("a.mkv", changed({10: F(20)})),
       frames=at(changed({10: F(10, 25)})))  # fmt: skip
warned("clock_restarts.mkv", "step back by", stamped(
    "a.mkv", [F(5) + F(k, 25) if k < 12 else F(k - 12, 25) for k in range(25)]),
    frames=at([F(k, 25) for k in range(25)]))  # fmt: skip
GAP = [F(k, 25) if k < 10 else F(k, 25) + 5 for k in range(25)]
warned("gap.mp4", "gaps without frames", video("a.mp4", stamps=GAP, time_base=MS), frames=at(GAP))
warned("gap.mkv", "gaps without frames", video("a.mkv", stamps=GAP, time_base=MS), frames=at(GAP))
warned("gap.ts", "gaps without frames", video("a.ts", stamps=GAP, time_base=F(1, 90_000)),
       frames=at(GAP))  # fmt: skip


def few_stamps(folder: Path) -> Path:
    """A surveillance camera's program stream: only key frames have a timestamp."""
    path = write_video(folder / "a.mpg", format="vob", options={**X264, "g": "10"})
    body = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        keys = [p.pts for p in container.demux(video=0) if p.size and p.is_keyframe]
    k = body.find(b"\x00\x00\x01\xe0")
    while k >= 0:
        # PES header: flags at 7 (PTS 80, DTS 40), length of the fields at 8, PTS from 9 on.
        if body[k + 7] & 0x80 and _pts(body[k + 9 : k + 14]) not in keys:
            fields = body[k + 8]
            body[k + 7] &= 0x3F
            body[k + 9 : k + 9 + fields] = b"\xff" * fields
        k = body.find(b"\x00\x00\x01\xe0", k + 4)
    path.write_bytes(body)
    return path


def _pts(field: bytes) -> int:
    """The 33 bits of a PES timestamp (ISO/IEC 13818-1, 2.4.3.7)."""
    high, middle, low = field[0] >> 1 & 7, field[1:3], field[3:5]
    return high << 30 | int.from_bytes(middle) >> 1 << 15 | int.from_bytes(low) >> 1


warned("few_stamps.mpg", "without timestamps", few_stamps)
JUMP = [F(k, 25) if k < 10 else F(k, 25) + 7200 for k in range(25)]
warned("clock_jumps_ahead.ts", "jump ahead",
       video("a.ts", stamps=JUMP, time_base=F(1, 90_000)))  # fmt: skip
warned("clock_jumps_ahead.flv", "jump ahead", video("a.flv", stamps=JUMP, time_base=MS),
       tolerance_s=MS)  # fmt: skip

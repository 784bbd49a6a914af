"""Decode with decord, OpenCV or torchcodec: the same frames at the same times as PyAV, or an error.

Times always come from the packets' timestamps, which PyAV reads. The other decoder only gives the
n-th frame. A contract test over every kind of file has found where these decoders give another
frame. Touchline refuses such files, and files in which the decoder finds another number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.clock import continuous
from touchline.pipeline.decoding.contract import Instants, ShownFrame, StampedFrame, Wanted
from touchline.pipeline.decoding.pyav import NO_FRAME, AvPicture, renderer_of
from touchline.pipeline.decoding.to_rgb import HLG, PQ, Orientation, orientation
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import OpenFootage, open_footage, packets_of, reason
from touchline.pipeline.footage.packet_scan import PacketScan, scan_packets
from touchline.pipeline.types import UInt8

# Sound may continue for this long after the last picture.
WRONG_LENGTH_S = 60

USE_PYAV = "Use the decoder pyav."


@dataclass(frozen=True)
class Facts:
    """What PyAV finds out about a file before another decoder opens it.

    A decoder is refused if these facts show footage that it gets wrong.

    Attributes:
        footage: The open file.
        scan: What its packets say.
        first: Its first decoded frame.
    """

    footage: OpenFootage
    scan: PacketScan
    first: VideoFrame


# A kind of footage: its name, and whether a file is of this kind.
Property = tuple[str, Callable[[Facts], bool]]

EDIT_LIST: Property = (
    "an edit list that leaves frames out",
    lambda facts: (
        bool(facts.footage.edits)
        and (facts.scan.num_hidden > 0 or facts.footage.stream.frames > len(facts.scan))
    ),
)
INSIDE_GROUP: Property = (
    "a stream that starts between key frames",
    lambda facts: not facts.scan.starts_with_key,
)
DISORDER: Property = (
    "missing, double or backward timestamps",
    lambda facts: not facts.scan.orderly,
)
DAMAGE: Property = (
    "unreadable places",
    lambda facts: bool(facts.scan.num_corrupt or facts.scan.read_error),
)
INTERLACED: Property = ("interlaced pictures", lambda facts: facts.first.interlaced_frame)
TURNED: Property = (
    "turned or mirrored pictures",
    lambda facts: orientation(facts.first) != Orientation(),
)
HDR: Property = ("HDR pictures", lambda facts: facts.first.color_trc in (PQ, HLG))
ALPHA: Property = (
    "transparent pictures",
    lambda facts: any(part.is_alpha for part in facts.first.format.components),
)
SEVERAL: Property = (
    "several video streams",
    lambda facts: len(facts.footage.container.streams.video) > 1,
)
TRANSPORT: Property = (
    "a transport stream as container",
    lambda facts: facts.footage.container.format.name == "mpegts",
)
HIDDEN: Property = (
    "VP8, in which some packets hold no frame that is shown",
    lambda facts: "vp8" in facts.footage.stream.codec_context.name,
)
NAME: Property = (
    "a name that is not UTF-8",
    lambda facts: not _is_utf8(facts.footage.path),
)
LENGTH: Property = (
    "headers that declare a length far from the true one",
    lambda facts: (
        facts.footage.declared_end_s is not None
        and len(facts.scan) > 0
        and facts.footage.declared_end_s > 2 * facts.scan.time_s(-1) + WRONG_LENGTH_S
    ),
)

EVERYWHERE = (
    LENGTH,
    INSIDE_GROUP,
    DISORDER,
    DAMAGE,
    INTERLACED,
    TURNED,
    HDR,
    ALPHA,
    SEVERAL,
    HIDDEN,
    NAME,
)


def library_frames(name: str, path: Path, wanted: Wanted, log: DecodeLog) -> Iterator[ShownFrame]:
    """Decode frames in presentation order, from the one shown at the first instant on.

    Args:
        name: A decoder in LIBRARIES.
        path: The footage.
        wanted: Which frames to give.
        log: Gets warnings and counts.

    Raises:
        FootageError: The decoder cannot give the right frames of this file.
        ValueError: The decoder is not installed or cannot be used here.
    """
    opener, wrong_on = LIBRARIES[name]
    footage = open_footage(path, stream=wanted.stream)
    with footage.container:
        for warning in footage.warnings:
            log.warn(warning)
        facts = Facts(footage, scan_packets(footage, log), _first_frame(path, wanted.stream))
        for what, holds in wrong_on:
            if holds(facts):
                raise FootageError(
                    path, f"{name} gives wrong frames for footage with {what}. {USE_PYAV}"
                )
        num_frames, picture = _opened(name, opener, path, wanted.threads)
        if num_frames is not None and num_frames != len(facts.scan):
            raise _disagrees(name, path, num_frames, len(facts.scan))
        chosen = _chosen(facts.scan, footage.interval_s, wanted.instants, log)
        renderer = renderer_of(footage, wanted.size_px)
        stamped = (
            StampedFrame(
                AvPicture(_got(name, picture, facts, k), renderer),
                stamp_s=time_s,
                duration_s=until_s - time_s,
                until_s=until_s,
            )
            for k, time_s, until_s in chosen
        )
        yield from continuous(stamped, footage.interval_s, log)


def _chosen(
    scan: PacketScan, interval_s: Fraction, instants: Instants, log: DecodeLog
) -> Iterator[tuple[int, Fraction, Fraction]]:
    """Number, start and end of each frame that an instant shows."""
    for k in range(len(scan)):
        time_s = scan.time_s(k)
        until_s = scan.time_s(k + 1) if k + 1 < len(scan) else time_s + interval_s
        if instants.end_s is not None and time_s > instants.end_s + TIMESTAMP_ROUNDING_S:
            return
        log.num_frames += 1
        log.num_packets += 1
        if instants.any_shows(time_s, until_s):
            yield k, time_s, until_s
        else:
            log.num_skipped += 1


def _opened(
    name: str, opener: Opener, path: Path, threads: int
) -> tuple[int | None, Callable[[int], UInt8]]:
    try:
        return opener(path, threads)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"the decoder {name} cannot be used here ({reason(error)}). {USE_PYAV}"
        ) from None
    except Exception as error:
        raise _cannot(name, path, error) from None


def _got(name: str, picture: Callable[[int], UInt8], facts: Facts, k: int) -> VideoFrame:
    path = facts.footage.path
    try:
        return VideoFrame.from_ndarray(picture(k), "rgb24")
    except EOFError:
        raise _disagrees(name, path, k, len(facts.scan)) from None
    except Exception as error:
        raise _cannot(name, path, error) from None


def _cannot(name: str, path: Path, error: Exception) -> FootageError:
    return FootageError(path, f"{name} cannot decode it ({reason(error)}). {USE_PYAV}")


def _disagrees(name: str, path: Path, theirs: int, true: int) -> FootageError:
    return FootageError(path, f"{name} finds {theirs} frames instead of {true}. {USE_PYAV}")


def _first_frame(path: Path, stream: int | None) -> VideoFrame:
    footage = open_footage(path, stream=stream)
    with footage.container:
        try:
            for packet in packets_of(footage.container, footage.stream):
                for frame in packet.decode():
                    return frame
            for frame in footage.stream.codec_context.decode(None):
                return frame
        except (av.error.FFmpegError, OSError):
            pass
    raise FootageError(path, NO_FRAME)


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_decord(path: Path, threads: int) -> tuple[int, Callable[[int], UInt8]]:
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    return len(reader), lambda k: reader[k].asnumpy()


def _open_opencv(path: Path, threads: int) -> tuple[None, Callable[[int], UInt8]]:
    """Read frame after frame, because OpenCV's seeking is not exact."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise RuntimeError("it does not open the file")
    next_k = 0

    def picture(k: int) -> UInt8:
        nonlocal next_k
        while next_k <= k:
            if not capture.grab():
                raise EOFError
            next_k += 1
        ok, bgr = capture.retrieve()
        if not ok:
            raise EOFError
        rgb: Any = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return np.asarray(rgb, np.uint8)

    # OpenCV does not know the number of frames before it has read them.
    return None, picture


def _open_torchcodec(path: Path, threads: int) -> tuple[int, Callable[[int], UInt8]]:
    return _torchcodec(path, threads, "cpu")


def _open_torchcodec_cuda(path: Path, threads: int) -> tuple[int, Callable[[int], UInt8]]:
    return _torchcodec(path, threads, "cuda:0")


def _torchcodec(path: Path, threads: int, device: str) -> tuple[int, Callable[[int], UInt8]]:
    from torchcodec.decoders import VideoDecoder

    decoder: Any = VideoDecoder(
        str(path),
        dimension_order="NHWC",
        num_ffmpeg_threads=threads,
        device=device,
        seek_mode="exact",
    )
    return len(decoder), lambda k: decoder[k].cpu().numpy()


# Opens a file for decoding in a number of threads (0: the decoder chooses). Returns the number of
# frames, if known, and a function that gives frame k as (H, W, 3) uint8 RGB; k only grows.
Opener = Callable[[Path, int], tuple[int | None, Callable[[int], UInt8]]]

# Each decoder: how it opens a file, and for which footage it gives wrong frames.
LIBRARIES: dict[str, tuple[Opener, Sequence[Property]]] = {
    "decord": (_open_decord, (*EVERYWHERE, TRANSPORT, EDIT_LIST)),
    "opencv": (_open_opencv, EVERYWHERE),
    "torchcodec": (_open_torchcodec, EVERYWHERE),
    "torchcodec-cuda": (_open_torchcodec_cuda, EVERYWHERE),
}

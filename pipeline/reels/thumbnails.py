"""Make thumbnails of footage at given times, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from touchline.models.errors import DecoderError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.pyav import AvPicture, pyav_frames, seeks_by_time
from touchline.pipeline.decoding.to_rgb import orientation
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.reels.coded_video import ShownPictures

THUMBNAIL_TASK = "touchline.pipeline.reels.thumbnails:thumbnails_here"

JPEG_QUALITY = 70


def make_thumbnails(
    footage: Path,
    times_s: Sequence[float],
    *,
    width_px: int,
    max_bytes: int,
    stream: int | None = None,
) -> list[str | None]:
    """The frame shown at each time as a data URI, in the order given.

    A thumbnail is None if no frame can be decoded, or if `max_bytes` are used up. So put the most
    important times first.

    Args:
        footage: The footage file.
        times_s: Times in seconds.
        width_px: Width of a thumbnail.
        max_bytes: Stop when the data URIs together reach this size.
        stream: Index of the video stream in the file; None takes the default one, otherwise the
            largest.

    Raises:
        FootageError: The file cannot be read as video.
    """
    path = str(footage if isinstance(footage, Address) else footage.absolute())
    arguments: dict[str, Any] = {
        "path": path,
        "times_s": [float(time_s) for time_s in times_s],
        "width_px": width_px,
        "max_bytes": max_bytes,
        "stream": stream,
    }
    if not AVAILABLE:
        uris = list(thumbnails_here(DecodeLog(), **arguments))
    else:
        try:
            uris = list(run_isolated(THUMBNAIL_TASK, arguments, path=footage))
        except DecoderError:
            # Once more: a worker that was killed from outside must not cost the pictures.
            uris = list(run_isolated(THUMBNAIL_TASK, arguments, path=footage))
    return uris + [None] * (len(times_s) - len(uris))


def thumbnails_here(
    log: DecodeLog,
    *,
    path: str,
    times_s: Sequence[float],
    width_px: int,
    max_bytes: int,
    stream: int | None,
) -> Iterator[str | None]:
    """Yield the thumbnails, made in this process, until their size is reached.

    Args:
        log: Shows the caller that decoding makes progress.
        path: The footage file.
        times_s: Times in seconds.
        width_px: Width of a thumbnail.
        max_bytes: Stop when the data URIs together reach this size.
        stream: Index of the video stream in the file; None chooses one.

    Raises:
        FootageError: The file cannot be read as video.
    """
    footage = footage_path(path)
    found = _one_by_one if seeks_by_time(footage, stream, log) else _in_one_pass
    used = 0
    for uri in found(footage, [Fraction(time_s) for time_s in times_s], width_px, stream, log):
        if used >= max_bytes:
            return
        used += len(uri or "")
        yield uri


def _one_by_one(
    footage: Path,
    times_s: Sequence[Fraction],
    width_px: int,
    stream: int | None,
    log: DecodeLog,
) -> Iterator[str | None]:
    for at_s in times_s:
        frame = _frame_at(footage, at_s, stream, log)
        yield None if frame is None else data_uri(frame, width_px)


def _in_one_pass(
    footage: Path,
    times_s: Sequence[Fraction],
    width_px: int,
    stream: int | None,
    log: DecodeLog,
) -> Iterator[str | None]:
    """The same for footage that can only be read from its beginning: once is enough."""
    wanted = Wanted(Instants(rate_hz=None), stream=stream)
    frames = pyav_frames(footage, wanted, log)
    shown = ShownPictures((frame.time_s, frame.picture) for frame in frames)
    uris: dict[int, str | None] = {}
    for k in sorted(range(len(times_s)), key=lambda k: times_s[k]):
        picture = shown.at(times_s[k] + TIMESTAMP_ROUNDING_S)
        uris[k] = data_uri(picture.frame, width_px) if isinstance(picture, AvPicture) else None
    return iter(uris[k] for k in range(len(times_s)))


def _frame_at(
    footage: Path, at_s: Fraction, stream: int | None, log: DecodeLog
) -> VideoFrame | None:
    # Instants count from near 0: from the first one on, footage is read from its beginning.
    wanted = Wanted(Instants(Fraction(1), start_s=at_s, zero_s=at_s % 1), stream=stream)
    found: VideoFrame | None = None
    for shown in pyav_frames(footage, wanted, log):
        if found is not None and shown.time_s > at_s + TIMESTAMP_ROUNDING_S:
            break
        if isinstance(shown.picture, AvPicture):
            found = shown.picture.frame
    return found


def data_uri(frame: VideoFrame, width_px: int) -> str:
    """A frame, upright and scaled to a width, as data:image/jpeg;base64,..."""
    pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)  # (H, W, 3)
    image = Image.fromarray(np.ascontiguousarray(orientation(frame).turned(pixels)))
    height = max(1, round(image.height * width_px / image.width))
    content = io.BytesIO()
    image.resize((width_px, height), Image.Resampling.BILINEAR).save(
        content, "JPEG", quality=JPEG_QUALITY, optimize=True
    )
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")

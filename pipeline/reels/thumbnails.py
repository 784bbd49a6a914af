"""Make thumbnails of footage at given times, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.pyav import AvPicture, pyav_frames
from touchline.pipeline.decoding.to_rgb import orientation
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog

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
    uris: list[str | None] = []
    used = 0
    for time_s in times_s:
        if used >= max_bytes:
            break
        frame = frame_shown_at(footage, time_s, stream=stream)
        uri = None if frame is None else data_uri(frame, width_px)
        used += len(uri or "")
        uris.append(uri)
    return uris + [None] * (len(times_s) - len(uris))


def frame_shown_at(footage: Path, time_s: float, *, stream: int | None = None) -> VideoFrame | None:
    """The last frame at or before a time, or else the first after it; None if none decodes.

    Args:
        footage: The footage file.
        time_s: Time in seconds.
        stream: Index of the video stream in the file; None takes the default one, otherwise the
            largest.

    Raises:
        FootageError: The file cannot be read as video.
    """
    at_s = Fraction(time_s)
    wanted = Wanted(Instants(Fraction(1), start_s=at_s, zero_s=at_s), stream=stream)
    found: VideoFrame | None = None
    for shown in pyav_frames(footage, wanted, DecodeLog()):
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

"""Make thumbnails of footage at given times, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from touchline.pipeline.reels.coded_video import CodedVideo, ShownPictures, decodable

JPEG_QUALITY = 70

# Earlier than this before the frame wanted, skip frames that no other frame depends on.
RUN_UP_S = 0.5


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
    with CodedVideo(footage, stream=stream) as video:
        for time_s in times_s:
            if used >= max_bytes:
                break
            frame = frame_shown_at(video, time_s)
            uri = None if frame is None else data_uri(frame, width_px)
            used += len(uri or "")
            uris.append(uri)
    return uris + [None] * (len(times_s) - len(uris))


def frame_shown_at(video: CodedVideo, time_s: float) -> VideoFrame | None:
    """The last frame at or before a time, or else the first after it; None if none decodes."""
    target = video.pts(time_s) + video.rounding()
    return ShownPictures(_frames_around(video, target)).at(target)


def _frames_around(video: CodedVideo, target: int) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their times in ticks, from a key frame at or before `target` on."""
    run_up = target - round(RUN_UP_S / video.time_base)
    context = video.stream.codec_context
    for packet in video.packets_from(target):
        context.skip_frame = "NONREF" if (packet.pts or 0) < run_up else "DEFAULT"
        for frame in decodable(packet.decode):
            yield target if frame.pts is None else frame.pts, frame
    context.skip_frame = "DEFAULT"
    for frame in video.stream.decode(None):
        yield target if frame.pts is None else frame.pts, frame


def data_uri(frame: VideoFrame, width_px: int) -> str:
    """A frame, upright and scaled to a width, as data:image/jpeg;base64,..."""
    pixels = frame.to_ndarray(format="rgb24")  # (H, W, 3)
    image = Image.fromarray(np.rot90(pixels, k=round(frame.rotation / 90) % 4))
    height = max(1, round(image.height * width_px / image.width))
    content = io.BytesIO()
    image.resize((width_px, height), Image.Resampling.BILINEAR).save(
        content, "JPEG", quality=JPEG_QUALITY, optimize=True
    )
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")

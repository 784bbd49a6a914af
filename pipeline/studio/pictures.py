"""Small pictures of a match: kept while its features are computed, and single ones on demand."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from touchline.models.atomic_files import atomic_path
from touchline.pipeline.reels.thumbnails import make_thumbnails
from touchline.pipeline.types import Frames

EVERY_S = 2.0
"""Seconds from one kept picture to the next."""

HEIGHT_PX, QUALITY = 90, 60


class StoredPictures:
    """JPEG files in a folder; file n shows the footage at n * EVERY_S seconds or soon after."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, frames: Frames) -> None:
        """Keep the pictures of a chunk of frames that are due."""
        for time_s, pixels in zip(frames.sample_s, frames.pixels, strict=True):
            path = self._path(float(time_s))
            if not path.exists():
                with atomic_path(path) as part:
                    part.write_bytes(_jpeg(pixels.transpose(1, 2, 0)))

    def near(self, time_s: float) -> bytes | None:
        """Return the picture kept for a time, or for the moments before it; None if there is none.

        Args:
            time_s: Seconds in the footage.
        """
        for earlier in range(3):
            path = self._path(time_s - earlier * EVERY_S)
            if path.exists():
                return path.read_bytes()
        return None

    def _path(self, time_s: float) -> Path:
        return self._folder / f"{int(max(0.0, time_s) // EVERY_S)}.jpg"


def _jpeg(pixels: np.ndarray) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    width = max(1, round(image.width * HEIGHT_PX / image.height))
    content = io.BytesIO()
    image.resize((width, HEIGHT_PX)).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def picture_at(footage: Path, time_s: float, width_px: int, stream: int | None) -> bytes | None:
    """Return the frame shown at a time as JPEG; None if it cannot be decoded.

    Args:
        footage: The file.
        time_s: Seconds in the footage.
        width_px: Width of the picture.
        stream: Index of the video stream; None takes the default one.

    Raises:
        FootageError: The file cannot be read.
    """
    (uri,) = make_thumbnails(footage, [time_s], width_px=width_px, max_bytes=2**24, stream=stream)
    return None if uri is None else base64.b64decode(uri.partition(",")[2])

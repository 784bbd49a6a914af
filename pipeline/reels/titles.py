"""Draw titles into the picture: class and match clock on a dark plate at the lower left."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from touchline.pipeline.outputs.result_view import one_line
from touchline.pipeline.types import Float32, UInt8

PLATE = (16, 20, 28, 190)
ACCENT = (255, 196, 0, 255)
WHITE = (255, 255, 255, 255)
GREY = (208, 214, 222, 255)

RAMP_S = Fraction(1, 4)
"""How long a title takes to fade in, and to fade out."""


@dataclass(frozen=True)
class Title:
    """A title and when it is shown.

    Attributes:
        start_s: First second shown, in the footage.
        end_s: End in seconds, in the footage.
        heading: The large line.
        line: The small line below; may be empty.
    """

    start_s: Fraction
    end_s: Fraction
    heading: str
    line: str = ""

    def opacity(self, time_s: Fraction) -> float:
        """From 0 (not shown) to 1, with a ramp of RAMP_S at either end."""
        if not self.start_s <= time_s < self.end_s:
            return 0.0
        near = min(time_s - self.start_s, self.end_s - time_s) / RAMP_S
        return float(min(Fraction(1), near + Fraction(1, 8)))


@cache
def title_image(
    heading: str, line: str, width_px: int, height_px: int, font_file: Path | None = None
) -> UInt8:
    """The title as an image (h, w, 4) uint8 RGBA; h and w are even.

    Args:
        heading: The large line.
        line: The small line below; may be empty.
        width_px: Width of the video.
        height_px: Height of the video, which sets the size of the letters.
        font_file: A .ttf or .otf file; None uses the built-in font.

    Raises:
        ValueError: The font cannot be read.
    """
    unit = max(8, height_px // 20)
    big, small = _font(font_file, round(unit * 1.15)), _font(font_file, round(unit * 0.8))
    pad = unit // 2
    rows = [(one_line(heading), big, WHITE)] + ([(one_line(line), small, GREY)] if line else [])
    boxes = [font.getbbox(text) for text, font, _ in rows]
    w = round(min(width_px * 0.9, max(box[2] for box in boxes) + 3 * pad))
    h = sum(round(font.size * 1.25) for _, font, _ in rows) + round(1.2 * pad)
    image = Image.new("RGBA", (w + w % 2, h + h % 2), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, w - 1, h - 1), radius=unit // 3, fill=PLATE)
    draw.rounded_rectangle((0, 0, max(3, unit // 5), h - 1), radius=unit // 8, fill=ACCENT)
    y = round(0.5 * pad)
    for text, font, colour in rows:
        draw.text((round(1.5 * pad), y), text, font=font, fill=colour)
        y += round(font.size * 1.25)
    return np.asarray(image)


def _font(file: Path | None, size: int) -> ImageFont.FreeTypeFont:
    if file is None:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise ValueError(
                "this Pillow was built without FreeType, so it has no built-in font. "
                "Give --font FILE."
            )
        return font
    try:
        return ImageFont.truetype(str(file), size)
    except OSError:
        raise ValueError(f"{file} cannot be read as a font. Give a .ttf or .otf file.") from None


def draw_title(i420: UInt8, rgba: UInt8, opacity: float, *, bt709: bool, full_range: bool) -> None:
    """Blend a title into the lower left corner of a picture, in place.

    Args:
        i420: The picture (H * 3 / 2, W) uint8, planar YUV 4:2:0; H and W are even.
        rgba: The title (h, w, 4) uint8; h and w are even.
        opacity: From 0 to 1.
        bt709: The picture's YUV matrix is BT.709, otherwise BT.601.
        full_range: Luma goes from 0 to 255 instead of 16 to 235.
    """
    H, W = i420.shape[0] * 2 // 3, i420.shape[1]
    h, w = min(rgba.shape[0], H), min(rgba.shape[1], W)
    margin = H // 20
    top, left = (H - h - margin) // 2 * 2, min(margin, W - w) // 2 * 2
    yuv = rgb_to_yuv(rgba[:h, :w, :3], bt709=bt709, full_range=full_range)  # (h, w, 3)
    alpha = rgba[:h, :w, 3] * np.float32(opacity / 255)
    y, u, v = planes(i420)
    _blend(y[top : top + h, left : left + w], yuv[..., 0], alpha)
    weighted = yuv[..., 1:] * alpha[..., None]
    alpha_2 = _halved(alpha)
    for plane, channel in ((u, 0), (v, 1)):
        # Average the chroma of visible pixels only, without the transparent corners.
        chroma = _halved(weighted[..., channel]) / np.maximum(alpha_2, np.float32(1e-6))
        region = plane[top // 2 : (top + h) // 2, left // 2 : (left + w) // 2]
        _blend(region, chroma.astype(np.float32), alpha_2)


def planes(i420: UInt8) -> tuple[UInt8, UInt8, UInt8]:
    """Views of the planes Y (H, W), U and V (H / 2, W / 2) of a picture (H * 3 / 2, W)."""
    H, W = i420.shape[0] * 2 // 3, i420.shape[1]
    flat = i420.reshape(-1)
    quarter = H * W // 4
    return (
        flat[: H * W].reshape(H, W),
        flat[H * W : H * W + quarter].reshape(H // 2, W // 2),
        flat[H * W + quarter :].reshape(H // 2, W // 2),
    )


def rgb_to_yuv(rgb: UInt8, *, bt709: bool, full_range: bool) -> Float32:
    """Colours (..., 3) uint8 RGB -> (..., 3) float32 YCbCr.

    Args:
        rgb: The colours.
        bt709: Use the matrix of ITU-R BT.709, otherwise of BT.601.
        full_range: Luma goes from 0 to 255 instead of 16 to 235.
    """
    kr, kb = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    r, g, b = np.moveaxis(rgb.astype(np.float32), -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full_range:
        channels = [y, cb + 128, cr + 128]
    else:
        channels = [16 + y * (219 / 255), 128 + cb * (224 / 255), 128 + cr * (224 / 255)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _halved(values: Float32) -> Float32:
    """(h, w) -> (h / 2, w / 2): the mean of each block of two by two."""
    h, w = values.shape
    halved: Float32 = values.reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3), dtype=np.float32)
    return halved


def _blend(region: UInt8, colour: Float32, alpha: Float32) -> None:
    region[:] = np.rint(region + (colour - region) * alpha).astype(np.uint8)

"""Decoded frames to RGB: colours by hand, one field, proportions, tone mapping."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from footage_made import burn, read_index

from touchline.pipeline.decoding.to_rgb import HLG, PQ, Renderer, tone_mapped

# ITU-T H.273: matrices and ranges as frames carry them.
BT709, BT601, UNSPECIFIED = 1, 6, 2
LIMITED, FULL = 1, 2


def flat(
    y: int, u: int, v: int, *, size: tuple[int, int], pix_fmt: str = "yuv420p"
) -> av.VideoFrame:
    """A frame of one colour."""
    frame = av.VideoFrame(*size, pix_fmt)
    for plane, value in zip(frame.planes, (y, u, v), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


def drawn(
    frame: av.VideoFrame, *, size_px: int | None = None, pixel_aspect: Fraction | None = None
) -> np.ndarray:
    renderer = Renderer(
        width=frame.width, height=frame.height, pixel_aspect=pixel_aspect, size_px=size_px
    )
    out = np.empty(renderer.shape(frame), np.uint8)
    renderer.draw(frame, out)
    return out


def rgb_of(pixels: np.ndarray) -> list[int]:
    middle = pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2]
    assert np.ptp(pixels.reshape(3, -1).astype(int), axis=1).max() <= 1
    return middle.tolist()


@pytest.mark.parametrize("size_px", [None, 48])
@pytest.mark.parametrize(
    ("yuv", "matrix", "colour_range", "rgb"),
    [
        ((235, 128, 128), BT709, LIMITED, (255, 255, 255)),
        ((16, 128, 128), BT709, LIMITED, (0, 0, 0)),
        ((126, 128, 128), BT709, LIMITED, (128, 128, 128)),
        ((128, 128, 128), BT709, FULL, (128, 128, 128)),
        ((50, 128, 128), BT601, FULL, (50, 50, 50)),
        ((63, 102, 240), BT709, LIMITED, (255, 0, 0)),
        ((81, 90, 240), BT601, LIMITED, (255, 0, 0)),
        ((173, 42, 26), BT709, LIMITED, (0, 255, 0)),
        ((145, 54, 34), BT601, LIMITED, (0, 255, 0)),
    ],
)
def test_colours_follow_the_matrix_and_range_of_the_frame(yuv, matrix, colour_range, rgb, size_px):
    frame = flat(*yuv, size=(128, 96))
    frame.colorspace, frame.color_range = matrix, colour_range
    assert np.allclose(rgb_of(drawn(frame, size_px=size_px)), rgb, atol=3)


@pytest.mark.parametrize(
    ("size", "yuv"), [((1280, 720), (63, 102, 240)), ((720, 576), (81, 90, 240))]
)
def test_without_a_matrix_hd_is_bt709_and_smaller_bt601_as_in_players(size, yuv):
    frame = flat(*yuv, size=size)
    frame.colorspace = UNSPECIFIED
    assert np.allclose(rgb_of(drawn(frame, size_px=64)), (255, 0, 0), atol=3)


def test_transparent_pictures_lie_over_black():
    rgba = np.full((96, 128, 4), 255, np.uint8)
    rgba[:, :, 3] = 128
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    assert np.allclose(rgb_of(drawn(frame)), (128, 128, 128), atol=1)


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "nv12", "gray", "gray10le",
     "rgb24", "bgr0", "gbrp", "gbrp10le", "pal8", "yuva420p", "yuyv422", "rgb48le", "yuv411p",
     "yuv440p", "yuvj420p", "p010le", "bgra", "rgb565le", "monow"],
)  # fmt: skip
@pytest.mark.parametrize("size_px", [None, 40, 200])
def test_every_pixel_format_shows_the_picture(pix_fmt: str, size_px: int | None):
    frame = av.VideoFrame.from_ndarray(burn(1234), format="rgb24")
    if pix_fmt == "pal8":
        frame = av.VideoFrame.from_ndarray(burn(1234)[:, :, 0], format="gray")
    frame = frame.reformat(format="gray" if pix_fmt == "pal8" else pix_fmt, threads=1)
    assert read_index(drawn(frame, size_px=size_px)) == 1234


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuvj420p", "nv12", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"]
)
def test_the_last_columns_are_as_good_as_the_first_at_every_width(pix_fmt: str):
    for width in range(97, 116):
        orange = np.full((66, width, 3), (200, 90, 30), np.uint8)
        frame = av.VideoFrame.from_ndarray(orange, format="rgb24")
        frame = frame.reformat(format=pix_fmt, threads=1)
        for size_px in (None, 33, 48, 100):
            pixels = drawn(frame, size_px=size_px).astype(int)
            assert np.abs(pixels - np.array([200, 90, 30])[:, None, None]).max() <= 5


def test_the_shorter_side_is_the_size_asked_for_and_pixels_become_square():
    frame = av.VideoFrame.from_ndarray(burn(7, (160, 90)), format="rgb24")
    assert drawn(frame, size_px=45).shape == (3, 45, 80)
    assert drawn(frame).shape == (3, 90, 160)
    assert drawn(frame, size_px=45, pixel_aspect=Fraction(2)).shape == (3, 45, 160)
    assert drawn(frame, pixel_aspect=Fraction(1, 2)).shape == (3, 180, 160)


def test_a_picture_of_other_proportions_keeps_them_inside_the_first_ones_size():
    renderer = Renderer(width=160, height=80, pixel_aspect=None, size_px=80)
    square = av.VideoFrame.from_ndarray(np.full((60, 60, 3), 200, np.uint8), format="rgb24")
    out = np.full(renderer.shape(square), 9, np.uint8)
    renderer.draw(square, out)
    assert out.shape == (3, 80, 160)
    assert (out[:, :, 40:120] == 200).all()
    assert (out[:, :, :40] == 0).all()
    assert (out[:, :, 120:] == 0).all()


def test_where_nothing_is_declared_the_first_picture_decides():
    renderer = Renderer(width=0, height=0, pixel_aspect=None, size_px=None)
    frame = av.VideoFrame.from_ndarray(burn(7, (160, 90)), format="rgb24")
    assert renderer.shape(frame) == (3, 90, 160)


# SMPTE ST 2084 code values of 0, 100, 203 and 1000 nits.
PQ_CODES = {0.0: 0.0, 100.0: 0.5081, 203.0: 0.5807, 1000.0: 0.7518}


@pytest.mark.parametrize(
    ("nits", "level"),
    # x nits: v = x / 203, v (1 + v / 24.27) / (1 + v), then the sRGB curve, times 255.
    [(0.0, 0), (100.0, 157), (203.0, 191), (1000.0, 255)],
)
def test_hdr10_grays_are_mapped_to_these_levels(nits: float, level: int):
    code = round(PQ_CODES[nits] * 65535)
    mapped = tone_mapped(np.full((3, 2, 2), code, np.uint16), transfer=PQ)
    assert np.abs(mapped.astype(int) - level).max() <= 2


def test_hlg_reference_white_and_black_come_out_as_with_hdr10():
    # ITU-R BT.2408: 75 % HLG is 203 nits on a 1000-nit display.
    white = tone_mapped(np.full((3, 1, 1), round(0.75 * 65535), np.uint16), transfer=HLG)
    black = tone_mapped(np.zeros((3, 1, 1), np.uint16), transfer=HLG)
    assert np.abs(white.astype(int) - 191).max() <= 2
    assert black.max() <= 1


def test_tone_mapping_keeps_hues_and_order():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    pixels = np.stack([ramp, ramp // 2, ramp // 4]).reshape(3, 1, 64)
    mapped = tone_mapped(pixels, transfer=PQ)[:, 0].astype(int)
    assert (np.diff(mapped[0]) >= 0).all()
    assert (mapped[0] >= mapped[1]).all()
    assert (mapped[1] >= mapped[2]).all()

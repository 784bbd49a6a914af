"""Convert decoded frames to RGB as a player shows them: upright, with square pixels, in SDR.

Of interlaced frames one field is used. All pictures of a file have the size of its first one, even
if the size changes in the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar, cast

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from touchline.pipeline.types import Float32, UInt8

Sample = TypeVar("Sample", np.uint8, np.uint16)

# 8 bits, colour at half the resolution: nearly all footage.
SUBSAMPLED = ("yuv420p", "yuvj420p", "nv12")

# Values of ITU-T H.273.
UNSPECIFIED = 2
PQ, HLG = 16, 18

# HDR reference white (ITU-R BT.2408), and the brightest level that tone mapping keeps distinct.
REFERENCE_WHITE_NITS = 203.0
PEAK_NITS = 1000.0

# ITU-R BT.2087, the conversion of linear light.
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)


class Renderer:
    """Converts the frames of one stream to pictures of one size.

    Args:
        width: Width that the stream declares, in pixels; 0 takes that of the first frame.
        height: Height that the stream declares, in pixels; 0 takes that of the first frame.
        pixel_aspect: Width of a pixel divided by its height; None is 1.
        size_px: The shorter side of the pictures in pixels; None keeps the stored size.
    """

    def __init__(
        self, *, width: int, height: int, pixel_aspect: Fraction | None, size_px: int | None
    ) -> None:
        self._declared = (width, height)
        self._pixel_aspect = pixel_aspect if pixel_aspect else Fraction(1)
        self._size_px = size_px
        self._target: tuple[int, int] | None = None
        self._scaler = VideoReformatter()
        self._small = VideoReformatter()
        self._fields: _TopField | None = None
        self._uprights: dict[int, Orientation] = {}

    def shape(self, frame: VideoFrame) -> tuple[int, int, int]:
        """Return (3, H, W) of every picture. The first call decides it from its frame."""
        if self._target is None:
            W, H = self._declared if all(self._declared) else (frame.width, frame.height)
            self._target = self._output_size(W, H, turned=self._upright(frame).exchanged)
        return 3, self._target[1], self._target[0]

    def draw(self, frame: VideoFrame, out: UInt8) -> None:
        """Write a decoded frame into `out`: (3, H, W) uint8 RGB."""
        upright = self._upright(frame)
        _, H, W = self.shape(frame)
        w, h = self._fit(frame, (W, H), turned=upright.exchanged)
        top, left = (H - h) // 2, (W - w) // 2
        if (w, h) != (W, H):
            out[:] = 0
        self._scale(frame, upright.stored(out[:, top : top + h, left : left + w]))

    def _upright(self, frame: VideoFrame) -> Orientation:
        # Reading side data makes a reference cycle, which keeps the frame's memory in use. So do it
        # once for each angle.
        if frame.rotation not in self._uprights:
            self._uprights[frame.rotation] = orientation(frame)
        return self._uprights[frame.rotation]

    def _output_size(self, W: int, H: int, *, turned: bool) -> tuple[int, int]:
        """Width and height of every picture."""
        shown_w, shown_h = _square(W, H, self._pixel_aspect)
        if turned:
            shown_w, shown_h = shown_h, shown_w
        if self._size_px is None:
            return max(1, round(shown_w)), max(1, round(shown_h))
        scale = self._size_px / min(shown_w, shown_h)
        return max(1, round(shown_w * scale)), max(1, round(shown_h * scale))

    def _fit(self, frame: VideoFrame, target: tuple[int, int], *, turned: bool) -> tuple[int, int]:
        """The largest size inside the target with the proportions of the frame."""
        W, H = frame.width, frame.height
        if self._declared == (W, H) or not all(self._declared):
            return target
        shown_w, shown_h = _square(W, H, self._pixel_aspect)
        if turned:
            shown_w, shown_h = shown_h, shown_w
        scale = min(target[0] / shown_w, target[1] / shown_h)
        fitted = round(shown_w * scale), round(shown_h * scale)
        return max(1, min(target[0], fitted[0])), max(1, min(target[1], fitted[1]))

    def _scale(self, frame: VideoFrame, out: UInt8) -> None:
        """Scale a frame, in its stored orientation, to fill `out`: (3, H, W)."""
        H, W = out.shape[1:]
        colorspace = _colorspace(frame)
        if frame.interlaced_frame and frame.height >= 4:
            self._fields = self._fields or _TopField()
            frame = self._fields.of(frame)
        if frame.color_trc in (PQ, HLG):
            deep = np.empty(out.shape, np.uint16)
            _copy_planes(self._reformat(frame, W, H, "gbrp16le", colorspace), deep)
            out[:] = tone_mapped(deep, transfer=frame.color_trc)
        elif any(component.is_alpha for component in frame.format.components):
            rgba = np.empty((4, H, W), np.uint8)
            _copy_planes(self._reformat(frame, W, H, "gbrap", colorspace), rgba)
            out[:] = _over_black(rgba)
        else:
            if frame.format.name in SUBSAMPLED and frame.width >= W and frame.height >= H:
                # Shrink in the frame's own format first, where the scaler is fastest.
                frame = self._small.reformat(
                    frame, width=W, height=H, interpolation=Interpolation.AREA, threads=1
                )
            if (frame.width, frame.height) == (W, H):
                # FFmpeg 8.1 spoils the last columns if 8-bit YUV becomes planar RGB of equal size.
                packed = self._reformat(frame, W, H, "rgb24", colorspace).to_ndarray()
                out[:] = packed.transpose(2, 0, 1)
            else:
                _copy_planes(self._reformat(frame, W, H, "gbrp", colorspace), out)

    def _reformat(
        self, frame: VideoFrame, W: int, H: int, pix_fmt: str, colorspace: int | None
    ) -> VideoFrame:
        # One thread: with several, swscale spoils pixels where its slices meet.
        return self._scaler.reformat(
            frame, width=W, height=H, format=pix_fmt, src_colorspace=colorspace, threads=1
        )


@dataclass(frozen=True)
class Orientation:
    """How to turn a stored picture upright: exchange its axes, then mirror it.

    Attributes:
        exchanged: Whether to exchange x and y.
        mirror_x: Whether to mirror left and right after that.
        mirror_y: Whether to mirror top and bottom after that.
    """

    exchanged: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def stored(self, upright: UInt8) -> UInt8:
        """Return a view of an upright picture (3, H, W) in its stored orientation."""
        view = upright[:, :: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return view.swapaxes(1, 2) if self.exchanged else view

    def turned(self, plane: UInt8) -> UInt8:
        """Return a view of a stored plane (H, W), or picture (H, W, C), turned upright."""
        view = plane.swapaxes(0, 1) if self.exchanged else plane
        return view[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation(frame: VideoFrame) -> Orientation:
    """Read the frame's display matrix, to the nearest quarter turn.

    The matrix (ISO/IEC 14496-12, 8.3.2) takes a stored point (x, y) to (ax + cy, bx + dy).
    """
    try:
        matrix = bytes(cast("Any", frame.side_data)["DISPLAYMATRIX"])
    except (KeyError, ValueError):
        # ValueError: PyAV does not know this kind of side data, and then finds no other kind.
        return Orientation()
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    if abs(b) > abs(a):
        return Orientation(exchanged=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)


def tone_mapped(rgb16: npt.NDArray[np.uint16], *, transfer: int) -> UInt8:
    """Convert BT.2020 PQ or HLG (3, H, W) uint16 to BT.709 uint8; reference white stays near white.

    PQ: SMPTE ST 2084. HLG: ARIB STD-B67 with the system gamma 1.2 of a 1000-nit display
    (ITU-R BT.2100). The curve is Reinhard's with a white point, on the largest channel, so that
    hues stay.
    """
    signal = rgb16.astype(np.float32) / np.float32(65535)
    nits = _pq_nits(signal) if transfer == PQ else _hlg_nits(signal)
    linear = np.einsum("ij,jhw->ihw", BT2020_TO_BT709, nits / np.float32(REFERENCE_WHITE_NITS))
    linear = np.maximum(linear, 0)
    peak = np.maximum(linear.max(axis=0), np.float32(1e-6))
    white = PEAK_NITS / REFERENCE_WHITE_NITS
    mapped = linear * ((1 + peak / white**2) / (1 + peak))
    rgb: UInt8 = np.round(_srgb(np.clip(mapped, 0, 1)) * 255).astype(np.uint8)
    return rgb


class _TopField:
    """Takes the upper field of interlaced frames: half the lines, one instant, no combing."""

    def __init__(self) -> None:
        self._format: tuple[int, int, str] | None = None
        self._graph = av.filter.Graph()

    def of(self, frame: VideoFrame) -> VideoFrame:
        wanted = frame.width, frame.height, frame.format.name
        if wanted != self._format:
            self._format, self._graph = wanted, _field_graph(*wanted)
        self._graph.push(frame)
        field = self._graph.pull()
        if not isinstance(field, VideoFrame):
            raise TypeError(f"the field filter gave {type(field).__name__}")
        return field


def _field_graph(width: int, height: int, pix_fmt: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width,
        height=height,
        format=VideoFormat(pix_fmt, width, height),
        time_base=Fraction(1, 90_000),
    )
    field = graph.add("field", "type=top")
    sink = graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    return graph


def _square(W: int, H: int, pixel_aspect: Fraction) -> tuple[float, float]:
    return (W * float(pixel_aspect), H) if pixel_aspect >= 1 else (W, H / float(pixel_aspect))


def _colorspace(frame: VideoFrame) -> int | None:
    """The frame's YUV matrix; None is its own. Unspecified in HD is BT.709, as in players."""
    is_rgb = frame.format.is_rgb
    if frame.colorspace == UNSPECIFIED and not is_rgb and max(frame.width, frame.height) > 1024:
        return int(Colorspace.ITU709)
    return None


def _copy_planes(frame: VideoFrame, out: npt.NDArray[Sample]) -> None:
    """Copy planar GBR(A) into (3 or 4, H, W) in the order R, G, B(, A)."""
    for row, k in enumerate((2, 0, 1, 3)[: len(out)]):
        lines = np.frombuffer(memoryview(frame.planes[k]), out.dtype).reshape(frame.height, -1)
        out[row] = lines[:, : frame.width]


def _over_black(rgba: UInt8) -> UInt8:
    product = rgba[:3].astype(np.uint16) * rgba[3] + 127
    opaque: UInt8 = (product // 255).astype(np.uint8)
    return opaque


def _pq_nits(signal: Float32) -> Float32:
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** np.float32(1 / m2)
    ratio = np.maximum(power - c1, 0) / (c2 - c3 * power)
    nits: Float32 = (10_000 * ratio ** (1 / m1)).astype(np.float32)
    return nits


def _hlg_nits(signal: Float32) -> Float32:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    nits: Float32 = (1000 * np.maximum(luma, 1e-6) ** 0.2 * scene).astype(np.float32)
    return nits


def _srgb(linear: Float32) -> Float32:
    low = linear * 12.92
    high = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high).astype(np.float32)

"""Footage of many hours in seconds: ten minutes are encoded once and repeated by their packets."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from tiny import MeanHead
from torch import nn

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.models.networks.cnn_lstm import CNNLSTM

RATE = 2
WIDTH, HEIGHT = 64, 48
PIECE_S = 600

# A bright event in each minute: seconds 30 to 38.
EVERY_S = 60
BRIGHT_S = (30, 38)

# MPEG-TS counts 90,000 ticks a second in 33 bits: 26.5 hours.
WRAP_S = Fraction(1 << 33, 90_000)

SPEC = ClipSpec(num_frames=8, rate_hz=float(RATE), size_px=32, mean=(0.5,) * 3, std=(0.5,) * 3)


def long_model() -> TrainedModel:
    """background and `bright`, told apart by the mean of the pixels; windows of 4 s."""
    backbone = CNNLSTM({"stem": nn.Sequential(nn.AvgPool2d(4))}, 3, SPEC, 2, hidden=4)
    backbone.head = MeanHead()
    return TrainedModel(backbone.eval(), "cnn_lstm", ("background", "bright"))


def write_long(
    path: Path, hours: float, *, start_s: Fraction = Fraction(0), frames: int | None = None
) -> Path:
    """Write footage: a still picture with a moving square, bright for 8 s in each minute.

    Args:
        path: The file; its ending names the container (.mp4, .ts).
        hours: Its length.
        start_s: The first timestamp. Transport streams count modulo 26.5 hours from there.
        frames: Its length in frames; None: by `hours`.
    """
    left = round(hours * 3600 * RATE) if frames is None else frames
    piece = _piece()
    format = "mpegts" if path.suffix == ".ts" else path.suffix[1:]
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.extradata = piece.extradata
        stream.time_base = piece.time_base
        shift = round(start_s / piece.time_base)
        step = round(PIECE_S / piece.time_base)
        while left > 0:
            for content, pts, dts, is_key in piece.packets[:left]:
                packet = Packet(content)
                packet.pts, packet.dts = pts + shift, dts + shift
                packet.time_base, packet.is_keyframe = piece.time_base, is_key
                packet.stream = stream
                container.mux_one(packet)
            left -= len(piece.packets)
            shift += step
    return path


@dataclass(frozen=True)
class _Piece:
    """Ten encoded minutes: content, times and key frames of the packets."""

    packets: list[tuple[bytes, int, int, bool]]
    time_base: Fraction
    extradata: bytes


@functools.cache
def _piece() -> _Piece:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 90_000), Fraction(RATE)
    context.options = {"g": "20", "bf": "0", "x264-params": "scenecut=0", "crf": "30"}
    packets = [
        (bytes(p), p.pts, p.dts, p.is_keyframe)
        for frame in [*_pictures(), None]
        for p in context.encode(frame)
    ]
    return _Piece(packets, Fraction(1, 90_000), bytes(context.extradata or b""))


def _pictures() -> Iterator[av.VideoFrame]:
    noise = np.random.default_rng(0).integers(-15, 15, (HEIGHT, WIDTH, 3))
    for k in range(PIECE_S * RATE):
        is_bright = BRIGHT_S[0] <= k / RATE % EVERY_S < BRIGHT_S[1]
        pixels = (noise + (215 if is_bright else 35)).astype(np.uint8)
        x = k % (WIDTH - 8)
        pixels[20:28, x : x + 8] = 128
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = k * 90_000 // RATE, Fraction(1, 90_000)
        yield frame

"""Make clips of moving abstract shapes, on which the demonstration's network is pretrained.

A small shape is carried, bounced, thrown, lobbed, dropped or knocked aside among larger shapes, on
a textured ground under a moving camera. The class is what happens to it first and what happens
next. There is no court and there are no players; the code shares nothing with `render_match`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from touchline.pipeline.types import Float64, UInt8

HELD = ("carried", "bounced", "leapt")
FLYING = ("thrown", "lobbed", "dropped")
MOTIONS: tuple[tuple[str, str], ...] = (
    *((a, b) for a in HELD for b in HELD),
    *((a, b) for a in HELD for b in FLYING),
    *((a, b) for a in FLYING for b in HELD),
    *((a, a) for a in FLYING),
    *((a, "knocked") for a in FLYING),
    ("thrown", "dropped"),
    ("lobbed", "dropped"),
)
MOTION_NAMES = tuple(f"{a}_{b}" for a, b in MOTIONS)

_SHIFT = 3
# Pixels per frame per frame, in a picture of 80 px.
_GRAVITY = 1.0


@dataclass(frozen=True)
class ShapeClip:
    """One clip, and what its small shape does.

    Attributes:
        pixels: The frames (3, T, S, S) uint8 RGB.
        motion: The class, an index of MOTIONS.
        turn: Index of the frame at which the second motion begins.
        place_px: Place of the small shape (T, 2) from the left and the top; may be outside.
    """

    pixels: UInt8
    motion: int
    turn: int
    place_px: Float64


@dataclass(frozen=True)
class _Shape:
    """A polygon with a patch of another colour. `path` is its middle in every frame (T, 2)."""

    corners: Float64
    patch: Float64
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    path: Float64


def shape_clip(
    motion: int, rng: np.random.Generator, *, num_frames: int, size_px: int
) -> ShapeClip:
    """A random clip of one class.

    Args:
        motion: The class, an index of MOTIONS.
        rng: Decides everything else.
        num_frames: Number of frames.
        size_px: Width and height of the frames.
    """
    first, then = MOTIONS[motion]
    small, carriers, turn = _mover_path(first, then, rng, num_frames)
    others = [_wander(rng, num_frames, rng.uniform(5, 75, 2)) for _ in range(rng.integers(1, 5))]
    for path in others:
        if rng.random() < 0.3:
            path[:, 1] -= _leap(rng, num_frames, int(rng.integers(0, num_frames - 6)))
    shift = _into_view(small, rng)
    shapes = [_large(rng, path + shift) for path in (*carriers, *others)]
    shapes = [shapes[i] for i in rng.permutation(len(shapes))]
    mover = _small(rng, small + shift)
    pixels, place_px = _paint(shapes, mover, rng, num_frames=num_frames, size_px=size_px)
    return ShapeClip(pixels, motion, turn, place_px)


# Paths, in pixels of a picture of 80 px; y points down


def _mover_path(
    first: str, then: str, rng: np.random.Generator, T: int
) -> tuple[Float64, list[Float64], int]:
    """Path of the small shape (T, 2), paths of the shapes that hold or knock it, and the turn."""
    turn = int(rng.integers(round(0.3 * T), round(0.7 * T)))
    carrier = _wander(rng, T, rng.uniform(20, 60, 2))
    grip = np.array([rng.choice((-1, 1)) * rng.uniform(3, 6), rng.uniform(-6, 3)])
    if first in HELD:
        start = _hold(first, carrier, 0, turn, rng)
        if then in HELD:
            end = _hold(then, carrier, turn, T, rng)
            return carrier + grip + np.concatenate([start, end]), [carrier], turn
        held = carrier[:turn] + grip + start
        return np.concatenate([held, _flight(then, held[-1], rng, T - turn)]), [carrier], turn
    flight = _flight(first, rng.uniform(20, 60, 2), rng, T)
    if then == first:
        return flight, [], turn
    flown = flight[:turn]
    if then in HELD:
        caught = _hold(then, carrier, turn, T, rng) + grip
        carrier += flown[-1] - caught[0] - carrier[turn]
        return np.concatenate([flown, carrier[turn:] + caught]), [carrier], turn
    if then == "knocked":
        arriving = flown[-1] - flown[-2]
        carrier += flown[-1] + 0.8 * arriving - carrier[turn]
        return (
            np.concatenate([flown, flown[-1] + _knocked(arriving, rng, T - turn)]),
            [carrier],
            turn,
        )
    return np.concatenate([flown, _flight(then, flown[-1], rng, T - turn)]), [], turn


def _knocked(arriving: Float64, rng: np.random.Generator, T: int) -> Float64:
    """Path (T, 2) after the knock, relative to its place: away at a sharp angle."""
    bend = rng.uniform(0.5, 1.5) * np.pi
    spin = np.array([[np.cos(bend), -np.sin(bend)], [np.sin(bend), np.cos(bend)]])
    t = np.arange(1, T + 1)[:, None]
    away: Float64 = spin @ arriving * rng.uniform(0.6, 1.4)
    path: Float64 = away * t + np.array([0, 0.15 * _GRAVITY]) * t**2
    return path


def _wander(rng: np.random.Generator, T: int, start: Float64) -> Float64:
    """A random walk that keeps its direction for some time."""
    pushes = rng.normal(0, 0.35, (T, 2)) * (1.0, 0.5)
    speed = rng.normal(0, 1.2, 2) * (1.0, 0.4) + np.cumsum(pushes, axis=0)
    return start + np.cumsum(speed, axis=0)


def _leap(rng: np.random.Generator, T: int, start: int) -> Float64:
    """Height (T,) of one jump that begins at frame `start`."""
    air = rng.uniform(5, 8)
    t = np.clip((np.arange(T) - start) / air, 0, 1)
    height: Float64 = rng.uniform(6, 14) * 4 * t * (1 - t)
    return height


def _hold(
    motion: str, carrier: Float64, start: int, stop: int, rng: np.random.Generator
) -> Float64:
    """Offset of the small shape from its carrier (stop - start, 2). A jump moves the carrier."""
    t = np.arange(stop - start)
    down = np.zeros(len(t))
    if motion == "bounced":
        down = rng.uniform(5, 9) * np.abs(np.sin(np.pi * t / rng.uniform(3.5, 6)))
    elif motion == "leapt":
        carrier[:, 1] -= _leap(rng, len(carrier), start + int(rng.integers(0, 2)))
        down = -4 * np.minimum(t / 2, 1)
    return np.stack([np.zeros(len(t)), down], axis=1)


def _flight(motion: str, start: Float64, rng: np.random.Generator, T: int) -> Float64:
    t = np.arange(1, T + 1)[:, None]
    way = rng.choice((-1, 1))
    if motion == "thrown":
        velocity = np.array([way * rng.uniform(3, 8), rng.uniform(-2, 2)])
        return start + velocity * t
    if motion == "lobbed":
        velocity = np.array([way * rng.uniform(1.5, 6), -rng.uniform(4, 8)])
        return start + velocity * t + [0, rng.uniform(0.35, 0.6) * _GRAVITY] * t**2
    fall = start + np.array([rng.uniform(-0.7, 0.7), 0.0]) * t
    floor = start[1] + rng.uniform(15, 45)
    y, speed = float(start[1]), rng.uniform(0, 2)
    for i in range(T):
        speed += _GRAVITY
        y += speed
        if y > floor:
            y, speed = floor, -0.65 * speed
        fall[i, 1] = y
    return fall


def _into_view(path: Float64, rng: np.random.Generator) -> Float64:
    """A shift that puts the path near the middle of the picture, and most of it inside."""
    low, high = path.min(axis=0), path.max(axis=0)
    slack = np.maximum(72 - (high - low), 6) / 2
    shift: Float64 = 40 - (low + high) / 2 + rng.uniform(-slack, slack)
    return shift


# Drawing


def _tint(rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = rng.integers(0, 256, 3).tolist()
    return r, g, b


def _large(rng: np.random.Generator, path: Float64) -> _Shape:
    size = np.array([rng.uniform(2.5, 5), rng.uniform(6, 11)])
    if rng.random() < 0.2:
        size = size[::-1]
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * size
    patch = corners * rng.uniform(0.3, 0.7) + rng.uniform(-0.4, 0.4, 2) * size
    return _Shape(corners, patch, (_tint(rng), _tint(rng)), path)


def _small(rng: np.random.Generator, path: Float64) -> _Shape:
    radius = rng.uniform(1.3, 3.0)
    angles = np.linspace(0, 2 * np.pi, int(rng.choice((3, 4, 10))), endpoint=False)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
    return _Shape(corners, corners * rng.uniform(0.3, 0.8), (_tint(rng), _tint(rng)), path)


def _ground(rng: np.random.Generator) -> UInt8:
    """A texture (192, 192, 3): two kinds of noise with a slanted edge between them."""
    above, below = (_grain(rng) for _ in range(2))
    y0, y1 = 96 + rng.uniform(-60, 60) + np.array([-96, 96]) * rng.normal(0, 0.3)
    edge = np.array([(0, 192), (0, y0), (192, y1), (192, 192)]).astype(np.int32)
    mask = cv2.fillPoly(np.zeros((192, 192), np.uint8), [edge], 1)
    return cv2.copyTo(below, mask, above).astype(np.uint8, copy=False)


def _grain(rng: np.random.Generator) -> UInt8:
    """Noise over a plain colour; its grain is between fine and coarse."""
    cells = int(np.exp(rng.uniform(np.log(2), np.log(96))))
    coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    way = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST
    fine = cv2.resize(coarse, (192, 192), interpolation=way)
    strength = rng.uniform(0.05, 0.6)
    plain = cv2.resize(np.array([[_tint(rng)]], np.uint8), (192, 192))
    mixed = cv2.addWeighted(fine, strength, plain, 1 - strength, 0)
    return mixed.astype(np.uint8, copy=False)


def _camera(rng: np.random.Generator, T: int) -> tuple[Float64, Float64]:
    """Shift (T, 2) and zoom (T,) of every frame: a pan, a shake and a slow zoom."""
    t = np.arange(T) - T / 2
    pan = rng.normal(0, 0.8, 2) * (1, 0.3) * t[:, None]
    shake = rng.normal(0, rng.uniform(0, 0.8), (T, 2))
    zoom = rng.uniform(0.85, 1.2) * (1 + rng.normal(0, 0.005) * t.astype(np.float64))
    return pan + shake, zoom


def _paint(
    shapes: Sequence[_Shape],
    mover: _Shape,
    rng: np.random.Generator,
    *,
    num_frames: int,
    size_px: int,
) -> tuple[UInt8, Float64]:
    ground = _ground(rng)
    shift, zoom = _camera(rng, num_frames)
    scale = zoom * size_px / 80
    noise = rng.standard_normal((size_px + 16, size_px + 16, 3), np.float32)
    noise = (noise * rng.uniform(1, 10)).astype(np.int16)
    light = rng.uniform(0.7, 1.2)
    depth = int(rng.integers(len(shapes) // 2, len(shapes) + 1))
    order = [*shapes[:depth], mover, *shapes[depth:]]
    clip = np.empty((num_frames, size_px, size_px, 3), np.uint8)
    place_px = np.empty((num_frames, 2))
    for t in range(num_frames):
        # Picture = (world - 40) * scale + middle + shift, in pixels.
        middle = size_px / 2 + shift[t]
        to_picture = np.array([[scale[t], 0, 0.0], [0, scale[t], 0.0]])
        to_picture[:, 2] = middle - scale[t] * 96
        image = cv2.warpAffine(
            ground, to_picture, (size_px, size_px), borderMode=cv2.BORDER_REFLECT
        )
        place_px[t] = (mover.path[t] - 40) * scale[t] + middle
        for shape in order:
            at = (shape.path[t] - 40) * scale[t] + middle
            for corners, colour in zip((shape.corners, shape.patch), shape.colours, strict=True):
                points = np.rint((corners * scale[t] + at) * 2**_SHIFT).astype(np.int32)
                cv2.fillConvexPoly(image, points, colour, cv2.LINE_AA, _SHIFT)
        x, y = rng.integers(0, 16, 2)
        lit = cv2.convertScaleAbs(image, alpha=light)
        patch = noise[y : y + size_px, x : x + size_px]
        clip[t] = cv2.add(lit, patch, dtype=cv2.CV_8U)
    return np.ascontiguousarray(clip.transpose(3, 0, 1, 2)), place_px

"""Clips of nameless shapes in motion, what the demonstration's network is pretrained on.

A small thing is carried, bounced, thrown, lobbed, dropped or knocked aside among larger ones, on a
textured ground under a moving camera. The class is what happens to it first and what then. There is
no court and nobody plays; nothing here is shared with the renderer of matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

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
# Pixels per frame, per frame, in a picture 80 px high.
_GRAVITY = 1.0


@dataclass(frozen=True)
class _Shape:
    """A polygon with a patch of another colour; path is its middle in every frame (T, 2)."""

    corners: Float64
    patch: Float64
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    path: Float64


def shape_clip(
    motion: int, rng: np.random.Generator, *, num_frames: int = 16, size_px: int = 80
) -> UInt8:
    """One clip of class `motion`, an index of MOTIONS: (3, T, S, S) uint8 RGB."""
    first, then = MOTIONS[motion]
    small, carriers = _mover_path(first, then, rng, num_frames)
    others = [_wander(rng, num_frames, rng.uniform(5, 75, 2)) for _ in range(rng.integers(1, 5))]
    for path in others:
        if rng.random() < 0.3:
            path[:, 1] -= _leap(rng, num_frames, int(rng.integers(0, num_frames - 6)))
    shift = _into_view(small, rng)
    shapes = [_large(rng, path + shift) for path in (*carriers, *others)]
    rng.shuffle(shapes)  # type: ignore[arg-type]
    mover = _small(rng, small + shift)
    return _paint(shapes, mover, rng, num_frames=num_frames, size_px=size_px)


def shape_batch(
    motions: Sequence[int], rng: np.random.Generator, *, num_frames: int = 16, size_px: int = 80
) -> UInt8:
    """(B, 3, T, S, S) uint8 RGB, one clip for each class given."""
    clips = [shape_clip(m, rng, num_frames=num_frames, size_px=size_px) for m in motions]
    return np.stack(clips)


# Paths: all in pixels of a picture of 80 px, y downwards


def _mover_path(
    first: str, then: str, rng: np.random.Generator, T: int
) -> tuple[Float64, list[Float64]]:
    """Where the small thing is in every frame, and the paths of those that hold or knock it."""
    turn = int(rng.integers(round(0.3 * T), round(0.7 * T)))
    path = np.zeros((T, 2))
    carriers: list[Float64] = []
    if first in HELD and then in HELD:
        carrier = _wander(rng, T, rng.uniform(20, 60, 2))
        path[:] = carrier + _grip(rng)
        for motion, start, stop in ((first, 0, turn), (then, turn, T)):
            _handle(motion, carrier, path, start, stop, rng)
        return path, [carrier]
    if first in HELD:
        carrier = _wander(rng, T, rng.uniform(20, 60, 2))
        path[:] = carrier + _grip(rng)
        _handle(first, carrier, path, 0, turn, rng)
        carriers.append(carrier)
        path[turn:] = _flight(then, path[turn - 1], rng, T - turn)
    else:
        path[:] = _flight(first, rng.uniform(20, 60, 2), rng, T)
    if then in HELD:
        carrier = _wander(rng, T, np.zeros(2))
        carrier += path[turn] - _grip(rng) - carrier[turn]
        path[turn:] = path[turn] + carrier[turn:] - carrier[turn]
        _handle(then, carrier, path, turn, T, rng)
        carriers.append(carrier)
    elif then == "knocked" or first in FLYING and then != first:
        arriving = path[turn] - path[turn - 1]
        if then == "knocked":
            bend = rng.uniform(0.5, 1.5) * np.pi
            spin = np.array([[np.cos(bend), -np.sin(bend)], [np.sin(bend), np.cos(bend)]])
            speed = rng.uniform(0.6, 1.4)
            away = spin @ arriving * speed
            t = np.arange(T - turn)[:, None]
            path[turn:] = path[turn] + away * t + [0, 0.15 * _GRAVITY] * t**2
            blocker = _wander(rng, T, np.zeros(2))
            blocker += path[turn] + 0.8 * arriving - blocker[turn]
            carriers.append(blocker)
        else:
            path[turn:] = _flight(then, path[turn - 1], rng, T - turn)
    return path, carriers


def _grip(rng: np.random.Generator) -> Float64:
    return np.array([rng.choice((-1, 1)) * rng.uniform(3, 6), rng.uniform(-6, 3)])


def _wander(rng: np.random.Generator, T: int, start: Float64) -> Float64:
    """A walk that keeps its direction for a while."""
    pushes = rng.normal(0, 0.35, (T, 2)) * (1.0, 0.5)
    speed = rng.normal(0, 1.2, 2) * (1.0, 0.4) + np.cumsum(pushes, axis=0)
    return start + np.cumsum(speed, axis=0)


def _leap(rng: np.random.Generator, T: int, start: int) -> Float64:
    """(T,) height of one jump that begins at frame `start`."""
    air = rng.uniform(5, 8)
    t = np.clip((np.arange(T) - start) / air, 0, 1)
    return rng.uniform(6, 14) * 4 * t * (1 - t)


def _handle(
    motion: str, carrier: Float64, path: Float64, start: int, stop: int, rng: np.random.Generator
) -> None:
    """Let the small thing be bounced, or leap with its carrier, from start to stop."""
    t = np.arange(stop - start)
    if motion == "bounced":
        period = rng.uniform(3.5, 6)
        path[start:stop, 1] += rng.uniform(5, 9) * np.abs(np.sin(np.pi * t / period))
    elif motion == "leapt":
        rise = _leap(rng, len(carrier), start + int(rng.integers(0, 2)))
        carrier[:, 1] -= rise
        path[start:stop, 1] -= rise[start:stop] + 4 * np.minimum(t / 2, 1)
        if start > 0:
            return
        # What follows starts from where the leap has taken it.
        path[stop:] += path[stop - 1] - path[stop] if stop < len(path) else 0


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
    """A shift that brings the path's middle near the picture's, and most of it inside."""
    low, high = path.min(axis=0), path.max(axis=0)
    slack = np.maximum(72 - (high - low), 6) / 2
    return 40 - (low + high) / 2 + rng.uniform(-slack, slack)


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
    """A texture (192, 192, 3): one or two grains of noise, parted by a slanting edge."""
    layers = []
    for _ in range(2):
        grain = int(np.exp(rng.uniform(np.log(2), np.log(96))))
        coarse = rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
        way = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST
        fine = cv2.resize(coarse, (192, 192), interpolation=way).astype(np.float32)
        strength = rng.uniform(0.05, 0.6)
        layers.append(fine * strength + np.array(_tint(rng), np.float32) * (1 - strength))
    y, x = np.mgrid[0:192, 0:192]
    edge = (y - 96) + rng.normal(0, 0.3) * (x - 96) > rng.uniform(-60, 60)
    return np.where(edge[..., None], layers[0], layers[1]).astype(np.uint8)


def _camera(rng: np.random.Generator, T: int) -> tuple[Float64, Float64]:
    """Shift (T, 2) and zoom (T,) of every frame: a pan, a shaking hand, a slow zoom."""
    t = np.arange(T) - T / 2
    pan = rng.normal(0, 0.8, 2) * (1, 0.3) * t[:, None]
    shake = rng.normal(0, rng.uniform(0, 0.8), (T, 2))
    return pan + shake, rng.uniform(0.85, 1.2) * (1 + rng.normal(0, 0.005) * t)


def _paint(
    shapes: Sequence[_Shape],
    mover: _Shape,
    rng: np.random.Generator,
    *,
    num_frames: int,
    size_px: int,
) -> UInt8:
    ground = _ground(rng)
    shift, zoom = _camera(rng, num_frames)
    scale = zoom * size_px / 80
    noise = rng.normal(0, rng.uniform(1, 10), (size_px + 16, size_px + 16, 3)).astype(np.int16)
    light = rng.uniform(0.7, 1.2)
    depth = int(rng.integers(len(shapes) // 2, len(shapes) + 1))
    order = [*shapes[:depth], mover, *shapes[depth:]]
    clip = np.empty((3, num_frames, size_px, size_px), np.uint8)
    for t in range(num_frames):
        # Picture = (world - 40) * scale + middle + shift, in pixels.
        middle = size_px / 2 + shift[t]
        to_picture = np.array([[scale[t], 0, 0.0], [0, scale[t], 0.0]])
        to_picture[:, 2] = middle - scale[t] * 96
        image = cv2.warpAffine(
            ground, to_picture, (size_px, size_px), borderMode=cv2.BORDER_REFLECT
        )
        for shape in order:
            at = (shape.path[t] - 40) * scale[t] + middle
            for corners, colour in zip((shape.corners, shape.patch), shape.colours, strict=True):
                points = np.rint((corners * scale[t] + at) * 2**_SHIFT).astype(np.int32)
                cv2.fillConvexPoly(image, points, colour, cv2.LINE_AA, _SHIFT)
        x, y = rng.integers(0, 16, 2)
        lit = cv2.convertScaleAbs(image, alpha=light)
        noisy = cv2.add(lit, noise[y : y + size_px, x : x + size_px], dtype=cv2.CV_8U)
        clip[:, t] = noisy.transpose(2, 0, 1)
    return clip


def motion_labels(motions: npt.NDArray[np.int64]) -> list[str]:
    return [MOTION_NAMES[int(m)] for m in motions]

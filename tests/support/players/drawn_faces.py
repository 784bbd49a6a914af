"""Rendered portraits with shaded faces, which a real face detector finds."""

from __future__ import annotations

import cv2
import numpy as np
from drawn_players import CANVAS_PX, Look, _background, _shirt

IRISES = ((60, 40, 20), (70, 110, 150), (80, 110, 60))


def draw_portrait(
    look: Look, rng: np.random.Generator, *, size_px: int = 224, number: bool = True
) -> np.ndarray:
    """Return a picture as `draw_player` does, of a shaded face."""
    S = CANVAS_PX
    own = np.random.default_rng(int(look.face * 1e9))  # what is the player's own besides the look
    apart, mouth = own.uniform(0.36, 0.46), own.uniform(0.3, 0.45)
    iris, brow = IRISES[own.integers(3)], int(own.integers(2, 6))
    picture = _background(rng, S)
    x, y = S / 2 + rng.uniform(-20, 20), S * 0.31 + rng.uniform(-12, 12)
    tall = S * rng.uniform(0.185, 0.215)
    wide = tall * (0.35 + 0.5 * look.face)
    turn = rng.uniform(-0.14, 0.14) * wide
    skin, hair = np.array(look.skin, float), np.array(look.hair, float)
    dark = skin * 0.72
    lips = skin * (0.85, 0.55, 0.55)

    _shirt(picture, look, rng, x, y + tall * 1.2, S, number=number)
    _ellipse(picture, x, y + tall * 0.95, wide * 0.55, tall * 0.45, dark)  # neck
    if look.style:
        _ellipse(picture, x, y - tall * 0.1, wide * 1.14, tall * (1.02 + 0.03 * look.style), hair)
    for side in (-1, 1):  # ears
        _ellipse(picture, x + side * wide, y + tall * 0.05, wide * 0.14, tall * 0.2, dark)
    mask = np.zeros((S, S, 1), np.uint8)
    for shown, colour in ((picture, skin), (mask, (255,))):
        _ellipse(shown, x, y + tall * 0.05, wide, tall * 0.98, colour)
    if look.style:
        for shown, colour in ((picture, hair), (mask, (0,))):
            _ellipse(shown, x, y - tall * 0.78, wide * 0.9, tall * 0.34, colour)

    shaded = picture.copy()
    for side in (-1, 1):  # sockets and cheeks
        _ellipse(shaded, x + turn + side * wide * 0.42, y - tall * 0.08, wide * 0.27, 20, dark)
        _ellipse(shaded, x + side * wide * 0.9, y + tall * 0.25, wide * 0.18, tall * 0.6, dark)
    _ellipse(shaded, x + turn, y + tall * 0.12, wide * 0.11, tall * 0.3, skin * 1.1)
    _ellipse(shaded, x + turn, y + tall * 0.36, wide * 0.22, tall * 0.1, dark)
    _ellipse(shaded, x + turn * 0.6, y + tall * 0.85, wide * 0.4, tall * 0.08, dark)
    if look.beard:
        _ellipse(shaded, x + turn * 0.6, y + tall * 0.78, wide * 0.72, tall * 0.34, hair * 0.9)
    _blend(picture, cv2.GaussianBlur(shaded, (0, 0), tall * 0.06), mask)

    for side in (-1, 1):
        ex, ey = x + turn + side * wide * apart, y - tall * 0.06
        _ellipse(picture, ex, ey, wide * 0.19, tall * 0.075, (235, 230, 225))
        _ellipse(picture, ex, ey, wide * 0.085, tall * 0.075, iris)
        _ellipse(picture, ex, ey, wide * 0.04, tall * 0.035, (10, 10, 10))
        _arc(picture, ex, ey, wide * 0.2, tall * 0.085, (40, 30, 25), 2)
        _arc(picture, ex, ey - tall * 0.13, wide * 0.25, tall * 0.08, hair * 0.7, brow)
        nostril = x + turn + side * wide * 0.12
        _ellipse(picture, nostril, y + tall * 0.38, wide * 0.05, tall * 0.03, dark * 0.5)
    _ellipse(picture, x + turn * 0.9, y + tall * 0.62, wide * mouth, tall * 0.07, lips)
    _ellipse(picture, x + turn * 0.9, y + tall * 0.62, wide * mouth, 1, dark * 0.4)
    return _camera(picture, rng, size_px)


def _ellipse(picture: np.ndarray, x: float, y: float, a: float, b: float, colour: object) -> None:
    axes, middle = (max(1, int(a)), max(1, int(b))), (int(x), int(y))
    cv2.ellipse(picture, middle, axes, 0, 0, 360, _ink(colour), -1, cv2.LINE_AA)


def _arc(
    picture: np.ndarray, x: float, y: float, a: float, b: float, colour: object, width: int
) -> None:
    axes, middle = (max(1, int(a)), max(1, int(b))), (int(x), int(y))
    cv2.ellipse(picture, middle, axes, 0, 180, 360, _ink(colour), width, cv2.LINE_AA)


def _ink(colour: object) -> tuple[int, ...]:
    return tuple(min(255, int(v)) for v in np.asarray(colour, float))


def _blend(picture: np.ndarray, other: np.ndarray, mask: np.ndarray) -> None:
    share = cv2.GaussianBlur(mask, (0, 0), 2)[:, :, None] / 255
    picture[:] = picture * (1 - share) + other * share


def _camera(picture: np.ndarray, rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Turn, light from a side, noise and compression."""
    S = len(picture)
    turn = cv2.getRotationMatrix2D((S / 2, S / 2), rng.uniform(-7, 7), 1.0)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8)
    turned = cv2.warpAffine(soft, turn, (S, S), borderMode=cv2.BORDER_REFLECT)
    light = np.linspace(rng.uniform(0.75, 1.15), rng.uniform(0.75, 1.15), S)[None, :, None]
    lit = turned * light * rng.uniform(0.75, 1.15) + rng.normal(0, 4, turned.shape)
    shown = lit.clip(0, 255).astype(np.uint8)
    resized = cv2.resize(shown, (size_px, size_px), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 95))]
    _, coded = cv2.imencode(".jpg", resized[:, :, ::-1], quality)
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1])

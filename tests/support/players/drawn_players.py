"""Rendered players for tests and figures: a head, a shirt with a number, a moving camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

TEAMS = {"red": (200, 30, 40), "blue": (30, 60, 190), "white": (235, 235, 235)}
SKINS = ((236, 188, 150), (198, 140, 100), (141, 85, 52), (92, 56, 36))
HAIR = ((30, 22, 18), (100, 62, 30), (214, 178, 96), (150, 60, 28), (120, 120, 120))
CANVAS_PX = 384


@dataclass(frozen=True)
class Look:
    """What stays the same in all pictures of a player.

    Attributes:
        name: The player.
        team: A name of TEAMS.
        number: On the chest.
        skin: RGB.
        hair: RGB.
        style: How much hair: 0 to 3.
        face: Width of the head over its height.
        beard: Whether there is a beard.
    """

    name: str
    team: str
    number: int
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    style: int
    face: float
    beard: bool


def looks(count: int, *, seed: int = 0) -> list[Look]:
    """Return `count` players of two teams; hair, skin and faces are drawn at random."""
    rng = np.random.default_rng([seed, 1])
    numbers = rng.permutation(np.arange(1, 31))
    return [
        Look(
            f"player {k + 1:02d}",
            ("red", "blue")[k % 2],
            int(numbers[k]),
            SKINS[rng.integers(len(SKINS))],
            HAIR[rng.integers(len(HAIR))],
            int(rng.integers(4)),
            float(rng.uniform(0.62, 0.88)),
            bool(rng.integers(2)),
        )
        for k in range(count)
    ]


def draw_player(
    look: Look, rng: np.random.Generator, *, size_px: int = 224, number: bool = True
) -> np.ndarray:
    """Return a picture (S, S, 3) RGB uint8 of head and chest, in another pose and light each time.

    Args:
        look: The player.
        rng: Draws pose, light and background.
        size_px: S.
        number: Whether the number is on the chest.
    """
    S = CANVAS_PX
    picture = _background(rng, S)
    x, y = S / 2 + rng.uniform(-30, 30), S * 0.34 + rng.uniform(-18, 18)
    tall = S * rng.uniform(0.15, 0.19)
    wide = tall * look.face * rng.uniform(0.9, 1.1)
    _shirt(picture, look, rng, x, y + tall, S, number=number)
    _ellipse(picture, x, y + tall, wide * 0.5, tall * 0.5, look.skin)
    _ellipse(picture, x, y - tall * 0.12, wide * 1.1, tall * 1.02, look.hair, style=look.style)
    _ellipse(picture, x, y + tall * 0.08 * (3 - look.style), wide, tall * 0.93, look.skin)
    if look.beard:
        beard = tuple(int(c * 0.8) for c in look.hair)
        _ellipse(picture, x, y + tall * 0.62, wide * 0.62, tall * 0.33, beard)
    turn = rng.uniform(-0.25, 0.25) * wide
    for side in (-1, 1):
        _ellipse(picture, x + turn + side * wide * 0.4, y, wide * 0.1, tall * 0.07, (25, 20, 20))
    mouth = (int(x + turn), int(y + tall * 0.5))
    cv2.ellipse(picture, mouth, (int(wide * 0.3), int(tall * 0.08)), 0, 0, 180, (150, 60, 60), 2)
    return _camera(picture, rng, size_px)


def _background(rng: np.random.Generator, S: int) -> np.ndarray:
    """Grass or stands, out of focus."""
    base = np.array([(50, 120, 45), (120, 120, 130), (70, 80, 95)][rng.integers(3)], np.float64)
    coarse = base + rng.normal(0, 38, (12, 12, 3))
    smooth = cv2.resize(coarse, (S, S), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(smooth.clip(0, 255).astype(np.uint8))


def _ellipse(
    picture: np.ndarray,
    x: float,
    y: float,
    a: float,
    b: float,
    colour: tuple[int, ...],
    *,
    style: int = 3,
) -> None:
    """A filled ellipse; hair of style 0 is none."""
    if style:
        axes = (max(1, int(a)), max(1, int(b * (0.82 + 0.06 * style))))
        cv2.ellipse(picture, (int(x), int(y)), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _shirt(
    picture: np.ndarray,
    look: Look,
    rng: np.random.Generator,
    x: float,
    neck: float,
    S: int,
    *,
    number: bool,
) -> None:
    colour = TEAMS[look.team]
    lean = rng.uniform(-18, 18)
    corners = [(x - 40, neck), (x + 40, neck), (x + 120 + lean, neck + 60), (x + 95 + lean, S + 9)]
    corners += [(x - 95 + lean, S + 9), (x - 120 + lean, neck + 60)]
    cv2.fillPoly(picture, [np.array(corners, np.int32)], colour, cv2.LINE_AA)
    for _ in range(4):  # folds
        a = (int(x + rng.uniform(-100, 100)), int(neck + rng.uniform(30, 120)))
        b = (int(a[0] + rng.uniform(-40, 40)), int(a[1] + rng.uniform(20, 90)))
        cv2.line(picture, a, b, tuple(int(c * 0.8) for c in colour), 2, cv2.LINE_AA)
    if number:
        text, scale = str(look.number), rng.uniform(2.4, 2.9)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 8)
        at = (int(x + lean / 2 - width / 2), int(neck + 62 + height))
        ink = (20, 20, 20) if look.team == "white" else (245, 245, 245)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_DUPLEX, scale, ink, 8, cv2.LINE_AA)


def _camera(picture: np.ndarray, rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Turn, light, noise and compression."""
    S = len(picture)
    turn = cv2.getRotationMatrix2D((S / 2, S / 2), rng.uniform(-9, 9), rng.uniform(1.0, 1.25))
    turn[:, 2] += rng.uniform(-14, 14, 2)
    picture = cv2.warpAffine(picture, turn, (S, S), borderMode=cv2.BORDER_REFLECT)
    light = rng.uniform(0.6, 1.3) * (1 + rng.uniform(-0.12, 0.12, 3))
    lit = picture * light + rng.normal(0, 6, picture.shape)
    picture = lit.clip(0, 255).astype(np.uint8)
    resized = cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 95))]
    _, coded = cv2.imencode(".jpg", resized[:, :, ::-1], quality)
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1])


def write_photos(
    folder: Path, players: list[Look], each: int, *, size_px: int = 224, seed: int = 0
) -> Path:
    """Write `each` photos of every player into a folder of his own; return `folder`.

    Args:
        folder: Where to write.
        players: The players.
        each: Photos of each.
        size_px: Side of the photos.
        seed: Seed of poses and light.
    """
    for p, look in enumerate(players):
        (folder / look.name).mkdir(parents=True, exist_ok=True)
        for k in range(each):
            rng = np.random.default_rng([seed, p, k])
            picture = draw_player(look, rng, size_px=size_px)
            write_picture(folder / look.name / f"{k:03d}.jpg", picture)
    return folder


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """Write a picture (H, W, 3) RGB; the suffix names the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[:, :, ::-1])
    return path

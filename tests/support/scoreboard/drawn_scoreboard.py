"""Footage with a drawn scoreboard whose clock is known at every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

Clock = Callable[[float], str]
"""Seconds of the file -> the text on the scoreboard; empty: it is hidden."""


def draw(picture: np.ndarray, text: str) -> None:
    """Draw a scoreboard with teams, score and clock at the upper left."""
    if not text:
        return
    H = picture.shape[0]
    scale, thick = H / 480, max(1, round(H / 300))
    x, y, h = round(H * 0.06), round(H * 0.06), round(H * 0.07)
    font = cv2.FONT_HERSHEY_SIMPLEX
    width = cv2.getTextSize(text, font, scale, thick)[0][0]
    gap = round(H * 0.02)
    cv2.rectangle(picture, (x, y), (x + width + 2 * gap, y + h), (25, 25, 60), -1)
    cv2.putText(
        picture, text, (x + gap, y + round(h * 0.75)), font, scale, (250,) * 3, thick, cv2.LINE_AA
    )
    teams = x + width + 2 * gap
    cv2.rectangle(picture, (teams, y), (teams + round(H * 0.42), y + h), (235, 235, 235), -1)
    cv2.putText(
        picture,
        "ROV 1-0 UNI",
        (teams + gap, y + round(h * 0.75)),
        font,
        scale,
        (20, 20, 20),
        thick,
        cv2.LINE_AA,
    )


def moving_background(height: int, width: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Grass with a camera that pans and players that run."""
    rng = np.random.default_rng(seed)
    field = cv2.resize(rng.integers(60, 130, (24, 96, 3), dtype=np.uint8), (4 * width, 2 * height))
    field[:, :, 1] |= 64
    at = np.array([width, height / 2])
    players = rng.uniform(0, 1, (14, 2)) * (width, height)
    speed = rng.normal(0, width / 200, (14, 2))
    while True:
        at += rng.normal(0, width / 100, 2)
        at = np.clip(at, 0, (3 * width - 1, height - 1))
        x, y = at.astype(int)
        picture = field[y : y + height, x : x + width].copy()
        players = (players + speed) % (width, height)
        speed += rng.normal(0, width / 900, (14, 2))
        for k, (px, py) in enumerate(players.astype(int).tolist()):
            colour = (200, 40, 40) if k % 2 else (240, 240, 240)
            cv2.ellipse(picture, (px, py), (height // 60, height // 25), 0, 0, 360, colour, -1)
        yield picture


def write_match(
    path: Path,
    clock: Clock,
    *,
    seconds: float,
    height: int = 224,
    rate: int = 12,
    background: Iterator[np.ndarray] | None = None,
) -> Path:
    """Write H.264 of a background with the scoreboard on it."""
    width = height * 16 // 9 // 2 * 2
    background = background or moving_background(height, width)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = 2 * rate
        stream.time_base = Fraction(1, rate)
        for k in range(round(seconds * rate)):
            picture = cv2.resize(next(background), (width, height))
            draw(picture, clock(k / rate))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def minutes_seconds(clock_s: float) -> str:
    """Write seconds as a scoreboard does."""
    return f"{int(clock_s) // 60:02d}:{int(clock_s) % 60:02d}"

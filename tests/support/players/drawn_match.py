"""Rendered footage of events: a wide shot, then a close-up of a player whose number can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from drawn_players import TEAMS, Look, draw_player

RATE_HZ = 8
WIDE_S, CLOSE_S = 4.0, 6.0
EVENT_AT_S = 3.0
"""Seconds from the start of a scene to its event."""


@dataclass(frozen=True)
class Scene:
    """A wide shot, then a close-up.

    Attributes:
        shown: The player of the close-up; None: it shows the stands.
        number: Whether the number can be seen.
        share: Width of the player's picture over the height of the frame.
        draw: Draws the player.
    """

    shown: Look | None
    number: bool = True
    share: float = 0.9
    draw: Callable[..., np.ndarray] = draw_player


def write_scenes(
    path: Path, scenes: Sequence[Scene], *, height: int = 360, seed: int = 0
) -> list[float]:
    """Write footage of the scenes one after the other; return the times of their events.

    Args:
        path: The file.
        scenes: The scenes.
        height: Lines of the picture.
        seed: Seed of poses and light.
    """
    width = height * 16 // 9 // 2 * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k, scene in enumerate(scenes):
            rng = np.random.default_rng([seed, k])
            for picture in _pictures(scene, rng, width, height):
                _scoreboard(picture)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return [k * (WIDE_S + CLOSE_S) + EVENT_AT_S for k in range(len(scenes))]


def _pictures(
    scene: Scene, rng: np.random.Generator, width: int, height: int
) -> Iterator[np.ndarray]:
    """The pictures (H, W, 3) RGB of a scene."""
    grass = _blurred(rng, (50, 120, 45), width, height, 14)
    places = rng.uniform(0.15, 0.9, (14, 2)) * (width, height)
    moves = rng.normal(0, height / 60, (14, 2))
    for t in range(round(WIDE_S * RATE_HZ)):
        picture = grass.copy()
        for k, (x, y) in enumerate(places + t * moves):
            size = height // 30
            colour = TEAMS[("red", "blue")[k % 2]]
            top, low = (int(x), int(y)), (int(x + size), int(y + 2 * size))
            cv2.rectangle(picture, top, low, colour, -1)
        yield _noisy(picture, rng)
    stands = _blurred(rng, (110, 110, 120), width, height, 60)
    if scene.shown is None:
        for _ in range(round(CLOSE_S * RATE_HZ)):
            yield _noisy(stands, rng)
        return
    person = scene.draw(scene.shown, rng, size_px=384, number=scene.number)
    start, drift = rng.uniform(0.1, 0.5), rng.uniform(-0.06, 0.06)
    for t in range(round(CLOSE_S * RATE_HZ)):
        seconds = t / RATE_HZ
        side = scene.share * height * (1 + 0.03 * np.sin(1.7 * seconds)) / 384
        x = (start + drift * seconds) * (width - side * 384)
        y = height - side * 384 + 6 * np.sin(2.3 * seconds)
        move = np.array([[side, 0, x], [0, side, y]])
        size = (width, height)
        mask = cv2.warpAffine(np.full((384, 384), 255, np.uint8), move, size)
        moved = cv2.warpAffine(person, move, size, flags=cv2.INTER_AREA)
        yield _noisy(np.where(mask[:, :, None] > 127, moved, stands), rng)


def _blurred(
    rng: np.random.Generator, colour: tuple[int, int, int], width: int, height: int, spread: int
) -> np.ndarray:
    coarse = np.array(colour, np.float64) + rng.normal(0, spread, (9, 16, 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(smooth.clip(0, 255).astype(np.uint8))


def _noisy(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noisy = picture + rng.normal(0, 4, picture.shape)
    return np.ascontiguousarray(noisy.clip(0, 255).astype(np.uint8))


def _scoreboard(picture: np.ndarray) -> None:
    """A score in the corner, in the colours of the teams: numbers that are no players."""
    unit = len(picture) // 16
    for k, colour in enumerate((TEAMS["red"], TEAMS["blue"])):
        left = unit + 2 * unit * k
        cv2.rectangle(picture, (left, unit), (left + 2 * unit, 3 * unit), colour, -1)
        at = (left + unit // 2, 3 * unit - unit // 2)
        cv2.putText(
            picture, str(2 - k), at, cv2.FONT_HERSHEY_SIMPLEX, unit / 20, (255, 255, 255), 2
        )


def write_lineup(path: Path, people: Sequence[Look]) -> Path:
    """Write the line-up of rendered players."""
    rows = ["team,number,name,colour"]
    for look in people:
        colour = "#{:02x}{:02x}{:02x}".format(*TEAMS[look.team])
        rows.append(f"{look.team},{look.number},{look.name},{colour}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path

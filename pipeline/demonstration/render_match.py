"""Render a made-up match to a video file, with exact times of its plays.

Every match has its own look (court, kits, crowd, camera, noise). A model that learns the look
instead of the motion fails on the next match.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from touchline.models.atomic_files import atomic_path
from touchline.pipeline.demonstration.court import (
    BALL_RADIUS_M,
    COURT_X_M,
    COURT_Y_M,
    DISTRACTORS,
    FRAME_RATE_HZ,
    PLAYS,
    RIM_X_M,
    RIM_Z_M,
    TEAM_SIZE,
    Match,
    Player,
)
from touchline.pipeline.types import Event, Float64, UInt8

WIDTH_PX, HEIGHT_PX = 320, 240

Colour = tuple[int, int, int]
Int32 = npt.NDArray[np.int32]

# Draw at eighths of a pixel, so that small things move smoothly.
_SHIFT = 3


@dataclass(frozen=True)
class Look:
    """How a match looks and how its camera moves. Colours are RGB.

    Attributes:
        floor: Colour of the floor.
        lines: Colour of the lines.
        crowd: Picture of the crowd (24, 160, 3) uint8.
        kits: Shirt colour of each team.
        skins: Skin colour of each player.
        ball: Colour of the ball.
        camera_y_m: Position of the camera along y; negative is on this side of the court.
        camera_z_m: Height of the camera.
        focal_px: Focal length in pixels.
        lag_s: How slowly the camera follows the play.
        shake_px: Strength of the camera's shake.
        noise: Standard deviation of the noise, in grey levels.
        light: Factor on the brightness.
    """

    floor: Colour
    lines: Colour
    crowd: UInt8
    kits: tuple[Colour, Colour]
    skins: tuple[Colour, ...]
    ball: Colour
    camera_y_m: float
    camera_z_m: float
    focal_px: float
    lag_s: float
    shake_px: float
    noise: float
    light: float


def random_look(rng: np.random.Generator) -> Look:
    """A random look."""
    floors: tuple[Colour, ...] = (
        (205, 160, 105),
        (176, 122, 78),
        (120, 140, 165),
        (100, 140, 110),
        (150, 150, 150),
        (185, 130, 120),
    )
    hues = rng.permutation(180)[:2]
    hsv = np.array([[[h, rng.integers(60, 255), rng.integers(60, 255)] for h in hues]], np.uint8)
    kits = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    skins: tuple[Colour, ...] = ((236, 188, 150), (198, 134, 92), (141, 85, 54), (92, 58, 40))
    floor = np.array(floors[rng.integers(len(floors))]) + rng.integers(-20, 21, 3)
    ball = np.array((215, 105, 40)) + rng.integers(-30, 31, 3)
    brightest = int(rng.integers(60, 150))
    crowd = rng.integers(20, brightest, (24, 160, 3), dtype=np.uint8)
    return Look(
        floor=_colour(floor),
        lines=(245, 245, 240) if rng.random() < 0.7 else (40, 45, 60),
        crowd=cv2.blur(crowd, (2, 2)).astype(np.uint8, copy=False),
        kits=(_colour(kits[0]), _colour(kits[1])),
        skins=tuple(skins[i] for i in rng.integers(0, 4, 2 * TEAM_SIZE)),
        ball=_colour(ball),
        camera_y_m=-float(rng.uniform(15, 19)),
        camera_z_m=float(rng.uniform(4.5, 8.0)),
        focal_px=float(rng.uniform(420, 510)),
        lag_s=float(rng.uniform(0.25, 0.7)),
        shake_px=float(rng.uniform(0.2, 1.2)),
        noise=float(rng.uniform(2, 8)),
        light=float(rng.uniform(0.75, 1.1)),
    )


def _colour(values: npt.ArrayLike) -> Colour:
    r, g, b = np.clip(np.asarray(values), 0, 255).astype(int).tolist()
    return r, g, b


class Camera:
    """A camera at the side of the court that follows the play, with lag, zoom and shake."""

    def __init__(self, look: Look, rng: np.random.Generator) -> None:
        self.look, self.rng = look, rng
        self.aim_x = 7.0
        self.zoom = 1.0
        self.shake = np.zeros(2)
        self.follow(Match((), rng))

    def follow(self, match: Match) -> None:
        """Turn towards the play for the time of one frame."""
        ball_x = float(match.ball[0])
        wanted = np.clip((ball_x + match.side * RIM_X_M) / 2, ball_x - 4.5, ball_x + 4.5)
        self.aim_x += (float(wanted) - self.aim_x) / (self.look.lag_s * FRAME_RATE_HZ)
        self.zoom = float(np.clip(self.zoom + self.rng.normal(0, 0.004), 0.9, 1.15))
        self.shake = 0.8 * self.shake + self.rng.normal(0, self.look.shake_px, 2)
        self.stand = np.array([0.6 * self.aim_x, self.look.camera_y_m, self.look.camera_z_m])
        forward = np.array([self.aim_x, -0.5, 1.7]) - self.stand
        forward /= np.linalg.norm(forward)
        right = np.array([forward[1], -forward[0], 0.0])
        right /= np.linalg.norm(right)
        self.turn = np.stack([right, np.cross(forward, right), forward])

    def project(self, points: Float64) -> tuple[Float64, Float64]:
        """Points (N, 3) in metres -> pixels (N, 2) and pixels per metre at each point (N,)."""
        seen = (points - self.stand) @ self.turn.T  # right, down, forward
        scale = self.look.focal_px * self.zoom / np.maximum(seen[:, 2], 1.0)
        centre = np.array([WIDTH_PX / 2, HEIGHT_PX / 2]) + self.shake
        return seen[:, :2] * scale[:, None] + centre, scale


class Painter:
    """Draws the frames of a match in one look."""

    def __init__(self, look: Look, rng: np.random.Generator) -> None:
        self.look, self.rng = look, rng
        self.camera = Camera(look, rng)
        self.floor = _floor_lines()
        self.shadow = _colour(np.array(look.floor) * 0.6)
        # Make the noise once and shift it: new noise per frame would cost more than the match.
        size = (HEIGHT_PX + 64, WIDTH_PX + 64, 3)
        self.noise = rng.normal(0, look.noise, size).astype(np.int16)

    def paint(self, match: Match) -> UInt8:
        """The current state of the match -> a frame (H, W, 3) uint8 RGB."""
        self.camera.follow(match)
        image = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        self._stands(image)
        self._court(image)
        self._basket(image, 1 if self.camera.aim_x > 0 else -1)
        joints = np.concatenate([_joints(player) for player in match.players])
        points, scale = self.camera.project(joints)
        fixed = _fixed(points).reshape(len(match.players), 8, 2)
        far_first = np.argsort([-player.at[1] for player in match.players])
        ball_drawn = False
        for i in far_first:
            player = match.players[i]
            if not ball_drawn and match.ball[1] > player.at[1]:
                self._ball(image, match.ball)
                ball_drawn = True
            colours = self.look.skins[i], self.look.kits[player.team]
            self._player(image, fixed[i], float(scale[8 * i]), colours)
        if not ball_drawn:
            self._ball(image, match.ball)
        self._graphics(image, match)
        return self._sensor(image)

    def _stands(self, image: UInt8) -> None:
        ends = np.array([[-20, COURT_Y_M + 1.5, 0], [-20, COURT_Y_M + 6, 7.0]], np.float64)
        far, _ = self.camera.project(np.array([*ends, [20, COURT_Y_M + 1.5, 0]]))
        floor_y = int(np.clip(far[0, 1], 1, HEIGHT_PX))
        aisle = _colour(np.array(self.look.floor) // 2)
        cv2.rectangle(image, (0, 0), (WIDTH_PX, HEIGHT_PX), aisle, -1)
        shift = int(-self.camera.aim_x * 12)
        crowd = np.roll(self.look.crowd, shift, axis=1)
        # People move: change some of the crowd in every frame.
        rows = self.rng.integers(0, crowd.shape[0], 60)
        columns = self.rng.integers(0, crowd.shape[1], 60)
        crowd[rows, columns] = self.rng.integers(0, 220, (60, 3), dtype=np.uint8)
        image[:floor_y] = cv2.resize(crowd, (WIDTH_PX, floor_y), interpolation=cv2.INTER_NEAREST)

    def _court(self, image: UInt8) -> None:
        X, Y = COURT_X_M + 1, COURT_Y_M + 1
        corners, _ = self.camera.project(
            np.array([[-X, -Y, 0], [X, -Y, 0], [X, Y, 0], [-X, Y, 0]], np.float64)
        )
        _fill(image, corners, self.look.floor)
        points, _ = self.camera.project(np.concatenate(self.floor))
        lines = np.split(_fixed(points), np.cumsum([len(line) for line in self.floor])[:-1])
        cv2.polylines(image, lines, False, self.look.lines, 1, cv2.LINE_AA, _SHIFT)

    def _basket(self, image: UInt8, side: int) -> None:
        x, board = side * RIM_X_M, side * (RIM_X_M + 0.38)
        frame = [[board, -0.9, 2.9], [board, 0.9, 2.9], [board, 0.9, 3.95], [board, -0.9, 3.95]]
        pole = [[board + side * 1.2, 0, 0], [board + side * 1.2, 0, 3.3], [board, 0, 3.3]]
        turn = np.linspace(0, 2 * np.pi, 13)
        ring = np.stack([x + 0.3 * np.cos(turn), 0.3 * np.sin(turn), 0 * turn + RIM_Z_M], axis=1)
        net = [[x - 0.28, 0, 3.05], [x - 0.15, 0, 2.6], [x + 0.15, 0, 2.6], [x + 0.28, 0, 3.05]]
        for shape, colour, thickness in (
            (pole, (70, 70, 80), 3),
            ([*frame, frame[0]], (235, 235, 235), 2),
            (net, (225, 225, 225), 1),
            (ring, (220, 70, 40), 2),
        ):
            points, _ = self.camera.project(np.asarray(shape, np.float64))
            cv2.polylines(image, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def _player(
        self, image: UInt8, points: Int32, metre_px: float, colours: tuple[Colour, Colour]
    ) -> None:
        shadow, hip, neck, head, foot_a, foot_b, hand_a, hand_b = points
        skin, kit = colours
        wide = max(1, round(0.16 * metre_px))
        axes = (round(0.35 * metre_px), max(1, round(0.1 * metre_px)))
        ground = (int(shadow[0]) >> _SHIFT, int(shadow[1]) >> _SHIFT)
        cv2.ellipse(image, ground, axes, 0, 0, 360, self.shadow, -1, cv2.LINE_AA)
        for a, b, colour, width in (
            (hip, foot_a, skin, wide),
            (hip, foot_b, skin, wide),
            (hip, neck, kit, round(2.6 * wide)),
            (neck, hand_a, skin, max(1, wide - 1)),
            (neck, hand_b, skin, max(1, wide - 1)),
        ):
            cv2.line(image, a, b, colour, width, cv2.LINE_AA, _SHIFT)
        radius = round(0.15 * metre_px * 2**_SHIFT)
        cv2.circle(image, head, radius, skin, -1, cv2.LINE_AA, _SHIFT)

    def _ball(self, image: UInt8, ball: Float64) -> None:
        points, scale = self.camera.project(ball[None])
        radius = round(BALL_RADIUS_M * float(scale[0]) * 2**_SHIFT)
        centre = _fixed(points)[0]
        cv2.circle(image, centre, radius, self.look.ball, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, centre, radius, (60, 35, 25), 1, cv2.LINE_AA, _SHIFT)

    def _graphics(self, image: UInt8, match: Match) -> None:
        """A clock that always runs. There is no score, because it would reveal the plays."""
        cv2.rectangle(image, (8, HEIGHT_PX - 24), (92, HEIGHT_PX - 8), (25, 30, 60), -1)
        clock = f"{int(match.time_s) // 60}:{match.time_s % 60:04.1f}"
        place = (14, HEIGHT_PX - 12)
        cv2.putText(image, clock, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (240, 240, 240), 1)

    def _sensor(self, image: UInt8) -> UInt8:
        x, y = self.rng.integers(0, 64, 2)
        noise = self.noise[y : y + HEIGHT_PX, x : x + WIDTH_PX]
        light = self.look.light * float(self.rng.normal(1.0, 0.01))
        lit = cv2.convertScaleAbs(image, alpha=light)
        return cv2.add(lit, noise, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def _joints(player: Player) -> Float64:
    """(8, 3): shadow, hip, neck, head, two feet, two hands."""
    x, y = player.at
    z = player.z
    vx, vy = player.velocity
    swing = 0.35 * math.sin(player.stride) * min(1.0, math.hypot(vx, vy) / 2)
    hand = z + 1.0 + 1.35 * player.arms
    reach = 0.3 - 0.12 * player.arms
    return np.array(
        [
            (x, y, 0.0),
            (x, y, z + 0.9),
            (x, y, z + 1.5),
            (x, y, z + 1.8),
            (x - swing, y, z),
            (x + swing, y, z),
            (x - reach, y, hand),
            (x + reach, y, hand),
        ]
    )


def _fixed(points: Float64) -> Int32:
    # Limit points far outside the picture: OpenCV's fixed point would overflow.
    fixed: Int32 = np.rint(np.minimum(np.maximum(points, -4000), 4000) * 2**_SHIFT).astype(np.int32)
    return fixed


def _fill(image: UInt8, points: Float64, colour: Colour) -> None:
    cv2.fillConvexPoly(image, _fixed(points), colour, cv2.LINE_AA, _SHIFT)


def _floor_lines() -> list[Float64]:
    """Boundary, halfway line, and at each end the key and the three-point arc; (N, 3) each."""
    X, Y = COURT_X_M, COURT_Y_M
    lines: list[list[tuple[float, float]]] = [
        [(-X, -Y), (X, -Y), (X, Y), (-X, Y), (-X, -Y)],
        [(0, -Y), (0, Y)],
    ]
    turn = np.linspace(-1.35, 1.35, 15)
    for side in (-1, 1):
        lines.append([(side * X, -2.45), (side * 8.2, -2.45), (side * 8.2, 2.45), (side * X, 2.45)])
        arc = [(side * (RIM_X_M - 6.75 * np.cos(t)), 6.75 * np.sin(t)) for t in turn]
        lines.append([(side * X, arc[0][1]), *arc, (side * X, arc[-1][1])])
    return [np.array([(x, y, 0.0) for x, y in line], np.float64) for line in lines]


def match_script(rng: np.random.Generator, *, plays_each: int, distractors: int) -> list[str]:
    """A list of plays and look-alikes in random order.

    Args:
        rng: Decides the order.
        plays_each: How often each play of PLAYS occurs.
        distractors: How many look-alikes occur.
    """
    fillers = [DISTRACTORS[i % len(DISTRACTORS)] for i in range(distractors)]
    script = [*PLAYS * plays_each, *fillers]
    rng.shuffle(script)
    return script


def paint_match(plays: Sequence[str], *, seed: int) -> Iterator[tuple[UInt8, Match]]:
    """Every frame (H, W, 3) uint8 RGB, with the match at that time. The seed decides everything."""
    match_rng, look_rng, paint_rng = np.random.default_rng(seed).spawn(3)
    match = Match(plays, match_rng)
    painter = Painter(random_look(look_rng), paint_rng)
    for _ in match.frames():
        yield painter.paint(match), match


def render_match(path: Path, *, plays_each: int, distractors: int, seed: int) -> list[Event]:
    """Write an MP4 (H.264, FRAME_RATE_HZ) and return the exact intervals of its plays.

    Args:
        path: The file to write.
        plays_each: How often each play of PLAYS occurs.
        distractors: How many look-alikes occur.
        seed: Decides the look and what happens.
    """
    script = match_script(
        np.random.default_rng(seed), plays_each=plays_each, distractors=distractors
    )
    events: list[Event] = []
    with atomic_path(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        # A key frame every second, so that each labelled clip is decoded from nearby.
        stream.gop_size = FRAME_RATE_HZ
        stream.options = {"preset": "ultrafast", "crf": "26", "threads": "1"}
        for image, match in paint_match(script, seed=seed):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
            events = match.events
        container.mux(stream.encode())
    return events

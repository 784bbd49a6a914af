"""Render practice sessions, on which the demonstration's network is pretrained.

Players and a ball do single actions in random order: they run, hold the ball, jump, pass, throw at
the hoop or anywhere, lose the ball. There are no plays: what follows an action is random. A session
says for every frame what happens to the ball and where it is, as no real label file would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from touchline.pipeline.demonstration.court import FRAME_RATE_HZ, TEAM_SIZE, Match, Player
from touchline.pipeline.demonstration.render_match import (
    HEIGHT_PX,
    WIDTH_PX,
    Painter,
    random_look,
)
from touchline.pipeline.types import Float32, Float64, Int64, UInt8

ACTIONS = ("dribbled", "held", "passed", "lobbed", "scored", "rebounding", "knocked", "loose")
"""What happens to the ball."""

MEASURES = ("ball height", "distance to the hoop", "jump of the holder", "highest jump")
"""Lengths in metres that describe a frame."""

_LIKELIHOODS = {
    "run": 0.15,
    "hold": 0.10,
    "jump": 0.10,
    "pass": 0.15,
    "lob": 0.08,
    "shoot": 0.20,
    "throw": 0.10,
    "lose": 0.04,
    "turn": 0.08,
}


class Practice(Match):
    """A practice session at one moment. `frames()` moves it on by one frame at a time.

    Attributes:
        seconds: When the session ends, once the action of that moment is over.
        action: What happens to the ball now, one of ACTIONS.
    """

    def __init__(self, seconds: float, rng: np.random.Generator) -> None:
        super().__init__((), rng)
        self.seconds = seconds
        self.action = "dribbled"

    def frames(self) -> Iterator[None]:
        """Yield once per frame, when the session is in the state to show."""
        actions = {
            "run": self._run_somewhere,
            "hold": self._hold,
            "jump": self._jump,
            "pass": self._pass,
            "lob": self._lob_to_mate,
            "shoot": self._shoot,
            "throw": self._throw_away,
            "lose": self._lose,
            "turn": self._turn,
        }
        while self.time_s < self.seconds:
            name = self.rng.choice(list(_LIKELIHOODS), p=list(_LIKELIHOODS.values()))
            yield from actions[str(name)]()
            if self._chance(0.5):
                self._release_all()

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _run_somewhere(self) -> Iterator[None]:
        runner = self._handler()
        self.action, self.overhead = "dribbled", False
        spot = self._spot(self.rng.uniform(0.5, 9))
        speed, near_m = self.rng.uniform(2, 7), self.rng.uniform(0.3, 2)
        yield from self._run(runner, spot, speed=speed, near_m=near_m)
        runner.scripted = False

    def _hold(self) -> Iterator[None]:
        holder = self._stand_still()
        holder.arms_goal = self.rng.random()
        yield from self._wait(self.rng.uniform(0.2, 1.2))
        self.overhead = self._chance(0.5)

    def _jump(self) -> Iterator[None]:
        self._some_jump()
        self.action, self.overhead = "held", True
        self._handler().jump(self.rng.uniform(0.3, 1.3))
        yield from self._wait(self.rng.uniform(0.2, 0.7))
        if self._chance(0.5):
            self.action, self.overhead = "dribbled", False
            yield from self._wait(self.rng.uniform(0.2, 0.8))

    def _pass(self) -> Iterator[None]:
        self.action = "passed"
        yield from self._catch(self.rng.uniform(0.3, 0.75))

    def _lob_to_mate(self) -> Iterator[None]:
        self.action = "lobbed"
        yield from self._catch(self.rng.uniform(0.85, 1.4))

    def _catch(self, seconds: float) -> Iterator[None]:
        yield from self._pass_to(self._mate(), seconds)
        self.action = "dribbled"
        if self._chance(0.6):
            yield from self._wait(self.rng.uniform(0.1, 0.8))

    def _shoot(self) -> Iterator[None]:
        """A throw at the hoop from anywhere; it goes in, bounces off, or is knocked away."""
        yield from self._fling(self.rim, at_hoop=True)

    def _throw_away(self) -> Iterator[None]:
        """A throw to any place and height."""
        place = [*self._spot(self.rng.uniform(0, 9)), self.rng.uniform(0, 4)]
        yield from self._fling(np.array(place), at_hoop=False)

    def _fling(self, to: Float64, *, at_hoop: bool) -> Iterator[None]:
        thrower = self._handler()
        if self._chance(0.5):
            self._stand_still()
            yield from self._wait(self.rng.uniform(0.05, 0.3))
            if self._chance(0.7):
                thrower.jump(self.rng.uniform(0.3, 1.2))
                self._some_jump()
                yield from self._wait(self.rng.uniform(0.1, 0.4))
        distance_m = float(np.hypot(*(to - self.ball)[:2]))
        seconds = max(self.rng.uniform(0.12, 1.4), distance_m / 12)
        self.action = "lobbed" if seconds > 0.8 else "passed"
        if self._chance(0.3):
            yield from self._knocked(to, seconds)
        else:
            yield from self._throw(to, seconds)
            if at_hoop and self._chance(0.5):
                self.action = "scored"
                yield from self._through()
            elif at_hoop:
                self.action = "rebounding"
                yield from self._off_the_rim()
        self.action = "loose"
        yield from self._wait(self.rng.uniform(0.05, 0.6))
        yield from self._pick_up()

    def _knocked(self, to: Float64, seconds: float) -> Iterator[None]:
        """A throw that an opponent jumps at and knocks away in its flight."""
        num_frames = max(2, round(seconds * FRAME_RATE_HZ))
        flown = max(1, int(num_frames * self.rng.uniform(0.15, 0.8)))
        velocity = (to - self.ball) * FRAME_RATE_HZ / num_frames
        opponent = self._team(1 - self.attack)[int(self.rng.integers(TEAM_SIZE))]
        opponent.scripted, opponent.speed = True, 7.0
        opponent.target = (self.ball + velocity * flown / FRAME_RATE_HZ)[:2]
        for k, _ in enumerate(self._throw(to, seconds)):
            if k == max(0, flown - 3):
                opponent.jump(self.rng.uniform(0.5, 1.0))
            if k == flown:
                break
            yield
        self.action = "knocked"
        x, y = self.ball_velocity[:2]
        angle = np.arctan2(-y, -x) + self.rng.uniform(-1, 1)
        speed = self.rng.uniform(3, 8)
        away = [np.cos(angle) * speed, np.sin(angle) * speed, self.rng.uniform(-2, 2)]
        self.ball_velocity = np.array(away)
        yield from self._wait(self.rng.uniform(0.4, 0.8))

    def _lose(self) -> Iterator[None]:
        self.action, self.holder, self.overhead = "loose", None, False
        self.ball_velocity = np.array([*self.rng.normal(0, 1, 2), self.rng.uniform(-3, 4)])
        yield from self._wait(self.rng.uniform(0.3, 0.9))
        yield from self._pick_up()

    def _pick_up(self) -> Iterator[None]:
        for _ in self._take_ball():
            self.action = "loose" if self.holder is None else "dribbled"
            yield
        self.action = "dribbled"

    def _turn(self) -> Iterator[None]:
        """All go to the other end; the other team may have the ball then."""
        if self._chance(0.5):
            self.attack = 1 - self.attack
        self.action, self.side = "passed", -self.side
        taker = self._team(self.attack)[int(self.rng.integers(TEAM_SIZE))]
        yield from self._throw(np.array([*taker.at, 1.2]), self.rng.uniform(0.4, 0.7))
        self.holder, self.action = taker, "dribbled"
        for player in self._team(self.attack):
            player.target, player.speed = self._spot(self.rng.uniform(3, 8)), 5.5
        yield from self._run(taker, self._spot(6.5), speed=6.5, near_m=1.0)

    def _stand_still(self) -> Player:
        """The player with the ball stops and lifts it."""
        holder = self._handler()
        holder.scripted, holder.target = True, holder.at.copy()
        self.action, self.overhead = "held", True
        return holder

    def _some_jump(self) -> None:
        for player in self.players:
            if self._chance(0.12):
                player.jump(self.rng.uniform(0.3, 1.0))


@dataclass(frozen=True)
class Session:
    """A rendered session: N frames, and what each shows.

    Attributes:
        pixels: (N, H, W, 3) uint8 RGB.
        actions: (N,) index in ACTIONS.
        ball_px: (N, 2) place of the ball from the left and the top; may be outside.
        measures: (N, 4) MEASURES in metres.
    """

    pixels: UInt8
    actions: Int64
    ball_px: Float32
    measures: Float32


def render_session(seed: int, *, seconds: float, rate_hz: int, height_px: int) -> Session:
    """Render one session.

    Args:
        seed: Decides what happens and how it looks.
        seconds: Length of the session; its last action may end later.
        rate_hz: Frames per second; divides FRAME_RATE_HZ.
        height_px: Height of the frames; the width is 4/3 of it.
    """
    practice_rng, look_rng, paint_rng = np.random.default_rng(seed).spawn(3)
    practice = Practice(seconds, practice_rng)
    painter = Painter(random_look(look_rng), paint_rng)
    width_px = round(height_px * WIDTH_PX / HEIGHT_PX)
    scale = np.array([width_px / WIDTH_PX, height_px / HEIGHT_PX])
    pixels, actions, places, measures = [], [], [], []
    for k, _ in enumerate(practice.frames()):
        if k % (FRAME_RATE_HZ // rate_hz):
            painter.camera.follow(practice)
            continue
        image = painter.paint(practice)
        pixels.append(cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA))
        actions.append(ACTIONS.index(practice.action))
        [place], _ = painter.camera.project(practice.ball[None])
        places.append(place * scale)
        measures.append(_measure(practice))
    return Session(
        np.stack(pixels).astype(np.uint8, copy=False),
        np.array(actions, dtype=np.int64),
        np.array(places, dtype=np.float32),
        np.array(measures, dtype=np.float32),
    )


def _measure(practice: Practice) -> list[float]:
    """The MEASURES of the current frame."""
    holder = practice.holder
    return [
        float(practice.ball[2]),
        float(np.hypot(*(practice.ball - practice.rim)[:2])),
        0.0 if holder is None else holder.z,
        max(player.z for player in practice.players),
    ]

"""Simulate a made-up basketball match as points in space, with exact times of its plays.

Units are metres and seconds. x runs along the court, y away from the camera, z up. The rims are at
(±RIM_X_M, 0, RIM_Z_M). Plays are Python generators; each `yield` is one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from touchline.pipeline.types import Event, Float64

PLAYS = ("dunk", "assist", "three_pointer", "block")
DISTRACTORS = ("miss", "passes", "kick_out", "jumper", "fake", "lob", "transition")

COURT_X_M, COURT_Y_M = 14.0, 7.5
RIM_X_M, RIM_Z_M = 12.4, 3.05
ARC_M = 6.75
GRAVITY = 9.81
BALL_RADIUS_M = 0.2
TEAM_SIZE = 3
FRAME_RATE_HZ = 16


@dataclass
class Player:
    """A player and how they move.

    Attributes:
        team: 0 or 1.
        at: Position (x, y).
        target: Where the player runs to (x, y).
        speed: Highest speed.
        velocity: Current velocity (x, y).
        z: Height of the feet.
        z_velocity: Vertical velocity.
        arms: 0 for arms down, 1 for arms up.
        arms_goal: Where the arms move to.
        stride: Phase of the legs.
        scripted: A play controls the player, not the default behaviour.
    """

    team: int
    at: Float64
    target: Float64
    speed: float = 3.0
    velocity: Float64 = field(default_factory=lambda: np.zeros(2))
    z: float = 0.0
    z_velocity: float = 0.0
    arms: float = 0.0
    arms_goal: float = 0.0
    stride: float = 0.0
    scripted: bool = False

    def jump(self, rise_m: float) -> None:
        """Start a jump of this height."""
        self.z_velocity = float(np.sqrt(2 * GRAVITY * rise_m))
        self.arms_goal = 1.0

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds."""
        gap = self.target - self.at
        distance = float(np.hypot(*gap))
        wanted = gap / max(distance, 1e-6) * min(self.speed, distance * 3.0)
        if self.z == 0.0:
            self.velocity += (wanted - self.velocity) * min(1.0, dt * 7.0)
        self.at = self.at + self.velocity * dt
        self.stride += float(np.hypot(*self.velocity)) * dt * 3.6
        if self.z > 0 or self.z_velocity > 0:
            self.z_velocity -= GRAVITY * dt
            self.z = max(0.0, self.z + self.z_velocity * dt)
            if self.z == 0.0:
                self.z_velocity, self.arms_goal = 0.0, 0.0
        self.arms += (self.arms_goal - self.arms) * min(1.0, dt * 12.0)


class Match:
    """The match at one moment. `frames()` moves it on by one frame at a time.

    After the last frame `events` holds every play of PLAYS with its exact interval.
    """

    def __init__(self, plays: Sequence[str], rng: np.random.Generator) -> None:
        unknown = set(plays) - set(PLAYS) - set(DISTRACTORS)
        if unknown:
            raise ValueError(
                f"unknown plays: {', '.join(sorted(unknown))}. "
                f"Use {', '.join(PLAYS + DISTRACTORS)}."
            )
        self.plays = tuple(plays)
        self.rng = rng
        self.frame = 0
        self.side = 1
        self.attack = 0
        self.players = [
            Player(team, at := rng.uniform((2, -6), (11, 6)), at.copy())
            for team in (0, 1)
            for _ in range(TEAM_SIZE)
        ]
        self.ball = np.array([6.0, 0.0, 1.0])
        self.ball_velocity = np.zeros(3)
        self.bounce = 0.0
        self.holder: Player | None = self.players[0]
        self.overhead = False
        self.events: list[Event] = []

    @property
    def time_s(self) -> float:
        """Seconds since the match began."""
        return self.frame / FRAME_RATE_HZ

    @property
    def rim(self) -> Float64:
        """The rim under attack (x, y, z)."""
        return np.array([self.side * RIM_X_M, 0.0, RIM_Z_M])

    def frames(self) -> Iterator[None]:
        """Yield once per frame, when the match is in the state to show."""
        scripts: dict[str, Callable[[], Iterator[None]]] = {
            "dunk": self._dunk,
            "assist": self._assist,
            "three_pointer": self._three_pointer,
            "block": self._block,
            "miss": self._miss,
            "passes": self._passes,
            "kick_out": self._kick_out,
            "jumper": self._jumper,
            "fake": self._fake,
            "lob": self._lob,
            "transition": self._transition,
        }
        yield from self._wait(self.rng.uniform(1.0, 2.0))
        for play in self.plays:
            yield from scripts[play]()
            self._release_all()
            yield from self._wait(self.rng.uniform(0.3, 1.0))
            yield from self._take_ball()
            yield from self._wait(self.rng.uniform(0.8, 1.8))
        yield from self._wait(1.0)

    # Motion that needs no script

    def _tick(self) -> Iterator[None]:
        """Show one frame, then move on by its time."""
        yield
        self.frame += 1
        dt = 1 / FRAME_RATE_HZ
        self._wander(dt)
        for player in self.players:
            player.step(dt)
        if self.holder is None:
            self._fly(dt)
        else:
            self._carry(self.holder, dt)

    def _fly(self, dt: float) -> None:
        # Exact for constant gravity, so that the ball lands where it was aimed.
        self.ball = self.ball + self.ball_velocity * dt
        self.ball[2] -= GRAVITY * dt * dt / 2
        self.ball_velocity[2] -= GRAVITY * dt
        if self.ball[2] < BALL_RADIUS_M and self.ball_velocity[2] < 0:
            self.ball[2] = BALL_RADIUS_M
            self.ball_velocity *= (0.75, 0.75, -0.7)

    def _carry(self, holder: Player, dt: float) -> None:
        x, y = holder.at
        ahead = 0.35 * (1 if self.rim[0] > x else -1)
        self.bounce = (self.bounce + dt * 1.7) % 1.0
        if self.overhead:
            goal = np.array([x + ahead, y - 0.1, holder.z + 1.5 + 0.95 * holder.arms])
        else:
            goal = np.array([x + ahead, y - 0.3, 0.2 + 0.85 * abs(2 * self.bounce - 1)])
        self.ball = self.ball + (goal - self.ball) * min(1.0, dt * 18.0)
        self.ball_velocity = np.zeros(3)

    def _wander(self, dt: float) -> None:
        """Attackers without a script change places at times; each defender follows one of them."""
        attackers, defenders = self._team(self.attack), self._team(1 - self.attack)
        for player in attackers:
            if not player.scripted and self.rng.random() < dt / 1.5:
                player.target = self._spot(self.rng.uniform(2.0, 8.5))
                player.speed = self.rng.uniform(1.5, 4.0)
        for player, marked in zip(defenders, attackers, strict=True):
            if player.scripted:
                continue
            toward_rim = self.rim[:2] - marked.at
            reach = 1.2 / max(float(np.hypot(*toward_rim)), 1.2)
            player.target = marked.at + toward_rim * reach
            player.speed = 4.0
            player.arms_goal = 1.0 if player.z > 0 else 0.5 * float(marked is self.holder)

    # Actions that plays consist of

    def _team(self, team: int) -> list[Player]:
        return self.players[team * TEAM_SIZE : (team + 1) * TEAM_SIZE]

    def _spot(self, radius_m: float) -> Float64:
        """A random place on the court, radius_m from the rim under attack."""
        angle = self.rng.uniform(-1.35, 1.35)
        x = self.side * (RIM_X_M - radius_m * np.cos(angle))
        return np.array([x, float(np.clip(radius_m * np.sin(angle), -6.8, 6.8))])

    def _marker(self, attacker: Player) -> Player:
        index = next(i for i, p in enumerate(self._team(self.attack)) if p is attacker)
        return self._team(1 - self.attack)[index]

    def _mate(self) -> Player:
        others = [p for p in self._team(self.attack) if p is not self.holder]
        return others[self.rng.integers(len(others))]

    def _handler(self) -> Player:
        if self.holder is None:
            raise RuntimeError("a play began while no player held the ball")
        return self.holder

    def _release_all(self) -> None:
        for player in self.players:
            player.scripted = False
            player.arms_goal = 0.0
            player.speed = 3.0

    def _wait(self, seconds: float) -> Iterator[None]:
        for _ in range(max(1, round(seconds * FRAME_RATE_HZ))):
            yield from self._tick()

    def _run(self, player: Player, to: Float64, *, speed: float, near_m: float) -> Iterator[None]:
        """Run until the player is within near_m of `to`, at most 4 s."""
        player.scripted, player.target, player.speed = True, to, speed
        for _ in range(4 * FRAME_RATE_HZ):
            if np.hypot(*(player.at - to)) <= near_m:
                return
            yield from self._tick()

    def _throw(self, to: Float64, seconds: float) -> Iterator[None]:
        """The ball flies freely to `to` and arrives after `seconds`."""
        frames = max(1, round(seconds * FRAME_RATE_HZ))
        flight_s = frames / FRAME_RATE_HZ
        self.holder, self.overhead = None, False
        self.ball_velocity = (to - self.ball) / flight_s
        self.ball_velocity[2] += GRAVITY * flight_s / 2
        for _ in range(frames):
            yield from self._tick()

    def _pass_to(self, mate: Player, seconds: float) -> Iterator[None]:
        mate.scripted, mate.target = True, mate.at + mate.velocity * seconds
        mate.arms_goal = 0.4
        yield from self._throw(np.array([*mate.target, 1.4]), seconds)
        self.holder = mate
        mate.arms_goal = 0.0

    def _rise(self, shooter: Player, *, rise_m: float) -> Iterator[None]:
        """Raise the ball and jump, up to the moment of the throw. The marker may jump too."""
        shooter.scripted, shooter.target = True, shooter.at.copy()
        self.overhead = True
        yield from self._wait(0.16)
        shooter.jump(rise_m)
        if self.rng.random() < 0.5:
            self._marker(shooter).jump(0.5)
        yield from self._wait(0.24)

    def _through(self) -> Iterator[None]:
        """The ball falls through the net."""
        self.ball_velocity = np.array([0.0, 0.0, -3.0])
        yield from self._wait(0.28)

    def _off_the_rim(self) -> Iterator[None]:
        self.ball_velocity = np.array(
            [-self.side * self.rng.uniform(1.5, 3.5), self.rng.uniform(-2, 2), 3.0]
        )
        yield from self._wait(self.rng.uniform(0.5, 0.9))

    def _take_ball(self) -> Iterator[None]:
        """A player of the attacking team runs to the free ball and has it within 2 s."""
        if self.holder is not None:
            return
        team = self._team(self.attack)
        taker = min(team, key=lambda p: float(np.hypot(*(p.at - self.ball[:2]))))
        for _ in range(2 * FRAME_RATE_HZ):
            taker.scripted, taker.target, taker.speed = True, self.ball[:2].copy(), 5.5
            if np.hypot(*(taker.at - self.ball[:2])) < 0.7 and self.ball[2] < 2.2:
                break
            yield from self._tick()
        self.holder, self.overhead, taker.scripted = taker, False, True
        yield from self._run(taker, self._spot(self.rng.uniform(5.0, 7.5)), speed=4, near_m=0.5)
        taker.scripted = False

    def _record(self, label: str, start_s: float) -> None:
        self.events.append(Event(label, start_s, self.time_s, (start_s + self.time_s) / 2))

    # The four plays

    def _dunk(self) -> Iterator[None]:
        """A run to the rim, a jump with the ball in the hand, and the ball goes into the rim."""
        runner = self._handler()
        under = self.rim[:2] - (self.side * 0.7, 0)
        yield from self._run(runner, under, speed=6.0, near_m=2.6)
        start_s = self.time_s
        yield from self._run(runner, under, speed=6.0, near_m=1.6)
        self.overhead = True
        runner.jump(1.15)
        if self.rng.random() < 0.5:
            self._marker(runner).jump(0.5)
        yield from self._wait(0.4)
        yield from self._throw(self.rim, 0.12)
        yield from self._through()
        self._record("dunk", start_s)

    def _assist(self) -> Iterator[None]:
        """A pass to a teammate near the rim, who scores immediately."""
        self._handler().scripted = True
        mate = self._mate()
        yield from self._run(mate, self._spot(self.rng.uniform(1.8, 3.2)), speed=5, near_m=0.5)
        start_s = self.time_s
        yield from self._pass_to(mate, self.rng.uniform(0.36, 0.56))
        yield from self._rise(mate, rise_m=0.5)
        yield from self._throw(self.rim, self.rng.uniform(0.5, 0.65))
        yield from self._through()
        self._record("assist", start_s)

    def _three_pointer(self) -> Iterator[None]:
        """A long shot from behind the arc that goes in."""
        start_s = yield from self._long_shot()
        yield from self._through()
        self._record("three_pointer", start_s)

    def _long_shot(self) -> Generator[None, None, float]:
        """A shot from behind the arc, up to the rim. Returns the time at which it began."""
        shooter = self._handler()
        spot = self._spot(self.rng.uniform(ARC_M + 0.3, ARC_M + 1.3))
        yield from self._run(shooter, spot, speed=4.5, near_m=0.4)
        start_s = self.time_s
        yield from self._rise(shooter, rise_m=0.4)
        yield from self._throw(self.rim, self.rng.uniform(1.1, 1.35))
        return start_s

    def _block(self) -> Iterator[None]:
        """A short shot that a jumping defender knocks away just after the throw."""
        shooter = self._handler()
        spot = self._spot(self.rng.uniform(1.5, 4.0))
        yield from self._run(shooter, spot, speed=5.0, near_m=0.5)
        start_s = self.time_s
        shooter.target = shooter.at.copy()
        self.overhead = True
        blocker = self._marker(shooter)
        toward_rim = self.rim[:2] - shooter.at
        ahead = shooter.at + toward_rim / max(float(np.hypot(*toward_rim)), 0.5) * 0.8
        blocker.scripted, blocker.target, blocker.speed = True, ahead, 6.0
        yield from self._wait(0.16)
        shooter.jump(0.5)
        yield from self._wait(0.12)
        blocker.jump(0.9)
        yield from self._wait(0.12)
        yield from self._throw(np.array([*ahead, 3.0]), 0.2)
        away = -toward_rim / max(float(np.hypot(*toward_rim)), 0.5)
        aside = self.rng.uniform(-2.5, 2.5, 2)
        self.ball_velocity = np.array([*(away * self.rng.uniform(4, 7) + aside), -0.5])
        yield from self._wait(0.55)
        self._record("block", start_s)

    # Look-alikes

    def _miss(self) -> Iterator[None]:
        """A long shot that bounces off the rim."""
        yield from self._long_shot()
        yield from self._off_the_rim()

    def _jumper(self) -> Iterator[None]:
        """A shot from middle distance after dribbling. It may score, but it is not a play."""
        shooter = self._handler()
        yield from self._run(shooter, self._spot(self.rng.uniform(3.0, 5.0)), speed=4.5, near_m=0.4)
        yield from self._rise(shooter, rise_m=0.5)
        yield from self._throw(self.rim, self.rng.uniform(0.7, 0.9))
        yield from (self._through() if self.rng.random() < 0.5 else self._off_the_rim())

    def _passes(self) -> Iterator[None]:
        for _ in range(int(self.rng.integers(2, 4))):
            yield from self._pass_to(self._mate(), self.rng.uniform(0.4, 0.7))
            yield from self._wait(self.rng.uniform(0.5, 1.0))
            self._release_all()

    def _kick_out(self) -> Iterator[None]:
        """A run to the rim as for a dunk, then a pass away instead."""
        runner = self._handler()
        under = self.rim[:2] - (self.side * 0.7, 0)
        yield from self._run(runner, under, speed=6.0, near_m=1.5)
        if self.rng.random() < 0.5:
            self.overhead = True
            runner.jump(0.6)
            yield from self._wait(0.3)
        yield from self._pass_to(self._mate(), self.rng.uniform(0.5, 0.8))
        yield from self._wait(0.4)

    def _fake(self) -> Iterator[None]:
        """A pass or a run to the rim and a jump, but the player keeps the ball."""
        if self.rng.random() < 0.5:
            mate = self._mate()
            yield from self._run(mate, self._spot(self.rng.uniform(1.8, 4)), speed=5, near_m=0.5)
            yield from self._pass_to(mate, self.rng.uniform(0.36, 0.56))
        yield from self._rise(self._handler(), rise_m=0.5)
        yield from self._wait(0.5)
        self.overhead = False
        yield from self._run(self._handler(), self._spot(6.0), speed=4.0, near_m=0.6)

    def _lob(self) -> Iterator[None]:
        """A pass as high and as long as the flight of a three-pointer."""
        mate = self._mate()
        yield from self._pass_to(mate, self.rng.uniform(0.9, 1.2))
        yield from self._wait(0.4)

    def _transition(self) -> Iterator[None]:
        """The other team takes the ball to the other end, and the camera follows."""
        self.attack, self.side = 1 - self.attack, -self.side
        taker = self._team(self.attack)[int(self.rng.integers(TEAM_SIZE))]
        self.holder, self.overhead = None, False
        yield from self._throw(np.array([*taker.at, 1.2]), 0.5)
        self.holder = taker
        for player in self._team(self.attack):
            player.target, player.speed = self._spot(self.rng.uniform(3.0, 8.0)), 5.5
        yield from self._run(taker, self._spot(6.5), speed=6.5, near_m=1.0)

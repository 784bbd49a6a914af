"""Who an event is about: shirt numbers in the seconds after it, weighed against the line-up."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.players.lineup import Colour, Lineup
from touchline.pipeline.players.numbers import ShirtNumber
from touchline.pipeline.players.options import WhoOptions
from touchline.pipeline.types import Event, UInt8

Numbers = Callable[[UInt8], list[ShirtNumber]]
"""A picture (H, W, 3) RGB -> the numbers in it."""

# Lightness changes with the light, so it counts less than hue.
_LIGHTNESS = 0.35
# A shirt must be this near to a team's colour, and clearly nearer than to any other team's.
_NEAR, _CLEARLY = 40.0, 0.7
# Numbers that stay in one place and size over this share of the pictures are graphics.
_STILL = 0.9


@dataclass(frozen=True)
class Who:
    """The player of an event, or why none is named.

    Attributes:
        team: The team; None if nobody is named.
        number: The shirt number.
        name: The player.
        score: The share of all evidence that is for this player, in [0, 1].
        pictures: In how many pictures the number was read.
        why: Why nobody is named.
    """

    team: str | None = None
    number: str | None = None
    name: str | None = None
    score: float = 0.0
    pictures: int = 0
    why: str = ""


def name_events(
    path: str | os.PathLike[str],
    events: Sequence[Event],
    lineup: Lineup,
    numbers: Numbers,
    options: WhoOptions | None = None,
    *,
    on_event: Callable[[int], None] = lambda done: None,
) -> list[tuple[Event, Who]]:
    """Say who the events are about; an event that says so already keeps it.

    Args:
        path: The footage.
        events: The events.
        lineup: The players.
        numbers: Finds and reads numbers, such as `NumberReader.numbers`.
        options: Where to look, and how much evidence is enough.
        on_event: Called with the number of events that are done.

    Returns:
        Every event with the attributes team, player, jersey and player_score where a player is
        named, and the evidence.

    Raises:
        FootageError: The footage cannot be read.
    """
    options = options or WhoOptions()
    named: list[tuple[Event, Who]] = []
    for done, event in enumerate(events):
        on_event(done)
        if dict(event.attributes).keys() & {"player", "jersey"}:
            named.append((event, Who(why="the event names a player already")))
            continue
        who = decide(_seen(path, event, numbers, options), lineup, options)
        named.append((with_player(event, who), who))
    return named


def _seen(
    path: str | os.PathLike[str], event: Event, numbers: Numbers, options: WhoOptions
) -> list[list[ShirtNumber]]:
    """The numbers of each picture after the event."""
    seen = []
    # Small pictures stay as they are: enlarged digits are no easier to read, and seem large enough.
    size_px = min(options.size_px, *probe_footage(path).shown_size)
    with decode(
        path,
        rate_hz=options.rate_hz,
        size_px=size_px,
        start_s=event.peak_s,
        end_s=event.peak_s + options.after_s,
    ) as stream:
        for frames in stream:
            for picture in frames.pixels:
                seen.append(numbers(np.ascontiguousarray(picture.transpose(1, 2, 0))))
    return seen


def with_player(event: Event, who: Who) -> Event:
    """Return the event with what is known of its player."""
    if who.team is None or who.number is None or who.name is None:
        return event
    known = dict(event.attributes) | {
        "team": who.team,
        "player": who.name,
        "jersey": who.number,
        "player_score": f"{who.score:.2f}",
    }
    return replace(event, attributes=tuple(known.items()))


def decide(seen: Sequence[Sequence[ShirtNumber]], lineup: Lineup, options: WhoOptions) -> Who:
    """Weigh the numbers of the pictures after an event against the line-up.

    Each picture gives each player at most one vote: how sure the reading is, times the height of
    the number, because the player of an event is the one that is shown large.

    Args:
        seen: The numbers of each picture.
        lineup: The players.
        options: How much evidence is enough.
    """
    votes: dict[tuple[str, str], list[float]] = defaultdict(list)
    read = 0
    still = _still_places(seen)
    for picture in seen:
        best: dict[tuple[str, str], float] = {}
        for number in picture:
            if number.score < options.min_reading or _place(number) in still:
                continue
            read += 1
            team = team_of(number.colour, lineup.colours)
            if team is not None and (team, number.number) in lineup.players:
                key = team, number.number
                best[key] = max(best.get(key, 0.0), number.score * number.height_px)
        for key, weight in best.items():
            votes[key].append(weight)
    if not votes:
        why = "no number of the line-up on a shirt of its team" if read else "no number was read"
        return Who(why=why)
    total = sum(map(sum, votes.values()))
    key = max(votes, key=lambda k: sum(votes[k]))
    share, pictures = sum(votes[key]) / total, len(votes[key])
    team, digits = key
    if pictures < options.min_pictures:
        return Who(why=f"{team} {digits} was read in {pictures} pictures only")
    if share < options.min_share:
        return Who(why=f"several players: {team} {digits} has {share:.0%} of the evidence")
    return Who(team, digits, lineup.players[key], share, pictures)


def team_of(colour: tuple[float, float, float], colours: Mapping[str, Colour]) -> str | None:
    """Return the team whose shirts have this colour; None if no team's is near and clear.

    Args:
        colour: CIELAB.
        colours: RGB of each team's shirts.
    """
    distances = sorted((_distance(colour, rgb), team) for team, rgb in colours.items())
    nearest, team = distances[0]
    if nearest > _NEAR:
        return None
    if len(distances) > 1 and nearest > _CLEARLY * distances[1][0]:
        return None
    return team


def _distance(colour: tuple[float, float, float], rgb: Colour) -> float:
    pixel = np.array([[rgb]], np.float32) / 255
    L, a, b = cv2.cvtColor(pixel, cv2.COLOR_RGB2Lab)[0, 0]
    differences = (_LIGHTNESS * (colour[0] - L), colour[1] - a, colour[2] - b)
    return float(np.linalg.norm(differences))


def _place(number: ShirtNumber) -> tuple[int, ...]:
    """Where a number is, roughly; graphics stay there."""
    return tuple(round(v / 4) for v in number.box)


def _still_places(seen: Sequence[Sequence[ShirtNumber]]) -> set[tuple[int, ...]]:
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for picture in seen:
        for place in {_place(number) for number in picture}:
            counts[place] += 1
    return {place for place, n in counts.items() if n >= 4 and n >= _STILL * len(seen)}

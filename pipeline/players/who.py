"""Who an event is about: shirt numbers and faces in the seconds after it, and the line-up."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from touchline.models.classes import BACKGROUND
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.labels.source import composed
from touchline.pipeline.players.lineup import Colour, Lineup
from touchline.pipeline.players.name import Naming
from touchline.pipeline.players.numbers import ShirtNumber
from touchline.pipeline.players.options import WhoOptions
from touchline.pipeline.types import Event, UInt8

Numbers = Callable[[UInt8], list[ShirtNumber]]
"""A picture (H, W, 3) RGB -> the numbers in it."""

NameFace = Callable[[UInt8], Naming]
"""A picture (3, H, W) RGB -> whose its largest face is."""

Player = tuple[str, str]
"""Team and shirt number."""

Votes = Mapping[Player, Sequence[float]]
"""The votes for each player, one of each picture."""

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
        score: The player's share of the votes of all numbers of the line-up, in [0, 1]. Where the
            numbers are not enough by themselves: of all faces that are large and sharp enough, also
            those without a name.
        pictures: In how many pictures the number was read, or likewise the face recognised.
        by: What names the player: number, or number and face.
        why: Why nobody is named.
    """

    team: str | None = None
    number: str | None = None
    name: str | None = None
    score: float = 0.0
    pictures: int = 0
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class FaceWitness:
    """Faces as a second witness, beside shirt numbers.

    Attributes:
        name: Says whose the largest face of a picture is.
        known: The players whose faces it can name, by the name that it gives.
    """

    name: NameFace
    known: Mapping[str, Player]


def known_players(labels: Collection[str], lineup: Lineup) -> dict[str, Player]:
    """Return the players of the line-up whose faces a model knows, by the name in the model.

    Upper and lower case, spaces, and the way accents are stored may differ. A name that the line-up
    has twice is left out: a face does not say which of them it is.

    Args:
        labels: The names that the model knows.
        lineup: The players.
    """
    players: dict[str, list[Player]] = defaultdict(list)
    for player, name in lineup.players.items():
        players[_plain(name)].append(player)
    found = {label: players.get(_plain(label), []) for label in labels if label != BACKGROUND}
    return {label: of_name[0] for label, of_name in found.items() if len(of_name) == 1}


def names_apart(labels: Collection[str], lineup: Lineup) -> tuple[list[str], list[str]]:
    """Return the names that only the model knows, and those that only the line-up has.

    Args:
        labels: The names that the model knows.
        lineup: The players.
    """
    of_model = {_plain(label): label for label in labels if label != BACKGROUND}
    of_lineup = {_plain(name): name for name in lineup.players.values()}
    return (
        [name for plain, name in of_model.items() if plain not in of_lineup],
        [name for plain, name in of_lineup.items() if plain not in of_model],
    )


def _plain(name: str) -> str:
    """What is compared of a name: file systems store accents in two ways."""
    return " ".join(composed(name).casefold().split())


def name_events(
    path: str | os.PathLike[str],
    events: Sequence[Event],
    lineup: Lineup,
    numbers: Numbers,
    options: WhoOptions | None = None,
    *,
    witness: FaceWitness | None = None,
    on_event: Callable[[int], None] = lambda done: None,
) -> list[tuple[Event, Who]]:
    """Say who the events are about; an event that says so already keeps it.

    Args:
        path: The footage.
        events: The events.
        lineup: The players.
        numbers: Finds and reads numbers, such as `NumberReader.numbers`.
        options: Where to look, and how much evidence is enough.
        witness: Names faces; None: shirt numbers alone count.
        on_event: Called with the number of events that are done.

    Returns:
        Every event with the attributes team, player, jersey, player_score and player_by where a
        player is named, and the evidence.

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
        seen, faces = [], []
        for picture in _pictures(path, event, options):
            seen.append(numbers(np.ascontiguousarray(picture.transpose(1, 2, 0))))
            if witness is not None:
                faces.append(witness.name(picture))
        known = witness.known if witness is not None else {}
        who = decide(seen, lineup, options, faces, known)
        named.append((with_player(event, who), who))
    return named


def _pictures(path: str | os.PathLike[str], event: Event, options: WhoOptions) -> Iterator[UInt8]:
    """The pictures (3, H, W) after the event."""
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
            yield from frames.pixels


def with_player(event: Event, who: Who) -> Event:
    """Return the event with what is known of its player."""
    if who.team is None or who.number is None or who.name is None:
        return event
    known = dict(event.attributes) | {
        "team": who.team,
        "player": who.name,
        "jersey": who.number,
        "player_score": f"{who.score:.2f}",
        "player_by": who.by,
    }
    return replace(event, attributes=tuple(known.items()))


def decide(
    seen: Sequence[Sequence[ShirtNumber]],
    lineup: Lineup,
    options: WhoOptions,
    faces: Sequence[Naming] = (),
    known: Mapping[str, Player] | None = None,
) -> Who:
    """Weigh the numbers and faces of the pictures after an event against the line-up.

    Each picture gives each player at most one vote: how sure the reading is, times the height of
    the number, because the player of an event is the one that is shown large. The largest face of
    a picture votes likewise. Numbers and faces are counted apart. Faces without a name of the
    line-up vote for none of its players, with their height. A face confirms a number, also one that
    is not enough by itself, and names nobody alone. Where both name a player, and not the same one,
    nobody is named, unless the number's player is none whose face is known.

    Args:
        seen: The numbers of each picture.
        lineup: The players.
        options: How much evidence is enough.
        faces: Whose the largest face of each picture is.
        known: The players whose faces can be named, by the name in `faces`; None or empty: numbers
            alone count.
    """
    votes, read = _number_votes(seen, lineup, options)
    nobody = "no number of the line-up on a shirt of its team" if read else "no number was read"
    number = _weigh(votes, 0.0, lineup, options, "number", nobody)
    if not known:
        return number
    face_votes, unnamed = _face_votes(faces, known)
    no_face = "no face of the line-up was recognised"
    face = _weigh(face_votes, unnamed, lineup, options, "face", no_face)
    if face.team is None or face.number is None:
        return replace(number, why=f"{number.why}; {face.why}") if number.why else number
    if not votes:
        return replace(number, why=f"{nobody}; the face may be that of {face.name}")
    leading = _leading(votes)
    if leading == (face.team, face.number):
        return replace(number if number.name else face, by="number and face")
    if number.name and leading not in known.values():
        return number
    numbered = lineup.players[leading]
    return Who(why=f"the number is that of {numbered}, but the face that of {face.name}")


def _number_votes(
    seen: Sequence[Sequence[ShirtNumber]], lineup: Lineup, options: WhoOptions
) -> tuple[Votes, int]:
    """The votes of the numbers, and how many numbers were read, on whatever shirt."""
    votes: dict[Player, list[float]] = defaultdict(list)
    read = 0
    still = _still_places(seen)
    for picture in seen:
        best: dict[Player, float] = {}
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
    return votes, read


def _face_votes(faces: Sequence[Naming], known: Mapping[str, Player]) -> tuple[Votes, float]:
    """The votes of the faces that have a name of the line-up, and the weight of the others."""
    votes: dict[Player, list[float]] = defaultdict(list)
    unnamed = 0.0
    for one in faces:
        if one.face is None or one.probability is None:
            continue  # none in the picture, or too small or soft to be asked about
        height = one.face.size[1]
        player = known.get(one.player or "")
        if player is None:
            unnamed += height
        else:
            votes[player].append(one.probability * height)
    return votes, unnamed


def _leading(votes: Votes) -> Player:
    return max(votes, key=lambda player: sum(votes[player]))


def _weigh(
    votes: Votes, others: float, lineup: Lineup, options: WhoOptions, by: str, nobody: str
) -> Who:
    """The player that has enough votes of one kind.

    Args:
        votes: By player.
        others: Votes for none of the line-up.
        lineup: The players.
        options: How many votes are enough.
        by: number or face.
        nobody: Why nobody is named, if there are no votes.
    """
    if not votes:
        return Who(why=nobody)
    player = _leading(votes)
    share = sum(votes[player]) / (sum(map(sum, votes.values())) + others)
    pictures = len(votes[player])
    team, digits = player
    if pictures < options.min_pictures:
        how = "was read" if by == "number" else "was recognised"
        return Who(why=f"{team} {digits} {how} in {pictures} pictures only")
    if share < options.min_share and by == "face":
        return Who(why=f"{team} {digits} has {share:.0%} of the faces only")
    if share < options.min_share:
        return Who(why=f"several players: {team} {digits} has {share:.0%} of the evidence")
    return Who(team, digits, lineup.players[player], share, pictures, by)


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

"""Read and write player-centric spotting as in SoccerNet's challenge of 2026 (FOOTPASS).

An event is [frame, team, jersey, class, ...] at 25 frames per second: who did what, and when.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.labels.parsed import JsonValue, parse_score
from touchline.pipeline.labels.source import (
    LabelledVideo,
    LabelSource,
    footage_called,
    labelled_video,
    make_example,
)
from touchline.pipeline.labels.target import LabelTarget, by_footage, dump_json
from touchline.pipeline.types import Event, Example

CHALLENGE_RATE_HZ = 25.0
CHALLENGE_CLASSES = (
    "background", "drive", "pass", "cross", "throw-in", "shot", "header", "tackle", "block",
)  # fmt: skip
"""The classes of the challenge; an event names one by its number here."""

TEAMS = ("left", "right")
TEAM_NUMBERS = {"left": 0, "home": 0, "0": 0, "right": 1, "away": 1, "1": 1}
UNKNOWN = -1

# A key names a half of a match: game_18_H1.
HALF_KEY = re.compile(r"(.+)_H\d")


def is_player_spotting(source: LabelSource) -> bool:
    """Recognise the challenge's files by their keys and their events by key."""
    return (
        source.kind == "json"
        and source.json.has("keys")
        and source.json.has("events")
        and isinstance(source.json["events"].value, dict)
    )


def read_player_spotting(source: LabelSource) -> list[Example]:
    """Read events as moments; team and jersey are attributes.

    A row of labels is [frame, team, jersey, class, box, replay], where box 0 means that the player
    is not in the picture; a row of predictions is [frame, team, jersey, class, confidence].

    Raises:
        LabelsError: A row cannot be used.
    """
    rate_hz = source.rate_hz or CHALLENGE_RATE_HZ
    listed: dict[Path, dict[str, list[str]]] = {}
    examples = []
    for key, rows in source.json["events"].members():
        video = footage_called(source, key, rows, listed)
        for row in rows.elements():
            values = row.elements()
            if not 4 <= len(values) <= 6:
                raise row.error(
                    f"{len(values)} values; it must be [frame, team, jersey, class], and perhaps "
                    "the confidence, or box and replay"
                )
            time_s = values[0].number() / rate_hz
            labelled = len(values) == 6
            score = 1.0
            if len(values) == 5:
                score = parse_score(source.path, values[4].where, values[4].number())
            examples.append(
                make_example(
                    source,
                    row.where,
                    video=video,
                    label=_class_name(values[3]),
                    group=_match(key),
                    start_s=time_s,
                    end_s=time_s,
                    visible=not labelled or values[4].number() != 0,
                    score=score,
                    attributes=[
                        ("team", _team(values[1])),
                        ("jersey", _jersey(values[2])),
                        ("replay", "yes" if labelled and values[5].number() else ""),
                    ],
                )
            )
    return examples


def player_spotting_videos(source: LabelSource) -> list[LabelledVideo]:
    """List the videos of all keys, also those without events."""
    listed: dict[Path, dict[str, list[str]]] = {}
    videos = []
    for key in source.json["keys"].elements():
        video = footage_called(source, key.text(), key, listed)
        videos.append(labelled_video(source, video, group=_match(key.text())))
    return videos


def _match(key: str) -> str:
    half = HALF_KEY.fullmatch(key)
    return half[1] if half else key


def _class_name(value: JsonValue) -> str:
    if isinstance(value.value, str):
        return value.text()
    number = value.number()
    if not (number.is_integer() and number < len(CHALLENGE_CLASSES)):
        raise value.error(f"{number:g}; the classes are 0 to {len(CHALLENGE_CLASSES) - 1}")
    return CHALLENGE_CLASSES[int(number)]


def _team(value: JsonValue) -> str:
    if value.value == UNKNOWN:
        return ""
    if value.value not in (0, 1):
        raise value.error(f"{value.value!r}; it must be 0 (left), 1 (right) or -1 (unknown)")
    return TEAMS[int(value.number())]


def _jersey(value: JsonValue) -> str:
    return "" if value.value == UNKNOWN else f"{value.number():g}"


def write_player_spotting(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write each video under its name without ending; an interval becomes its peak.

    Raises:
        ValueError: Two videos have one name, or a team or jersey is none of the challenge's.
    """
    found: dict[str, list[Event]] = {}
    for path, mine in by_footage(examples):
        key = Path(footage_reference(path, target.folder)).with_suffix("").as_posix()
        if key in found:
            raise ValueError(f"two files are called {key} apart from their ending. Rename one.")
        found[key] = [example.event() for example in mine]
    return player_spotting_text(found)


def player_spotting_text(events: Mapping[str, Iterable[Event]]) -> str:
    """Return the text of a file with the events of each key.

    Raises:
        ValueError: A team or jersey is none of the challenge's.
    """
    rows = {
        key: [_row(event) for event in sorted(mine, key=lambda event: event.peak_s)]
        for key, mine in events.items()
    }
    return dump_json({"keys": list(rows), "events": rows})


def _row(event: Event) -> list[object]:
    known = dict(event.attributes)
    team, jersey = known.get("team", ""), known.get("jersey", "")
    if team and team.casefold() not in TEAM_NUMBERS:
        raise ValueError(f"the team is {team!r}; player-centric spotting knows left and right only")
    if jersey and not (jersey.isascii() and jersey.isdecimal()):
        raise ValueError(f"the jersey is {jersey!r}; it must be a number")
    name = event.label.casefold()
    return [
        round(event.peak_s * CHALLENGE_RATE_HZ),
        TEAM_NUMBERS[team.casefold()] if team else UNKNOWN,
        int(jersey) if jersey else UNKNOWN,
        CHALLENGE_CLASSES.index(name) if name in CHALLENGE_CLASSES else event.label,
        float(event.score),
    ]

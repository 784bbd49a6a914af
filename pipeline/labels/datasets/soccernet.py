"""Read and write SoccerNet's labels and results: a match in two halves, each with its own clock.

`read_soccernet` reads both Labels-v2.json and results_spotting.json. A match may be one file of
footage or one per half; `split_halves` and `join_halves` convert between the two clocks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.pipeline.files import files_below
from touchline.pipeline.labels.parsed import JsonValue, read_attributes, read_score
from touchline.pipeline.labels.source import (
    LabelledVideo,
    LabelSource,
    labelled_video,
    make_example,
)
from touchline.pipeline.labels.target import LabelTarget, dump_json, free_members
from touchline.pipeline.types import Event, Example

RESULTS_FILE = "results_spotting.json"
"""The name of a match's file in SoccerNet results."""

# What SoccerNet's rows hold, apart from the team.
ROW_MEMBERS = ("gameTime", "label", "position", "half", "visibility", "confidence")
NO_TEAM = "not applicable"

Halves = tuple[Sequence[Event], Sequence[Event]]


def split_halves(events: Sequence[Event], *, second_half_s: float) -> Halves:
    """Split the events of one file into two halves; times of the second count from its kick-off.

    An event belongs to the half of its peak. If it starts before the kick-off, it then starts at 0.

    Args:
        events: The events of the whole match.
        second_half_s: The time in the footage at which the second half kicks off.

    Raises:
        ValueError: `second_half_s` is not a number above 0.
    """
    _check_kick_off(second_half_s)
    first = [event for event in events if event.peak_s < second_half_s]
    second = [on_half_clock(e, second_half_s) for e in events if e.peak_s >= second_half_s]
    return first, second


def join_halves(halves: Halves, *, second_half_s: float) -> list[Event]:
    """Put the events of two halves on the clock of one file, in time order.

    Raises:
        ValueError: `second_half_s` is not a number above 0.
    """
    _check_kick_off(second_half_s)
    later = [event.moved(second_half_s) for event in halves[1]]
    return sorted([*halves[0], *later], key=lambda event: (event.start_s, event.peak_s))


def _check_kick_off(second_half_s: float) -> None:
    if not 0 < second_half_s < math.inf:
        raise ValueError(
            f"second_half_s is {second_half_s}; it must be the time in the footage, in seconds, "
            "at which the second half kicks off"
        )


def on_half_clock(event: Event, kickoff_s: float) -> Event:
    """Move an event to the clock of the half that kicks off at `kickoff_s`; earlier times are 0."""
    start_s, end_s, peak_s = (
        max(time_s - kickoff_s, 0.0) for time_s in (event.start_s, event.end_s, event.peak_s)
    )
    return replace(event, start_s=start_s, end_s=end_s, peak_s=peak_s)


def results_spotting(halves: Mapping[int, Sequence[Event]], *, match: str) -> str:
    """Write the text of results_spotting.json for one match.

    Positions are milliseconds from the start of the half. All values are strings, as in the
    challenge's own files.

    Args:
        halves: The events of each half (1, 2), on the clock of the half.
        match: The folder of the match in SoccerNet, such as "england_epl/2014-2015/2015-02-21 -
            18-00 Chelsea 1 - 1 Burnley".
    """
    rows = []
    for half, events in sorted(halves.items()):
        for event in sorted(events, key=lambda event: event.peak_s):
            milliseconds = math.floor(event.peak_s * 1000 + 0.5)
            minutes, seconds = divmod(milliseconds // 1000, 60)
            rows.append(
                {
                    "gameTime": f"{half} - {minutes:02d}:{seconds:02d}",
                    "label": event.label,
                    "position": str(milliseconds),
                    "half": str(half),
                    "confidence": repr(float(event.score)),
                }
                | free_members(event, taken=ROW_MEMBERS)
            )
    return json.dumps({"UrlLocal": match, "predictions": rows}, indent=1) + "\n"


SOCCERNET_FILE = "Labels-v2.json"
BALL_FILE = "Labels-ball.json"
CAMERA_FILE = "Labels-cameras.json"
SOCCERNET_FILES = (SOCCERNET_FILE, BALL_FILE, CAMERA_FILE)
HALF_FILE = re.compile(r"^(?P<half>\d+)(_\w+)?\.(mkv|mp4)$")
# 224p first: networks need no more, and it decodes faster.
HALF_SUFFIXES = tuple(
    name + ending for ending in (".mkv", ".mp4") for name in ("_224p", "_720p", "_HQ", "")
)
# The footage of ball actions is one file per match.
BALL_FOOTAGE = ("224p.mp4", "720p.mp4", "224p.mkv", "720p.mkv")


def is_soccernet(source: LabelSource) -> bool:
    """Recognise SoccerNet's labels and results by their keys."""
    if source.kind != "json":
        return False
    for key in ("annotations", "predictions"):
        if source.json.has(key) and isinstance(rows := source.json[key].value, list):
            named = source.path.name in SOCCERNET_FILES or source.json.has("UrlLocal")
            return named or any(isinstance(row, dict) and "gameTime" in row for row in rows)
    return False


def read_soccernet(source: LabelSource) -> list[Example]:
    """Read a match of SoccerNet-v2 (Deliege et al. 2021): moments in one file per half.

    In Labels-cameras.json these are the ends of shots, each with its camera as the class.

    `position` is in milliseconds from the start of the half's file. The group is the match, from
    `UrlLocal`. Predictions in the same form keep their confidence.

    Raises:
        LabelsError: A row cannot be used.
    """
    match = source.json
    key = "annotations" if match.has("annotations") else "predictions"
    group = _soccernet_match(source)
    examples = []
    for row in match[key].elements():
        half = row["gameTime"].text().split("-")[0].strip()
        if not half.isdecimal():
            raise row["gameTime"].error(
                f"{row['gameTime'].value!r} does not begin with the half, as in '1 - 05:00'"
            )
        time_s = row["position"].number() / 1000
        examples.append(
            make_example(
                source,
                row.where,
                video=_half_file(source, half),
                label=row["label"].text(),
                group=group,
                start_s=time_s,
                end_s=time_s,
                visible=_visible(row),
                score=read_score(row, "confidence"),
                attributes=_attributes(row),
            )
        )
    return examples


def _attributes(row: JsonValue) -> list[tuple[str, str]]:
    """The team and all else; of a replay's shot also which moment it shows again."""
    found = [a for a in read_attributes(row, known=ROW_MEMBERS) if a != ("team", NO_TEAM)]
    if row.has("link") and row["link"].has("time"):
        found.append(("replay_of", row["link"]["time"].text()))
    return found


def read_soccernet_tree(source: LabelSource) -> list[Example]:
    """Read the Labels-v2.json or Labels-ball.json of every match in a SoccerNet folder.

    Raises:
        LabelsError: One of them is not a SoccerNet label file, a row cannot be used, or the folder
            has files of both names.
    """
    return [example for match in _matches(source) for example in read_soccernet(match)]


def is_soccernet_tree(source: LabelSource) -> bool:
    """Recognise a SoccerNet folder by the label files in it."""
    return source.kind == "folder" and any(
        path.name in SOCCERNET_FILES for path in files_below(source.path)
    )


def _matches(source: LabelSource) -> list[LabelSource]:
    """The label file of each match in a SoccerNet folder."""
    paths = sorted(f for f in files_below(source.path) if f.name in SOCCERNET_FILES)
    # A match with a file of actions may also have one of camera shots.
    if others := [path for path in paths if path.name != CAMERA_FILE]:
        paths = others
    if len({path.name for path in paths}) > 1:
        raise LabelsError(
            source.path,
            f"there are {SOCCERNET_FILE} and {BALL_FILE} in it, which label different things. Give "
            "a folder with one kind.",
        )
    folder = source.footage_folder
    matches = [LabelSource(p, folder / p.parent.relative_to(source.path)) for p in paths]
    for match in matches:
        if not is_soccernet(match):
            raise LabelsError(
                match.path, "no list 'annotations'. This is not a SoccerNet label file."
            )
    return matches


def soccernet_videos(source: LabelSource) -> list[LabelledVideo]:
    """List both halves of a labelled match, because a half without events is labelled too."""
    if not source.json.has("annotations"):
        return []
    halves = ("1",) if source.path.name == BALL_FILE else ("1", "2")
    group = _soccernet_match(source)
    return [labelled_video(source, _half_file(source, half), group=group) for half in halves]


def soccernet_tree_videos(source: LabelSource) -> list[LabelledVideo]:
    """List the halves of every match in a SoccerNet folder."""
    return [video for match in _matches(source) for video in soccernet_videos(match)]


def _soccernet_match(source: LabelSource) -> str:
    url = source.json["UrlLocal"].text() if source.json.has("UrlLocal") else ""
    parts = [part for part in url.replace("\\", "/").split("/") if part]
    if parts and HALF_FILE.match(parts[-1]):
        parts.pop()
    return "/".join(parts) or source.footage_folder.resolve().name


def _half_file(source: LabelSource, half: str) -> str:
    names = [half + suffix for suffix in HALF_SUFFIXES]
    if source.path.name == BALL_FILE:
        names = [*BALL_FOOTAGE, *names]
    return next((name for name in names if (source.footage_folder / name).exists()), names[0])


def _visible(row: JsonValue) -> bool:
    if not row.has("visibility"):
        return True
    word = row["visibility"].text()
    if word not in ("visible", "not shown"):
        raise row["visibility"].error(f"{word!r}; it must be 'visible' or 'not shown'")
    return word == "visible"


def _half_of(name: str) -> str:
    """The half that a file shows; footage of ball actions is one file, called half 1."""
    if name in BALL_FOOTAGE:
        return "1"
    named = HALF_FILE.match(name)
    if named is None:
        raise ValueError(
            "SoccerNet's footage is one file per half, 1_224p.mkv and 2_224p.mkv, or for ball "
            f"actions 224p.mp4. {name} is not named like this."
        )
    return named["half"]


def write_soccernet(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write one match; an interval becomes its peak.

    Raises:
        ValueError: There are several matches, or the footage is neither one file per half nor
            that of ball actions.
    """
    groups = sorted({example.group for example in examples})
    if len(groups) > 1:
        raise ValueError(f"SoccerNet holds one match per file, but these are {', '.join(groups)}")
    rows = []
    halves: dict[str, Path] = {}
    for example in examples:
        number = _half_of(example.path.name)
        half = halves.setdefault(number, example.path)
        if example.path != half or half.parent != examples[0].path.parent:
            raise ValueError(
                "SoccerNet holds one file per half, all in one folder, but "
                f"these are {examples[0].path}, {half} and {example.path}"
            )
        ms = round(example.event().peak_s * 1000)
        minutes, seconds = divmod(ms // 1000, 60)
        rows.append(
            {
                "gameTime": f"{number} - {minutes:02d}:{seconds:02d}",
                "label": example.label,
                "position": str(ms),
                "team": NO_TEAM,
                "visibility": "visible" if example.visible else "not shown",
            }
            | free_members(example, taken=ROW_MEMBERS)
        )
    return dump_json({"UrlLocal": f"{groups[0]}/" if groups else "", "annotations": rows})

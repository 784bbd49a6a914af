"""Events of many videos read from whatever holds them, and two such sets brought to one naming."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from touchline.models.classes import BACKGROUND
from touchline.models.errors import LabelsError
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.types import Event, Example

EVENTS_FILE = "events.json"
RESULTS_FILE = "results_spotting.json"
CHECKPOINT_SUFFIX = ".safetensors"

# SoccerNet's halves come in several sizes: 1_224p.mkv and 1_720p.mkv are the same half.
SIZE_SUFFIX = re.compile(r"^(\d+)_(224p|720p|HQ)$")


@dataclass(frozen=True)
class EventSet:
    """Events by video, the videos named by their paths.

    events:   every labelled video has an entry, eventless ones an empty list.
    accepted: flags beside the events: at or above the operating point; all, where nobody says.
    visible:  flags beside the events: False where the broadcast did not show it.
    groups:   the match of each video.
    runs:     as what `detect` was run, where it was: one entry for each model and set of options.
    """

    events: dict[str, list[Event]]
    accepted: dict[str, list[bool]]
    visible: dict[str, list[bool]]
    groups: dict[str, str] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()

    def only_accepted(self) -> dict[str, list[Event]]:
        """The events at or above their operating point."""
        return {
            video: [e for e, flag in zip(events, self.accepted[video], strict=True) if flag]
            for video, events in self.events.items()
        }


def as_truth(events: EventSet) -> EventSet:
    """Only what was accepted, each with score 1: detections read as labels."""
    kept = {
        video: [k for k, flag in enumerate(flags) if flag]
        for video, flags in events.accepted.items()
    }
    return EventSet(
        events={v: [replace(events.events[v][k], score=1.0) for k in ks] for v, ks in kept.items()},
        accepted={video: [True] * len(ks) for video, ks in kept.items()},
        visible={video: [events.visible[video][k] for k in ks] for video, ks in kept.items()},
        groups=events.groups,
    )


def read_event_set(path: str | os.PathLike[str]) -> EventSet:
    """Events of a label file of any format, of our files, or of a whole output folder.

    A folder is one of `detect` (a folder with events.json for each video), of SoccerNet results,
    or of labels. Raises LabelsError where nothing of these is there, or a label has no times.
    """
    path = Path(path)
    if path.suffix.lower() in FOOTAGE_SUFFIXES:
        raise LabelsError(path, "is footage; what is measured are its events (touchline detect)")
    if path.suffix == CHECKPOINT_SUFFIX:
        raise LabelsError(
            path, "is a checkpoint: --model measures one on labelled clips, --compare two"
        )
    if path.is_dir():
        for name, read in ((EVENTS_FILE, _from_detect), (RESULTS_FILE, _from_labels)):
            if files := sorted(path.rglob(name)):
                return _merged(files, [read(file) for file in files])
    if path.name == EVENTS_FILE or (path.suffix == ".json" and _is_ours(path)):
        return _from_detect(path)
    return _from_labels(path)


def _is_ours(path: Path) -> bool:
    """Whether a JSON file is an events.json under another name."""
    try:
        read_events_json(path)
    except LabelsError:
        return False
    return True


def _from_detect(path: Path) -> EventSet:
    result = read_events_json(path)
    accepted = set(result.accepted)
    video = os.fspath(result.path)
    return EventSet(
        events={video: list(result.candidates)},
        accepted={video: [event in accepted for event in result.candidates]},
        visible={video: [True] * len(result.candidates)},
        runs=frozenset({_run(result.options)}),
    )


def _run(options: Mapping[str, Any]) -> str:
    """What makes a run of `detect` the same run: where its model lay and kick-offs do not."""
    model = options.get("model")
    kept = {k: v for k, v in options.items() if k not in ("model", "match_clock")}
    if isinstance(model, Mapping):
        kept["model"] = {k: v for k, v in model.items() if k != "path"}
    return json.dumps(kept, sort_keys=True)


def _from_labels(path: Path) -> EventSet:
    return event_set(read_labels(path, allow_empty=True), path)


def event_set(examples: Iterable[Example], path: str | os.PathLike[str]) -> EventSet:
    """Labels as events; rows of `background` make a video known without giving it an event."""
    events: dict[str, list[Event]] = {}
    visible: dict[str, list[bool]] = {}
    groups: dict[str, str] = {}
    for example in examples:
        video = os.fspath(example.path)
        found = events.setdefault(video, [])
        shown = visible.setdefault(video, [])
        groups.setdefault(video, example.group)
        if example.label == BACKGROUND:
            continue
        if example.start_s is None:
            raise LabelsError(
                example.source or path,
                "the label has no times; clips are evaluated with a model (--model CKPT)",
            )
        found.append(example.event())
        shown.append(example.visible)
    accepted = {video: [True] * len(found) for video, found in events.items()}
    return EventSet(events, accepted, visible, groups)


def _merged(files: Sequence[Path], sets: Sequence[EventSet]) -> EventSet:
    names = Counter(video for one in sets for video in one.events)
    for file, one in zip(files, sets, strict=True):
        for video in one.events:
            if names[video] > 1:
                raise LabelsError(file, f"another file of this folder is about {video} too")
    return EventSet(
        events={video: events for one in sets for video, events in one.events.items()},
        accepted={video: flags for one in sets for video, flags in one.accepted.items()},
        visible={video: flags for one in sets for video, flags in one.visible.items()},
        groups={video: group for one in sets for video, group in one.groups.items()},
        runs=frozenset(run for one in sets for run in one.runs),
    )


@dataclass(frozen=True)
class Paired:
    """Predictions under the names of the truth.

    unlabelled: videos of the predictions that the truth does not know.
    unpredicted: videos of the truth without predictions; their events count as missed.
    """

    predictions: EventSet
    unlabelled: tuple[str, ...]
    unpredicted: tuple[str, ...]

    def labelled_only(self) -> Paired:
        """Without the videos that the truth does not know; else their events count as false."""
        left = {video: video for video in self.predictions.events if video not in self.unlabelled}
        return replace(self, predictions=_renamed(self.predictions, left))


def pair_videos(truth: EventSet, predictions: EventSet) -> Paired:
    """Pair the videos of two sets: by path, else by the longest common end of their paths.

    Names without their ending will do ("match1" is match1.mp4). Videos that the truth does not
    know keep their names. ValueError where two videos fit equally well, or none is common to both.
    """
    name_of: dict[str, str] = {}
    by_stem: dict[str, list[str]] = {}
    for video in truth.events:
        by_stem.setdefault(_stem(video), []).append(video)
    for video in predictions.events:
        choices = by_stem.get(_stem(video), [])
        if video in truth.events:
            name_of[video] = video
        elif choices:
            name_of[video] = _best_fit(video, choices)
    _refuse_shared(name_of)
    if predictions.events and not name_of:
        theirs, ours = next(iter(predictions.events)), next(iter(truth.events), "nothing")
        raise ValueError(
            f"no video is in both sets: predictions are of {theirs}, labels of {ours}, ...; "
            "name the footage alike"
        )
    known = set(name_of.values())
    return Paired(
        predictions=_renamed(predictions, {v: name_of.get(v, v) for v in predictions.events}),
        unlabelled=tuple(v for v in predictions.events if v not in name_of),
        unpredicted=tuple(v for v in truth.events if v not in known),
    )


def _renamed(events: EventSet, name_of: Mapping[str, str]) -> EventSet:
    """The videos of `name_of` under their new names."""
    return EventSet(
        events={name: events.events[video] for video, name in name_of.items()},
        accepted={name: events.accepted[video] for video, name in name_of.items()},
        visible={name: events.visible[video] for video, name in name_of.items()},
        groups={n: events.groups[v] for v, n in name_of.items() if v in events.groups},
    )


def _stem(video: str) -> str:
    path = Path(video)
    stem = path.stem if path.suffix.lower() in FOOTAGE_SUFFIXES else path.name
    size = SIZE_SUFFIX.match(stem)
    return size[1] if size else stem


def _common_end(first: str, second: str) -> tuple[int, bool]:
    """How many folders above the file agree, and whether the file names agree in full."""
    above = zip(reversed(Path(first).parts[:-1]), reversed(Path(second).parts[:-1]), strict=False)
    count = 0
    for one, other in above:
        if one != other:
            break
        count += 1
    return count, Path(first).name == Path(second).name


def _best_fit(video: str, choices: Sequence[str]) -> str:
    ranked = sorted(((_common_end(video, choice), choice) for choice in choices), reverse=True)
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        raise ValueError(
            f"{video} may be {ranked[0][1]} or {ranked[1][1]}: names must be unique, or the "
            "folders above them must tell"
        )
    return ranked[0][1]


def _refuse_shared(name_of: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for video, name in name_of.items():
        other = taken.setdefault(name, video)
        if other != video:
            raise ValueError(f"{other} and {video} both fit the labelled video {name}")

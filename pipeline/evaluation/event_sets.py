"""Read the events of many videos from results or labels, and pair the videos of two such sets."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.models.errors import LabelsError
from touchline.models.json_values import to_json
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES, footage_stem
from touchline.pipeline.labels.datasets.soccernet import RESULTS_FILE
from touchline.pipeline.labels.read import labelled_videos, read_labels
from touchline.pipeline.labels.source import composed
from touchline.pipeline.outputs.events_json import EVENTS_FILE, is_events_json, read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.types import Event, Example

CHECKPOINT_SUFFIX = ".safetensors"
ALL = ((-math.inf, math.inf),)

# SoccerNet's halves come in several sizes: 1_224p.mkv and 1_720p.mkv are the same half. The one
# file of a match with ball actions, 224p.mp4, is half 1.
SIZE_SUFFIX = re.compile(r"^(?:(\d+)_)?(224p|720p|HQ)$")


@dataclass(frozen=True)
class EventSet:
    """Events by video. Videos are named by their paths.

    Attributes:
        events: An entry for every labelled video; an empty list for one without events.
        accepted: For each event, whether it is at or above its operating point. Labels are all
            accepted.
        visible: For each event, False if the broadcast did not show it.
        groups: The match of each video, if known.
        subsets: The subset of each video (training, validation, ...), if the labels have subsets.
        runs: One entry for each combination of model and options that `detect` ran with.
        judged: Spans (start_s, end_s) in which every event is labelled (`verified`). An evaluation
            leaves out labels and predictions whose moment is elsewhere. It judges all time of
            videos that have no entry.

    Example:
        >>> from touchline.pipeline import EventSet, read_event_set
        >>> results = read_event_set("out")
        >>> isinstance(results, EventSet)
        True
        >>> for video, events in results.only_accepted().items():
        ...     print(len(events), "accepted of", len(results.events[video]))
        2 accepted of 2
    """

    events: dict[str, list[Event]]
    accepted: dict[str, list[bool]]
    visible: dict[str, list[bool]]
    groups: dict[str, str] = field(default_factory=dict)
    subsets: dict[str, str] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()
    judged: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def only_accepted(self) -> dict[str, list[Event]]:
        """Return the events at or above their operating point, by video."""
        return {
            video: [e for e, flag in zip(events, self.accepted[video], strict=True) if flag]
            for video, events in self.events.items()
        }


def as_truth(events: EventSet) -> EventSet:
    """Use predictions as labels: only the accepted events, each with score 1."""
    kept = {
        video: [k for k, flag in enumerate(flags) if flag]
        for video, flags in events.accepted.items()
    }
    return EventSet(
        events={v: [replace(events.events[v][k], score=1.0) for k in ks] for v, ks in kept.items()},
        accepted={video: [True] * len(ks) for video, ks in kept.items()},
        visible={video: [events.visible[video][k] for k in ks] for video, ks in kept.items()},
        groups=events.groups,
        subsets=events.subsets,
        judged=events.judged,
    )


def in_subsets(events: EventSet, names: Collection[str]) -> EventSet:
    """Keep the videos of some subsets."""
    return _renamed(events, {v: v for v in events.events if events.subsets.get(v) in names})


def read_event_set(path: str | os.PathLike[str]) -> EventSet:
    """Read events from labels of any format, from results, or from a whole output folder.

    A folder is an output folder of `detect` (one folder with events.json per video), a folder of
    SoccerNet results, or a folder of labels.

    Raises:
        LabelsError: There is nothing of this kind, or a label has no times.

    Example:
        >>> from touchline.pipeline import read_event_set
        >>> for event in read_event_set("out/match/events.json").events["match.mp4"]:
        ...     print(event.label, event.start_s, event.end_s)
        bright 3.125 4.875
        bright 8.125 9.375
    """
    path = Path(path)
    if path.suffix.lower() in FOOTAGE_SUFFIXES:
        raise LabelsError(
            path, "this is footage, not events. Find its events first with touchline detect."
        )
    if path.suffix == CHECKPOINT_SUFFIX:
        raise LabelsError(
            path,
            "this is a checkpoint, not events. Use --model to measure one checkpoint on labelled "
            "clips, or --compare for two.",
        )
    if path.is_dir():
        for name, read in ((EVENTS_FILE, _from_detect), (RESULTS_FILE, _from_labels)):
            if files := sorted(path.rglob(name)):
                return _merged(files, [read(file) for file in files])
    if is_events_json(path):
        return _from_detect(path)
    return _from_labels(path)


def _from_detect(path: Path) -> EventSet:
    result = read_events_json(path)
    accepted = set(result.accepted)
    video = os.fspath(result.path)
    return EventSet(
        events={video: [replace(e, label=composed(e.label)) for e in result.candidates]},
        accepted={video: [event in accepted for event in result.candidates]},
        visible={video: [True] * len(result.candidates)},
        runs=frozenset({_run(result)}),
    )


def _run(result: MatchResult) -> str:
    """Return what tells one run of `detect` from another: the model and the options.

    The path of the model and the kick-offs do not count.
    """
    model = None if result.model is None else replace(result.model, path=None)
    return json.dumps(to_json((model, result.options)), sort_keys=True)


def _from_labels(path: Path) -> EventSet:
    found = event_set(read_labels(path, allow_empty=True, verified=True), path)
    for one in labelled_videos(path):
        video = os.fspath(one.path)
        found.groups.setdefault(video, one.group)
        for of_videos in (found.events, found.accepted, found.visible):
            of_videos.setdefault(video, [])
        if one.subset:
            found.subsets[video] = one.subset
        if found.judged:
            found.judged.setdefault(video, ())
    return found


def only_judged(events: EventSet, truth: EventSet) -> EventSet:
    """Return the events whose moment is in time that `truth` judges."""
    keep = {
        video: [
            any(start_s <= e.peak_s <= end_s for start_s, end_s in truth.judged.get(video, ALL))
            for e in mine
        ]
        for video, mine in events.events.items()
    }
    return replace(
        events,
        events={v: list(compress(mine, keep[v])) for v, mine in events.events.items()},
        accepted={v: list(compress(flags, keep[v])) for v, flags in events.accepted.items()},
        visible={v: list(compress(flags, keep[v])) for v, flags in events.visible.items()},
    )


def event_set(examples: Iterable[Example], path: str | os.PathLike[str]) -> EventSet:
    """Turn labels into events. `background` and `verified` add their video, but no event.

    If some label is `verified`, only verified stretches are judged.

    Args:
        examples: The labels.
        path: The file they are from, for error messages.

    Raises:
        LabelsError: A label has no times.
    """
    events: dict[str, list[Event]] = {}
    visible: dict[str, list[bool]] = {}
    groups: dict[str, str] = {}
    verified: dict[str, list[tuple[float, float]]] = {}
    for example in examples:
        video = os.fspath(example.path)
        found = events.setdefault(video, [])
        shown = visible.setdefault(video, [])
        groups.setdefault(video, example.group)
        if example.label == VERIFIED:
            end_s = math.inf if example.end_s is None else example.end_s
            verified.setdefault(video, []).append((example.start_s or 0.0, end_s))
        if example.label in (BACKGROUND, VERIFIED):
            continue
        if example.start_s is None:
            raise LabelsError(
                example.source or path,
                "the label has no times, so it cannot be placed in a match. Give labels with "
                "start_s and end_s. To measure a model on whole clips, use "
                "`touchline evaluate --model CKPT`.",
            )
        found.append(example.event())
        shown.append(example.visible)
    accepted = {video: [True] * len(found) for video, found in events.items()}
    judged = {}
    if verified:
        # A stretch without length says that nothing is verified.
        judged = {v: tuple(s for s in verified.get(v, ()) if s[0] < s[1]) for v in events}
    return EventSet(events, accepted, visible, groups, judged=judged)


def _merged(files: Sequence[Path], sets: Sequence[EventSet]) -> EventSet:
    names = Counter(video for one in sets for video in one.events)
    for file, one in zip(files, sets, strict=True):
        for video in one.events:
            if names[video] > 1:
                raise LabelsError(
                    file, f"another file of this folder is also about {video}. Keep one."
                )
    return EventSet(
        events={video: events for one in sets for video, events in one.events.items()},
        accepted={video: flags for one in sets for video, flags in one.accepted.items()},
        visible={video: flags for one in sets for video, flags in one.visible.items()},
        groups={video: group for one in sets for video, group in one.groups.items()},
        subsets={video: subset for one in sets for video, subset in one.subsets.items()},
        judged={video: spans for one in sets for video, spans in one.judged.items()},
        runs=frozenset(run for one in sets for run in one.runs),
    )


@dataclass(frozen=True)
class Paired:
    """Predictions under the video names of the labels.

    Attributes:
        predictions: The predictions.
        unlabelled: Videos with predictions, but without labels.
        unpredicted: Videos with labels, but without predictions; their events count as missed.
    """

    predictions: EventSet
    unlabelled: tuple[str, ...]
    unpredicted: tuple[str, ...]

    def labelled_only(self) -> Paired:
        """Drop the videos without labels. Otherwise all their events count as false."""
        left = {video: video for video in self.predictions.events if video not in self.unlabelled}
        return replace(self, predictions=_renamed(self.predictions, left))


def pair_videos(truth: EventSet, predictions: EventSet) -> Paired:
    """Pair the videos of two sets by path, or else by the longest common end of their paths.

    A name may lack its ending ("match1" is match1.mp4) or begin with ``v_``, as those of
    ActivityNet. Videos without labels keep their names.

    Raises:
        ValueError: Two videos fit equally well, or the sets have no video in common.

    Example:
        >>> from touchline.pipeline import pair_videos, read_event_set
        >>> paired = pair_videos(read_event_set("labels.csv"), read_event_set("out"))
        >>> paired.unpredicted
        ('second.mp4',)
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
            f"no video is in both sets: the predictions are for {theirs}, ..., the labels for "
            f"{ours}, .... Give the footage the same name in both."
        )
    known = set(name_of.values())
    return Paired(
        predictions=_renamed(predictions, {v: name_of.get(v, v) for v in predictions.events}),
        unlabelled=tuple(v for v in predictions.events if v not in name_of),
        unpredicted=tuple(v for v in truth.events if v not in known),
    )


def _renamed(events: EventSet, name_of: Mapping[str, str]) -> EventSet:
    """The videos in `name_of`, under their new names."""
    return EventSet(
        events={name: events.events[video] for video, name in name_of.items()},
        accepted={name: events.accepted[video] for video, name in name_of.items()},
        visible={name: events.visible[video] for video, name in name_of.items()},
        groups={n: events.groups[v] for v, n in name_of.items() if v in events.groups},
        subsets={n: events.subsets[v] for v, n in name_of.items() if v in events.subsets},
        judged={n: events.judged[v] for v, n in name_of.items() if v in events.judged},
    )


def _stem(video: str) -> str:
    stem = footage_stem(Path(composed(video)))
    size = SIZE_SUFFIX.match(stem)
    # ActivityNet's own files are named v_<name>.
    return size[1] or "1" if size else stem.removeprefix("v_")


def _common_end(first: str, second: str) -> tuple[int, bool, bool]:
    """How many folders above the file are the same, and whether the full names and stems are."""
    one_path, other_path = Path(composed(first)), Path(composed(second))
    above = zip(reversed(one_path.parts[:-1]), reversed(other_path.parts[:-1]), strict=False)
    count = 0
    for one, other in above:
        if one != other:
            break
        count += 1
    same_stem = footage_stem(one_path) == footage_stem(other_path)
    return count, one_path.name == other_path.name, same_stem


def _best_fit(video: str, choices: Sequence[str]) -> str:
    ranked = sorted(((_common_end(video, choice), choice) for choice in choices), reverse=True)
    if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
        raise ValueError(
            f"{video} may be {ranked[0][1]} or {ranked[1][1]}. Give the videos different names, or "
            "keep the folders above them the same in predictions and labels."
        )
    return ranked[0][1]


def _refuse_shared(name_of: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for video, name in name_of.items():
        other = taken.setdefault(name, video)
        if other != video:
            raise ValueError(
                f"{other} and {video} both fit the labelled video {name}. Remove or rename one."
            )

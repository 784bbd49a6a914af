"""Read results from an events.json, or from events and labels in any other format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.models.errors import LabelsError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.outputs.events_json import is_events_json, read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.score_track import SCORES_FILE, load_track
from touchline.pipeline.types import Event, FootageHealth


def read_results(
    path: str | os.PathLike[str],
    *,
    footage: str | os.PathLike[str] | None = None,
    rate_hz: float | None = None,
) -> list[MatchResult]:
    """Read one result per video that the file names, with footage health if the footage is there.

    A result from events.json has its candidates and options, and its scores if there is a
    scores.npz in the same folder. Events from other formats are all accepted.

    Args:
        path: An events.json, or a label file or folder of any format.
        footage: The footage, instead of the file that is named.
        rate_hz: Frames per second, for label formats that count frames.

    Raises:
        LabelsError: The file cannot be read or is damaged.
        ValueError: `footage` is given, and the file holds events of several videos.

    Example:
        >>> from touchline.pipeline import read_results
        >>> for result in read_results("labels.csv"):
        ...     print(result.path.name, len(result.accepted), result.health.duration_s)
        match.mp4 2 12.0
        second.mp4 1 12.0
    """
    path = Path(path)
    results = [_with_scores(path)] if is_events_json(path) else _from_labels(path, rate_hz)
    if footage is not None:
        if len(results) > 1:
            raise ValueError(
                f"{path} holds events of {len(results)} videos. --footage is for events of one "
                "video."
            )
        given = Path(footage)
        return [replace(results[0], path=given, health=_health_in(given, results[0].health))]
    return [_probed(result) for result in results]


def _health_in(given: Path, recorded: FootageHealth | None) -> FootageHealth:
    """Keep what decoding found if the given footage is the same footage in another place."""
    if recorded is None:
        return probe_footage(given)
    # Another file may not have this stream.
    with suppress(ValueError):
        if _look(probe_footage(given, stream=recorded.stream_index)) == _look(recorded):
            return recorded
    return probe_footage(given)


def _look(health: FootageHealth) -> tuple[object, ...]:
    return (health.codec, health.width, health.height, health.frame_rate, round(health.duration_s))


def _with_scores(path: Path) -> MatchResult:
    result = read_events_json(path)
    scores = path.with_name(SCORES_FILE)
    return replace(result, track=load_track(scores)) if scores.exists() else result


def _from_labels(path: Path, rate_hz: float | None) -> list[MatchResult]:
    by_video: dict[Path, list[Event]] = {}
    for example in read_labels(path, rate_hz=rate_hz, verified=True):
        events = by_video.setdefault(example.path, [])
        if example.label not in (BACKGROUND, VERIFIED):
            events.append(example.event())
    return [MatchResult(video, tuple(events), tuple(events)) for video, events in by_video.items()]


def _probed(result: MatchResult) -> MatchResult:
    if result.health is not None or not result.path.is_file():
        return result
    return replace(result, health=probe_footage(result.path))


def refuse_empty(path: Path, results: Sequence[MatchResult]) -> None:
    """Check that there is an accepted event in some result.

    Raises:
        LabelsError: There is none.
    """
    if not any(result.accepted for result in results):
        raise LabelsError(
            path, "holds no accepted event. Lower the --threshold of `touchline detect`."
        )

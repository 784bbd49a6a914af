"""Results from whatever holds them: an events.json, or events and labels of any other format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from touchline.models.classes import BACKGROUND
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
    """One result per video that the file names, with footage health where the footage is there.

    An events.json keeps its candidates and options, and its scores where scores.npz lies beside
    it; events and labels of other formats are all accepted. footage: the file that they are of,
    instead of the one named. rate_hz: for label formats that count frames. LabelsError or
    ValueError says what cannot be used.
    """
    path = Path(path)
    results = [_with_scores(path)] if is_events_json(path) else _from_labels(path, rate_hz)
    if footage is not None:
        if len(results) > 1:
            raise ValueError(
                f"{path} holds events of {len(results)} videos; --footage fits one of them only"
            )
        given = Path(footage)
        return [replace(results[0], path=given, health=_health_in(given, results[0].health))]
    return [_probed(result) for result in results]


def _health_in(given: Path, recorded: FootageHealth | None) -> FootageHealth:
    """What decoding found stays known of the same footage in another place."""
    if recorded is None:
        return probe_footage(given)
    # Another file need not have the stream.
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
    for example in read_labels(path, rate_hz=rate_hz):
        events = by_video.setdefault(example.path, [])
        if example.label != BACKGROUND:
            events.append(example.event())
    return [MatchResult(video, tuple(events), tuple(events)) for video, events in by_video.items()]


def _probed(result: MatchResult) -> MatchResult:
    if result.health is not None or not result.path.is_file():
        return result
    return replace(result, health=probe_footage(result.path))


def refuse_empty(path: Path, results: Sequence[MatchResult]) -> None:
    """LabelsError where there is no accepted event in any result."""
    if not any(result.accepted for result in results):
        raise LabelsError(
            path, "holds no accepted event: lower the threshold of `touchline detect`"
        )

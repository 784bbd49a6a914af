"""Detect events in one footage file, from decoding to events: the order of all the stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel, file_digest
from touchline.models.engines.trial import is_worth
from touchline.models.errors import TouchlineError
from touchline.pipeline.clips.windows import hop_samples
from touchline.pipeline.decoding.decode import FrameStream, decode
from touchline.pipeline.decoding.parallel import workers_for
from touchline.pipeline.decoding.probe import health_after, probe_footage, rate_is_wrong
from touchline.pipeline.detection.kept_scores import KeepScores, score_and_keep, scores_key
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.isolation import AVAILABLE
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.scoring.events import find_candidates, operating_points
from touchline.pipeline.scoring.feature_track import FeatureTrack, TrackRows, track_key
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, FootageHealth, ScoreTrack


def make_scorer(
    model: TrainedModel, options: DetectOptions, footage: Sequence[Path] = ()
) -> Scorer:
    """Prepare a model on its device; all files of a run share it.

    Args:
        model: The model.
        options: How to look for events.
        footage: The files of the run. Engines are tried only if there is enough footage for it.

    Raises:
        ValueError: An option does not fit the model or the machine.
    """
    return Scorer(
        model,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        mode=options.mode,
        hop_s=options.hop_s,
        engine=options.engine,
        int8=options.int8,
        compiled=options.compiled,
        worth=lambda: _is_long(footage, model.spec, options),
    )


def _is_long(footage: Sequence[Path], spec: ClipSpec, options: DetectOptions) -> bool:
    """Tell whether a trial of the engines pays. Files are opened until it does."""
    total_s = 0.0
    for path in footage:
        with suppress(TouchlineError, ValueError, OSError):
            total_s += probe_footage(
                path, stream=options.stream, isolation=options.isolation and AVAILABLE
            ).duration_s
        if is_worth(spec, total_s):
            return True
    return False


def thresholds_of(model: TrainedModel, options: DetectOptions) -> Mapping[str, float]:
    """Return the threshold of each class except background: asked for, calibrated, or default."""
    default = options.point.threshold if options.threshold is None else options.threshold
    calibrated = model.thresholds if options.threshold is None else None
    return {label: (calibrated or {}).get(label, default) for label in model.labels[1:]}


def points_of(model: TrainedModel, options: DetectOptions) -> dict[str, OperatingPoint]:
    """Return the operating point of each class except background."""
    return operating_points(
        model.labels, thresholds=thresholds_of(model, options), default=options.point
    )


def events_of(model: TrainedModel, options: DetectOptions) -> EventOptions:
    """Return how scores become events: as asked for, with the calibrated widths of the model."""
    if options.events.widths is not None:
        return options.events
    return replace(options.events, widths=model.widths)


def score_whole(
    path: Path,
    scorer: Scorer,
    options: DetectOptions,
    declared: FootageHealth,
    on_window: OnWindow | None = None,
) -> tuple[ScoreTrack, DecodeLog]:
    """Decode a file and score it in one pass; also return what decoding found.

    Args:
        path: The file or address.
        scorer: The network.
        options: How to look for events.
        declared: What the headers declare.
        on_window: Called with the end of the last window scored, in seconds.
    """
    frames = _decoding(path, scorer, options, _decode_workers(path, declared, options))()
    return scorer.score(frames, hop_s=options.hop_s, on_window=on_window), frames.log


OnWindow = Callable[[float], None]
Score = Callable[
    [Path, Scorer, DetectOptions, FootageHealth, OnWindow | None], tuple[ScoreTrack, DecodeLog]
]
"""Scores a file; see `score_whole`."""


def detect(
    path: str | os.PathLike[str],
    model: TrainedModel | Scorer,
    options: DetectOptions | None = None,
    *,
    keep: KeepScores | None = None,
    on_time: Callable[[float, float], None] | None = None,
    score: Score | None = None,
) -> MatchResult:
    """Find the events of one footage file.

    Args:
        path: A file, or an address as text (https://, s3://, gs://).
        model: The model. Give a `Scorer` to prepare the network once for many files.
        options: How to look for events. None: the defaults of `DetectOptions`.
        keep: Where scores are kept as they come, so that a run that was killed goes on in
            mid-file. The caller removes the file. `options.features` does without.
        on_time: Called with (seconds done, seconds in all) after each batch of windows.
        score: What decodes and scores the file, if not `score_whole`. It keeps no scores.

    Raises:
        FootageError: If the file cannot be read as video.

    Example:
        >>> from touchline.pipeline import DetectOptions, detect, load_model
        >>> model = load_model("model.safetensors")
        >>> match = detect("match.mp4", model, DetectOptions(hop_s=0.25))
        >>> for event in match.accepted:
        ...     print(f"{event.label} from {event.start_s:.1f} to {event.end_s:.1f} s")
        bright from 3.1 to 4.9 s
        bright from 8.1 to 9.4 s
    """
    options = options or DetectOptions()
    scorer = (
        model if isinstance(model, Scorer) else make_scorer(model, options, [footage_path(path)])
    )
    path = footage_path(path)
    isolation = options.isolation and AVAILABLE
    declared = probe_footage(path, stream=options.stream, isolation=isolation)
    on_window = None if on_time is None else lambda s: on_time(s, declared.duration_s)
    if options.features is None:
        if keep is None or score is not None:
            track, log = (score or score_whole)(path, scorer, options, declared, on_window)
        else:
            workers = _decode_workers(path, declared, options)
            read = _decoding(path, scorer, options, workers)
            key = scores_key(scorer, options, keep.footage, decode_workers=workers)
            track, frames = score_and_keep(
                keep, key, scorer, read, hop_s=options.hop_s, on_window=on_window
            )
            log = frames.log
        health = _health(declared, log)
    else:
        rows = _kept_features(path, scorer, options, declared.stream_index, on_window)
        track = scorer.score_features(rows.sampled(scorer.device), hop_s=options.hop_s)
        health = replace(declared, damaged_s=rows.damaged_s())
    if rate_is_wrong(health) and not isinstance(path, Address):
        health = _with_true_rate(health, path, isolation=isolation)
    used = replace(options, batch_size=scorer.batch_size)
    return match_result(path, scorer.model, used, track, health)


def match_result(
    path: Path,
    model: TrainedModel,
    options: DetectOptions,
    track: ScoreTrack,
    health: FootageHealth,
) -> MatchResult:
    """Find the events in the scores of a file, and return its result.

    Args:
        path: The file or address.
        model: The model that gave the scores.
        options: How to look for events.
        track: The scores.
        health: What is known about the footage. No event ends after its `duration_s`.
    """
    points = points_of(model, options)
    candidates = [
        _ending_by(event, health.duration_s)
        for event in find_candidates(track, points, events_of(model, options), floor=options.floor)
    ]
    return MatchResult(
        path=path,
        candidates=tuple(candidates),
        accepted=tuple(e for e in candidates if e.score >= points[e.label].threshold),
        health=health,
        track=track,
        options=applied_options(model, options),
        model=model_summary(model),
    )


def _kept_features(
    path: Path,
    scorer: Scorer,
    options: DetectOptions,
    stream: int | None,
    on_row: Callable[[float], None] | None,
) -> TrackRows:
    """The features of a file from the folder that keeps them; what is missing is computed."""
    if isinstance(path, Address) or options.decoder != "pyav":
        raise ValueError("features are kept for local files and the decoder pyav only")
    if not scorer.shared:
        raise ValueError("features of whole footage need mode 'shared', or a framewise trunk")
    assert options.features is not None
    key = track_key(file_digest(path), scorer, stream=stream)
    track = FeatureTrack(options.features, key)
    track.compute(path, scorer, stream=stream, on_row=on_row or (lambda _: None))
    return track.rows()


def _decoding(
    path: Path, scorer: Scorer, options: DetectOptions, workers: int
) -> Callable[..., FrameStream]:
    """`decode` with everything that scoring asks of it."""
    return partial(
        decode,
        path,
        rate_hz=scorer.model.spec.rate_hz,
        size_px=scorer.model.spec.size_px,
        decoder=options.decoder,
        stream=options.stream,
        isolation=options.isolation and AVAILABLE,
        workers=workers,
    )


def _decode_workers(path: Path, declared: FootageHealth, options: DetectOptions) -> int:
    if not (options.isolation and AVAILABLE):
        return 1
    if options.decode_workers is not None:
        return options.decode_workers
    alone = isinstance(path, Address) or options.decoder != "pyav"
    return 1 if alone else workers_for(declared.duration_s, declared.num_frames)


def _ending_by(event: Event, end_s: float) -> Event:
    """Cut an event at the end of the footage, which the last sampling period may pass."""
    if event.end_s <= end_s:
        return event
    start_s, peak_s = min(event.start_s, end_s), min(event.peak_s, end_s)
    return replace(event, start_s=start_s, end_s=end_s, peak_s=peak_s)


def _health(declared: FootageHealth, log: DecodeLog) -> FootageHealth:
    """The health that the headers declare, corrected by what decoding found."""
    health = health_after(declared, log)
    return replace(health, duration_s=round(log.end_s, 6), num_frames=log.num_frames)


def _with_true_rate(health: FootageHealth, path: Path, *, isolation: bool) -> FootageHealth:
    """The health with the rate of the packets; reading them takes seconds, and is seldom needed."""
    found = probe_footage(path, depth="packets", stream=health.stream_index, isolation=isolation)
    warnings = tuple(dict.fromkeys((*health.warnings, *found.warnings)))
    return replace(
        health,
        frame_rate=found.frame_rate,
        variable_rate=found.variable_rate,
        warnings=warnings,
    )


def applied_options(model: TrainedModel, options: DetectOptions) -> AppliedOptions:
    """Return all options that shape a result, for events.json.

    Raises:
        ValueError: `hop_s` does not fit the model's window.
    """
    shaping = asdict(options) | {
        "point": options.point,
        "events": events_of(model, options),
    }
    shaping["int8"] = None if options.int8 is None else file_digest(options.int8)
    for elsewhere in ("isolation", "decode_workers", "features"):
        del shaping[elsewhere]
    shaping["hop_s"] = hop_samples(model.spec, options.hop_s) / model.spec.rate_hz
    return AppliedOptions(**shaping, thresholds=thresholds_of(model, options))


def model_summary(
    model: TrainedModel, *, path: str | None = None, sha256: str | None = None
) -> ModelSummary:
    """Return what events.json says about the model.

    Args:
        model: The model.
        path: Its path, or its name in `touchline models`.
        sha256: SHA-256 of its file.
    """
    return ModelSummary(
        architecture=model.architecture,
        labels=model.labels,
        spec=model.spec,
        calibrated=model.thresholds is not None,
        has_background=model.has_background,
        path=path,
        sha256=sha256,
    )

"""Score footage in which every event is labelled: what `detect` finds there is right or false.

Stitched clips only resemble a match. Verified stretches are one, so thresholds from them need no
clips to be stitched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from touchline.models.classes import BACKGROUND
from touchline.pipeline.calibration.calibrate import refuse_trained
from touchline.pipeline.calibration.stitched_clips import StitchedClips
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Example, ScoreTrack


def in_verified(example: Example, verified: Sequence[Example]) -> bool:
    """Tell whether a label has times and lies in one of the verified stretches of its file."""
    if example.start_s is None or example.end_s is None:
        return False
    return any(
        one.path == example.path
        and (one.start_s or 0.0) <= example.start_s
        and (one.end_s is None or example.end_s <= one.end_s)
        for one in verified
    )


def score_verified(
    scorer: Scorer,
    examples: Sequence[Example],
    verified: Sequence[Example],
) -> StitchedClips:
    """Score verified stretches and join them in time, one after the other.

    Args:
        scorer: The model.
        examples: The labels; those outside the stretches and background are left out.
        verified: The stretches, one or more; without times it is the whole file.

    Raises:
        FootageError: A file cannot be read.
        ValueError: The model was trained on one of their matches.
    """
    refuse_trained(scorer.model, [one.group for one in verified])
    spec = scorer.model.spec
    events = [example for example in examples if example.label != BACKGROUND]
    tracks: list[ScoreTrack] = []
    truth: list[Event] = []
    begin_s = 0.0
    for one in verified:
        frames = decode(
            one.path,
            rate_hz=spec.rate_hz,
            size_px=spec.size_px,
            start_s=one.start_s or 0.0,
            end_s=one.end_s,
        )
        track = scorer.score(frames)
        by_s = begin_s - (float(track.start_s[0]) if len(track.start_s) else 0.0)
        tracks.append(replace(track, start_s=track.start_s + by_s, end_s=track.end_s + by_s))
        truth += [example.event().moved(by_s) for example in events if in_verified(example, [one])]
        begin_s = max([begin_s, *tracks[-1].end_s[-1:].tolist()])
    joined = [
        np.concatenate([getattr(track, name) for track in tracks])
        for name in ("start_s", "end_s", "probs", "damaged")
    ]
    return StitchedClips(ScoreTrack(scorer.model.labels, *joined), tuple(truth))


def eventless_parts(
    stitched: StitchedClips, *, margin_s: float, least_s: float
) -> dict[str, ScoreTrack]:
    """Return the parts of verified footage without events, each as a track, by their start.

    Args:
        stitched: From `score_verified`.
        margin_s: Least distance of their windows from every event.
        least_s: Shorter parts are left out.
    """
    track = stitched.track
    quiet = np.ones(len(track.start_s), dtype=np.bool_)
    for event in stitched.truth:
        before = track.end_s <= event.start_s - margin_s
        quiet &= before | (track.start_s >= event.end_s + margin_s)
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8), prepend=0, append=0))
    parts = [track.part(slice(a, b)) for a, b in edges.reshape(-1, 2).tolist()]
    return {
        f"verified time from {part.start_s[0]:g} s": part
        for part in parts
        if part.end_s[-1] - part.start_s[0] >= least_s
    }

"""Compute the metric of player-centric spotting: who did what, and when?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from touchline.pipeline.evaluation.ranking import (
    NO_EVENTS,
    ClassEvents,
    EventsByVideo,
    MeanAP,
    Ranking,
    Rule,
    Units,
    by_score,
    events_by_class,
    match_greedily,
    rank,
)
from touchline.pipeline.evaluation.spotting import closest_pairs
from touchline.pipeline.types import Event

PLAYER_TOLERANCE_S = 12 / 25
PLAYER_CONFIDENCE = 0.15

PLAYER_RULE = Rule(area="f1")

# Separates class, team and jersey in the names by which players are told apart.
MARK = "\0"


def player_f1(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tolerances_s: Sequence[float] = (PLAYER_TOLERANCE_S,),
    *,
    units: Units | None = None,
) -> MeanAP:
    """Compute macro-F1 like SoccerNet's challenge of 2026 (FOOTPASS, `utils/metric_utils.py`).

    Predictions with a score below 0.15 do not count. Best first, each takes the closest free event
    of its class, team and jersey that is at most the tolerance away. The mean is over the labelled
    classes.

    Args:
        truth: Labelled events. Team and jersey are their attributes.
        predictions: Predicted events.
        tolerances_s: Half the widths of the windows, in seconds, inclusive.
        units: What is resampled; None: each video.

    Raises:
        ValueError: `tolerances_s` is empty.
    """
    if not tolerances_s:
        raise ValueError("there is no tolerance. Give one or more, in seconds.")
    counted = {
        video: [event for event in events if event.score >= PLAYER_CONFIDENCE]
        for video, events in predictions.items()
    }
    events = events_by_class(_by_player(truth), _by_player(counted), units)
    labels = tuple(sorted({event.label for found in truth.values() for event in found}))
    rows = tuple(
        tuple(_ranking(events, label, tolerance_s) for tolerance_s in tolerances_s)
        for label in labels
    )
    return MeanAP("player_f1", tuple(tolerances_s), labels, rows, PLAYER_RULE, events.units.num)


def _by_player(events: EventsByVideo) -> dict[str, list[Event]]:
    """The events with class, team and jersey as their label."""
    return {video: [_of_player(event) for event in mine] for video, mine in events.items()}


def _of_player(event: Event) -> Event:
    known = dict(event.attributes)
    parts = (event.label, known.get("team", ""), known.get("jersey", ""))
    return replace(event, label=MARK.join(parts))


def _ranking(events: ClassEvents, label: str, tolerance_s: float) -> Ranking:
    """The predictions of a class with their hits, player after player."""
    players = sorted(
        name for name in {**events.truth, **events.predictions} if name.rsplit(MARK, 2)[0] == label
    )
    parts = []
    for player in players:
        truth = events.truth.get(player, NO_EVENTS)
        predictions = by_score(events.predictions.get(player, NO_EVENTS))
        i, j, _ = closest_pairs(predictions, truth, reach_s=tolerance_s)
        partner = match_greedily(i, j, num_takers=len(predictions), num_taken=len(truth))
        parts.append(rank(predictions, truth, partner, events))
    return Ranking(
        score=np.concatenate([part.score for part in parts]),
        hit=np.concatenate([part.hit for part in parts]),
        unit=np.concatenate([part.unit for part in parts]),
        num_truth=np.sum([part.num_truth for part in parts], axis=0),
    )

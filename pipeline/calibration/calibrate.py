"""Choose a model's operating points: its temperature and the threshold of each class.

Labelled clips set the temperature. They also set thresholds, either on their windows or on the
events found in clips that are stitched together (`stitched_clips`). The number of false events per
hour can be measured only on eventless footage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.training_record import (
    BeforeAfter,
    CalibrationEvidence,
    CalibrationTarget,
    PeakWidths,
    ThresholdChoice,
)
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.stitched_clips import (
    StitchedClips,
    event_curve,
    score_stitched_clips,
    timing_error_s,
)
from touchline.pipeline.calibration.temperature import (
    Reliability,
    every_window,
    fit_model_temperature,
    held_out_probs,
    measure_reliability,
    negative_log_likelihood,
    window_probs,
)
from touchline.pipeline.calibration.thresholds import (
    LEAST_THRESHOLD,
    ThresholdCurve,
    choose_above,
    choose_for_rate,
    choose_threshold,
    common_threshold,
    count_events,
    hours_of,
    most_events_per_hour,
    window_curve,
)
from touchline.pipeline.calibration.widths import choose_widths
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.scoring.seen_groups import trained_groups
from touchline.pipeline.types import Bool, Example, Float64, Frames, ScoreTrack, UInt8

NUM_ORDERS = 3
"""The clips are stitched in this many orders, each with other neighbours and gaps."""

GAP_FOOTAGE_S = 120.0
"""Gaps are taken from this many seconds at the start of each eventless file or stretch."""


@dataclass(frozen=True)
class Calibration:
    """A model's new temperature and thresholds, and the evidence for them.

    Attributes:
        temperature: The logits are divided by it.
        thresholds: The threshold of each class.
        widths: The smoothing and suppression of each class; None unless chosen for spots.
        choices: How each threshold was chosen, by class.
        before: Reliability of the windows at the model's old temperature.
        after: Reliability at the new one.
        nll_before: Mean negative log-likelihood of the windows at the old temperature.
        nll_after: Mean negative log-likelihood at the new one.
        held_out: True: each group is measured in `after` and `nll_after` at the temperature fitted
            on the other groups. False: there is only one group, measured at its own temperature.
        curves: The effect of every threshold, by class.
        num_orders: Orders in which the clips were stitched; 0: thresholds were set on windows.
        verified: Whether thresholds were set on verified footage instead of stitched clips.
    """

    temperature: float
    thresholds: Mapping[str, float]
    widths: Mapping[str, PeakWidths] | None
    choices: Mapping[str, ThresholdChoice]
    before: Reliability
    after: Reliability
    nll_before: float
    nll_after: float
    held_out: bool
    curves: Mapping[str, ThresholdCurve]
    num_orders: int = 0
    verified: bool = False

    @property
    def unit(self) -> str:
        """What precision and recall count: "events" or "windows"."""
        return "events" if self.num_orders or self.verified else "windows"

    def apply(self, model: TrainedModel, evidence: CalibrationEvidence) -> TrainedModel:
        """Return the model with these operating points, and with the evidence in its record."""
        return replace(
            model,
            temperature=self.temperature,
            thresholds=dict(self.thresholds),
            widths=self.widths,
            record=replace(model.record, calibration=evidence),
        )


def calibration_examples(
    model: TrainedModel, examples: Sequence[Example], groups: Sequence[str] | None = None
) -> list[Example]:
    """Return the examples to calibrate on.

    Args:
        model: The trained model.
        examples: All labelled examples.
        groups: Groups to use. None: all. ["val"]: the validation groups of the training.

    Raises:
        ValueError: A group is unknown, or the model was trained on one: its scores are too high
            on matches it has seen.
    """
    if groups is not None and list(groups) == ["val"]:
        groups = model.record.groups.val
        if not groups:
            raise ValueError(
                "the model has no validation groups. Name the groups to use with --groups."
            )
    found = {example.group for example in examples}
    if groups is not None and (unknown := sorted(set(groups) - found)):
        raise ValueError(
            f"no label is of group {unknown[0]!r}. The groups are {', '.join(sorted(found)[:8])}."
        )
    chosen = found if groups is None else found & set(groups)
    refuse_trained(model, chosen)
    return [example for example in examples if example.group in chosen]


def refuse_trained(model: TrainedModel, groups: Iterable[str]) -> None:
    """Raise ValueError if the model was trained on one of these groups."""
    if seen := trained_groups(model, groups):
        val = ", ".join(model.record.groups.val) or "none"
        raise ValueError(
            f"the model was trained on {', '.join(seen[:8])}. Operating points from matches it has "
            "seen are too optimistic. Use other matches; --groups val takes the validation groups "
            f"of the training ({val})."
        )


def eventless_footage(paths: Sequence[Path]) -> list[Example]:
    """Return whole files without events as background examples."""
    return [Example(path, BACKGROUND, path.stem) for path in paths]


def stretch_name(example: Example) -> str:
    """Return the name of an example's file, with its times if it has any."""
    if example.start_s is None or example.end_s is None:
        return example.path.name
    return f"{example.path.name} {example.start_s:g} to {example.end_s:g} s"


def score_eventless(scorer: Scorer, eventless: Sequence[Example]) -> dict[str, ScoreTrack]:
    """Score footage without events; return the score tracks by path and start.

    Args:
        scorer: The model.
        eventless: Whole files or stretches.

    Raises:
        ValueError: The model was trained on one of their matches.
    """
    refuse_trained(scorer.model, [example.group for example in eventless])
    return {
        f"{e.path} from {e.start_s or 0:g} s": scorer.score(_decoded(scorer, e, e.end_s))
        for e in eventless
    }


def _decoded(scorer: Scorer, example: Example, end_s: float | None) -> Iterable[Frames]:
    spec, start_s = scorer.model.spec, example.start_s or 0.0
    return decode(
        example.path, rate_hz=spec.rate_hz, size_px=spec.size_px, start_s=start_s, end_s=end_s
    )


def score_in_several_orders(
    scorer: Scorer, clips: Sequence[LabelledClip], eventless: Sequence[Example], *, seed: int = 0
) -> list[StitchedClips]:
    """Stitch the clips in `NUM_ORDERS` orders and score each.

    Args:
        scorer: The model, at the new temperature.
        clips: The labelled clips.
        eventless: Files or stretches without events; parts of them are put between the clips.
        seed: Random seed of the orders and of the parts.
    """
    spec = scorer.model.spec
    gaps: list[UInt8] = []
    for example in eventless:
        end_s = min((example.start_s or 0.0) + GAP_FOOTAGE_S, example.end_s or math.inf)
        chunks = _decoded(scorer, example, end_s)
        gaps.append(np.concatenate([squared(chunk.pixels, spec) for chunk in chunks]))
    return [
        score_stitched_clips(scorer, clips, eventless=gaps, seed=seed + k)
        for k in range(NUM_ORDERS)
    ]


def calibrate(
    model: TrainedModel,
    scores: ClipScores,
    *,
    target: Target,
    stitched: Sequence[StitchedClips] = (),
    tracks: Mapping[str, ScoreTrack] | None = None,
    temperature: float | None = None,
    events: EventOptions | None = None,
    floor: float = LEAST_THRESHOLD,
    verified: bool = False,
) -> Calibration:
    """Fit the temperature and choose the threshold of every class that has evidence.

    Args:
        model: The trained model.
        scores: Its logits of labelled clips.
        target: What the thresholds are to achieve.
        stitched: The same clips stitched together (`score_in_several_orders`). Thresholds are then
            chosen on the events found in them; without any, on the windows of the clips.
        tracks: Score tracks of eventless footage by name. Their events (or windows) are false.
        temperature: The one that `stitched` and `tracks` were scored at, from
            `fit_model_temperature`; None fits it here.
        events: How scores become events; None takes the defaults.
        floor: The lowest threshold allowed, for the target "f1".
        verified: Whether `stitched` is verified footage (`score_verified`). The time of `tracks` is
            part of it then, and counts once.

    Raises:
        ValueError: There are no clips; some are background, but the model has no background; or
            the target is a rate per hour and there is no eventless footage.
    """
    logits, truth = every_window(model, scores)
    target.require_footage(given=bool(tracks))
    fitted = fit_model_temperature(model, scores) if temperature is None else temperature
    probs = window_probs(model, logits, fitted)
    before = window_probs(model, logits, model.temperature)
    held_out = held_out_probs(model, scores)
    after = probs if held_out is None else held_out
    options, footage = events or EventOptions(), list((tracks or {}).values())
    more = [] if verified else footage
    curves: dict[str, ThresholdCurve] = {}
    widths: dict[str, PeakWidths] = {}
    for k, label in enumerate(model.labels[1:], start=1):
        positive = truth == k
        if positive.any() and stitched and options.spots:
            widths[label], curves[label] = choose_widths(stitched, more, label, options)
        elif positive.any() and stitched:
            curves[label] = event_curve(stitched, more, label, options)
        elif positive.any():
            curves[label] = _curve_of_windows(probs[:, k], positive, footage, label)
    # Stitched clips count each event once per order, windows once per window.
    copies = len(stitched) or scores.logits.shape[1]
    common = common_threshold(list(curves.values()), copies=copies, floor=floor)
    choices: dict[str, ThresholdChoice] = {}
    for label in model.labels[1:]:
        own = replace(options, widths={label: widths[label]}) if label in widths else options
        choice = _choose(
            label,
            curves.get(label),
            target,
            footage,
            own,
            copies=copies,
            floor=floor,
            common=common,
        )
        if choice is None:
            continue
        error_s = timing_error_s(stitched, label, choice.threshold, own)
        choices[label] = replace(choice, widths=widths.get(label), timing_error_s=error_s)
    return Calibration(
        temperature=fitted,
        thresholds={label: choice.threshold for label, choice in choices.items()},
        widths=widths or None,
        choices=choices,
        before=measure_reliability(before, truth),
        after=measure_reliability(after, truth),
        nll_before=negative_log_likelihood(model, before, truth),
        nll_after=negative_log_likelihood(model, after, truth),
        held_out=held_out is not None,
        curves=curves,
        num_orders=0 if verified else len(stitched),
        verified=verified,
    )


def _curve_of_windows(
    scores: Float64, positive: Bool, footage: Sequence[ScoreTrack], label: str
) -> ThresholdCurve:
    """The curve of the clips' windows, with the windows of eventless footage as negatives."""
    quiet = [track.probs[~track.damaged, track.labels.index(label)] for track in footage]
    every = np.concatenate([scores, *quiet])
    return window_curve(every, np.append(positive, np.zeros(len(every) - len(positive), np.bool_)))


def _choose(
    label: str,
    curve: ThresholdCurve | None,
    target: Target,
    footage: Sequence[ScoreTrack],
    options: EventOptions,
    *,
    copies: int,
    floor: float,
    common: float,
) -> ThresholdChoice | None:
    """The choice for one class; None without clips of it and without a rate to keep."""
    if target.kind == "false_per_hour":
        choice = choose_for_rate(footage, label, target, options)
        if curve is not None:
            choice = choose_above(curve, choice, copies=copies, common=common)
    elif curve is not None:
        choice = choose_threshold(curve, target, copies=copies, floor=floor, common=common)
    else:
        return None
    if footage:
        found = count_events(footage, label, choice.threshold, options)
        choice = replace(choice, false_events=found, hours=hours_of(footage))
    return choice


def evidence_record(
    calibration: Calibration, scores: ClipScores, target: Target, *, eventless: Sequence[str] = ()
) -> CalibrationEvidence:
    """Collect the evidence for the operating points, for the model's record.

    Args:
        calibration: The result.
        scores: The scores of the clips it comes from.
        target: What the thresholds were to achieve.
        eventless: Names of the eventless footage.
    """
    return CalibrationEvidence(
        target=CalibrationTarget(target.kind, target.value),
        clips=len(scores.examples),
        windows=int(scores.logits.shape[0] * scores.logits.shape[1]),
        groups=tuple(sorted(set(scores.groups))),
        thresholds_of=calibration.unit,
        stitched_orders=calibration.num_orders,
        eventless=tuple(eventless),
        temperature=calibration.temperature,
        held_out=calibration.held_out,
        nll=BeforeAfter(calibration.nll_before, calibration.nll_after),
        ece=BeforeAfter(calibration.before.ece, calibration.after.ece),
        per_class={label: _with_rates(choice) for label, choice in calibration.choices.items()},
    )


def _with_rates(choice: ThresholdChoice) -> ThresholdChoice:
    """The choice with its false events per hour, where there is eventless footage."""
    if not choice.hours or choice.false_events is None:
        return choice
    return replace(
        choice,
        false_per_hour=choice.false_events / choice.hours,
        false_per_hour_at_most=most_events_per_hour(choice.false_events, choice.hours),
    )

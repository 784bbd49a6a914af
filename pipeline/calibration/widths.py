"""Choose how wide the score of each class is smoothed, and how far apart its spots are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from touchline.models.training_record import PeakWidths
from touchline.pipeline.calibration.stitched_clips import (
    StitchedClips,
    event_curve,
    has_enough_eventless,
)
from touchline.pipeline.calibration.thresholds import ThresholdCurve
from touchline.pipeline.scoring.events import widths_of
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.types import ScoreTrack

SMOOTH_S = (0.0, 0.2, 0.3, 0.5, 0.8, 1.2)
"""The smoothing that is tried, in seconds, besides the default."""

NMS_S = (1.0, 2.0, 4.0)
"""The suppression that is tried, in seconds, besides the default."""

CLEAR_GAIN = 0.5
"""The default stays unless others gain more than this many clips, in average precision."""

LEAST_CLIPS = 5
"""With fewer clips of a class, its widths stay at the default."""


def choose_widths(
    stitched: Sequence[StitchedClips],
    eventless: Sequence[ScoreTrack],
    label: str,
    options: EventOptions,
) -> tuple[PeakWidths, ThresholdCurve]:
    """Choose the widths with the best average precision of a class's spots.

    The default stays unless others gain more than `CLEAR_GAIN` / N with N clips. It also stays
    with fewer than `LEAST_CLIPS`, and with little eventless footage: smoothing is there to keep
    false events out of it. Of equally good widths those nearest to the default win.

    Args:
        stitched: The scored stitched clips.
        eventless: Score tracks of eventless footage; all events found there are false.
        label: The class.
        options: How scores become events. Widths that they ask for are not varied.

    Returns:
        The widths, and the curve of the thresholds at them.

    Raises:
        ValueError: No clip is of this class.
    """
    default = widths_of(stitched[0].track, label, options)
    smooth_s = (default.smooth_s, *SMOOTH_S) if options.smooth_s is None else (default.smooth_s,)
    nms_s = (default.nms_s, *NMS_S) if options.nms_s is None else (default.nms_s,)
    tried = {PeakWidths(smooth, nms) for smooth in smooth_s for nms in nms_s}
    curves = {
        widths: event_curve(stitched, eventless, label, replace(options, widths={label: widths}))
        for widths in sorted(tried, key=lambda widths: _distance(widths, default))
    }
    best = max(curves, key=lambda widths: curves[widths].average_precision)
    num_clips = curves[default].num_positive / len(stitched)
    gain = curves[best].average_precision - curves[default].average_precision
    is_clear = num_clips >= LEAST_CLIPS and gain > CLEAR_GAIN / num_clips
    is_clear = is_clear and has_enough_eventless(stitched, eventless)
    chosen = best if is_clear else default
    return chosen, curves[chosen]


def _distance(widths: PeakWidths, default: PeakWidths) -> float:
    return abs(widths.smooth_s - default.smooth_s) + abs(widths.nms_s - default.nms_s)

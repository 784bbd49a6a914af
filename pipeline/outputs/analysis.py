"""Write events for programs of match analysis."""

from __future__ import annotations

from touchline.pipeline.labels.programs.sportscode import (
    ACCEPTED,
    CLOCK,
    Instance,
    detection_labels,
    sportscode_xml,
)
from touchline.pipeline.outputs.result_view import Sheet, one_line
from touchline.pipeline.types import Event


def sportscode_text(sheet: Sheet) -> str:
    """Return the accepted events as the XML of Hudl Sportscode: a row per class.

    Each event has labels for its peak, its score, its attributes and the match clock. An event
    without length gets the seconds before and after it that the options say.
    """
    return sportscode_xml(
        [
            Instance(one_line(event.label), *shown_span(sheet, event), _labels(sheet, event))
            for event in sheet.accepted
        ],
        ascii_only=sheet.options.ascii_only,
    )


def _labels(sheet: Sheet, event: Event) -> list[tuple[str, str]]:
    labels = [*detection_labels(event.peak_s, event.score), (ACCEPTED, "yes")]
    if sheet.clock is not None:
        labels.append((CLOCK, sheet.clock.text(event.peak_s)))
    return labels + [(one_line(name), one_line(value)) for name, value in event.attributes]


def shown_span(sheet: Sheet, event: Event) -> tuple[float, float]:
    """Return start and end in seconds of the clip that shows an event, inside the footage."""
    if event.end_s > event.start_s:
        return event.start_s, event.end_s
    before_s, after_s = sheet.options.roll(event.label)
    health = sheet.result.health
    end_s = event.end_s + after_s
    if health is not None and health.duration_s > event.end_s:
        end_s = min(end_s, health.duration_s)
    return max(0.0, event.start_s - before_s), end_s

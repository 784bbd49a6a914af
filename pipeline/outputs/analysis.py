"""Write events for programs of match analysis, and markers for editing programs."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from touchline.pipeline.labels.csv_files import csv_lines
from touchline.pipeline.labels.programs.markers import (
    RESOLVE_START_HOUR,
    Marker,
    premiere_markers,
    resolve_markers,
)
from touchline.pipeline.labels.programs.sportscode import (
    ACCEPTED,
    CLOCK,
    Instance,
    detection_labels,
    sportscode_xml,
)
from touchline.pipeline.outputs.edit_lists import timecode_rate
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


def resolve_markers_text(sheet: Sheet) -> str:
    """Return an EDL of timeline markers for DaVinci Resolve: one per accepted event.

    The timeline is taken to hold the whole footage, and to begin at its start timecode, or without
    one at 01:00:00:00.

    Raises:
        ValueError: The frame rate is not known, or has no timecode.
    """
    rate = timecode_rate(sheet, "resolve-markers")
    health = sheet.result.health
    start = sheet.start_frame
    if health is None or health.start_timecode is None:
        mark = ";" if rate.drop_frame else ":"
        start = rate.frame_number(f"{RESOLVE_START_HOUR:02d}:00:00{mark}00")
    return resolve_markers(_markers(sheet), rate, title=sheet.title[:70], start_frame=start)


def premiere_markers_text(sheet: Sheet) -> str:
    """Return a list of markers like that of Premiere Pro: one per accepted event.

    Raises:
        ValueError: The frame rate is not known, or has no timecode.
    """
    rate = timecode_rate(sheet, "premiere-markers")
    return premiere_markers(_markers(sheet), rate, start_frame=sheet.start_frame)


def _markers(sheet: Sheet) -> list[Marker]:
    markers = []
    for event in sheet.accepted:
        # The caption without the class, which is the name.
        note = sheet.caption(event).removeprefix(one_line(event.label)).removeprefix(" · ")
        markers.append(Marker(one_line(event.label), note, *sheet.frames(event)))
    return markers


def losslesscut_csv_text(sheet: Sheet) -> str:
    """Return the accepted events as LosslessCut's CSV: start, end and name, in seconds."""
    rows = []
    for event in sheet.accepted:
        start_s, end_s = shown_span(sheet, event)
        rows.append((f"{start_s:.6f}", f"{end_s:.6f}", sheet.caption(event)))
    return csv_lines(rows)


# How the Common Data Format calls periods.
CDF_PERIODS = (
    "first_half", "second_half", "first_half_extratime", "second_half_extratime", "shootout",
)  # fmt: skip


def cdf_video_text(sheet: Sheet) -> str:
    """Return video.json of the Common Data Format: the footage, and when periods kick off in it.

    The format asks for the time of the recording, which footage does not hold.

    Raises:
        ValueError: No kick-off, size, rate or time of the recording is known, or a period has no
            name in football.
    """
    health, clock = sheet.result.health, sheet.clock
    if clock is None or health is None or health.frame_rate is None:
        raise ValueError(
            f"{sheet.result.path}: the Common Data Format needs kick-offs and the footage. Give "
            "--kickoff 1=H:MM:SS and --footage."
        )
    if not sheet.options.recorded:
        raise ValueError(
            f"{sheet.result.path}: the Common Data Format needs the time at which the recording "
            "began. Give --recorded, such as 2026-05-10T19:45:00Z."
        )
    if bad := [period for period in clock.kickoff_s if period > len(CDF_PERIODS)]:
        raise ValueError(f"the Common Data Format has no name for period {bad[0]}")
    start = datetime.fromisoformat(sheet.options.recorded)
    W, H = health.shown_size
    document = {
        "match": {"id": sheet.title},
        "recording": {
            "fps": round(Fraction(health.frame_rate)),
            "resolution": f"{W}x{H}",
            "start_time": _utc(start),
            "type": "unknown",
            "operation_type": "unknown",
            "perspective": "broadcast",
        },
        "whistles": [
            {
                "type": CDF_PERIODS[period - 1],
                "sub_type": "start",
                "time": _utc(start + timedelta(seconds=kickoff_s)),
                "video_time": math.floor(kickoff_s * 1000 + 0.5),
            }
            for period, kickoff_s in sorted(clock.kickoff_s.items())
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

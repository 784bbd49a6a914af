"""Write report.html: one page per match with player, timeline and events. It works offline."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.outputs.events_json import model_document, options_document
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.result_view import Sheet, in_time_order, one_line
from touchline.pipeline.outputs.writers import result_sheet
from touchline.pipeline.reels.encode import SOFTWARE
from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import render_cuts
from touchline.pipeline.reels.thumbnails import make_thumbnails
from touchline.pipeline.report.html import page_html
from touchline.pipeline.report.truth import Truth
from touchline.pipeline.timecode import MatchClock, timecode
from touchline.pipeline.types import Event, FootageHealth, ScoreTrack

REPORT_FILE = "report.html"
PROXY_FILE = "proxy.mp4"

# Keep a page below 5 MB. Thumbnails take most of it, curves and events the rest.
MAX_THUMBNAIL_BYTES = 3_500_000
MAX_THUMBNAILS = 300
MAX_EVENTS = 2000
MAX_CLASSES = 60
MAX_CURVE_POINTS = 3000

THUMBNAIL_WIDTH_PX = 224
PROXY_HEIGHT_PX = 360

# What every browser plays. Some browsers play more, for example HEVC.
PLAYED_CONTAINERS = frozenset({"mov", "mp4", "m4a", "webm", "ogg"})
PLAYED_CODECS = frozenset({"h264", "vp8", "vp9", "av1", "theora"})


def write_report(
    result: MatchResult,
    folder: str | os.PathLike[str],
    *,
    truth: Truth | None = None,
    clock: MatchClock | None = None,
    proxy: bool = False,
) -> Path:
    """Write report.html with player, timeline, events, score curves, footage health and options.

    Without `result.track` the page has no score curves. If the footage is missing, the page has
    no thumbnails.

    Args:
        result: What was detected in one footage file.
        folder: The folder to write to.
        truth: Labels to compare the events with.
        clock: Shows the match clock; None takes the clock of the result, if it has one.
        proxy: Also write proxy.mp4, a small copy of the footage that every browser plays.

    Example:
        >>> from touchline.pipeline import read_results, write_report
        >>> [match] = read_results("out/match/events.json")
        >>> write_report(match, "pages").as_posix()
        'pages/report.html'
    """
    sheet = result_sheet(result, folder, clock=clock)
    playing = _proxy(sheet) if proxy else _original(sheet)
    data = report_data(sheet, truth, playing)
    page = page_html(
        "report",
        title=sheet.title,
        data=data,
        sheet=sheet,
        subtitle=_subtitle(sheet),
        health_rows=_health_rows(sheet),
        model_rows=_flat_rows(model_document(result)),
        option_rows=_flat_rows(_options(sheet)),
        measures=dict(truth.measures or {}) if truth else {},
        has_truth=truth is not None,
        events=sheet.accepted,
        timecode=timecode,
    )
    return write_atomic(sheet.folder / REPORT_FILE, page)


def report_data(sheet: Sheet, truth: Truth | None, playing: dict[str, Any]) -> dict[str, Any]:
    """The data of the page's script, ready for JSON.

    Args:
        sheet: The results of one footage file.
        truth: Labels to compare the events with.
        playing: The video that the page plays.
    """
    true_events = in_time_order(truth.events) if truth else []
    labels = _classes(sheet, true_events)
    kept = _kept(sheet, labels)
    true_events = [event for event in true_events if event.label in labels]
    pictures = _pictures(sheet, kept)
    track = sheet.result.track
    return {
        "video": playing,
        "durationS": round(sheet.duration_s, 3),
        "frameRate": float(sheet.rate.rate) if sheet.rate else 25.0,
        "labels": [one_line(label) for label in labels],
        "thresholds": [_threshold(sheet, label) for label in labels],
        "events": [
            {
                "label": labels.index(event.label),
                "start": round(event.start_s, 3),
                "end": round(event.end_s, 3),
                "peak": round(event.peak_s, 3),
                "score": round(event.score, 4),
                "accepted": accepted,
                "picture": picture,
            }
            for (event, accepted), picture in zip(kept, pictures, strict=True)
        ],
        "numLeftOut": len(sheet.candidates) - len(kept),
        "truth": [
            {
                "label": labels.index(event.label),
                "start": round(event.start_s, 3),
                "end": round(event.end_s, 3),
            }
            for event in true_events
        ],
        "toleranceS": truth.tolerance_s if truth else 0,
        "curves": None if track is None else score_curves(track, labels),
        "damaged": list(sheet.result.health.damaged_s) if sheet.result.health else [],
        "periods": _periods(sheet.clock),
    }


def _classes(sheet: Sheet, true_events: Sequence[Event]) -> list[str]:
    """The classes that get a lane on the timeline, in alphabetical order.

    If there are more than MAX_CLASSES, classes with labels come first, then classes with accepted
    events, then those with the highest scores.
    """
    track = sheet.result.track
    best = dict.fromkeys(track.labels[1:] if track else (), 0.0)
    for event, accepted in sheet.candidates:
        best[event.label] = max(best.get(event.label, 0.0), event.score + accepted)
    best |= {event.label: 2.0 for event in true_events}
    return sorted(sorted(best, key=lambda label: -best[label])[:MAX_CLASSES])


def _kept(sheet: Sheet, labels: Sequence[str]) -> list[tuple[Event, bool]]:
    """The accepted events of these classes and the best other candidates, in time order."""
    shown = [row for row in sheet.candidates if row[0].label in set(labels)]
    ranked = sorted(shown, key=lambda row: (not row[1], -row[0].score))
    chosen = set(ranked[:MAX_EVENTS])
    return [row for row in shown if row in chosen]


def _pictures(sheet: Sheet, kept: Sequence[tuple[Event, bool]]) -> list[str | None]:
    """A thumbnail of each event's peak; accepted events and high scores first, up to the limit."""
    order = sorted(range(len(kept)), key=lambda k: (not kept[k][1], -kept[k][0].score))
    order = order[:MAX_THUMBNAILS]
    pictures: list[str | None] = [None] * len(kept)
    try:
        uris = make_thumbnails(
            sheet.result.path,
            [kept[k][0].peak_s for k in order],
            width_px=THUMBNAIL_WIDTH_PX,
            max_bytes=MAX_THUMBNAIL_BYTES,
            stream=_stream(sheet),
        )
    except (TouchlineError, ValueError):
        # The page says that the footage is missing. Without the stream it is another file.
        return pictures
    for k, uri in zip(order, uris, strict=True):
        pictures[k] = uri
    return pictures


def _stream(sheet: Sheet) -> int | None:
    """Index of the video stream that the events were found in, if it is known."""
    return None if sheet.result.health is None else sheet.result.health.stream_index


def _threshold(sheet: Sheet, label: str) -> float | None:
    options = sheet.result.options
    return None if options is None else (options.thresholds or {}).get(label)


def score_curves(track: ScoreTrack, labels: Sequence[str]) -> dict[str, Any]:
    """The score of each class over time, as bytes (0 to 255) in base64.

    Point k is the highest score from k * stepS to (k + 1) * stepS seconds.
    """
    end_s = float(track.end_s.max()) if len(track.end_s) else 0.0
    num_points = max(1, min(MAX_CURVE_POINTS, len(track.centre_s)))
    step_s = max(end_s / num_points, 1e-3)
    slots = np.clip((track.centre_s / step_s).astype(int), 0, num_points - 1)
    values = []
    for label in labels:
        levels = np.zeros(num_points)
        if label in track.labels:
            np.maximum.at(levels, slots, track.probs[:, track.labels.index(label)])
        filled = np.interp(np.arange(num_points), np.unique(slots), levels[np.unique(slots)])
        quantised = np.rint(np.clip(filled, 0, 1) * 255).astype(np.uint8)
        values.append(base64.b64encode(quantised.tobytes()).decode("ascii"))
    return {"stepS": step_s, "values": values}


def _periods(clock: MatchClock | None) -> list[dict[str, Any]]:
    """The periods, from which the page computes its match clock."""
    if clock is None:
        return []
    periods = []
    for period, kickoff_s in sorted(clock.kickoff_s.items()):
        start_min, end_min = clock.span_min(period)
        periods.append(
            {
                "name": clock.period_name(period),
                "kickoff": kickoff_s,
                "base": start_min * 60,
                "length": (end_min - start_min) * 60,
            }
        )
    return periods


def _original(sheet: Sheet) -> dict[str, Any]:
    health = sheet.result.health
    return {
        # A player that jumps to other frames is worse than none.
        "src": "" if health and lacks_index(health) else sheet.video_url,
        "name": one_line(sheet.result.path.name),
        "path": one_line(sheet.video),
        "offsetS": 0,
        "startS": health.start_s if health else 0,
        "played": health is None or browsers_play(health),
        "kind": kind_of(sheet.result.path, health) if health else "",
    }


def browsers_play(health: FootageHealth) -> bool:
    """Tell whether the common browsers play footage and find the frame of a time in it."""
    containers = set(health.container.split(","))
    known = bool(containers & PLAYED_CONTAINERS) and health.codec in PLAYED_CODECS
    return known and not lacks_index(health)


def lacks_index(health: FootageHealth) -> bool:
    """Tell whether browsers show wrong frames: H.264 in Matroska that was never closed.

    Chromium shows the next key frame there. In VP8, VP9 and AV1 it shows the frame asked for.
    """
    unclosed = health.pictures_end_s is None and health.container.startswith("matroska")
    return unclosed and health.codec == "h264"


def kind_of(path: Path, health: FootageHealth) -> str:
    """Return codec and container in words; a container of several names has that of the file."""
    names = health.container.split(",")
    suffix = path.suffix[1:].lower()
    index = " without an index" if lacks_index(health) else ""
    return f"{health.codec} in {suffix if suffix in names else names[0]}{index}"


def _proxy(sheet: Sheet) -> dict[str, Any]:
    """Write a small H.264 copy of the whole footage next to the report."""
    height = min(PROXY_HEIGHT_PX, sheet.result.health.height if sheet.result.health else 10_000)
    options = RenderOptions(
        mode="encode", encoder=SOFTWARE, height_px=height, stream=_stream(sheet)
    )
    whole = Cut(0.0, sheet.duration_s, ())
    rendered = render_cuts(sheet.result.path, [whole], sheet.folder / PROXY_FILE, options=options)
    return {
        "src": f"./{PROXY_FILE}",
        "name": PROXY_FILE,
        "path": PROXY_FILE,
        "offsetS": rendered.cuts[0].start_s,
        "startS": 0,
        "played": True,
        "kind": "h264 in mp4",
    }


def _subtitle(sheet: Sheet) -> str:
    health = sheet.result.health
    parts = [timecode(sheet.duration_s)[:-4]]
    if health is not None:
        parts.append(f"{health.width}\u2009×\u2009{health.height}")
        if sheet.rate is not None:
            parts.append(f"{float(sheet.rate.rate):.5g} fps")
        parts.append(health.codec)
    return " · ".join(parts)


def _health_rows(sheet: Sheet) -> list[tuple[str, str]]:
    health = sheet.result.health
    if health is None:
        return []
    rate = "not declared"
    if health.frame_rate is not None:
        rate = f"{float(Fraction(health.frame_rate)):.5g} frames per second"
    rate += ", variable" if health.variable_rate else ""
    unread = health.actual_frames is None
    damaged = ", ".join(f"{timecode(a)} to {timecode(b)}" for a, b in health.damaged_s[:50])
    return [
        ("File", one_line(sheet.video)),
        ("Container and codec", f"{health.container}, {health.codec}"),
        ("Picture", f"{health.width} × {health.height}"),
        ("Frame rate", rate),
        ("Frames decoded", "not decoded" if unread else str(health.actual_frames)),
        ("Length", f"{timecode(health.duration_s)} ({health.duration_s:.3f} s)"),
        ("Start time in the file", f"{health.start_s:.6g} s"),
        ("Start timecode", health.start_timecode or "none"),
        ("Damaged", damaged or ("not checked" if unread else "no damage found")),
        *(("Warning", one_line(warning)) for warning in health.warnings),
    ]


def _options(sheet: Sheet) -> dict[str, Any]:
    """The options as the page shows them: a threshold common to all classes appears once."""
    options = options_document(sheet.result, sheet.clock)
    thresholds = options.get("thresholds") or {}
    if len(set(thresholds.values())) == 1:
        options["thresholds"] = next(iter(thresholds.values()))
    return options


def _flat_rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested options as rows of a table, such as ("spec.rate_hz", "8")."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat_rows(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value))))
        elif value is not None:
            rows.append(
                (f"{prefix}{key}", f"{value:.6g}" if isinstance(value, float) else str(value))
            )
    return [(one_line(key), one_line(value)) for key, value in rows]

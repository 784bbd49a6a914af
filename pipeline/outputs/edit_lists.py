"""Write events for editing programs: EDL, FCPXML, OpenTimelineIO, Premiere, LosslessCut, VLC.

Editing programs count frames. Each time becomes the frame whose start is nearest, counted from the
start timecode of the footage, so it moves by at most half a frame. Editors bring footage of
variable rate to a constant rate; so does Touchline (see `timecode.rate_of_footage`).
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from typing import TYPE_CHECKING
from xml.etree.ElementTree import SubElement

from touchline.pipeline.labels.target import dump_xml
from touchline.pipeline.outputs.result_view import Sheet, one_line
from touchline.pipeline.timecode import STANDARD_RATES, FrameRate
from touchline.pipeline.types import Event

if TYPE_CHECKING:
    from opentimelineio import schema

# Timelines start at one hour, as is usual in broadcasting.
RECORD_START_HOUR = 1

XSPF = "http://xspf.org/ns/0/"
VLC = "http://www.videolan.org/vlc/playlist/ns/0/"
VLC_APPLICATION = "http://www.videolan.org/vlc/playlist/0"


def edl_text(sheet: Sheet) -> str:
    """Return a CMX 3600 EDL of the accepted events in a row, each with a locator at its peak.

    Raises:
        ValueError: The frame rate is not known, or CMX 3600 has no timecode at this rate.
    """
    rate = timecode_rate(sheet, "edl")
    lines = [
        f"TITLE: {_edl_words(sheet.title)[:70]}",
        f"FCM: {'DROP FRAME' if rate.drop_frame else 'NON-DROP FRAME'}",
        "",
    ]
    record = _record_start(sheet)
    for k, event in enumerate(sheet.accepted, start=1):
        first, after = (sheet.start_frame + frame for frame in sheet.frames(event))
        source = f"{rate.smpte(first)} {rate.smpte(after)}"
        placed = f"{rate.smpte(record)} {rate.smpte(record + after - first)}"
        locator = rate.smpte(record + _peak_offset(sheet, event))
        lines += [
            f"{k:03d}  AX       V     C        {source} {placed}",
            f"* FROM CLIP NAME: {_edl_words(sheet.result.path.name)}",
            f"* LOC: {locator} RED     {_edl_words(sheet.caption(event))}",
            "",
        ]
        record += after - first
    return "\n".join(lines)


def timecode_rate(sheet: Sheet, format_name: str) -> FrameRate:
    """Return the frame rate, for formats with timecode.

    Args:
        sheet: The result.
        format_name: The format, for the message.

    Raises:
        ValueError: The frame rate is not known, or has no timecode. The message says which has.
    """
    rate = sheet.clip_rate
    if rate.rate not in STANDARD_RATES or rate.nominal > 99:
        raise ValueError(
            f"{sheet.result.path}: there is no timecode at {float(rate.rate):g} frames per second. "
            f"Write it at another rate with touchline export --to {format_name} --rate "
            f"{float(_with_timecode(rate.rate)):g}."
        )
    return rate


def _with_timecode(rate: Fraction) -> Fraction:
    """The least rate with timecode on which every frame of `rate` falls, or else the next one."""
    written = [standard for standard in STANDARD_RATES if standard <= 60]
    exact = [standard for standard in written if (standard / rate).denominator == 1]
    return min(exact or [standard for standard in written if standard >= rate] or written[-1:])


def _edl_words(text: str) -> str:
    # A line is one statement. An asterisk would begin a comment.
    return one_line(text).replace("*", "-")


def _record_start(sheet: Sheet) -> int:
    mark = ";" if sheet.clip_rate.drop_frame else ":"
    return sheet.clip_rate.frame_number(f"{RECORD_START_HOUR:02d}:00:00{mark}00")


def _peak_offset(sheet: Sheet, event: Event) -> int:
    """How many frames the peak is after the event's first frame; inside the event."""
    first, after = sheet.frames(event)
    return min(after - 1, max(first, sheet.clip_rate.frame(event.peak_s))) - first


def fcpxml_text(sheet: Sheet) -> str:
    """Return FCPXML 1.9: the accepted events as clips of one project, a marker at each peak."""
    rate, health = sheet.clip_rate, sheet.result.health
    root = ElementTree.Element("fcpxml", version="1.9")
    resources = SubElement(root, "resources")
    picture = SubElement(resources, "format", id="r1", frameDuration=_fcp_time(1 / rate.rate))
    if health is not None:
        W, H = health.shown_size
        picture.attrib.update(width=str(W), height=str(H))
    source = sheet.result.path.resolve().as_uri()
    asset = SubElement(
        resources,
        "asset",
        id="r2",
        name=sheet.title,
        start=_fcp_time(rate.seconds(sheet.start_frame)),
        duration=_fcp_time(rate.seconds(max(1, rate.frame(sheet.duration_s)))),
        hasVideo="1",
        format="r1",
    )
    if health is not None and health.sound:
        # Final Cut Pro leaves the sound out of clips whose asset declares none.
        asset.attrib.update(hasAudio="1", audioSources="1")
    SubElement(asset, "media-rep", kind="original-media", src=source)
    event_element = SubElement(SubElement(root, "library"), "event", name=sheet.title)
    project = SubElement(event_element, "project", name=f"{sheet.title} events")
    lengths = [after - first for first, after in map(sheet.frames, sheet.accepted)]
    sequence = SubElement(
        project,
        "sequence",
        format="r1",
        tcStart="0s",
        tcFormat="DF" if rate.drop_frame else "NDF",
        duration=_fcp_time(rate.seconds(sum(lengths))),
    )
    spine = SubElement(sequence, "spine")
    offset = 0
    for event, length in zip(sheet.accepted, lengths, strict=True):
        first = sheet.start_frame + sheet.frames(event)[0]
        clip = SubElement(
            spine,
            "asset-clip",
            ref="r2",
            name=one_line(event.label),
            offset=_fcp_time(rate.seconds(offset)),
            start=_fcp_time(rate.seconds(first)),
            duration=_fcp_time(rate.seconds(length)),
            format="r1",
            tcFormat="DF" if rate.drop_frame else "NDF",
        )
        if event.attributes:
            SubElement(clip, "note").text = one_line(
                "; ".join(f"{name}: {value}" for name, value in event.attributes)
            )
        SubElement(
            clip,
            "marker",
            start=_fcp_time(rate.seconds(first + _peak_offset(sheet, event))),
            duration=_fcp_time(1 / rate.rate),
            value=sheet.caption(event),
        )
        offset += length
    return dump_xml(root, doctype="<!DOCTYPE fcpxml>\n")


def _fcp_time(seconds: Fraction) -> str:
    if seconds.denominator == 1:
        return f"{seconds.numerator}s"
    return f"{seconds.numerator}/{seconds.denominator}s"


def otio_text(sheet: Sheet) -> str:
    """Return the JSON of OpenTimelineIO."""
    return str(_timeline(sheet).to_json_string()) + "\n"


def premiere_text(sheet: Sheet) -> str:
    """Return Final Cut Pro 7 XML, which Premiere Pro and DaVinci Resolve import.

    Raises:
        ValueError: The frame rate is not known, or the format has no timecode at this rate.
    """
    from opentimelineio import adapters

    # Its markers count from the first frame of the file, as its clips do, and not in timecode.
    timeline = _timeline(sheet, markers_from=sheet.start_frame)
    try:
        return str(adapters.write_to_string(timeline, adapter_name="fcp_xml"))
    except ValueError as error:
        raise ValueError(
            f"{sheet.result.path}: Premiere's XML cannot hold {float(sheet.clip_rate.rate):g} "
            f"frames per second ({error}). Write it at another rate with touchline export --to "
            f"premiere --rate {float(_with_timecode(sheet.clip_rate.rate)):g}."
        ) from None


def _timeline(sheet: Sheet, *, markers_from: int = 0) -> schema.Timeline:
    """A timeline of the accepted events in a row, with a marker at each peak."""
    from opentimelineio import opentime, schema

    rate = sheet.clip_rate

    def moment(frame: int) -> opentime.RationalTime:
        return opentime.RationalTime(frame, float(rate.rate))

    def span(first: int, after: int) -> opentime.TimeRange:
        return opentime.TimeRange(moment(first), moment(after - first))

    start, length = sheet.start_frame, max(1, rate.frame(sheet.duration_s))
    timeline = schema.Timeline(sheet.title, global_start_time=moment(_record_start(sheet)))
    track = schema.Track("Events", kind=schema.TrackKind.Video)
    timeline.tracks.append(track)
    for event in sheet.accepted:
        first, after = (start + frame for frame in sheet.frames(event))
        media = schema.ExternalReference(
            target_url=sheet.result.path.resolve().as_uri(),
            available_range=span(start, start + max(length, after - start)),
        )
        media.name = one_line(sheet.result.path.name)
        clip = schema.Clip(one_line(event.label), media, span(first, after))
        clip.metadata["touchline"] = {
            "score": event.score,
            "peak_s": event.peak_s,
            "attributes": dict(event.attributes),
        }
        peak = first + _peak_offset(sheet, event) - markers_from
        clip.markers.append(
            schema.Marker(sheet.caption(event), span(peak, peak + 1), schema.MarkerColor.RED)
        )
        track.append(clip)
    return timeline


def losslesscut_text(sheet: Sheet) -> str:
    """Return a LosslessCut project (.llc, version 1) of the accepted events."""
    document = {
        "version": 1,
        "mediaFileName": sheet.result.path.name,
        "cutSegments": [
            {
                "start": round(event.start_s, 6),
                # LosslessCut drops segments without length, so an instant gets a second.
                "end": round(event.end_s if event.end_s > event.start_s else event.start_s + 1, 6),
                "name": sheet.caption(event),
            }
            | ({"tags": dict(event.attributes)} if event.attributes else {})
            for event in sheet.accepted
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def xspf_text(sheet: Sheet) -> str:
    """Return an XSPF playlist for VLC with each accepted event."""
    ElementTree.register_namespace("", XSPF)
    ElementTree.register_namespace("vlc", VLC)
    root = ElementTree.Element(f"{{{XSPF}}}playlist", version="1")
    SubElement(root, f"{{{XSPF}}}title").text = sheet.title
    tracks = SubElement(root, f"{{{XSPF}}}trackList")
    for k, event in enumerate(sheet.accepted):
        track = SubElement(tracks, f"{{{XSPF}}}track")
        SubElement(track, f"{{{XSPF}}}location").text = sheet.video_url
        SubElement(track, f"{{{XSPF}}}title").text = sheet.caption(event)
        extension = SubElement(track, f"{{{XSPF}}}extension", application=VLC_APPLICATION)
        SubElement(extension, f"{{{VLC}}}id").text = str(k)
        for option in _vlc_span(event):
            SubElement(extension, f"{{{VLC}}}option").text = option
    return dump_xml(root)


def m3u_text(sheet: Sheet) -> str:
    """Return an M3U playlist for VLC with each accepted event."""
    lines = ["#EXTM3U"]
    for event in sheet.accepted:
        seconds = max(1, round(event.end_s - event.start_s))
        lines.append(f"#EXTINF:{seconds},{sheet.caption(event)}")
        lines += [f"#EXTVLCOPT:{option}" for option in _vlc_span(event)]
        # A plain name could begin with # or hold a line end; a URL cannot.
        lines.append(sheet.result.path.resolve().as_uri())
    return "\n".join(lines) + "\n"


def _vlc_span(event: Event) -> list[str]:
    # VLC would play on if start and stop were equal, so an instant gets a second.
    end_s = event.end_s if event.end_s > event.start_s else event.start_s + 1.0
    return [f"start-time={max(0.0, event.start_s):.3f}", f"stop-time={end_s:.3f}"]

"""Write events as tables and records: CSV, JSON lines, SoccerNet, ActivityNet, annotation tools."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

from touchline.pipeline.labels.csv_files import attribute_columns, csv_lines
from touchline.pipeline.labels.datasets.osl import osl_json, osl_sample
from touchline.pipeline.labels.datasets.player_spotting import player_spotting_text
from touchline.pipeline.labels.datasets.soccernet import on_half_clock, results_spotting
from touchline.pipeline.labels.programs.cvat import add_attributes, declare_label, track_shapes
from touchline.pipeline.labels.programs.label_studio import note_texts
from touchline.pipeline.labels.target import dump_xml
from touchline.pipeline.outputs.events_json import event_row
from touchline.pipeline.outputs.result_view import Sheet, one_line
from touchline.pipeline.timecode import timecode
from touchline.pipeline.types import Event

CSV_COLUMNS = ("video", "label", "start_s", "end_s", "peak_s", "score", "start", "end", "peak")


def csv_text(sheet: Sheet) -> str:
    """Return the accepted events as CSV, with a column `clock` if there is a match clock.

    Each attribute has a column.

    Raises:
        ValueError: An attribute has the name of another column.
    """
    columns = [*CSV_COLUMNS, *(["clock"] if sheet.clock else [])]
    free = attribute_columns(sheet.accepted, taken=columns)
    rows: list[list[str]] = [[*columns, *free]]
    for event in sheet.accepted:
        times = (event.start_s, event.end_s, event.peak_s)
        rows.append(
            [sheet.video, event.label]
            + [f"{t:.3f}" for t in times]
            + [f"{event.score:.4f}"]
            + [timecode(t) for t in times]
            + ([sheet.clock.text(event.peak_s)] if sheet.clock else [])
            + [dict(event.attributes).get(name, "") for name in free]
        )
    return csv_lines(rows)


def jsonl_text(sheet: Sheet) -> str:
    """Return one JSON object per line for each candidate, with its video."""
    rows = (
        {"video": sheet.video, **event_row(sheet, event, accepted=accepted)}
        for event, accepted in sheet.candidates
    )
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def soccernet_text(sheet: Sheet) -> str:
    """Return all candidates as results_spotting.json of SoccerNet action spotting.

    Positions are those of the peaks. They count from the kick-off of the half if there is a match
    clock, else from the start of the file, in half 1. Peaks before the first kick-off are at 0.
    """
    halves: dict[int, list[Event]] = {}
    for event, _ in sheet.candidates:
        half, kickoff_s = _half(sheet, event)
        halves.setdefault(half, []).append(on_half_clock(event, kickoff_s))
    return results_spotting(halves, match=one_line(sheet.result.path.parent.name))


def osl_text(sheet: Sheet) -> str:
    """Return all candidates as predictions in OSL JSON, each as the moment of its peak.

    Raises:
        ValueError: An attribute has the name of a member of OSL.
    """
    events = [event for event, _ in sheet.candidates]
    game_times: dict[Event, str] = {}
    for event in events if sheet.clock is not None else ():
        half, kickoff_s = _half(sheet, event)
        seconds = int(max(0.0, event.peak_s - kickoff_s))
        game_times[event] = f"{half} - {seconds // 60:02d}:{seconds % 60:02d}"
    model = sheet.result.model
    classes = sorted({event.label for event in events})
    if model is not None and model.labels is not None:
        classes = [*model.labels[1:], *(name for name in classes if name not in model.labels)]
    sample = osl_sample(
        sheet.video,
        events,
        health=sheet.result.health,
        game_times=game_times,
        predicted=True,
    )
    return osl_json([sample], classes=classes, predicted=True)


def player_spotting_text_of(sheet: Sheet) -> str:
    """Return all candidates as predictions of player-centric spotting, under the footage's stem.

    Raises:
        ValueError: A team is neither left nor right, or a jersey is no number.
    """
    return player_spotting_text({sheet.title: [event for event, _ in sheet.candidates]})


def _half(sheet: Sheet, event: Event) -> tuple[int, float]:
    """The half of an event and its kick-off; without a match clock half 1 from 0 s."""
    if sheet.clock is None:
        return 1, 0.0
    half = sheet.clock.period(event.peak_s) or min(sheet.clock.kickoff_s)
    return half, sheet.clock.kickoff_s[half]


def activitynet_text(sheet: Sheet) -> str:
    """Return all candidates as an ActivityNet 1.3 detection file, under the footage's stem."""
    found = [
        {
            "label": event.label,
            "score": round(event.score, 6),
            "segment": [round(event.start_s, 6), round(event.end_s, 6)],
        }
        | ({"attributes": dict(event.attributes)} if event.attributes else {})
        for event, _ in sheet.candidates
    ]
    document = {
        "version": "VERSION 1.3",
        "results": {sheet.title: found},
        "external_data": {"used": False, "details": ""},
    }
    return json.dumps(document, indent=1) + "\n"


def label_studio_text(sheet: Sheet) -> str:
    """Return a Label Studio task with the accepted events as predictions of <TimelineLabels>.

    Frames count from 1, and the last one belongs to the range. The labelling interface must call
    its tags `timeline` and `video`.
    """
    results = []
    for k, event in enumerate(sheet.accepted):
        first, after = sheet.frames(event)
        results.append(
            {
                "id": f"event{k}",
                "type": "timelinelabels",
                "from_name": "timeline",
                "to_name": "video",
                "score": round(event.score, 6),
                "value": {
                    "ranges": [{"start": first + 1, "end": after}],
                    "timelinelabels": [event.label],
                },
            }
            | ({"meta": {"text": note_texts(event)}} if event.attributes else {})
        )
    task = {
        "data": {"video": sheet.video, "fps": float(sheet.clip_rate.rate)},
        "predictions": [{"model_version": "touchline", "result": results}],
    }
    return json.dumps([task], indent=1) + "\n"


def cvat_text(sheet: Sheet) -> str:
    """Return CVAT for video 1.1: each accepted event is a track, a box over the whole picture.

    A track begins at the first frame of its event. At the frame after the last one, if there is
    one, it is marked `outside`.

    Raises:
        ValueError: The size of the picture or the frame rate is not known.
    """
    health = sheet.result.health
    if health is None:
        raise ValueError(
            f"{sheet.result.path}: CVAT needs the size of the picture. Give --footage."
        )
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "name").text = sheet.title
    ElementTree.SubElement(task, "mode").text = "interpolation"
    ElementTree.SubElement(task, "source").text = one_line(sheet.result.path.name)
    size = ElementTree.SubElement(task, "original_size")
    W, H = health.shown_size
    ElementTree.SubElement(size, "width").text = str(W)
    ElementTree.SubElement(size, "height").text = str(H)
    labels = ElementTree.SubElement(task, "labels")
    for name in sorted({event.label for event in sheet.accepted}):
        mine = [event for event in sheet.accepted if event.label == name]
        declare_label(labels, one_line(name), mine)
    for k, event in enumerate(sheet.accepted):
        track = ElementTree.SubElement(
            root, "track", id=str(k), label=one_line(event.label), source="auto"
        )
        shapes = track_shapes(*sheet.frames(event), health, sheet.clip_rate.frame)
        for frame, outside in shapes:
            box = ElementTree.SubElement(
                track,
                "box",
                frame=str(frame),
                outside=outside,
                occluded="0",
                keyframe="1",
                xtl="0",
                ytl="0",
                xbr=str(W),
                ybr=str(H),
                z_order="0",
            )
            add_attributes(box, event)
    return dump_xml(root)

"""Every output format read back, where there is one by its own library."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.timecode import FrameRate

Span = tuple[str, float, float]
"""Label or caption, start_s, end_s (for spots: the peak twice)."""


def otio_spans(timeline: object, start_frame: int) -> list[Span]:
    spans = []
    for clip in timeline.find_clips():  # type: ignore[attr-defined]
        source = clip.source_range
        begin = source.start_time.value - start_frame
        rate = source.start_time.rate
        spans.append((clip.name, begin / rate, (begin + source.duration.value) / rate))
    return spans


def read_otio(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    otio = pytest.importorskip("opentimelineio")
    return otio_spans(otio.adapters.read_from_file(str(path)), start_frame)


def read_premiere(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    otio = pytest.importorskip("opentimelineio")
    return otio_spans(otio.adapters.read_from_file(str(path), adapter_name="fcp_xml"), start_frame)


def read_edl(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    otio = pytest.importorskip("opentimelineio")
    spans = otio_spans(otio.adapters.read_from_file(str(path), rate=float(rate.rate)), start_frame)
    captions = re.findall(r"^\* LOC: \d\d:\d\d:\d\d[:;]\d\d RED     (.*)$", path.read_text(), re.M)
    return [(name, *span[1:]) for name, span in zip(captions, spans, strict=True)]


def read_fcpxml(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    # OpenTimelineIO's adapter reads 29.97 as 29 frames per second, so times are read here.
    spans = []
    for clip in ElementTree.parse(path).getroot().iter("asset-clip"):
        start, duration = (Fraction(clip.attrib[name][:-1]) for name in ("start", "duration"))
        begin_s = start - rate.seconds(start_frame)
        assert (start * rate.rate).denominator == 1
        spans.append((clip.attrib["name"], float(begin_s), float(begin_s + duration)))
    return spans


def read_subtitles(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        packets = [p for p in container.demux(stream) if p.pts is not None]
        return [
            (
                bytes(packet).decode(),
                float(packet.pts * packet.time_base),
                float((packet.pts + packet.duration) * packet.time_base),
            )
            for packet in packets
        ]


def read_ffmetadata(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    with av.open(str(path), format="ffmetadata") as container:
        return [
            (
                chapter["metadata"]["title"],
                float(chapter["start"] * chapter["time_base"]),
                float(chapter["end"] * chapter["time_base"]),
            )
            for chapter in container.chapters()
        ]


def read_csv(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    with path.open(newline="") as file:
        return [(r["label"], float(r["start_s"]), float(r["end_s"])) for r in csv.DictReader(file)]


def read_json(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    return [(e.label, e.start_s, e.end_s) for e in read_events_json(path).accepted]


def read_jsonl(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(r["label"], r["start_s"], r["end_s"]) for r in rows if r["accepted"]]


def read_soccernet(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    rows = json.loads(path.read_text())["predictions"]
    times = [(row["label"], int(row["position"]) / 1000) for row in rows]
    return [(label, time_s, time_s) for label, time_s in times]


def read_osl(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    document = json.loads(path.read_text())
    (sample,) = document["data"]
    assert {row["label"] for row in sample["events"]} <= set(document["labels"]["action"]["labels"])
    times = [(row["label"], row["position_ms"] / 1000) for row in sample["events"]]
    return [(label, time_s, time_s) for label, time_s in times]


def read_player_spotting(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    document = json.loads(path.read_text())
    assert document["keys"] == list(document["events"])
    (rows,) = document["events"].values()
    return [(str(row[3]), row[0] / 25, row[0] / 25) for row in rows]


def read_activitynet(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    rows = json.loads(path.read_text())["results"]["final"]
    return [(r["label"], *r["segment"]) for r in rows]


def read_label_studio(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    (task,) = json.loads(path.read_text())
    values = [row["value"] for row in task["predictions"][0]["result"]]
    fps = task["data"]["fps"]
    return [
        (v["timelinelabels"][0], (v["ranges"][0]["start"] - 1) / fps, v["ranges"][0]["end"] / fps)
        for v in values
    ]


def read_cvat(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    spans = []
    for track in ElementTree.parse(path).getroot().iter("track"):
        first, after = (int(box.attrib["frame"]) for box in track.iter("box"))
        assert [box.attrib["outside"] for box in track.iter("box")] == ["0", "1"]
        spans.append(
            (track.attrib["label"], float(rate.seconds(first)), float(rate.seconds(after)))
        )
    return spans


def read_resolve_markers(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    otio = pytest.importorskip("opentimelineio")
    otio.adapters.read_from_file(str(path), rate=float(rate.rate))
    lines = path.read_text().splitlines()
    drop = {"FCM: DROP FRAME": ";", "FCM: NON-DROP FRAME": ":"}[lines[1]]
    begin = start_frame or rate.frame_number(f"01:00:00{drop}00")
    spans = []
    for edit, marker in zip(lines[3::3], lines[4::3], strict=True):
        first = rate.frame_number(edit.split()[-2]) - begin
        name, frames = re.fullmatch(r".*\|M:(.*) \|D:(\d+)", marker).groups()  # type: ignore[union-attr]
        spans.append((name, float(rate.seconds(first)), float(rate.seconds(first + int(frames)))))
    return spans


def read_premiere_markers(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    spans = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            first, after = (rate.frame_number(row[name]) - start_frame for name in ("In", "Out"))
            assert rate.frame_number(row["Duration"]) == after - first
            times = float(rate.seconds(first)), float(rate.seconds(after))
            spans.append((row["Marker Name"], *times))
    return spans


def read_losslesscut_csv(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    with path.open(newline="") as file:
        return [(name, float(start), float(end)) for start, end, name in csv.reader(file)]


def read_losslesscut(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    document = json.loads(path.read_text())
    assert (document["version"], document["mediaFileName"]) == (1, "final.mp4")
    return [(s["name"], s["start"], s["end"]) for s in document["cutSegments"]]


def read_sportscode(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    sportscode = pytest.importorskip("kloppy.sportscode")
    with path.open("rb") as file:
        codes = sportscode.load(file).codes
    return [
        (c.code, c.start_timestamp.total_seconds(), c.end_timestamp.total_seconds()) for c in codes
    ]


def read_xspf(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    names = {"x": "http://xspf.org/ns/0/", "v": "http://www.videolan.org/vlc/playlist/ns/0/"}
    spans = []
    for track in ElementTree.parse(path).getroot().iterfind(".//x:track", names):
        title = track.findtext("x:title", namespaces=names)
        options = [option.text or "" for option in track.iterfind(".//v:option", names)]
        spans.append((title or "", *vlc_span(options)))
    return spans


def read_m3u(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    lines = path.read_text().splitlines()
    assert lines[0] == "#EXTM3U"
    spans = []
    for k in range(1, len(lines), 4):
        options = [line.removeprefix("#EXTVLCOPT:") for line in lines[k + 1 : k + 3]]
        spans.append((lines[k].split(",", 1)[1], *vlc_span(options)))
        assert lines[k + 3].startswith("file:///")
    return spans


def vlc_span(options: list[str]) -> tuple[float, float]:
    values = dict(option.split("=") for option in options)
    return float(values["start-time"]), float(values["stop-time"])


def read_youtube(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    spans = []
    for line in path.read_text().splitlines()[1:]:
        time, label = line.split(" ", 1)
        h, m, s = (int(part) for part in time.split(":"))
        spans.append((label, h * 3600 + m * 60 + s, 0.0))
    return spans


READERS: dict[str, Callable[[Path, FrameRate, int], list[Span]]] = {
    "csv": read_csv,
    "json": read_json,
    "jsonl": read_jsonl,
    "soccernet": read_soccernet,
    "osl": read_osl,
    "player-spotting": read_player_spotting,
    "activitynet": read_activitynet,
    "labelstudio": read_label_studio,
    "cvat": read_cvat,
    "vtt": read_subtitles,
    "vtt-chapters": read_subtitles,
    "srt": read_subtitles,
    "ffmetadata": read_ffmetadata,
    "youtube": read_youtube,
    "edl": read_edl,
    "fcpxml": read_fcpxml,
    "otio": read_otio,
    "premiere": read_premiere,
    "sportscode": read_sportscode,
    "resolve-markers": read_resolve_markers,
    "premiere-markers": read_premiere_markers,
    "losslesscut-csv": read_losslesscut_csv,
    "losslesscut": read_losslesscut,
    "xspf": read_xspf,
    "m3u": read_m3u,
}

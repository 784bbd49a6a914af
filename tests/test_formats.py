"""Every output format: what is written is read back, where there is one by its own library.

Times come back within half a frame at every rate; names from files and labels stay text.
"""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from touchline.pipeline.address import footage_path
from touchline.pipeline.labels import read_labels
from touchline.pipeline.timing import FrameRate, MatchClock, parse_rate
from touchline.pipeline.types import Event, FootageHealth, MatchResult
from touchline.pipeline.write import WRITERS, read_events_json, result_sheet, write_result

# Not on frame boundaries of any rate; far enough in for a wrong rate to drift by frames.
EVENTS = (
    Event("goal", 61.2345, 70.0101, 65.4321, 0.91),
    Event("yellow card", 600.0, 603.3333, 601.5, 0.75),
    Event("goal", 3661.7, 3668.123, 3665.0, 0.6),
)
BELOW = Event("substitution", 100.0, 104.0, 102.0, 0.2)

# name -> (declared rate, variable, start timecode)
RATES = {
    "23.976": ("24000/1001", False, None),
    "25 from 10:00:00:00": ("25/1", False, "10:00:00:00"),
    "29.97 drop": ("30000/1001", False, "01:00:00;00"),
    "29.97 non-drop": ("30000/1001", False, "01:00:00:00"),
    "50": ("50/1", False, None),
    "59.94 drop": ("60000/1001", False, "10:59:58;30"),
    "variable, 27.4 on average": ("274/10", True, None),
}

Span = tuple[str, float, float]
"""Label or caption, start_s, end_s (for spots: the peak twice)."""


def match(tmp_path: Path, rate: str = "25 from 10:00:00:00", **changes: object) -> MatchResult:
    declared, variable, start = RATES[rate]
    fields: dict[str, object] = {
        "path": tmp_path / "matches" / "final.mp4",
        "candidates": (*EVENTS, BELOW),
        "accepted": EVENTS,
        "health": FootageHealth(
            "mp4", "h264", 640, 360, declared, variable, 4000.0, 0.0, start_timecode=start
        ),
    }
    return MatchResult(**(fields | changes))  # type: ignore[arg-type]


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
    return [(label, time_s, time_s) for label, time_s in times if label != BELOW.label]


def read_activitynet(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    rows = json.loads(path.read_text())["results"]["final"]
    return [(r["label"], *r["segment"]) for r in rows if r["label"] != BELOW.label]


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


def read_losslesscut(path: Path, rate: FrameRate, start_frame: int) -> list[Span]:
    document = json.loads(path.read_text())
    assert (document["version"], document["mediaFileName"]) == (1, "final.mp4")
    return [(s["name"], s["start"], s["end"]) for s in document["cutSegments"]]


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
    "losslesscut": read_losslesscut,
    "xspf": read_xspf,
    "m3u": read_m3u,
}


def test_every_format_has_a_reader_here() -> None:
    assert list(READERS) == list(WRITERS)


@pytest.mark.parametrize("rate_name", RATES)
@pytest.mark.parametrize("name", READERS)
def test_what_is_written_is_read_back_within_half_a_frame(
    tmp_path: Path, name: str, rate_name: str
) -> None:
    result = match(tmp_path, rate_name)
    sheet = result_sheet(result, tmp_path)
    (path,) = write_result(result, tmp_path / "out", formats=[name])
    spans = READERS[name](path, sheet.clip_rate, sheet.start_frame)
    half_a_frame = 0.5 / float(sheet.clip_rate.rate) + 1e-6
    assert len(spans) == len(EVENTS)
    for event, (label, start_s, end_s) in zip(EVENTS, spans, strict=True):
        assert label.lower().startswith(event.label)
        if name == "soccernet":
            assert start_s == pytest.approx(event.peak_s, abs=half_a_frame)
        elif name == "youtube":
            assert start_s == int(event.start_s)
        else:
            assert start_s == pytest.approx(event.start_s, abs=half_a_frame)
            assert end_s == pytest.approx(event.end_s, abs=half_a_frame)


@pytest.mark.parametrize("name", ["csv", "soccernet", "activitynet", "cvat", "labelstudio"])
def test_our_own_label_readers_read_what_is_written_as_labels(tmp_path: Path, name: str) -> None:
    result = match(tmp_path)
    (path,) = write_result(result, tmp_path / "out", formats=[name])
    if name == "labelstudio":
        # Predictions become labels when somebody accepts them in Label Studio.
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    examples = read_labels(path, rate_hz=25.0)
    events = [example.event() for example in examples if example.label != BELOW.label]
    assert [event.label for event in events] == [event.label for event in EVENTS]
    for read, written in zip(events, EVENTS, strict=True):
        assert read.peak_s == pytest.approx(written.peak_s, abs=3.0)
        if name != "soccernet":
            assert read.start_s == pytest.approx(written.start_s, abs=0.0201)
            assert read.end_s == pytest.approx(written.end_s, abs=0.0201)


def test_the_edl_of_drop_frame_footage_by_hand(tmp_path: Path) -> None:
    result = match(tmp_path, "29.97 drop", accepted=(Event("goal", 60.06, 62.062, 61.061, 0.9),))
    (path,) = write_result(result, tmp_path, formats=["edl"])
    # 60.06 s is frame 1800 exactly: 00:01:00;02; it lasts 60 frames; the peak is 30 frames in.
    assert path.read_text() == (
        "TITLE: final\n"
        "FCM: DROP FRAME\n"
        "\n"
        "001  AX       V     C        01:01:00;02 01:01:02;02 01:00:00;00 01:00:02;00\n"
        "* FROM CLIP NAME: final.mp4\n"
        "* LOC: 01:00:01;00 RED     goal · 90%\n"
    )


def test_fcpxml_times_are_whole_frames_of_the_rate(tmp_path: Path) -> None:
    result = match(tmp_path, "29.97 drop", accepted=(Event("goal", 60.06, 62.062, 61.061, 0.9),))
    (path,) = write_result(result, tmp_path, formats=["fcpxml"])
    root = ElementTree.parse(path).getroot()
    clip = next(root.iter("asset-clip"))
    # The start timecode 01:00:00;00 is frame 107892, at 107892 * 1001 / 30000 = 8999991/2500 s.
    assert next(root.iter("asset")).attrib["start"] == "8999991/2500s"
    # Frame 107892 + 1800 = 109692: 109692 * 1001 / 30000 = 9150141/2500.
    assert clip.attrib["start"] == "9150141/2500s"
    assert clip.attrib["duration"] == "1001/500s"
    # The peak is 30 frames in: 109722 * 1001 / 30000 = 18305287/5000.
    assert next(root.iter("marker")).attrib["start"] == "18305287/5000s"


def test_fcpxml_names_the_file_where_its_version_has_it(tmp_path: Path) -> None:
    (path,) = write_result(match(tmp_path), tmp_path, formats=["fcpxml"])
    asset = next(ElementTree.parse(path).getroot().iter("asset"))
    assert "src" not in asset.attrib  # from 1.9 on in media-rep alone
    (media,) = asset.iter("media-rep")
    assert media.attrib["src"].endswith("/matches/final.mp4")


def test_cvat_counts_from_the_first_picture_and_shows_nothing_behind_the_last(
    tmp_path: Path,
) -> None:
    health = FootageHealth("ts", "h264", 640, 360, "25/1", False, 4.0, 0.0, first_frame_s=0.8)
    events = (Event("goal", 1.8, 2.8, 2.0, 0.9), Event("goal", 3.0, 4.0, 3.5, 0.9))
    result = match(tmp_path, health=health, candidates=events, accepted=events)
    (path,) = write_result(result, tmp_path, formats=["cvat"])
    boxes = [(b.get("frame"), b.get("outside")) for b in ElementTree.parse(path).iter("box")]
    assert boxes == [("25", "0"), ("50", "1"), ("55", "0"), ("79", "0")]
    # How long the footage is may not be known.
    result = replace(result, health=replace(health, duration_s=0.0))
    (path,) = write_result(result, tmp_path, formats=["cvat"])
    boxes = [(b.get("frame"), b.get("outside")) for b in ElementTree.parse(path).iter("box")]
    assert boxes == [("25", "0"), ("50", "1"), ("55", "0"), ("80", "1")]


def test_a_playlist_names_footage_at_an_address_as_it_was_given(tmp_path: Path) -> None:
    address = "https://host/cup%20final/match.mp4?token=1"
    result = match(tmp_path, path=footage_path(address))
    (path,) = write_result(result, tmp_path, formats=["xspf"])
    locations = [e.text for e in ElementTree.parse(path).iter("{http://xspf.org/ns/0/}location")]
    assert set(locations) == {address}


def test_an_instant_has_a_length_in_losslesscut(tmp_path: Path) -> None:
    events = (Event("goal", 2.0, 2.0, 2.0, 0.9),)
    result = match(tmp_path, candidates=events, accepted=events)
    (path,) = write_result(result, tmp_path, formats=["losslesscut"])
    (segment,) = json.loads(path.read_text())["cutSegments"]
    assert (segment["start"], segment["end"]) == (2.0, 3.0)


def test_opentimelineio_opens_the_fcpxml(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    (path,) = write_result(match(tmp_path), tmp_path, formats=["fcpxml"])
    found = otio.adapters.read_from_file(str(path), adapter_name="fcpx_xml")
    clips = list(found[0].find_clips())
    assert [clip.name for clip in clips] == [event.label for event in EVENTS]
    # 10:00:00:00 and 61.2345 s: frame 900000 + 1531 at 25 per second.
    assert clips[0].source_range.start_time == otio.opentime.RationalTime(901531, 25)


def test_opentimelineio_reads_the_locators_of_the_edl(tmp_path: Path) -> None:
    otio = pytest.importorskip("opentimelineio")
    (path,) = write_result(match(tmp_path), tmp_path, formats=["edl"])
    clips = otio.adapters.read_from_file(str(path), rate=25).find_clips()
    assert [clip.markers[0].name for clip in clips] == [
        "goal · 91%",
        "yellow card · 75%",
        "goal · 60%",
    ]


def test_a_rate_given_overrides_the_footage(tmp_path: Path) -> None:
    result = match(tmp_path, "variable, 27.4 on average", accepted=(Event("goal", 1, 3, 2, 0.9),))
    (path,) = write_result(result, tmp_path, formats=["edl"], rate=parse_rate("25"))
    assert "00:00:01:00 00:00:03:00" in path.read_text()


@pytest.mark.parametrize("name", ["edl", "fcpxml", "otio", "premiere", "cvat", "labelstudio"])
def test_formats_that_count_frames_ask_for_a_rate_where_none_is_known(
    tmp_path: Path, name: str
) -> None:
    if name in {"otio", "premiere"}:
        pytest.importorskip("opentimelineio")
    with pytest.raises(ValueError, match=r"final\.mp4.*give --footage"):
        write_result(match(tmp_path, health=None), tmp_path / "out", formats=["csv", name])
    assert not (tmp_path / "out").exists()


def test_what_counts_frames_is_marked_so() -> None:
    counting = {name for name, writer in WRITERS.items() if writer.counts}
    assert counting == {"edl", "fcpxml", "otio", "premiere", "cvat", "labelstudio"}


def test_a_format_whose_library_is_missing_is_refused_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.pipeline.write.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"otio needs opentimelineio: pip install 'touchline\[edit"
    ):
        write_result(match(tmp_path), tmp_path / "out", formats=["csv", "otio"])
    assert not (tmp_path / "out").exists()


def test_an_edl_refuses_rates_that_have_no_timecode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no timecode at 12\.5"):
        write_result(match(tmp_path), tmp_path, formats=["edl"], rate=parse_rate("12.5"))


def test_overlapping_chapters_end_where_the_next_starts(tmp_path: Path) -> None:
    events = (Event("foul", 10, 20, 15), Event("card", 14, 18, 16), Event("goal", 14, 16, 15))
    (path,) = write_result(match(tmp_path, accepted=events), tmp_path, formats=["ffmetadata"])
    spans = read_ffmetadata(path, parse_rate("25"), 0)
    assert [(start, end) for _, start, end in spans] == [(10, 14), (14, 16), (14, 18)]


def test_a_point_event_is_shown_long_enough_and_cut_at_least_a_frame_long(tmp_path: Path) -> None:
    result = match(tmp_path, accepted=(Event("goal", 10, 10, 10),))
    vtt, edl = write_result(result, tmp_path, formats=["vtt", "edl"])
    assert "00:00:10.000 --> 00:00:12.000" in vtt.read_text()
    assert "10:00:10:00 10:00:10:01" in edl.read_text()


def test_youtube_chapters_start_at_zero_and_are_ten_seconds_apart(tmp_path: Path) -> None:
    times = (4.0, 30.0, 39.9, 40.0)
    events = tuple(Event(f"kind {k}", t, t + 1, t) for k, t in enumerate(times))
    (path,) = write_result(match(tmp_path, accepted=events), tmp_path, formats=["youtube"])
    assert path.read_text() == ("0:00:00 Start, kind 0\n0:00:30 kind 1, kind 2\n0:00:40 kind 3\n")


def test_the_match_clock_stands_beside_file_time(tmp_path: Path) -> None:
    clock = MatchClock({1: 30.0, 2: 3600.0})
    formats = ["csv", "json", "soccernet", "vtt", "edl", "youtube", "ffmetadata", "jsonl"]
    paths = write_result(match(tmp_path), tmp_path, formats=formats, clock=clock)
    table, document, soccernet, vtt, edl, youtube, chapters, lines = (
        path.read_text() for path in paths
    )
    rows = list(csv.DictReader(table.splitlines()))
    # 65.4321 - 30 = 35 s; 601.5 - 30 = 571 s = 9:31; 3665 - 3600 = 65 s into the second half.
    assert [row["clock"] for row in rows] == ["1H 0:35", "1H 9:31", "2H 46:05"]
    assert [row["clock"] for row in json.loads(document)["events"] if row["accepted"]] == [
        "1H 0:35",
        "1H 9:31",
        "2H 46:05",
    ]
    last = json.loads(soccernet)["predictions"][-1]
    assert (last["gameTime"], last["position"], last["half"]) == ("2 - 01:05", "65000", "2")
    assert "goal · 1H 0:35 · 91%" in vtt
    assert "goal · 2H 46:05 · 60%" in edl
    # 61.2345 - 30 = 31 s; chapters stand at an event's start.
    assert youtube.splitlines()[1] == "0:01:01 goal (1H 0:31)"
    assert "title=yellow card · 1H 9:31 · 75%" in chapters
    assert json.loads(lines.splitlines()[0])["clock"] == "1H 0:35"
    # Written with a clock, read back with it.
    again = read_events_json(paths[1])
    assert result_sheet(again, tmp_path).clock == clock


HOSTILE = (
    "=cmd|'/C calc'!A0",
    "<script>alert(1)</script>",
    'a"b&c',
    "two\nlines\r\n\r\n* FROM CLIP NAME: other",
    "00:00:01.000 --> 00:00:02.000",
    "]]>",
    "title=x;#\\",
    "tab\tnul\x00bell\x07",
    "Ärger 進球 ⚽",
    "\udcff",
)


@pytest.mark.parametrize("name", READERS)
def test_names_from_labels_and_files_stay_text_in_every_format(tmp_path: Path, name: str) -> None:
    starts = [10.0 * k for k in range(len(HOSTILE))]
    events = tuple(Event(h, t, t + 5, t) for h, t in zip(HOSTILE, starts, strict=True))
    path = tmp_path / '<a&b>"=1\n\u2028;%20#.mp4'
    result = match(tmp_path, path=path, candidates=events, accepted=events)
    (written,) = write_result(result, tmp_path, formats=[name])
    written.read_bytes().decode("utf-8")
    if name == "activitynet":
        (found,) = json.loads(written.read_text())["results"].values()
        assert [row["label"] for row in found] == list(HOSTILE)
        return
    if name == "losslesscut":
        assert len(json.loads(written.read_text())["cutSegments"]) == len(HOSTILE)
        return
    if name == "youtube":
        assert len(written.read_text().splitlines()) == len(HOSTILE)
        assert not set("<>") & set(written.read_text())
        return
    spans = READERS[name](written, parse_rate("25"), result_sheet(result, tmp_path).start_frame)
    assert len(spans) == len(HOSTILE)
    assert [start_s for _, start_s, _ in spans] == pytest.approx(starts, abs=0.02)

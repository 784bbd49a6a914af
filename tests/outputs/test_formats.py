"""Every output format: what is written is read back, where there is one by its own library.

Times come back within half a frame at every rate; names from files and labels stay text.
"""

import csv
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from format_readers import READERS, read_ffmetadata

from touchline.pipeline.footage.address import footage_path
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import WRITERS, result_sheet, write_result
from touchline.pipeline.timecode import MatchClock, parse_rate
from touchline.pipeline.types import Event, FootageHealth

# Not on frame boundaries of any rate; far enough in for a wrong rate to drift by frames.
EVENTS = (
    Event("goal", 61.2345, 70.0101, 65.4321, 0.91),
    Event("yellow card", 600.0, 603.3333, 601.5, 0.75),
    Event("goal", 3661.7, 3668.123, 3665.0, 0.6),
)
# For scoring: an event is the moment of its peak, and all candidates are written.
MOMENTS = ("soccernet", "osl", "player-spotting")
BELOW = Event("substitution", 100.0, 104.0, 102.0, 0.2)

# Formats that count frames.
COUNTING = (
    "edl", "fcpxml", "otio", "premiere", "cvat", "labelstudio", "resolve-markers",
    "premiere-markers",
)  # fmt: skip

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


def test_every_format_has_a_reader_here() -> None:
    # The Common Data Format's video.json holds no events.
    assert [*READERS] == [name for name in WRITERS if name != "cdf"]


@pytest.mark.parametrize("rate_name", RATES)
@pytest.mark.parametrize("name", READERS)
def test_what_is_written_is_read_back_within_half_a_frame(
    tmp_path: Path, name: str, rate_name: str
) -> None:
    result = match(tmp_path, rate_name)
    sheet = result_sheet(result, tmp_path)
    (path,) = write_result(result, tmp_path / "out", formats=[name])
    spans = READERS[name](path, sheet.clip_rate, sheet.start_frame)
    if name in (*MOMENTS, "activitynet"):  # for scoring: with what is below the threshold
        (below,) = (span for span in spans if span[0] == BELOW.label)
        spans.remove(below)
    # Player-centric spotting counts 25 frames per second, whatever the footage.
    counted_hz = 25.0 if name == "player-spotting" else float(sheet.clip_rate.rate)
    half_a_frame = 0.5 / counted_hz + 1e-6
    assert len(spans) == len(EVENTS)
    for event, (label, start_s, end_s) in zip(EVENTS, spans, strict=True):
        assert label.lower().startswith(event.label)
        if name in MOMENTS:
            assert start_s == pytest.approx(event.peak_s, abs=half_a_frame)
        elif name == "youtube":
            assert start_s == int(event.start_s)
        else:
            assert start_s == pytest.approx(event.start_s, abs=half_a_frame)
            assert end_s == pytest.approx(event.end_s, abs=half_a_frame)


@pytest.mark.parametrize("name", ["csv", *MOMENTS, "activitynet", "cvat", "labelstudio"])
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
        if name not in MOMENTS:
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


@pytest.mark.parametrize("rate", RATES)
def test_premiere_markers_count_from_the_first_frame_as_their_clips_do(
    rate: str, tmp_path: Path
) -> None:
    pytest.importorskip("opentimelineio")
    result = match(tmp_path, rate)
    (path,) = write_result(result, tmp_path, formats=["premiere"])
    rate_hz = float(result_sheet(result, tmp_path).clip_rate.rate)
    clips = list(ElementTree.parse(path).iter("clipitem"))
    for event, clip in zip(EVENTS, clips, strict=True):
        first, after = (int(clip.findtext(name, "")) for name in ("in", "out"))
        marked = int(clip.findtext("marker/in", ""))
        assert first <= marked < after
        assert marked / rate_hz == pytest.approx(event.peak_s, abs=0.5 / rate_hz + 1e-6)


@pytest.mark.parametrize(("sound", "declared"), [("aac 48000 Hz stereo", "1"), ("", None)])
def test_fcpxml_declares_sound_where_there_is_some(
    sound: str, declared: str | None, tmp_path: Path
) -> None:
    result = match(tmp_path)
    result = replace(result, health=replace(result.health, sound=sound))
    (path,) = write_result(result, tmp_path, formats=["fcpxml"])
    asset = ElementTree.parse(path).find("resources/asset")
    assert (asset.get("hasAudio"), asset.get("audioSources")) == (declared, declared)


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


@pytest.mark.parametrize("name", COUNTING)
def test_formats_that_count_frames_ask_for_a_rate_where_none_is_known(
    tmp_path: Path, name: str
) -> None:
    if name in {"otio", "premiere"}:
        pytest.importorskip("opentimelineio")
    with pytest.raises(ValueError, match=r"final\.mp4.*Give --footage"):
        write_result(match(tmp_path, health=None), tmp_path / "out", formats=["csv", name])
    assert not (tmp_path / "out").exists()


def test_what_counts_frames_is_marked_so() -> None:
    counting = {name for name, writer in WRITERS.items() if writer.counts}
    assert counting == set(COUNTING)


def test_a_format_whose_library_is_missing_is_refused_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.pipeline.outputs.writers.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"otio needs opentimelineio. Run pip install 'touchline\[edit"
    ):
        write_result(match(tmp_path), tmp_path / "out", formats=["csv", "otio"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["edl", "resolve-markers", "premiere-markers"])
@pytest.mark.parametrize(
    ("rate", "better"), [("12.5", "25"), ("10", "30"), ("16", "48"), ("7", "23.976"), ("400", "60")]
)
def test_timecode_refuses_rates_that_have_none_and_says_which_has(
    tmp_path: Path, name: str, rate: str, better: str
) -> None:
    message = rf"no timecode at {rate} frames.*--to {name} --rate {better}\.$"
    with pytest.raises(ValueError, match=message):
        write_result(match(tmp_path), tmp_path, formats=[name], rate=parse_rate(rate))
    write_result(match(tmp_path), tmp_path, formats=[name], rate=parse_rate(better))


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


def test_the_match_clock_is_shown_next_to_file_time(tmp_path: Path) -> None:
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


def test_chapters_that_start_in_the_same_millisecond_are_not_empty(tmp_path: Path) -> None:
    events = (Event("goal", 1.0001, 2, 1.5), Event("card", 1.0004, 1.00041, 1.0004))
    vtt, chapters = write_result(
        match(tmp_path, accepted=events), tmp_path, formats=["vtt-chapters", "ffmetadata"]
    )
    assert "00:00:01.000 --> 00:00:02.000" in vtt.read_text()
    assert "00:00:01.000 --> 00:00:01.001" in vtt.read_text()
    spans = read_ffmetadata(chapters, parse_rate("25"), 0)
    assert [(start, end) for _, start, end in spans] == [(1.0, 2.0), (1.0, 1.001)]


def test_youtube_gets_no_chapter_too_short_at_the_end_and_a_note_about_too_few(
    tmp_path: Path,
) -> None:
    result = match(tmp_path, accepted=())
    end_s = result.health.duration_s
    late = tuple(Event(f"kind {k}", t, t + 1, t) for k, t in enumerate((20.0, 40.0, end_s - 3)))
    (path,) = write_result(
        replace(result, candidates=late, accepted=late), tmp_path, formats=["youtube"]
    )
    assert path.read_text() == "0:00:00 Start\n0:00:20 kind 0\n0:00:40 kind 1, kind 2\n"
    few = late[1:]
    (path,) = write_result(
        replace(result, candidates=few, accepted=few), tmp_path, formats=["youtube"]
    )
    assert path.read_text().startswith("0:00:00 Start\n0:00:40 kind 1, kind 2\n\n(YouTube shows")


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"width": 144, "height": 96, "sideways": True}, (96, 144)),
        ({"width": 720, "height": 576, "pixel_aspect": "64/45"}, (1024, 576)),
        ({"width": 720, "height": 576, "pixel_aspect": "1/2", "sideways": True}, (1152, 720)),
        ({"width": 128, "height": 96, "turned": True}, (128, 96)),
    ],
)
def test_fcpxml_and_cvat_declare_the_picture_as_it_is_shown(
    facts: dict[str, object], shown: tuple[int, int], tmp_path: Path
) -> None:
    result = match(tmp_path)
    result = replace(result, health=replace(result.health, **facts))
    fcpxml, cvat = write_result(result, tmp_path, formats=["fcpxml", "cvat"])
    picture = ElementTree.parse(fcpxml).find("resources/format")
    assert (picture.get("width"), picture.get("height")) == tuple(map(str, shown))
    size = ElementTree.parse(cvat).find("meta/task/original_size")
    assert (size.findtext("width"), size.findtext("height")) == tuple(map(str, shown))


def test_timecode_is_drop_frame_where_the_footage_says_so(tmp_path: Path) -> None:
    result = match(tmp_path)
    health = replace(result.health, frame_rate="30/1", start_timecode="08:19:54;24")
    (edl,) = write_result(replace(result, health=health), tmp_path, formats=["edl"])
    assert "FCM: DROP FRAME" in edl.read_text()
    assert "01:00:00;00" in edl.read_text()

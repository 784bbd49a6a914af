"""Times, names and files as people and their tools write them: read right, or named for what."""

from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from label_samples import save, touch

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import read_labels

HEADER = "video,label,start_s,end_s,group\n"


def only(path: Path, row: str, **given: float) -> tuple[float | None, float | None]:
    (example,) = read_labels(save(path, HEADER + row, "labels.csv"), **given)
    return example.start_s, example.end_s


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("0:34", "00:36", (34.0, 36.0)),
        ("75:30", "1:15:31", (4530.0, 4531.0)),
        ("0:00:01.5", "0:00:03.2", (1.5, 3.2)),
        ('"0:00:01,500"', '"0:00:03,250"', (1.5, 3.25)),
        ("1e1", ".5e2", (10.0, 50.0)),
    ],
)
def test_times_are_read_as_people_write_them(
    tmp_path: Path, start: str, end: str, seconds: tuple[float, float]
) -> None:
    assert only(tmp_path, f"m.mp4,goal,{start},{end},g\n") == pytest.approx(seconds)


def test_a_comma_is_a_decimal_mark_in_times_of_spreadsheets(tmp_path: Path) -> None:
    text = "video;label;start_s;end_s\nm.mp4;goal;0:00:01,5;3,2\n"
    (example,) = read_labels(save(tmp_path, text, "labels.csv"))
    assert (example.start_s, example.end_s) == (1.5, 3.2)


def film(path: Path, *, rate: int, timecode: str | None = None) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 32
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        for k in range(2 * rate):
            grey = np.full((32, 32, 3), k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())


def test_timecode_counts_frames_at_the_rate_of_the_footage(tmp_path: Path) -> None:
    film(tmp_path / "m.mp4", rate=25)
    row = "m.mp4,goal,00:00:00:10,00:00:01:05,g\n"
    assert only(tmp_path, row) == pytest.approx((0.4, 1.2))
    assert only(tmp_path, row, rate_hz=50) == pytest.approx((0.2, 1.1))


def test_timecode_counts_from_that_of_the_first_frame(tmp_path: Path) -> None:
    film(tmp_path / "m.mov", rate=25, timecode="10:11:12:13")
    assert only(tmp_path, "m.mov,goal,10:11:12:23,10:11:13:13,g\n") == pytest.approx((0.4, 1.0))
    with pytest.raises(LabelsError, match=r"line 2: start_s: 00:00:00:10 is before 10:11:12:13"):
        only(tmp_path, "m.mov,goal,00:00:00:10,00:00:01:05,g\n")


def test_more_frames_than_the_rate_has_are_refused(tmp_path: Path) -> None:
    film(tmp_path / "m.mp4", rate=10)
    with pytest.raises(LabelsError, match=r"counts more frames than the 10 per second.*--rate-hz"):
        only(tmp_path, "m.mp4,goal,00:00:01:12,00:00:03:05,g\n")


@pytest.mark.parametrize("number", ["1_0", "١٢", "0x10", "infinity", "1:2:3:4"])
def test_only_numbers_and_times_are_numbers(tmp_path: Path, number: str) -> None:
    with pytest.raises(LabelsError, match="line 2: start_s"):
        only(tmp_path, f"m.mp4,goal,{number},95,g\n")


def test_an_accent_has_one_form_in_classes_groups_and_files(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    text = HEADER + "".join(f"{n}.mp4,p{n}nalty,1,2,m{n}\n" for n in names)
    path = save(tmp_path, text, "labels.csv")
    for there in ([], [f"{names[1]}.mp4"]):
        touch(tmp_path, *there)
        read = read_labels(path)
        assert {(e.label, e.group) for e in read} == {("pénalty", "mé")}
        assert len({e.path for e in read}) == 1
    assert read[0].path.exists()


def test_a_windows_path_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "clips/c.mp4")
    path = save(tmp_path, HEADER + "clips\\c.mp4,goal,,,\n", "labels.csv")
    (example,) = read_labels(path)
    assert example.path == tmp_path / "clips/c.mp4"
    assert example.group == "clips/c.mp4"


def test_rounding_puts_an_end_before_its_start_and_a_score_above_one(tmp_path: Path) -> None:
    assert only(tmp_path, "m.mp4,goal,5400.004,5400.001,g\n") == (5400.004, 5400.004)
    with pytest.raises(LabelsError, match=r"the end 5400\.004 s is before 5400\.104 s"):
        only(tmp_path, "m.mp4,goal,5400.104,5400.004,g\n")
    head = "video,label,start_s,end_s,peak_s,score\n"
    (example,) = read_labels(save(tmp_path, head + "m.mp4,goal,1,2,1.5,1.0000001\n", "s.csv"))
    assert example.score == 1.0
    with pytest.raises(LabelsError, match=r"score is 1\.00001; it must be in \[0, 1\]"):
        read_labels(save(tmp_path, head + "m.mp4,goal,1,2,1.5,1.00001\n", "s.csv"))


def zipped(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, "x" * 2000)
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["[Content_Types].xml", "xl/workbook.xml"], "an Excel workbook.*CSV UTF-8"),
        (["mimetype", "content.xml"], "LibreOffice.*CSV"),
        (["annotations.xml"], "a ZIP archive. Unpack it"),
    ],
)
def test_an_archive_is_named_for_what_it_is(
    tmp_path: Path, members: list[str], message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        read_labels(zipped(tmp_path / "labels.csv", *members))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WEBVTT\n\n00:01.000 --> 00:02.000\ngoal\n", "WebVTT subtitles"),
        ("1\n00:00:01,000 --> 00:00:02,000\ngoal\n", "SubRip subtitles"),
        ("TITLE: match\nFCM: NON-DROP FRAME\n", "a CMX 3600 edit list"),
        ('# CSV_HEADER = metadata_id,file_list\n"1",2\n', "annotations of VIA"),
        ('{"_via_settings": {}, "_via_img_metadata": {}}', "a project of VIA"),
        ("<xmeml version='4'><sequence/></xmeml>", "a sequence of Premiere Pro"),
        ("\x1f\x8b\x08 text", "a gzip archive"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        read_labels(save(tmp_path, text.encode("latin-1"), "labels.csv"))

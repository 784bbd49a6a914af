"""The command `touchline labels`, on files made here."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from command import touchline

from touchline.pipeline.labels.formats import BY_NAME, WRITABLE
from touchline.pipeline.labels.read import read_labels
from touchline.tools import cli

RUN = [sys.executable, "-m", "touchline.tools.cli"]


def make_footage(path: Path, *, seed: int, seconds: int = 2, rate: int = 10) -> None:
    """Footage of coarse blocks that depend on the seed."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, size=(8, 9, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)  # (64, 72, 3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = 72, 64
        for _ in range(rate * seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    make_footage(tmp_path / "a.mp4", seed=1)
    make_footage(tmp_path / "b.mp4", seed=2)
    path = tmp_path / "labels.csv"
    path.write_text(
        "video,label,start_s,end_s,group\n"
        "a.mp4,shot_left,0.5,1.0,match_A\n"
        "a.mp4,goal[1],1.0,1.5,match_A\n"
        "b.mp4,goal[1],0.5,9.5,match_B\n"
        "c.mp4,goal[1],,,match_C\n"
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    cli.app([str(a) for a in arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_verified_stretches_are_no_class_and_survive_conversion(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run(capsys, "labels", labels)
    with labels.open("a") as file:
        file.write("a.mp4,verified,0,2,match_A\na.mp4,verified,1,2,match_A\n")
    copy = labels.with_name("copy.csv")
    text = run(capsys, "labels", labels, "--convert", "csv", "-o", copy)
    assert "4 labels of 2 classes in 3 files of 3 groups" in text
    assert "2 verified stretches in 1 file: every event in them is labelled" in text
    assert text.count("overlaps") == before.count("overlaps")
    assert [e.label for e in read_labels(copy)] == ["shot_left", *["goal[1]"] * 3]
    both = read_labels(copy, verified=True)
    assert [(e.label, e.start_s) for e in both[4:]] == [("verified", 0.0), ("verified", 1.0)]


def test_the_summary_names_classes_groups_and_problems(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "labels", labels)
    assert "4 labels of 2 classes in 3 files of 3 groups, 4 s of footage" in text
    assert re.search(r"goal\[1\] +3 +75% +3 +0 +0.50 +4.75 +9.00", text)
    assert re.search(r"match_A +2 +1 +", text)
    assert "shot_left: the class names a side" in text
    assert "1 of 3 footage files do not exist" in text
    assert "line 4: 'goal[1]' ends at 9.5 s, but b.mp4 lasts 2.000 s" in text


def test_look_alikes_of_two_groups_are_named(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "show almost the same" not in run(capsys, "labels", labels, "--look-alikes")
    make_footage(tmp_path / "c.mp4", seed=1)
    text = run(capsys, "labels", labels, "--look-alikes")
    assert "line 2 and line 5 show almost the same (0 of 64 bits differ)" in text


@pytest.mark.parametrize("name", set(WRITABLE) - {"soccernet"})
def test_labels_are_converted_to_every_format(
    labels: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_footage(tmp_path / "c.mp4", seed=3)
    form = BY_NAME[name]
    out = tmp_path / "out" / f"labels{form.suffix}"
    run(capsys, "labels", labels, "--convert", name, "-o", out)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    assert len(files) == (3 if form.one_video else 1)
    one = {file: labels.parent / f"{file.stem}.mp4" for file in files if name == "sportscode"}
    read = [e for file in files for e in read_labels(file, footage_folder=one.get(file))]
    times = sorted((e.path.name, e.start_s, e.end_s) for e in read)
    if name in ("osl", "player-spotting"):  # moments; the latter on frames at 25 per second
        names, moments, _ = zip(*times, strict=True)
        assert names == ("a.mp4", "a.mp4", "b.mp4", "c.mp4")
        assert moments == pytest.approx([0.75, 1.25, 5.0, 1.0], abs=0.021)
        return
    whole = (None, None) if name == "csv" else (0.0, 2.0)
    assert times == [
        ("a.mp4", 0.5, 1.0),
        ("a.mp4", 1.0, 1.5),
        # CVAT refuses frames that the footage has not.
        ("b.mp4", 0.5, 2.0 if name == "cvat" else 9.5),
        ("c.mp4", *whole),
    ]


def test_cvat_is_written_at_the_footage_s_own_rate_whatever_rate_was_read(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "tasks.json"
    source.write_text(
        '[{"data": {"video": "a.mp4"}, "annotations": [{"result": [{"value": '
        '{"ranges": [{"start": 25, "end": 36}], "timelinelabels": ["goal"]}}]}]}]'
    )
    for form, own_rate_hz in (("cvat", True), ("label-studio", False)):
        out = tmp_path / f"out.{form}"
        run(capsys, "labels", source, "--rate-hz", 24, "--convert", form, "-o", out)
        (goal,) = read_labels(out)
        assert (goal.start_s, goal.end_s) == (1.0, 1.5)
        # The footage has 10 frames a second; Label Studio's are those of the project, which is 24.
        assert ('frame="10"' in out.read_text()) == own_rate_hz


def test_footage_of_two_rates_is_written_each_at_its_own(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_footage(tmp_path / "b.mp4", seed=2, rate=20)
    labels.write_text("video,label,start_s,end_s\na.mp4,goal,1,1.5\nb.mp4,goal,1,1.5\n")
    out = tmp_path / "out.json"
    run(capsys, "labels", labels, "--convert", "label-studio", "-o", out)
    assert [(e.start_s, e.end_s) for e in read_labels(out)] == [(1.0, 1.5), (1.0, 1.5)]
    assert '"fps": 10.0' in out.read_text()
    assert '"fps": 20.0' in out.read_text()


def test_the_help_names_every_format_that_can_be_written() -> None:
    # A terminal this wide keeps the list on one line.
    wide = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    shown = subprocess.run(
        [*RUN, "labels", "--help"], env=wide, capture_output=True, text=True, check=True
    )
    named = re.search(r"Write as (.*?)\.", shown.stdout)
    assert named is not None
    assert set(re.split(r", | or ", named[1])) == set(WRITABLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels.csv", "--convert", "elan"], "belong together"),
        (["labels.csv", "--convert", "srt", "-o", "out"], "'srt' cannot be written"),
        (["labels.csv", "--convert", "soccernet", "-o", "out"], "one match per file"),
        (["none.csv"], "none.csv: no such file"),
        (["broken.csv"], "broken.csv: line 2: the end 1 s is before 2 s"),
        (["labels.csv", "--rate-hz", "0"], "--rate-hz is 0"),
    ],
)
def test_a_bad_call_is_one_line_and_exit_code_1(
    labels: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(labels.parent)
    make_footage(Path("c.mp4"), seed=3)
    Path("broken.csv").write_text("video,label,start_s,end_s\na.mp4,goal,2,1\n")
    assert touchline(monkeypatch, "labels", *arguments) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_no_command_writes_over_the_labels_it_reads(labels: Path, tmp_path: Path) -> None:
    before = labels.read_bytes()
    link = tmp_path / "link.csv"
    link.symlink_to(labels)
    for out in (labels, link):
        for command in (["labels", labels, "--convert", "csv"], ["evaluate", labels, labels]):
            with pytest.raises(ValueError, match="is read by this command"):
                cli.app([str(a) for a in (*command, "-o", out)], standalone_mode=False)
    assert labels.read_bytes() == before


def test_converting_keeps_columns_of_other_names(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = labels.read_text().splitlines()
    extra = [f"{rows[0]},player,note", *(f"{row},7,x" for row in rows[1:])]
    labels.write_text("\n".join(extra) + "\n")
    out = tmp_path / "out.csv"
    cli.app(["labels", str(labels), "--convert", "csv", "-o", str(out)], standalone_mode=False)
    with out.open(newline="") as file:
        kept = [(row["player"], row["note"]) for row in csv.DictReader(file)]
    assert "attributes: player, note\n" in capsys.readouterr().out
    assert kept == [("7", "x")] * (len(rows) - 1)


def test_labels_without_matches_say_that_every_file_is_one(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "the labels name no match (group), so each of the 3 files counts as a match of its own"
    assert said not in run(capsys, "labels", labels)
    text = re.sub(r",(match_\w|group)$", "", labels.read_text(), flags=re.MULTILINE)
    labels.write_text(text)
    assert said in run(capsys, "labels", labels)


def test_one_of_anything_is_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("video,label,start_s,end_s\na.mp4,goal,1,2\n")
    assert "1 label of 1 class in 1 file of 1 group, 0 s" in run(capsys, "labels", path)

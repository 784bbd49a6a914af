"""Footage given as files, folders, patterns, lists and remote folders."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from tiny import write_levels

from touchline.models.errors import FootageError
from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.inputs import find_inputs, footage_files

NAMES = ("b.mp4", "a.mp4", "sub/a.mp4")


@pytest.fixture
def season(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "season"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_levels(folder / name, [20] * 4)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_order_given_is_kept_and_within_a_folder_or_pattern_names_decide(season: Path) -> None:
    assert find_inputs(["season/b.mp4", "season/**/a*.mp4", "gone.mp4"]).files == (
        Path("season/b.mp4"),
        Path("season/a.mp4"),
        Path("season/sub/a.mp4"),
        Path("gone.mp4"),
    )
    # What matches nothing stays: opening it says what is wrong.
    assert find_inputs(["season/*.avi"]).files == (Path("season/*.avi"),)
    # A name with brackets is a name where such a file exists.
    odd = write_levels(season / "final [1].mp4", [20] * 4)
    assert find_inputs([str(odd)]).files == (odd,)


def test_a_list_holds_inputs_one_per_line(season: Path) -> None:
    text = "\ufeff# the first half\nseason/b.mp4\n\n  season/sub  \nhttps://example.org/m.mp4\n"
    Path("list.txt").write_text(text, encoding="utf-8")
    listed = (
        Path("season/b.mp4"),
        Path("season/sub/a.mp4"),
        Address("https://example.org/m.mp4"),
    )
    assert find_inputs(["@list.txt"]).files == listed
    assert find_inputs(["-"], standard_input=io.StringIO(text[1:])).files == listed
    with pytest.raises(FootageError, match=r"^none\.txt: the list cannot be read \(No such"):
        find_inputs(["@none.txt"])


def test_a_file_given_twice_is_one_input_and_is_named(season: Path) -> None:
    Path("link.mp4").symlink_to(season / "b.mp4")
    found = find_inputs(["season", "season/b.mp4", "link.mp4", "s3://x/m.mp4", "s3://x/m.mp4"])
    assert found.files == (
        *map(Path, ("season/a.mp4", "season/b.mp4", "season/sub/a.mp4")),
        Address("s3://x/m.mp4"),
    )
    assert found.duplicates == (
        (Path("season/b.mp4"), Path("season/b.mp4")),
        (Path("link.mp4"), Path("season/b.mp4")),
        (Address("s3://x/m.mp4"), Address("s3://x/m.mp4")),
    )


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska", "avi", "mpegts", "flv", "mxf", "nut"])
def test_footage_in_a_folder_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "0001.recording"
    codec = "mpeg2video" if kind == "mxf" else "mpeg4" if kind != "flv" else "flv1"
    with av.open(str(file), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame(64, 48, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert footage_files([tmp_path]) == [file]


def test_other_files_in_a_folder_are_no_inputs_but_a_damaged_video_is(tmp_path: Path) -> None:
    for name, content in {
        "notes.txt": b"Goal at 12:34",
        "cover.png": b"\x89PNG\r\n\x1a\n" + bytes(99),
        "radio.m4a": b"\0\0\0\x20ftypM4A " + bytes(99),
        "weights.bin": bytes(range(256)) * 9,
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
    assert footage_files([tmp_path]) == [tmp_path]
    damaged = tmp_path / "match.mp4"
    damaged.write_bytes(b"<html>not found</html>")
    assert footage_files([tmp_path]) == [damaged]


def test_a_remote_folder_or_pattern_is_listed(
    season: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("cup/b.mp4", "cup/sub/a.mkv", "cup/notes.txt"):
        memory.pipe(f"/{name}", b"x")
    monkeypatch.setattr(
        "touchline.pipeline.footage.address.file_system",
        lambda path: (memory, path.address.removeprefix("s3:/")),
    )
    monkeypatch.setattr(memory, "unstrip_protocol", lambda name: f"s3:/{name}")
    assert find_inputs(["s3://cup/"]).files == (
        Address("s3://cup/b.mp4"),
        Address("s3://cup/sub/a.mkv"),
    )
    assert find_inputs(["s3://cup/*.mp4"]).files == (Address("s3://cup/b.mp4"),)
    assert find_inputs(["s3://gone/"]).files == (Address("s3://gone/"),)
    memory.rm("/cup", recursive=True)

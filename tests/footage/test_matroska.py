"""Where a Matroska file ends: between two elements, or inside one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from drawn_footage import write_footage

from touchline.pipeline.footage.matroska import is_cut_short

CLUSTER = b"\x1f\x43\xb6\x75"


def cut_short(body: bytes) -> bool:
    return is_cut_short(io.BytesIO(body), len(body))


def unclosed(folder: Path) -> bytes:
    """A recording whose length the recorder did not write, in clusters of a second."""
    muxer = {"live": "1", "cluster_time_limit": "1000"}
    return write_footage(folder / "a.mkv", seconds=3, muxer=muxer).read_bytes()


def clusters_without_length(body: bytes) -> bytes:
    """As browsers write it: the length of a cluster is not known when it begins."""
    parts = body.split(CLUSTER)
    assert len(parts) > 3
    later = []
    for part in parts[1:]:
        width = 9 - part[0].bit_length()
        later.append(b"\x01" + b"\xff" * 7 + part[width:])
    return CLUSTER.join([parts[0], *later])


@pytest.mark.parametrize("kind", ["closed", "unclosed", "clusters without length"])
def test_a_whole_file_is_not_cut_short_and_one_that_lacks_a_byte_is(
    kind: str, tmp_path: Path
) -> None:
    body = unclosed(tmp_path)
    if kind == "closed":
        body = write_footage(tmp_path / "b.mkv", seconds=3).read_bytes()
    if kind == "clusters without length":
        body = clusters_without_length(body)
    assert not cut_short(body)
    assert cut_short(body[:-1])
    assert cut_short(body[: len(body) * 2 // 3])


def test_a_recording_that_ends_between_two_clusters_lacks_nothing(tmp_path: Path) -> None:
    body = unclosed(tmp_path)
    assert not cut_short(body[: body.rindex(CLUSTER)])
    assert cut_short(body[: body.rindex(CLUSTER) + 3])


@pytest.mark.parametrize("body", [b"", b"\x1a", b"\x00" * 40, b"\x1a\x45\xdf\xa3\x00" + b"\0" * 40])
def test_what_is_no_matroska_is_not_cut_short(body: bytes) -> None:
    assert not cut_short(body)

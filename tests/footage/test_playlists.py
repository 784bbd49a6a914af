"""Playlists and scripts posing as video: no other file is read and no connection is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from footage_bad_cases import PLAYLISTS
from loopback import send, serve

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.footage import open

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_connection_is_made(name: str, tmp_path: Path):
    path = tmp_path / name
    with serve(lambda handler, number: send(handler, b"", status=404)) as server:
        path.write_text(PLAYLISTS[name].replace("{target}", f"{server.url}/other.mp4"))
        with pytest.raises(FootageError):
            next(decode(path, rate_hz=8, size_px=48, isolation=False))
        # What stands between a file that no sniffing recognises and the network.
        with pytest.raises(FootageError, match="not a video format"):
            open.open_container(path)
        assert server.requests == []


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_other_file_is_read(name: str, tmp_path: Path):
    # Whoever opens a pipe that nobody writes to waits for ever.
    os.mkfifo(tmp_path / "other.mp4")
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].replace("{target}", str(tmp_path / "other.mp4")))
    with pytest.raises(FootageError):
        next(decode(path, rate_hz=8, size_px=48, isolation=False))
    with pytest.raises(FootageError, match="not a video format"):
        open.open_container(path)

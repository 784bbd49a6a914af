"""Footage at an address: read in ranges, refused in one line, and only when somebody wrote it."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from footage_made import read_index, write_video
from loopback import Loopback, send, serve
from tiny import brightness_model, write_levels

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.folders import output_folders
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage import address
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.labels.read import read_labels

pytest.importorskip("fsspec", reason="the extra `remote` is not installed")
pytest.importorskip("aiohttp", reason="the extra `remote` is not installed")
pytestmark = pytest.mark.timeout(60)

Handler = BaseHTTPRequestHandler


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than two blocks: 60 frames of noise, a key frame every 10."""

    def noise(index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (240, 320, 3), np.uint8)

    return write_video(
        tmp_path_factory.mktemp("far") / "match.mp4",
        indices=range(60), size=(320, 240), picture=noise,
        options={"preset": "ultrafast", "g": "10", "qp": "4", "threads": "1"},
        muxer={"movflags": "faststart"},
    )  # fmt: skip


def in_ranges(body: bytes, **headers: str) -> Callable[[Handler, int], None]:
    """A server that gives the bytes asked for, and says more in headers."""

    def behave(handler: Handler, number: int) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range") or "")
        if asked is None:
            send(handler, body, headers=headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(body)) + 1, len(body))
        span = {"Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
        send(handler, body[start:end], status=206, headers={**headers, **span})

    return behave


def answering(status: int) -> Callable[[Handler, int], None]:
    return lambda handler, number: send(handler, b"no", status=status)


def num_bytes(loopback: Loopback) -> int:
    """How much was asked for in ranges."""
    spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", text) for text in loopback.ranges if text]
    return sum(int(span[2]) + 1 - int(span[1]) for span in spans if span)


def samples(path: str | Path, **how: object) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(decode(path, rate_hz=8, size_px=48, **how))
    return (
        np.concatenate([chunk.pixels for chunk in chunks]),
        np.concatenate([chunk.time_s for chunk in chunks]),
    )


@pytest.mark.parametrize("isolation", [True, False])
def test_footage_at_an_address_is_what_the_file_is(isolation: bool, footage: Path):
    body = footage.read_bytes()
    assert len(body) > 2 * address.BLOCK_BYTES
    with serve(in_ranges(body)) as server:
        far = samples(f"{server.url}/match.mp4?key=a.b", isolation=isolation)
        health = probe_footage(f"{server.url}/match.mp4", depth="packets", isolation=isolation)
    near = samples(footage)
    assert np.array_equal(far[0], near[0])
    assert np.array_equal(far[1], near[1])
    assert health == probe_footage(footage, depth="packets")
    assert any(text and not text.startswith("bytes=0-") for text in server.ranges)


def test_of_a_far_part_only_that_part_is_fetched(footage: Path):
    body = footage.read_bytes()
    with serve(in_ranges(body)) as server:
        whole = samples(f"{server.url}/match.mp4", isolation=False)
        all_bytes = num_bytes(server)
    with serve(in_ranges(body)) as server:
        end = samples(f"{server.url}/match.mp4", isolation=False, start_s=2.0)
        assert num_bytes(server) < all_bytes - address.BLOCK_BYTES / 2
    assert np.array_equal(end[0], whole[0][16:])


def test_a_server_without_ranges_is_said_to_be_one(footage: Path):
    body = footage.read_bytes()
    with (
        serve(lambda handler, number: send(handler, body)) as server,
        pytest.raises(
            FootageError, match=r"does not support range requests\. Download the footage"
        ),
    ):
        samples(f"{server.url}/match.mp4")
    nothing = {"Accept-Ranges": "none"}
    with (
        serve(lambda handler, number: send(handler, body, headers=nothing)) as server,
        pytest.raises(
            FootageError, match=r"does not support range requests\. Download the footage"
        ),
    ):
        samples(f"{server.url}/match.mp4")


def test_small_footage_comes_whole_where_there_are_no_ranges(tmp_path: Path):
    body = write_video(tmp_path / "a.mp4").read_bytes()
    with serve(lambda handler, number: send(handler, body)) as server:
        pixels, _ = samples(f"{server.url}/a.mp4")
    assert [read_index(one) for one in pixels] == [0, 3, 6, 9, 12, 15, 18, 21]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, "no such file at that address"),
        (403, r"the server refuses access \(403\)\. Check whether the address needs a login"),
        (401, r"the server refuses access \(401\)"),
        (503, "the server answers with status 503"),
    ],
)
def test_what_a_server_refuses_is_said_in_one_line(status: int, says: str):
    with serve(answering(status)) as server, pytest.raises(FootageError, match=says) as caught:
        samples(f"{server.url}/a.mp4")
    assert str(caught.value).startswith(f"{server.url}/a.mp4: ")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_named():
    with serve(answering(404)) as server:
        pass
    with pytest.raises(FootageError, match=r"the address cannot be read .*Cannot connect"):
        samples(f"{server.url}/a.mp4")


def test_a_connection_that_breaks_is_tried_again(footage: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(address, "PAUSE_S", 0.01)
    body = footage.read_bytes()
    good, broken = in_ranges(body), []

    def behave(handler: Handler, number: int) -> None:
        if handler.headers.get("Range") and len(broken) < 2:
            broken.append(number)
            send(handler, b"half", length=1000, status=206)
            return
        good(handler, number)

    with serve(behave) as server:
        pixels, _ = samples(f"{server.url}/match.mp4", isolation=False)
    assert len(broken) == 2
    assert np.array_equal(pixels, samples(footage)[0])


def test_a_connection_that_stays_broken_ends_the_file(
    footage: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(address, "PAUSE_S", 0.01)
    body = footage.read_bytes()
    good = in_ranges(body)

    def behave(handler: Handler, number: int) -> None:
        if (handler.headers.get("Range") or "").startswith(f"bytes={address.BLOCK_BYTES}-"):
            send(handler, b"", status=500)
            return
        good(handler, number)

    with (
        serve(behave) as server,
        pytest.raises(FootageError, match="the server answers with status 500"),
    ):
        samples(f"{server.url}/match.mp4", isolation=False)


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}/other.ts\n#EXT-X-ENDLIST\n"


def test_a_playlist_at_an_address_is_not_followed():
    def behave(handler: Handler, number: int) -> None:
        in_ranges(PLAYLIST.format(url=server.url).encode())(handler, number)

    with serve(behave) as server, pytest.raises(FootageError, match="an HLS playlist"):
        samples(f"{server.url}/match.mp4")
    assert {path for path, _ in server.requests} == {"/match.mp4"}


def test_what_a_label_file_names_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with serve(answering(404)) as server:
        row = f"{server.url}/a.mp4,goal,0,1,cup"
        Path("labels.csv").write_text(f"video,label,start_s,end_s,group\n{row}\n")
        for example in read_labels("labels.csv"):
            with pytest.raises(FootageError, match="no such file"):
                samples(example.path)
        with pytest.raises(FootageError, match="no such file"):
            samples(Path(f"{server.url}/a.mp4"))
    assert server.requests == []


def test_other_decoders_read_no_addresses(tmp_path: Path):
    body = write_video(tmp_path / "a.mp4").read_bytes()
    with serve(in_ranges(body)) as server:
        with pytest.raises(
            FootageError, match=r"opencv cannot read from an address\. Use the decoder pyav"
        ):
            samples(f"{server.url}/a.mp4", decoder="opencv")
        assert server.requests == []


@pytest.mark.parametrize("text", ["rtsp://host/a", "ftp://host/a.mp4", "file:///a.mp4", "https://"])
def test_other_kinds_of_addresses_are_refused(text: str):
    with pytest.raises(FootageError, match="this kind of address is not supported"):
        samples(text)


def test_an_address_has_the_name_of_its_file_and_stays_itself():
    one = footage_path("https://host/cup%20final/a//match.2.mp4?token=x/y.z")
    assert isinstance(one, Address)
    assert (one.name, one.stem, one.suffix) == ("match.2.mp4", "match.2", ".mp4")
    assert str(one) == os.fspath(one) == one.as_uri()
    assert str(one) == "https://host/cup%20final/a//match.2.mp4?token=x/y.z"
    assert (
        one
        == one.resolve()
        == one.absolute()
        == footage_path(one)
        == pickle.loads(pickle.dumps(one))
    )
    assert one != footage_path("https://host/cup%20final/a//match.2.mp4")
    assert not one.exists()
    assert not isinstance(footage_path("http:x.mp4"), Address)
    assert not isinstance(footage_path(Path("https://host/a.mp4")), Address)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Objects by "bucket/name" in memory, in place of s3fs and gcsfs, which tests do not have."""
    from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

    bodies: dict[str, bytes] = {}

    class Object(AbstractBufferedFile):
        def _fetch_range(self, start: int, end: int) -> bytes:
            return bodies[self.path][start:end]

    class InMemory(AbstractFileSystem):
        protocol = ("s3", "gs")
        cachable = False

        def info(self, path: str, **_: object) -> dict[str, object]:
            if path not in bodies:
                raise FileNotFoundError(path)
            return {"name": path, "size": len(bodies[path]), "type": "file"}

        def _open(self, path: str, mode: str = "rb", **how: object) -> Object:
            return Object(self, path, mode, **how)

    for scheme in ("s3", "gs"):
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, scheme, InMemory)
    return bodies


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_objects_in_buckets_are_read_too(scheme: str, footage: Path, bucket: dict[str, bytes]):
    bucket["club/cup/match.mp4"] = footage.read_bytes()
    far = samples(f"{scheme}://club/cup/match.mp4", isolation=False)
    assert np.array_equal(far[0], samples(footage)[0])
    with pytest.raises(FootageError, match="no such file at that address"):
        samples(f"{scheme}://club/gone.mp4", isolation=False)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(FootageError, match=r"pip install 'touchline\[remote\]'"):
        samples("https://host/a.mp4", isolation=False)


# --- detection ------------------------------------------------------------------------------------

OPTIONS = DetectOptions(hop_s=0.25, device="cpu")
LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
FAR_OFF = "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "num_runs"),
    [({"Last-Modified": LONG_AGO}, 1), ({"Last-Modified": FAR_OFF}, 2), ({}, 2)],
)
def test_detection_at_an_address_and_what_is_done_of_it(
    headers: dict[str, str], num_runs: int, tmp_path: Path
):
    match = write_levels(tmp_path / "a.mp4", [20] * 32 + [235] * 32 + [20] * 32)
    started: list[Path] = []
    with serve(in_ranges(match.read_bytes(), **headers)) as server:
        for token in (1, 2):
            far = footage_path(f"{server.url}/cup%20final.mp4?token={token}")
            assert output_folders([far], tmp_path) == [tmp_path / "cup final"]
            (result,) = detect_all(
                [far], brightness_model(), tmp_path, OPTIONS, report=True, skip_done=True,
                on_start=started.append,
            )  # fmt: skip
            assert result.error is None
            (event,) = result.accepted
            assert event.peak_s == pytest.approx(3.0, abs=0.5)
    assert len(started) == num_runs
    assert (tmp_path / "cup final" / "report.html").exists()

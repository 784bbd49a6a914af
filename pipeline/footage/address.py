"""Footage at an address (https://, s3://, gs://), read in ranges through fsspec.

An address is one only where it was written as such: text with "://". A Path never is, so what a
label file or an events file names is looked for on this machine and nowhere else.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from touchline.models.errors import FootageError

SCHEMES = ("https", "http", "s3", "gs", "gcs")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

# Large enough that a slow connection is busy, small enough that a header costs little.
BLOCK_BYTES = 2 << 20
KEPT_BLOCKS = 16
BUFFER_BYTES = 256 << 10

# Each wait stays well below the watchdog of a worker, all tries together too.
CONNECT_S, ANSWER_S = 8.0, 12.0
TRIES = 3
PAUSE_S = 0.5

NO_RANGES = "the server does not answer in ranges: download the footage and give the file"

# What file systems call the time of the last change.
_CHANGED = ("LastModified", "Last-Modified", "mtime", "updated", "last_modified")

if TYPE_CHECKING:
    LocalPath = Path
else:
    LocalPath = type(Path())


class Address(LocalPath):
    """Where remote footage lies, as a path: its name and stem are those of the file there."""

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
        """Itself: an address depends on no folder."""
        return self

    def absolute(self) -> Address:
        """Itself: an address depends on no folder."""
        return self

    def as_uri(self) -> str:
        """The address."""
        return self.address


def _path_part(address: str) -> str:
    parts = urlsplit(address)
    return f"/{parts.netloc}/{unquote(parts.path)}"


def footage_path(text: str | os.PathLike[str]) -> Path:
    """What was written as an address as an Address, everything else as a local path.

    FootageError for addresses of a kind that is not read.
    """
    if isinstance(text, Address) or not isinstance(text, str):
        return text if isinstance(text, Path) else Path(text)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(text)
    if scheme[1].lower() not in SCHEMES or not urlsplit(text).netloc:
        raise FootageError(text, "not an address that is read: https://, s3:// and gs:// are")
    return Address(text)


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes, to be read at any place; OSError or FootageError where it cannot be had."""
    if not isinstance(path, Address):
        return path.open("rb")
    try:
        system, name = _file_system(path)
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
    """When a file was last changed, in seconds since 1970; None where the server does not tell."""
    if not isinstance(path, Address):
        return path.stat().st_mtime
    try:
        system, name = _file_system(path)
        facts = system.info(name)
    except FootageError:
        raise
    except Exception as error:
        raise FootageError(path, _why(error)) from None
    told = next((facts[key] for key in _CHANGED if facts.get(key)), None)
    return None if told is None else _seconds(told)


class _Ranges(io.RawIOBase):
    """A remote file that tries again where a connection breaks, and says what is wrong."""

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


def _file_system(path: Address) -> tuple[Any, str]:
    """The file system an address belongs to, and the file's name in it."""
    try:
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {}
        if urlsplit(path.address).scheme.lower().startswith("http"):
            import aiohttp

            limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S)
            options["client_kwargs"] = {"timeout": limits}
        system, name = url_to_fs(path.address, **options)
    except ImportError as error:
        raise FootageError(
            path, f"reading it needs the extra `remote` ({error}): pip install 'touchline[remote]'"
        ) from None
    return system, str(name)


def _status(error: BaseException | None) -> int | None:
    """The server's answer behind an error, where there is one."""
    while error is not None:
        status = getattr(error, "status", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    return not isinstance(error, ValueError) and (status is None or status >= 500 or status == 429)


def _why(error: Exception) -> str:
    """What went wrong with a request, and what to do."""
    status = _status(error)
    if status in (404, 410) or (status is None and _root(error) is FileNotFoundError):
        return "no such file at that address"
    if status in (401, 403, 407) or isinstance(error, PermissionError):
        return f"the server refuses it ({status or 'no permission'}): is a login needed?"
    if status is not None and status >= 400:
        return f"the server answers {status}: try again later"
    if isinstance(error, ValueError) and "range requests" in str(error):
        return NO_RANGES
    if isinstance(error, TimeoutError) or _root(error) is TimeoutError:
        return "the server does not answer: is the network there?"
    text = " ".join(str(error.__cause__ or error).split())
    return f"cannot be read from there ({text[:100] or type(error).__name__})"


def _root(error: BaseException) -> type[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
    return TimeoutError if isinstance(error, TimeoutError) else type(error)


def _seconds(told: Any) -> float | None:
    if isinstance(told, str):
        try:
            told = parsedate_to_datetime(told)
        except ValueError:
            told = datetime.fromisoformat(told)
    if isinstance(told, datetime):
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    return float(told) if isinstance(told, int | float) else None


FOOTAGE_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".ivf", ".m2t"}
    | {".m2ts", ".m2v", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts"}
    | {".mxf", ".nut", ".ogg", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"}
    | {".264", ".265", ".h264", ".h265", ".hevc", ".wtv", ".y4m"}
)

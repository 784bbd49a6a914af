"""Download one file: resume it, retry, and check it before it gets its name."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from filelock import FileLock

from touchline.models.errors import WeightsError

OnProgress = Callable[[int, int | None], None]
"""Called with (bytes downloaded, bytes of the file or None if the server does not say)."""

# Less than this between two failures does not count as progress. Otherwise a server that hangs up
# after a few bytes could go on for ever.
_PROGRESS_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long to retry a download.

    Attributes:
        timeout_s: A connection without bytes for this many seconds counts as failed.
        attempts: Give up after this many failures in a row without progress.
        pause_s: Seconds to wait after the first failure; each further one doubles them.
    """

    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0


class _TransferError(Exception):
    """A transfer failed. `final`: another attempt cannot help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(reason)


def fetch(
    url: str,
    target: Path,
    *,
    check: Callable[[Path], None],
    unpack: Callable[[Path], None] = lambda part: None,
    on_progress: OnProgress | None = None,
    patience: Patience | None = None,
) -> None:
    """Download `url` to `target`, unless it is there already.

    Bytes go to `target`.part, which the next call resumes. A complete file that `check` refuses is
    downloaded once more from its start. Proxies are those of the environment (http_proxy,
    no_proxy, ...). If two processes want the same file, the second waits and finds it there.

    Args:
        url: The address.
        target: The file.
        check: Gets the complete file and raises WeightsError if it is wrong.
        unpack: Called before `check` to replace a complete archive by one of its files.
        on_progress: Called with the bytes so far.
        patience: How long to retry. None: the defaults.

    Raises:
        WeightsError: The file cannot be downloaded, or `unpack` or `check` refuses it twice.
    """
    patience = patience or Patience()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(target.name + ".lock")):
        if target.exists():
            return
        part = target.with_name(target.name + ".part")
        # Download a wrong file again: the part that was resumed may be of another version.
        for is_last in (False, True):
            _complete(url, part, target, on_progress, patience)
            try:
                unpack(part)
                check(part)
                break
            except WeightsError:
                _discard(part)
                if is_last:
                    raise
        part.replace(target)
        _discard(part)


def _complete(
    url: str, part: Path, target: Path, on_progress: OnProgress | None, patience: Patience
) -> None:
    """Transfer until `part` is complete; WeightsError when patience ends."""
    best, failures = _size(part), 0
    while True:
        try:
            _transfer(url, part, on_progress, patience.timeout_s)
            return
        except _TransferError as error:
            reason = error
        size = _size(part)
        failures = 0 if size >= best + _PROGRESS_BYTES else failures + 1
        best = max(best, size)
        if reason.final or failures >= patience.attempts:
            raise WeightsError(target, f"could not be fetched from {url} ({reason})")
        time.sleep(patience.pause_s * 2 ** max(0, failures - 1))


def _transfer(url: str, part: Path, on_progress: OnProgress | None, timeout_s: float) -> None:
    """Transfer over one connection; return when `part` is complete."""
    have = _size(part)
    try:
        # A new opener: the shared one keeps the proxies of its first use.
        with build_opener().open(_request(url, part, have), timeout=timeout_s) as response:
            _receive(response, part, have, on_progress)
    except HTTPError as error:
        with error:
            if error.code == 416 and _full_size(error.headers.get("Content-Range")) == have:
                return  # the part is already complete
            if error.code == 416:
                _discard(part)
                raise _TransferError("the earlier part does not fit; starting again") from None
            final = error.code not in _RETRIED_STATUS
            raise _TransferError(f"HTTP {error.code} {error.reason}", final=final) from None
    except TimeoutError:
        raise _TransferError(f"no bytes for {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(str(getattr(error, "reason", error)) or repr(error)) from None


def _request(url: str, part: Path, have: int) -> Request:
    headers = {
        "User-Agent": f"touchline/{version('touchline')}",
        "Accept-Encoding": "identity",
    }
    if have:
        headers["Range"] = f"bytes={have}-"
        if _validator(part).exists():
            headers["If-Range"] = _validator(part).read_text()
    return Request(url, headers=headers)


def _receive(
    response: http.client.HTTPResponse, part: Path, have: int, on_progress: OnProgress | None
) -> None:
    resumed = response.status == 206
    if resumed and _first_byte(response.headers.get("Content-Range")) != have:
        _discard(part)
        raise _TransferError("the server sent another range than the one asked for")
    if not resumed:
        have = 0
        _remember_validator(response, part)
    left = response.headers.get("Content-Length")
    total = have + int(left) if left is not None and left.isdigit() else None
    with part.open("ab" if resumed else "wb") as file:
        # read1 returns the bytes at hand; read would lose them if the connection stalls.
        while chunk := response.read1(_CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            if on_progress is not None:
                on_progress(have, total)
    if total is not None and have != total:
        raise _TransferError(f"the connection ended after {have} of {total} bytes")


def _remember_validator(response: http.client.HTTPResponse, part: Path) -> None:
    """Keep the tag that names the version of a part. Weak tags do not work with ranges."""
    tag = response.headers.get("ETag") or ""
    tag = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""
    if tag:
        _validator(part).write_text(tag)
    else:
        _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _first_byte(content_range: str | None) -> int | None:
    """ "bytes 100-199/200" -> 100."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", content_range or "")
    return int(match[1]) if match else None


def _full_size(content_range: str | None) -> int | None:
    """ "bytes */200" -> 200."""
    match = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(match[1]) if match else None

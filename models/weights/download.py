"""One file from the network to the disk: resumed, retried, checked before it gets its name."""

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
"""Called with (bytes here, bytes in all or None where the server does not say)."""

# Gaining less than this between two failures is no progress: a server that hangs up after a few
# bytes each time must not keep us for ever.
_PROGRESS_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long to go on trying.

    timeout_s: silence on the connection after which it counts as stalled.
    attempts: failures in a row, without progress between them, before giving up.
    pause_s: wait after the first failure; each further one doubles it.
    """

    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0


class _TransferError(Exception):
    """A transfer that broke off; `final` where trying again cannot help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(reason)


def fetch(
    url: str,
    target: Path,
    *,
    check: Callable[[Path], None],
    on_progress: OnProgress | None = None,
    patience: Patience | None = None,
) -> None:
    """Bring `url` to `target`, unless it is there already.

    Bytes go to `target`.part, which the next call resumes. `check` gets that file when it is
    complete and raises WeightsError where it is wrong; a wrong file is fetched once more from its
    start, then the error rises. Proxies are those of the environment (http_proxy, no_proxy...).
    Two processes that want one file take turns, and the second finds it there. WeightsError where
    the network does not give it.
    """
    patience = patience or Patience()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(target.name + ".lock")):
        if target.exists():
            return
        part = target.with_name(target.name + ".part")
        # A wrong file is fetched twice: what was resumed may have been another version.
        for is_last in (False, True):
            _complete(url, part, target, on_progress, patience)
            try:
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
    """Transfer until `part` is whole; WeightsError when patience ends."""
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
    """One connection's worth of bytes; returns when `part` is whole."""
    have = _size(part)
    try:
        # An opener of its own: the shared one keeps the proxies of the first time it was used.
        with build_opener().open(_request(url, part, have), timeout=timeout_s) as response:
            _receive(response, part, have, on_progress)
    except HTTPError as error:
        with error:
            if error.code == 416 and _full_size(error.headers.get("Content-Range")) == have:
                return  # all of it had come already
            if error.code == 416:
                _discard(part)
                raise _TransferError("the part fetched earlier does not fit; again") from None
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
        # read1 hands over what has come; read would lose it when the connection stalls.
        while chunk := response.read1(_CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            if on_progress is not None:
                on_progress(have, total)
    if total is not None and have != total:
        raise _TransferError(f"the connection ended after {have} of {total} bytes")


def _remember_validator(response: http.client.HTTPResponse, part: Path) -> None:
    """What tells the server which version a part is of; weak tags are no good for ranges."""
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

"""Where a live stream comes from: an address, a growing file, standard input."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

from touchline.models.errors import FootageError
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.open import DEMUXERS, OpenFootage, open_stream

# FFmpeg options for each kind of address: the protocols that it may use, and others.
PROTOCOLS: dict[str, dict[str, str]] = {
    "udp": {"protocol_whitelist": "udp", "overrun_nonfatal": "1"},
    "rtp": {"protocol_whitelist": "rtp,udp"},
    "srt": {"protocol_whitelist": "srt"},
    "tcp": {"protocol_whitelist": "tcp"},
    "rtsp": {"protocol_whitelist": "rtsp,rtp,udp,tcp", "rtsp_flags": "prefer_tcp"},
    "rtsps": {"protocol_whitelist": "rtsp,rtp,udp,tcp,tls", "rtsp_flags": "prefer_tcp"},
    "rtmp": {"protocol_whitelist": "rtmp,tcp"},
    "rtmps": {"protocol_whitelist": "rtmps,rtmp,tls,tcp"},
    "http": {"protocol_whitelist": "http,tcp,crypto"},
    "https": {"protocol_whitelist": "https,http,tls,tcp,crypto"},
}

# Demuxers that open connections of their own.
CONNECTING = {"rtsp": ("rtsp",), "rtsps": ("rtsp",), "rtp": ("rtp",), "http": ("hls",)}
CONNECTING["https"] = CONNECTING["http"]

# Nothing can be opened again there: a silence is waited for.
CONNECTIONLESS = ("udp", "rtp")

STANDARD_INPUT = "-"
NAME_OF_INPUT = "standard input"

OPEN_S = 10.0
SILENT_S = 10.0
TICK_S = 0.1

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True)
class LiveSource:
    """A live stream.

    Attributes:
        text: The address, the path of a growing file, or "-".
        wait_s: How long to wait for the stream when it falls silent.
        pipe: A named pipe through which standard input comes; empty reads it itself.
    """

    text: str
    wait_s: float
    pipe: str = ""

    @property
    def scheme(self) -> str:
        """The scheme of an address in lower case; empty for a file and for standard input."""
        found = _SCHEME.match(self.text)
        return found[1].lower() if found else ""

    @property
    def path(self) -> Path:
        """How results and messages name the stream: without the password of an address."""
        if self.text == STANDARD_INPUT:
            return Address(NAME_OF_INPUT)
        if not self.scheme:
            return Path(self.text)
        parts = urlsplit(self.text)
        host = parts.netloc.rpartition("@")[2]
        return Address(urlunsplit((parts.scheme, host, parts.path, "", "")))

    @property
    def is_network(self) -> bool:
        """Whether the stream comes over a network, as fast as it is sent."""
        return bool(self.scheme)

    @property
    def end(self) -> str:
        """What the end of the bytes means for a file or for standard input."""
        if self.text == STANDARD_INPUT:
            return "standard input was closed"
        return f"the file has not grown for {self.wait_s:g} s"

    @property
    def reconnects(self) -> bool:
        """Whether a connection that ended can be made again."""
        return self.is_network and self.scheme not in CONNECTIONLESS

    def open(self, *, stream: int | None, is_wanted: Callable[[], bool]) -> OpenFootage:
        """Open the stream.

        Args:
            stream: Index of the video stream in the container; None chooses one.
            is_wanted: Asked while waiting for a file to grow.

        Raises:
            FootageError: Nothing comes, or it is no video that can be decoded.
        """
        if not self.is_network:
            bytes_of = _Growing(self.path, self._file(), self.wait_s, is_wanted)
            if self.text == STANDARD_INPUT:
                bytes_of.wait_s = 0.0
            try:
                return open_stream(
                    self.path, bytes_of, stream=stream, timeout_s=(self.wait_s, self.wait_s),
                    formats=DEMUXERS, options={"protocol_whitelist": "file"},
                )  # fmt: skip
            except FootageError:
                if bytes_of.num_bytes:
                    raise
                raise FootageError(self.path, f"nothing came ({self.end}).") from None
        silent_s = min(SILENT_S, self.wait_s) if self.reconnects else self.wait_s
        return open_stream(
            self.path,
            self.text,
            stream=stream,
            timeout_s=(min(OPEN_S, self.wait_s), silent_s),
            formats=(*DEMUXERS, *CONNECTING.get(self.scheme, ())),
            options=PROTOCOLS[self.scheme],
        )

    def _file(self) -> BinaryIO:
        try:
            if self.text == STANDARD_INPUT and not self.pipe:
                return open(0, "rb", buffering=0, closefd=False)
            return Path(self.pipe or self.text).open("rb", buffering=0)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise FootageError(self.path, f"{reason}") from None


def live_source(text: str, *, wait_s: float, asked: bool) -> LiveSource | None:
    """Return the live stream that an argument names; None if it names footage that is complete.

    Args:
        text: The argument.
        wait_s: How long to wait for the stream when it falls silent.
        asked: Whether the user said that it is live. Addresses of streams are live by themselves.

    Raises:
        FootageError: This kind of address cannot be read live.
    """
    source = LiveSource(text, wait_s)
    is_stream = source.scheme in PROTOCOLS and source.scheme not in ("http", "https")
    is_playlist = source.is_network and urlsplit(text).path.lower().endswith(".m3u8")
    if not (asked or is_stream or is_playlist):
        return None
    if source.scheme and source.scheme not in PROTOCOLS:
        raise FootageError(
            text, f"this kind of address cannot be read live. Use {', '.join(PROTOCOLS)}."
        )
    if source.scheme and not urlsplit(text).netloc:
        raise FootageError(text, "the address names no host.")
    if not source.scheme and text != STANDARD_INPUT and footage_path(text).is_dir():
        raise FootageError(text, "a directory. Give the file that is being written.")
    return source


class _Growing:
    """The bytes of a file that is still written: its end is waited for, not believed."""

    def __init__(
        self, path: Path, file: BinaryIO, wait_s: float, is_wanted: Callable[[], bool]
    ) -> None:
        self.path = path
        self.file = file
        self.wait_s = wait_s
        self.is_wanted = is_wanted
        self.num_bytes = 0

    def read(self, num_bytes: int, /) -> bytes:
        # Only waiting here counts: the reader may have been busy for minutes before it asked.
        waited_s = 0.0
        while self.is_wanted() and not self.file.closed:
            part = self.file.read(num_bytes)
            if part:
                self.num_bytes += len(part)
                return part
            if waited_s >= self.wait_s:
                break
            time.sleep(TICK_S)
            waited_s += TICK_S
        self.file.close()
        return b""


def relay_input(fifo: Path) -> None:
    """Copy standard input to a named pipe until either ends."""
    try:
        with fifo.open("wb", buffering=0) as far_end:
            while part := os.read(0, 1 << 16):
                far_end.write(part)
    except OSError:
        pass  # the reader has ended

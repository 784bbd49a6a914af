"""Names of files that are valid on every file system, and the files in a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

# Not allowed on Windows. Surrogates stand for the bytes of a name that is not UTF-8.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')

# A name may have 255 bytes. Numbers, times, hashes and suffixes are added to this part.
MAX_NAME_BYTES = 120

# Windows reserves these for devices, with any extension.
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{p}{k}" for p in ("com", "lpt") for k in range(10)}


def safe_name(text: str, *, fallback: str) -> str:
    """A file name, or a part of one, that is valid everywhere and never leads to another folder.

    Characters that a system forbids become "_". The name has at most 120 bytes of UTF-8.
    `fallback` is used if nothing is left.
    """
    kept = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    name = kept.encode("utf-8")[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    if not name:
        return fallback
    return f"{name}_" if name.split(".")[0].strip().lower() in _RESERVED else name


def files_below(folder: Path) -> Iterator[Path]:
    """List all files below a folder, sorted; links are followed, hidden files are skipped."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))

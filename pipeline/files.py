"""Make file names that every file system takes."""

from __future__ import annotations

import re
import unicodedata

# On Windows; surrogates stand for bytes of a name that is not UTF-8.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')

# A name has 255 bytes; numbers, times, hashes and suffixes are put around this part.
MAX_NAME_BYTES = 120

# Windows keeps these for devices, with any extension.
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{p}{k}" for p in ("com", "lpt") for k in range(10)}


def safe_name(text: str, *, fallback: str) -> str:
    """A file name, or a part of one, that every file system takes and that names no other folder.

    What some system forbids becomes "_"; at most 120 bytes of UTF-8; `fallback` where nothing is
    left.
    """
    kept = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    name = kept.encode("utf-8")[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    if not name:
        return fallback
    return f"{name}_" if name.split(".")[0].strip().lower() in _RESERVED else name

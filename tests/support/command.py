"""The command line as a shell calls it, in this process."""

from __future__ import annotations

import signal
import sys

import pytest

from touchline.tools.cli import main


def touchline(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Call `touchline WORDS...` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["touchline", *map(str, words)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return 0

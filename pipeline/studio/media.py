"""What the page's player needs besides the footage: copies that browsers play, and sound."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.atomic_files import remove_leftovers, write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.reels.coded_video import CodedVideo
from touchline.pipeline.reels.encode import SOFTWARE
from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import render_cuts
from touchline.pipeline.reels.sound import SoundFormat, SoundPiece, read_samples
from touchline.pipeline.report.match_page import browsers_play, kind_of
from touchline.pipeline.teaching.project import Match
from touchline.pipeline.types import FootageHealth, UInt8

PROXY_HEIGHT_PX = 360

WAVEFORM_STEP_S = 0.5
WAVEFORM_RATE_HZ = 8000


@dataclass(frozen=True)
class Playing:
    """What the page's player plays.

    Attributes:
        path: The file.
        start_s: Where the player's clock starts.
        offset_s: Touchline's time of the first picture of a copy; 0 for the footage itself.
        played: Whether browsers play it.
        kind: Codec and container in words.
    """

    path: Path
    start_s: float
    offset_s: float
    played: bool
    kind: str


@dataclass(frozen=True)
class ProxyProgress:
    """How far the copy of a match is: state is none, running, done or failed."""

    state: str = "none"
    problem: str | None = None


def original(match: Match, health: FootageHealth) -> Playing:
    """Return how the footage itself plays.

    Args:
        match: The match.
        health: What its headers say.
    """
    played = browsers_play(health)
    return Playing(match.path, health.start_s, 0.0, played, kind_of(match.path, health))


class Proxies:
    """Copies that every browser plays, one per match, made one after the other."""

    def __init__(self, folder: Path) -> None:
        """Find the copies that are made already.

        Args:
            folder: Where they lie.
        """
        self._folder = folder
        self._mutex = threading.RLock()
        self._busy = threading.Lock()
        self._progress: dict[str, ProxyProgress] = {}

    def progress(self, match: Match) -> ProxyProgress:
        """Return how far the copy of a match is."""
        with self._mutex:
            known = self._progress.get(match.id)
        if known is None:
            return ProxyProgress("done" if self._facts(match).exists() else "none")
        return known

    def playing(self, match: Match, health: FootageHealth) -> Playing:
        """Return the copy of a match if there is one, else the footage itself."""
        facts = self._facts(match)
        if not facts.exists():
            return original(match, health)
        offset_s = float(facts.read_text(encoding="utf-8"))
        return Playing(self._copy(match), 0.0, offset_s, True, "h264 in mp4")

    def make(self, match: Match, health: FootageHealth) -> None:
        """Begin to make the copy of a match, in the background.

        Args:
            match: The match.
            health: What its headers say.
        """
        with self._mutex:
            if self.progress(match).state in ("running", "done"):
                return
            self._progress[match.id] = ProxyProgress("running")
        threading.Thread(target=self._make, args=(match, health), daemon=True).start()

    def _make(self, match: Match, health: FootageHealth) -> None:
        options = RenderOptions(
            mode="encode",
            encoder=SOFTWARE,
            height_px=min(PROXY_HEIGHT_PX, health.height),
            stream=health.stream_index,
        )
        done = ProxyProgress("done")
        try:
            with self._busy:
                self._folder.mkdir(parents=True, exist_ok=True)
                remove_leftovers(self._folder)
                whole = Cut(0.0, health.duration_s, ())
                made = render_cuts(match.path, [whole], self._copy(match), options=options)
                write_atomic(self._facts(match), repr(made.cuts[0].start_s))
        except (TouchlineError, ValueError, OSError) as error:
            done = ProxyProgress("failed", str(error))
        with self._mutex:
            self._progress[match.id] = done

    def _copy(self, match: Match) -> Path:
        return self._folder / f"{_name_of(match)}.mp4"

    def _facts(self, match: Match) -> Path:
        """The file that holds the time of the first picture; written when the copy is whole."""
        return self._copy(match).with_suffix(".txt")


def _name_of(match: Match) -> str:
    """What is made of a match is kept under this name. A digest would be known too late."""
    return f"{match.id}-{match.stamp[0]}"


def waveform(match: Match, health: FootageHealth, folder: Path) -> UInt8:
    """Return the loudest sample of each WAVEFORM_STEP_S of sound, 0 to 255; empty without sound.

    It is computed once and kept on disk.

    Args:
        match: The match.
        health: What its headers say.
        folder: Where it is kept.

    Raises:
        FootageError: The file cannot be read.
    """
    kept = folder / f"{_name_of(match)}.u8"
    if kept.exists():
        return np.fromfile(kept, np.uint8)
    arguments: dict[str, Any] = {"path": str(match.path), "duration_s": health.duration_s}
    if not health.sound:
        levels = np.zeros(0, np.uint8)
    elif AVAILABLE:
        task = f"{__name__}:waveform_here"
        (levels,) = run_isolated(task, arguments, path=match.path)
    else:
        (levels,) = waveform_here(DecodeLog(), **arguments)
    write_atomic(kept, levels.tobytes())
    return levels


def waveform_here(log: DecodeLog, *, path: str, duration_s: float) -> Iterator[UInt8]:
    """Yield the levels of `waveform`, in this process.

    Args:
        log: Unused; every task of a worker has one.
        path: The file.
        duration_s: How much of it to read.
    """
    per_step = int(WAVEFORM_STEP_S * WAVEFORM_RATE_HZ)
    levels: list[float] = []
    with CodedVideo(Path(path)) as video:
        piece = SoundPiece(Fraction(0), int(duration_s * WAVEFORM_RATE_HZ))
        held = np.zeros(0, np.float32)
        for block in read_samples(video, piece, SoundFormat(WAVEFORM_RATE_HZ, "mono")):
            held = np.concatenate([held, np.abs(block).max(axis=0)])
            while len(held) >= per_step:
                levels.append(float(held[:per_step].max()))
                held = held[per_step:]
        if len(held):
            levels.append(float(held.max()))
    yield np.rint(255 * np.clip(levels, 0, 1)).astype(np.uint8)

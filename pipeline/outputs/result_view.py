"""The results of one file as every writer gets them, with frame rate and match clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from touchline.pipeline.footage.address import Address, footage_reference
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.options import WriteOptions
from touchline.pipeline.timecode import FrameRate, MatchClock
from touchline.pipeline.types import Event

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+")


@dataclass(frozen=True)
class Sheet:
    """The results of one footage file, with the frame rate and the match clock to write them with.

    Attributes:
        result: The results.
        folder: The folder that the written file will be in. Paths in the file are relative to it.
        rate: The frame rate. None if neither the footage nor the caller gives one; most formats
            do not need it.
        clock: The match clock. None if no kick-off is known.
        options: How some formats write events.
    """

    result: MatchResult
    folder: Path
    rate: FrameRate | None = None
    clock: MatchClock | None = None
    options: WriteOptions = field(default_factory=WriteOptions)

    @cached_property
    def accepted(self) -> list[Event]:
        """The accepted events in time order."""
        return in_time_order(self.result.accepted)

    @cached_property
    def candidates(self) -> list[tuple[Event, bool]]:
        """Every candidate in time order, and whether it was accepted."""
        accepted = set(self.result.accepted)
        both = in_time_order({*self.result.candidates, *accepted})
        return [(event, event in accepted) for event in both]

    @property
    def title(self) -> str:
        """The name of the footage without its suffix, on one line."""
        return one_line(self.result.path.stem)

    @property
    def video(self) -> str:
        """The path of the footage relative to `folder`, with forward slashes."""
        return footage_reference(self.result.path, self.folder)

    @property
    def video_url(self) -> str:
        """The footage as a relative URL; an absolute one for another drive."""
        reference = self.video
        if isinstance(self.result.path, Address):
            return reference
        if Path(reference).is_absolute():
            return Path(reference).as_uri()
        url = quote(os.fsencode(reference))
        # Browsers would take a first part with a colon for a scheme.
        return url if url.startswith(".") else "./" + url

    @property
    def clip_rate(self) -> FrameRate:
        """The frame rate, for formats that count frames; ValueError if it is not known."""
        if self.rate is None:
            raise ValueError(
                f"{self.result.path}: this format counts frames and no frame rate is known. "
                "Give --footage or --rate."
            )
        return self.rate

    @property
    def start_frame(self) -> int:
        """The start timecode of the footage as a frame number; 0 if it has none."""
        health = self.result.health
        if health is None or health.start_timecode is None:
            return 0
        return self.clip_rate.frame_number(health.start_timecode)

    @property
    def duration_s(self) -> float:
        """The length of the footage in seconds; at least the end of the last event."""
        last = max((event.end_s for event, _ in self.candidates), default=0.0)
        return max(last, self.result.health.duration_s if self.result.health else 0.0)

    def frames(self, event: Event) -> tuple[int, int]:
        """Return an event's first frame and the frame after its last; one or more, not negative."""
        first = max(0, self.clip_rate.frame(event.start_s))
        return first, max(first + 1, self.clip_rate.frame(event.end_s))

    def caption(self, event: Event) -> str:
        """Return an event in a few words: class, team, player, match clock, score in per cent."""
        known = dict(event.attributes)
        player = f"{known.get('jersey', '')} {known.get('player', '')}"
        clock = self.clock.text(event.peak_s) if self.clock else ""
        parts = (event.label, known.get("team", ""), player, clock, f"{event.score:.0%}")
        return " · ".join(part for part in map(one_line, parts) if part)


def in_time_order(events: Iterable[Event]) -> list[Event]:
    """Sort events by start, then peak, then label."""
    return sorted(events, key=lambda e: (e.start_s, e.peak_s, e.label, -e.score))


def one_line(text: str) -> str:
    """Return the text on one line, without control characters, valid as UTF-8."""
    return _CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).strip()

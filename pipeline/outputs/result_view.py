"""What every writer is given: the results of one file, and how its times are to be written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from touchline.pipeline.footage.address import Address, footage_reference
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.timecode import FrameRate, MatchClock
from touchline.pipeline.types import Event

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True)
class Sheet:
    """The results of one footage file, with the frame rate and clock to write them by.

    folder: where the file will lie; paths inside it are relative to this.
    rate:   None where neither the footage nor the caller gives one; most formats need none.
    clock:  None where no kick-off is known.
    """

    result: MatchResult
    folder: Path
    rate: FrameRate | None = None
    clock: MatchClock | None = None

    @cached_property
    def accepted(self) -> list[Event]:
        """The accepted events in time order."""
        return in_time_order(self.result.accepted)

    @cached_property
    def candidates(self) -> list[tuple[Event, bool]]:
        """Every candidate in time order, with whether it was accepted."""
        accepted = set(self.result.accepted)
        both = in_time_order({*self.result.candidates, *accepted})
        return [(event, event in accepted) for event in both]

    @property
    def title(self) -> str:
        """The footage's name without its suffix, on one line."""
        return one_line(self.result.path.stem)

    @property
    def video(self) -> str:
        """The footage's path relative to `folder`, with forward slashes."""
        return footage_reference(self.result.path, self.folder)

    @property
    def video_url(self) -> str:
        """The footage as a relative URL; absolute on another drive."""
        reference = self.video
        if isinstance(self.result.path, Address):
            return reference
        if Path(reference).is_absolute():
            return Path(reference).as_uri()
        url = quote(os.fsencode(reference))
        # A first part with a colon would be taken for a scheme.
        return url if url.startswith(".") else "./" + url

    @property
    def clip_rate(self) -> FrameRate:
        """The frame rate, for formats that count frames; ValueError where it is not known."""
        if self.rate is None:
            raise ValueError(
                f"{self.result.path}: this format counts frames and no frame rate is known; "
                "give --footage or --rate"
            )
        return self.rate

    @property
    def start_frame(self) -> int:
        """The footage's start timecode as a frame number; 0 where it has none."""
        health = self.result.health
        if health is None or health.start_timecode is None:
            return 0
        return self.clip_rate.frame_number(health.start_timecode)

    @property
    def duration_s(self) -> float:
        """The footage's length, at least as long as its last event."""
        last = max((event.end_s for event, _ in self.candidates), default=0.0)
        return max(last, self.result.health.duration_s if self.result.health else 0.0)

    def frames(self, event: Event) -> tuple[int, int]:
        """First frame and frame after the last of an event; at least one frame, none negative."""
        first = max(0, self.clip_rate.frame(event.start_s))
        return first, max(first + 1, self.clip_rate.frame(event.end_s))

    def caption(self, event: Event) -> str:
        """An event in a few words: class, match clock where there is one, score in per cent."""
        clock = self.clock.text(event.peak_s) if self.clock else ""
        return " · ".join(
            part for part in (one_line(event.label), clock, f"{event.score:.0%}") if part
        )


def in_time_order(events: Iterable[Event]) -> list[Event]:
    """Events by start, then peak, then label."""
    return sorted(events, key=lambda e: (e.start_s, e.peak_s, e.label, -e.score))


def one_line(text: str) -> str:
    """Text that ends no line and holds no control character, valid as UTF-8."""
    return _CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).strip()

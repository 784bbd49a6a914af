"""Detect events in a live stream: each is given as soon as it is final, the result at the end."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from touchline.models.errors import FootageError
from touchline.pipeline.clips.windows import hop_samples
from touchline.pipeline.decoding.probe import health_after
from touchline.pipeline.detection.detect import events_of, match_result, points_of
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.isolation import AVAILABLE, IsolatedTask, Patience
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.live.clips import Clips
from touchline.pipeline.live.fragments import Fragment
from touchline.pipeline.live.frames import CHUNK_S, LIVE_TASK, Dropped, Notice, live_here
from touchline.pipeline.live.options import LiveOptions
from touchline.pipeline.live.settled import SettledEvents
from touchline.pipeline.live.source import STANDARD_INPUT, LiveSource, relay_input
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.scoring.score import Scorer, joined
from touchline.pipeline.types import Event, FootageHealth, Frames, ScoreTrack

# Parts of the score track are joined when there are this many.
MANY_PARTS = 256


class LiveRun:
    """One live stream, from its first frame to its end.

    Args:
        source: Where the stream comes from.
        scorer: The network.
        options: How to look for events.
        live: How the stream is followed.
        on_event: Called with each accepted event once it is final.
        tell: Called with a sentence about what happens to the stream.
    """

    def __init__(
        self,
        source: LiveSource,
        scorer: Scorer,
        options: DetectOptions,
        live: LiveOptions,
        *,
        on_event: Callable[[Event], None],
        tell: Callable[[str], None],
    ) -> None:
        self.source = source
        self.scorer = scorer
        self.options = options
        self.error: FootageError | None = None
        self.dropped_s = 0.0
        self._tell = tell
        self._on_event = on_event
        self._given: set[Event] = set()
        self._asked_to_stop = False
        self._log = DecodeLog()
        self._health: FootageHealth | None = None
        self._end_s = 0.0
        model = scorer.model
        self._hop_s = hop_samples(model.spec, options.hop_s) / model.spec.rate_hz
        self._settled = SettledEvents(
            model.labels,
            points_of(model, options),
            events_of(model, options),
            model.spec,
            self._hop_s,
        )
        self._clips = None if live.clips is None else Clips(live.clips, tell)

    def stop(self) -> None:
        """End the run soon; its result is that of what has been seen."""
        self._asked_to_stop = True

    def latency_s(self) -> float:
        """Return how long after an event it is given, in seconds, on a machine that keeps up."""
        scorer, rate_hz = self.scorer, self.scorer.model.spec.rate_hz
        batch = scorer.windows_per_part
        # A GPU works on two more batches while one is used.
        waiting_s = (batch * (3 if scorer.device.type == "cuda" else 1) - 1) * self._hop_s
        if scorer.shared:
            waiting_s += (scorer.piece_frames + scorer.margin) / rate_hz
        return self._settled.latency_s() + waiting_s + CHUNK_S + 1 / rate_hz

    def run(self) -> MatchResult:
        """Follow the stream to its end; return the result.

        Raises:
            FootageError: The stream cannot be read. Once it gave pictures, `error` holds it instead
                and the result is that of what was seen.
        """
        parts: list[ScoreTrack] = []
        labels = self.scorer.model.labels
        with ExitStack() as stack:
            frames = self._frames(stack)
            for part in self.scorer.score_parts(frames, hop_s=self.options.hop_s):
                parts.append(part)
                if len(parts) == MANY_PARTS:
                    parts = [joined(parts, labels)]
                for event in self._settled.add(part):
                    self._give(event)
        track = joined(parts, labels)
        if self._health is None:
            raise self.error or FootageError(self.source.path, "nothing came before the end.")
        end_s = self._log.end_s
        if self._asked_to_stop or self.error is not None:
            # Frames that were decoded ahead have no scores.
            end_s = min(end_s, self._end_s + 1 / self.scorer.model.spec.rate_hz)
        health = health_after(self._health, self._log)
        health = replace(health, duration_s=round(end_s, 6), num_frames=self._log.num_frames)
        result = match_result(self.source.path, self.scorer.model, self.options, track, health)
        for event in result.accepted:
            if event not in self._given:
                self._give(event)
        for event in self._given - set(result.accepted):
            self._tell(
                f"{event.label} at {event.peak_s:.1f} s was given, but is not in the results. "
                "This is an error of Touchline: please report it"
            )
        if self._clips is not None:
            self._clips.end()
        return result

    def _give(self, event: Event) -> None:
        self._given.add(event)
        self._on_event(event)
        if self._clips is not None:
            self._clips.want(event)

    def _frames(self, stack: ExitStack) -> Iterator[Frames]:
        """The frames of the stream; what else comes is handled here."""
        try:
            for item in self._news(stack):
                if self._asked_to_stop:
                    return
                if isinstance(item, Frames):
                    self._end_s = float(item.sample_s[-1])
                    yield item
                elif isinstance(item, FootageHealth):
                    self._health = item
                elif isinstance(item, Fragment) and self._clips is not None:
                    self._clips.add(item)
                elif isinstance(item, Notice):
                    self._tell(item.text)
                elif isinstance(item, Dropped):
                    self.dropped_s += item.end_s - item.start_s
                    self._tell(
                        f"too slow for the stream: {item.start_s:.0f} to {item.end_s:.0f} s are "
                        f"not looked at ({self.dropped_s:.0f} s in all)"
                    )
        except FootageError as error:
            self.error = error

    def _news(self, stack: ExitStack) -> Iterator[Any]:
        spec = self.scorer.model.spec
        arguments: dict[str, Any] = {
            "source": self.source,
            "rate_hz": spec.rate_hz,
            "size_px": spec.size_px,
            "stream": self.options.stream,
            "fragments": self._clips is not None,
        }
        if not (self.options.isolation and AVAILABLE):
            here = live_here(self._log, **arguments)
            stack.callback(here.close)
            return here
        if self.source.text == STANDARD_INPUT:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            os.mkfifo(folder / "input")
            threading.Thread(target=relay_input, args=(folder / "input",), daemon=True).start()
            arguments["source"] = replace(self.source, pipe=str(folder / "input"))
        task = IsolatedTask(LIVE_TASK, arguments, path=self.source.path, num_slots=4)
        stack.callback(task.close)
        # A silent stream is no decoder that hangs.
        return task.items(self._log, patience=Patience(silent_s=1e9))

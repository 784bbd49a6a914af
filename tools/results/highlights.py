"""touchline highlights: one clip per event, and a reel of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.tools import console
from touchline.tools.results.clock import PeriodMin

if TYPE_CHECKING:
    from touchline.pipeline.outputs.timecode import MatchClock
    from touchline.pipeline.reels.render import Rendered, RenderOptions
    from touchline.pipeline.types import Event


def highlights_command(
    match: Annotated[Path, typer.Argument(help="The footage.", show_default=False)],
    events: Annotated[
        Path, typer.Argument(help="Its events.json; or events as CSV, ...", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for reel.mp4 and clips/.")],
    clips: Annotated[bool, typer.Option(help="One file per event.")] = True,
    reel: Annotated[bool, typer.Option(help="One file of the best events.")] = True,
    max_minutes: Annotated[float, typer.Option(help="Longest reel.")] = 5.0,
    before: Annotated[float, typer.Option(help="Seconds shown before an event.")] = 5.0,
    after: Annotated[float, typer.Option(help="Seconds shown after it.")] = 3.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A class to show; once per class (default: all).")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="CLASS=FACTOR on scores, to rank for the reel.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Encode nothing: fast, cuts begin at key frames.")
    ] = False,
    encode: Annotated[bool, typer.Option("--encode", help="Encode everything.")] = False,
    titles: Annotated[
        bool, typer.Option("--titles", help="Burn in class and match clock.")
    ] = False,
    crossfade: Annotated[float, typer.Option(help="Seconds in which cuts of a reel melt.")] = 0.0,
    height: Annotated[int | None, typer.Option(help="Pixels, for a smaller picture.")] = None,
    encoder: Annotated[
        str, typer.Option(help="auto takes the machine's own where it works; or libx264, ...")
    ] = "auto",
    font: Annotated[Path | None, typer.Option(help="A .ttf or .otf for titles.")] = None,
    stream: Annotated[
        int | None, typer.Option(help="The video stream (default: where events.json is from).")
    ] = None,
    kickoff: Annotated[
        list[str] | None, typer.Option(help="PERIOD=H:MM:SS of the file; once per period.")
    ] = None,
    period_min: PeriodMin = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Cut clips and a reel of EVENTS from MATCH."""
    from touchline.pipeline.outputs.read_results import read_results, refuse_empty
    from touchline.pipeline.reels.render import RenderOptions
    from touchline.tools.results.clock import clocks_of

    if copy and encode:
        raise ValueError("--copy and --encode exclude each other; without either cuts are exact")
    if not clips and not reel:
        raise ValueError("--no-clips and --no-reel leave nothing to make")
    options = RenderOptions(
        before_s=before,
        after_s=after,
        mode="copy" if copy else "encode" if encode else "exact",
        titles=titles,
        crossfade_s=crossfade,
        encoder=encoder,
        font=font,
        height_px=height,
        stream=stream,
    )
    results = read_results(events, footage=match)
    refuse_empty(events, results)
    (result,) = results
    if stream is None and result.health is not None:
        options = replace(options, stream=result.health.stream_index)
    (clock,) = clocks_of(results, kickoff or [], period_min=period_min)
    shown = _of_classes(result.accepted, only)
    weights = _weights(weight or [], shown)
    if max_minutes <= 0:
        raise ValueError(f"--max-minutes is {max_minutes:g}; it must be more than 0")
    job = _Job(match, shown, out, options, clock, say=not quiet and not json_)
    made = job.clips() if clips else []
    if reel:
        made.append(job.reel(max_minutes * 60, weights))
    if json_:
        console.print_json(_rows(made, clock))


class _Job:
    """What one call makes, with its progress on the terminal."""

    def __init__(
        self,
        match: Path,
        events: Sequence[Event],
        out: Path,
        options: RenderOptions,
        clock: MatchClock | None,
        *,
        say: bool,
    ) -> None:
        self.match, self.events, self.out = match, events, out
        self.options, self.clock, self.say = options, clock, say

    def clips(self) -> list[Rendered]:
        from touchline.pipeline.reels.render import cut_clips

        made = []
        folder = self.out / "clips"
        with console.progress_bar(quiet=not self.say) as progress:
            task = progress.add_task("clips", total=len(self.events), note="")
            for clip in cut_clips(
                self.match, self.events, folder, options=self.options, clock=self.clock
            ):
                made.append(clip)
                progress.update(task, advance=1, note=console.escape(clip.path.name[:40]))
        if self.say:
            total_s = sum(clip.duration_s for clip in made)
            console.out.print(
                console.escape(f"{folder}: {len(made)} clips, {total_s:.1f} s; {_how(made)}"),
                soft_wrap=True,
                highlight=False,
            )
        others = {path.name for path in folder.glob("*.mp4")} - {clip.path.name for clip in made}
        if others:
            console.warn(f"{folder} holds {len(others)} other clips, such as {min(others)}")
        return made

    def reel(self, max_s: float, weights: dict[str, float]) -> Rendered:
        from touchline.pipeline.outputs.timecode import timecode
        from touchline.pipeline.reels.render import cut_reel

        with console.progress_bar(quiet=not self.say) as progress:
            progress.add_task("reel", total=None, note="")
            reel = cut_reel(
                self.match,
                self.events,
                self.out / "reel.mp4",
                options=self.options,
                max_s=max_s,
                weights=weights,
                clock=self.clock,
            )
        if self.say:
            num_events = sum(len(cut.events) for cut in reel.cuts)
            console.out.print(
                console.escape(
                    f"{reel.path}: {timecode(reel.duration_s)}, {num_events} of "
                    f"{len(self.events)} events in {len(reel.cuts)} cuts; {_how([reel])}"
                ),
                soft_wrap=True,
                highlight=False,
            )
        return reel


def _how(made: Sequence[Rendered]) -> str:
    frames = sum(one.num_frames for one in made)
    encoded = sum(one.num_encoded for one in made)
    notes = dict.fromkeys(one.note for one in made if one.note)
    by = ", ".join(dict.fromkeys(one.encoder for one in made))
    how = f"{encoded / max(1, frames):.0%} of the frames encoded by {by}" if encoded else "copied"
    return f"{how} ({'; '.join(notes)})" if notes else how


def _of_classes(events: Sequence[Event], only: list[str] | None) -> list[Event]:
    labels = sorted({event.label for event in events})
    for label in only or []:
        if label not in labels:
            raise ValueError(f"no event is a {label!r}; there are {', '.join(labels)}")
    return [event for event in events if not only or event.label in only]


def _weights(texts: Sequence[str], events: Sequence[Event]) -> dict[str, float]:
    labels = sorted({event.label for event in events})
    weights = {}
    for text in texts:
        label, equals, factor = text.rpartition("=")
        try:
            weights[label] = float(factor)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"weight {text!r} must be CLASS=FACTOR, such as goal=2")
        if label not in labels:
            raise ValueError(f"no event is a {label!r}; there are {', '.join(labels)}")
    return weights


def _rows(made: Sequence[Rendered], clock: MatchClock | None) -> list[dict[str, Any]]:
    return [
        {
            "path": str(one.path),
            "duration_s": one.duration_s,
            "num_frames": one.num_frames,
            "num_encoded": one.num_encoded,
            "encoder": one.encoder,
            "note": one.note,
            "cuts": [
                {
                    "start_s": cut.start_s,
                    "end_s": cut.end_s,
                    "events": [_event_row(event, clock) for event in cut.events],
                }
                for cut in one.cuts
            ],
        }
        for one in made
    ]


def _event_row(event: Event, clock: MatchClock | None) -> dict[str, Any]:
    row = {"label": event.label, "peak_s": event.peak_s, "score": event.score}
    return row | ({"clock": clock.text(event.peak_s)} if clock else {})

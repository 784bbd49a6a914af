"""`touchline highlights`: cut one clip per event, and a reel of the best events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.pipeline.reels.options import RenderOptions
from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin

if TYPE_CHECKING:
    from touchline.models.errors import FootageError
    from touchline.pipeline.reels.render import Rendered
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.types import Event

DEFAULTS = RenderOptions()

CHOOSING = "Choosing what to show"
PICTURE = "Titles and picture"
ENCODING = "Copying and encoding"


def highlights_command(
    match: Annotated[
        Path, typer.Argument(metavar="MATCH", help="The footage file.", show_default=False)
    ],
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS",
            help="Events of that footage: events.json, or another format (CSV, ...).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for reel.mp4 and clips/.")],
    clips: Annotated[bool, typer.Option(help="Write one clip per event to OUT/clips.")] = True,
    reel: Annotated[bool, typer.Option(help="Write OUT/reel.mp4 with the best events.")] = True,
    max_minutes: Annotated[
        float, typer.Option(help="Longest reel in minutes.", rich_help_panel=CHOOSING)
    ] = 5.0,
    before: Annotated[
        float, typer.Option(help="Seconds shown before an event.", rich_help_panel=CHOOSING)
    ] = DEFAULTS.before_s,
    after: Annotated[
        float, typer.Option(help="Seconds shown after an event.", rich_help_panel=CHOOSING)
    ] = DEFAULTS.after_s,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Show only events of this class. Repeat it for more classes (default: all).",
            rich_help_panel=CHOOSING,
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            help="CLASS=FACTOR: multiply the scores of a class when the reel's events are chosen. "
            "0 keeps a class out of the reel.",
            rich_help_panel=CHOOSING,
        ),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Encode nothing. This is fast, but each cut begins at a key frame.",
            rich_help_panel=ENCODING,
        ),
    ] = False,
    encode: Annotated[
        bool,
        typer.Option(
            "--encode",
            help="Encode every frame (default: only where a cut needs it).",
            rich_help_panel=ENCODING,
        ),
    ] = False,
    titles: Annotated[
        bool,
        typer.Option(
            "--titles",
            help="Draw the class and the match clock into the picture.",
            rich_help_panel=PICTURE,
        ),
    ] = DEFAULTS.titles,
    crossfade: Annotated[
        float,
        typer.Option(
            help="Cross-fade between two cuts of the reel, in seconds.", rich_help_panel=PICTURE
        ),
    ] = DEFAULTS.crossfade_s,
    height: Annotated[
        int | None,
        typer.Option(help="Scale the picture to this height in pixels.", rich_help_panel=PICTURE),
    ] = DEFAULTS.height_px,
    encoder: Annotated[
        str,
        typer.Option(
            help="libx264 or the name of a hardware encoder. `auto` takes a hardware encoder if "
            "one works on this machine, otherwise libx264.",
            rich_help_panel=ENCODING,
        ),
    ] = DEFAULTS.encoder,
    font: Annotated[
        Path | None,
        typer.Option(
            help="A .ttf or .otf file for --titles (default: a built-in font).",
            rich_help_panel=PICTURE,
        ),
    ] = DEFAULTS.font,
    stream: Annotated[
        int | None,
        typer.Option(
            help="Index of the video stream in the file (default: the one that EVENTS was made "
            "from).",
            rich_help_panel=ENCODING,
        ),
    ] = DEFAULTS.stream,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the files written and their cuts, as JSON.")
    ] = False,
) -> None:
    """Cut a clip of each event, and a reel of the best, as MP4 files."""
    from touchline.pipeline.outputs.read_results import read_results, refuse_empty
    from touchline.tools.results.clock import clocks_of

    if copy and encode:
        raise ValueError("--copy and --encode exclude each other. Without both, cuts are exact.")
    if font is not None and not titles:
        raise ValueError("--font is for titles. Add --titles, or leave it out.")
    if copy and encoder != DEFAULTS.encoder:
        raise ValueError("--encoder has no effect with --copy. Leave one of them out.")
    if encoder != DEFAULTS.encoder and not (encode or titles or crossfade or height):
        console.warn(
            "--encoder has no effect where cuts need no encoding of whole clips. Add --encode to "
            "encode everything with it."
        )
    if not clips and not reel:
        raise ValueError("--no-clips and --no-reel together leave nothing to write")
    options = RenderOptions(
        before_s=before,
        after_s=after,
        mode="copy" if copy else "encode" if encode else DEFAULTS.mode,
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
    if job.uncut:
        raise typer.Exit(1)


class _Job:
    """Makes clips and the reel, and shows the progress on the terminal."""

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
        self.uncut: dict[Event, str] = {}

    def note_uncut(self, event: Event, error: FootageError) -> None:
        """Say which event cannot be cut out, once; the run goes on without it."""
        if event not in self.uncut:
            self.uncut[event] = error.message
            console.warn(f"{event.label!r} at {event.start_s:.3f} s is left out: {error}")

    def clips(self) -> list[Rendered]:
        """Write one clip per event to OUT/clips."""
        from touchline.models.spelling import counted
        from touchline.pipeline.reels.render import cut_clips

        made = []
        folder = self.out / "clips"
        with console.progress_bar(quiet=not self.say) as progress:
            task = progress.add_task("clips", total=len(self.events), note="")
            for clip in cut_clips(
                self.match,
                self.events,
                folder,
                options=self.options,
                clock=self.clock,
                on_uncut=self.note_uncut,
            ):
                made.append(clip)
                progress.update(task, advance=1, note=console.escape(clip.path.name[:40]))
        if self.say:
            total_s = sum(clip.duration_s for clip in made)
            console.out.print(
                console.escape(
                    f"{folder}: {counted(len(made), 'clip')}, {total_s:.1f} s; {_how(made)}"
                ),
                soft_wrap=True,
                highlight=False,
            )
        others = {path.name for path in folder.glob("*.mp4")} - {clip.path.name for clip in made}
        if others:
            console.warn(
                f"{folder} also holds {len(others)} other MP4 files, such as {min(others)}"
            )
        return made

    def reel(self, max_s: float, weights: dict[str, float]) -> Rendered:
        """Write OUT/reel.mp4 with the best events."""
        from touchline.models.spelling import counted
        from touchline.pipeline.reels.render import cut_reel
        from touchline.pipeline.timecode import timecode

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
                on_uncut=self.note_uncut,
            )
        if self.say:
            num_events = sum(len(cut.events) for cut in reel.cuts)
            console.out.print(
                console.escape(
                    f"{reel.path}: {timecode(reel.duration_s)}, {num_events} of "
                    f"{counted(len(self.events), 'event')} in {counted(len(reel.cuts), 'cut')}; "
                    f"{_how([reel])}"
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
            raise ValueError(
                f"no event has the class {label!r}; the classes are {', '.join(labels)}"
            )
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
            raise ValueError(f"--weight {text!r} must be CLASS=FACTOR, such as goal=2")
        if label not in labels:
            raise ValueError(
                f"no event has the class {label!r}; the classes are {', '.join(labels)}"
            )
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

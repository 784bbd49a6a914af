"""Write clips and reels as MP4. Frames are copied if possible, otherwise encoded.

    mode "copy"     nothing is encoded; a cut begins at the key frame before it and ends a few
                    frames late
    mode "exact"    cuts are exact; only these frames are encoded: up to the first key frame, after
                    the last point at which the stream can be cut, and under titles and cross-fades
    mode "encode"   everything is encoded

Sound is copied in mode "copy" and encoded in the other modes. Picture and sound of a cut move by
the same time, so they stay in sync as they are in the footage.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError
from av.packet import Packet

from touchline.models.atomic_files import atomic_path
from touchline.models.errors import FootageError
from touchline.pipeline.files import safe_name
from touchline.pipeline.footage.open import reason
from touchline.pipeline.outputs.result_view import in_time_order, one_line
from touchline.pipeline.reels.coded_video import CodedVideo, Span, copy_span, exact_span
from touchline.pipeline.reels.encode import (
    SOFTWARE,
    Drawing,
    PictureFormat,
    Placed,
    choose_encoder,
    picture_format,
)
from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut, merge_cuts, padded_cut, plan_reel
from touchline.pipeline.reels.sound import is_silenced, sound_packets
from touchline.pipeline.reels.splice import (
    Part,
    copied_packets,
    copied_part,
    encoded_packets,
    spliced_packets,
    spliced_parts,
    whole_parts,
    why_not_spliced,
)
from touchline.pipeline.reels.titles import Title
from touchline.pipeline.timecode import MatchClock, timecode
from touchline.pipeline.types import Event

if TYPE_CHECKING:
    from av.container.core import Chapter

# Put the index before the pictures, so that a browser can play a reel while it downloads.
FAST_START = {"movflags": "+faststart"}

OnUncut = Callable[[Event, FootageError], None]
"""Gets an event that cannot be cut out of the footage, and why."""

# How long a title stays if no other title follows.
TITLE_S = 5


@dataclass(frozen=True)
class Rendered:
    """A clip or reel that was written.

    Attributes:
        path: The MP4 file.
        cuts: What it shows. Start and end are moved to the frames at which the file was cut.
        duration_s: Length of the file in seconds.
        num_frames: Number of frames in the file.
        num_encoded: How many of these frames were encoded; the others were copied.
        encoder: Name of the encoder; empty in mode "copy".
        note: Why more frames were encoded than necessary, and what is missing; often empty.

    Example:
        >>> from touchline.pipeline import Cut, RenderOptions, render_cuts
        >>> options = RenderOptions(mode="encode", encoder="libx264")
        >>> rendered = render_cuts("match.mp4", [Cut(3, 5, ())], "clip.mp4", options=options)
        >>> rendered.duration_s, rendered.num_frames, rendered.num_encoded
        (2.0, 32, 32)
    """

    path: Path
    cuts: tuple[Cut, ...]
    duration_s: float
    num_frames: int
    num_encoded: int
    encoder: str
    note: str = ""


def cut_reel(
    footage: str | os.PathLike[str],
    events: Iterable[Event],
    path: str | os.PathLike[str],
    *,
    options: RenderOptions | None = None,
    max_s: float | None = None,
    weights: Mapping[str, float] | None = None,
    clock: MatchClock | None = None,
    on_uncut: OnUncut | None = None,
) -> Rendered:
    """Write one MP4 with the best events in time order.

    Args:
        footage: The footage file.
        events: Events to choose from; see `plan_reel`.
        path: The MP4 file to write.
        options: Padding, mode, titles and encoder.
        max_s: Longest reel in seconds; None shows all events.
        weights: Factor on the score for each class (default 1). 0 leaves the class out.
        clock: Shows the match clock in titles and chapters.
        on_uncut: Called for each event that cannot be cut out; the reel is made without it. None:
            such an event is an error.

    Raises:
        ValueError: There is nothing to show, or an event lies outside the footage.
        FootageError: The footage cannot be read or cut.

    Example:
        >>> from touchline.pipeline import RenderOptions, cut_reel, read_events_json
        >>> events = read_events_json("out/match/events.json").accepted
        >>> options = RenderOptions(before_s=1, after_s=1, encoder="libx264")
        >>> reel = cut_reel("match.mp4", events, "reel.mp4", options=options, max_s=60)
        >>> len(reel.cuts), reel.path.name
        (2, 'reel.mp4')
    """
    if max_s is not None and not max_s > 0:
        raise ValueError(f"max_s, the longest reel, is {max_s} s; it must be above 0")
    options = options or RenderOptions()
    footage = Path(footage)
    events = list(events)
    room_s = max_s
    with CodedVideo(footage, stream=options.stream) as video:
        while True:
            planned = plan_reel(
                events,
                duration_s=video.end_s,
                before_s=options.before_s,
                after_s=options.after_s,
                max_s=room_s,
                weights=weights,
            )
            spans, uncut = _on_frames(video, planned, copy=options.mode == "copy")
            if uncut:
                for event, error in uncut:
                    if on_uncut is None:
                        raise error
                    on_uncut(event, error)
                left_out = [event for event, _ in uncut]
                events = [event for event in events if event not in left_out]
                continue
            cuts = merge_cuts(spans)
            over_s = 0.0 if max_s is None else sum(c.duration_s for c in cuts) - max_s
            if room_s is None or over_s <= 1e-6:
                break
            # Cuts grew to whole frames, copied cuts to key frames. Plan again with less time.
            room_s -= over_s
        if not cuts:
            raise ValueError(f"{footage}: no event fits into the reel")
        return _rendered_to(Path(path), video, cuts, options, clock)


def _on_frames(
    video: CodedVideo, cuts: Sequence[Cut], *, copy: bool
) -> tuple[list[Cut], list[tuple[Event, FootageError]]]:
    """The cuts with start and end moved to frames at which the video can be cut.

    Also returns the events of those that cannot be cut, and why.
    """
    made, uncut = [], []
    for k, cut in enumerate(cuts):
        try:
            span = (
                copy_span(video, cut.start_s, cut.end_s, joined=k > 0)[0]
                if copy
                else exact_span(video, cut.start_s, cut.end_s)
            )
        except FootageError as error:
            uncut += [(event, error) for event in cut.events]
            continue
        first_s, end_s = video.seconds(span.first_pts), video.seconds(span.end_pts)
        made.append(Cut(float(first_s), float(end_s), cut.events))
    return made, uncut


def cut_clips(
    footage: str | os.PathLike[str],
    events: Iterable[Event],
    folder: str | os.PathLike[str],
    *,
    options: RenderOptions | None = None,
    clock: MatchClock | None = None,
    on_uncut: OnUncut | None = None,
) -> Iterator[Rendered]:
    """Write one MP4 per event in time order, with names such as 001-goal-0h12m34s.mp4.

    Each clip is written when the iterator is asked for it.

    Args:
        footage: The footage file.
        events: The events to show.
        folder: The folder to write to.
        options: Padding, mode, titles and encoder.
        clock: Shows the match clock in titles and chapters.
        on_uncut: Called for each event that cannot be cut out; the other clips are made. None:
            such an event is an error.

    Raises:
        ValueError: An event lies outside the footage.
        FootageError: The footage cannot be read or cut.

    Example:
        >>> from touchline.pipeline import RenderOptions, cut_clips, read_events_json
        >>> events = read_events_json("out/match/events.json").accepted
        >>> options = RenderOptions(before_s=1, after_s=1, encoder="libx264")
        >>> for clip in cut_clips("match.mp4", events, "clips", options=options):
        ...     print(clip.path.name)
        001-bright-0h00m03s.mp4
        002-bright-0h00m08s.mp4
    """
    options = options or RenderOptions()
    footage = Path(footage)
    with CodedVideo(footage, stream=options.stream) as video:
        # Plan all cuts first: an event outside the footage must fail before anything is written.
        cuts = [
            padded_cut(
                event,
                before_s=options.before_s,
                after_s=options.after_s,
                duration_s=video.end_s,
            )
            for event in in_time_order(events)
        ]
        for k, cut in enumerate(cuts, start=1):
            path = Path(folder) / clip_name(k, cut.events[0])
            try:
                made = _rendered_to(path, video, [cut], options, clock)
            except FootageError as error:
                if on_uncut is None:
                    raise
                on_uncut(cut.events[0], error)
                continue
            yield made


def clip_name(number: int, event: Event) -> str:
    """A file name that sorts by time and is valid on every file system."""
    hours, minutes, seconds = timecode(event.start_s).split(":")
    when = f"{hours}h{minutes}m{seconds[:2]}s"
    words = "-".join(re.findall(r"\w+", event.label))
    return f"{number:03d}-{safe_name(words, fallback='event')}-{when}.mp4"


def render_cuts(
    footage: str | os.PathLike[str],
    cuts: Sequence[Cut],
    path: str | os.PathLike[str],
    *,
    options: RenderOptions | None = None,
    clock: MatchClock | None = None,
) -> Rendered:
    """Write the cuts, one after the other, as one MP4.

    Args:
        footage: The footage file.
        cuts: At least one cut, in the order shown.
        path: The MP4 file to write.
        options: Mode, titles and encoder; the padding is not used.
        clock: Shows the match clock in titles and chapters.

    Raises:
        ValueError: `path` is the footage, or the encoder does not work on this machine.
        FootageError: The footage cannot be read or cut.

    Example:
        >>> from touchline.pipeline import Cut, RenderOptions, render_cuts
        >>> options = RenderOptions(encoder="libx264")
        >>> cuts = [Cut(3, 5, ()), Cut(8, 9.5, ())]
        >>> render_cuts("match.mp4", cuts, "both.mp4", options=options).duration_s
        3.5
    """
    options = options or RenderOptions()
    with CodedVideo(Path(footage), stream=options.stream) as video:
        return _rendered_to(Path(path), video, cuts, options, clock)


def _rendered_to(
    path: Path,
    video: CodedVideo,
    cuts: Sequence[Cut],
    options: RenderOptions,
    clock: MatchClock | None,
) -> Rendered:
    _refuse_overwriting(video.path, path)
    failure = ""
    with atomic_path(path) as temporary:
        for number, (film, copies_sound) in enumerate(_ways(video, cuts, options, clock)):
            try:
                chapters = _chapters(video, film, clock)
                _write(temporary, video, film, options, chapters, copies_sound=copies_sound)
            except FFmpegError as error:
                failure = reason(error)
                continue
            if number:
                film = replace(film, note=f"copying failed: {failure}")
            return _rendered(path, video, film)
        raise FootageError(video.path, f"cannot be cut ({failure})")


def _ways(
    video: CodedVideo, cuts: Sequence[Cut], options: RenderOptions, clock: MatchClock | None
) -> Iterator[tuple[_Film, bool]]:
    """What to write and whether to copy the sound; then the next best way, if that fails.

    Damage inside a copied part, and sound that changes in mid-stream, show only in writing.
    """
    if options.mode == "copy":
        film = _copied_film(video, cuts)
        yield film, True
        yield film, False
        return
    film = _drawn_film(video, cuts, options, clock)
    yield film, False
    if film.spliced:
        yield _drawn_film(video, cuts, replace(options, mode="encode"), clock), False


def _refuse_overwriting(footage: Path, path: Path) -> None:
    if path.exists() and footage.exists() and path.samefile(footage):
        raise ValueError(f"{path} is the footage itself. Choose another folder with -o.")


@dataclass(frozen=True)
class _Film:
    """What is written: the cuts, their places in the output, and the parts of each."""

    cuts: Sequence[Cut]
    placed: list[Placed]
    parts: list[Part]
    picture: PictureFormat | None = None
    encoder: str = ""
    note: str = ""

    @property
    def spliced(self) -> bool:
        return any(part.rows is not None for part in self.parts)


def _copied_film(video: CodedVideo, cuts: Sequence[Cut]) -> _Film:
    found = [copy_span(video, cut.start_s, cut.end_s, joined=k > 0) for k, cut in enumerate(cuts)]
    placed = place_spans(video, cuts, [span for span, _ in found])
    parts = [copied_part(p, rows, video) for p, (_, rows) in zip(placed, found, strict=True)]
    return _Film(cuts, placed, parts)


def _drawn_film(
    video: CodedVideo, cuts: Sequence[Cut], options: RenderOptions, clock: MatchClock | None
) -> _Film:
    spans = [exact_span(video, cut.start_s, cut.end_s) for cut in cuts]
    fade = round(Fraction(options.crossfade_s) / video.time_base)
    placed = place_spans(video, cuts, spans, fade=fade, titles=options.titles, clock=clock)
    picture = picture_format(video, spans[0], height_px=options.height_px)
    note = ""
    if options.mode == "exact":
        note = why_not_spliced(video, picture, scaled=options.height_px is not None)
        parts = [] if note else spliced_parts(placed, video)
        if any(part.rows is not None for part in parts):
            return _Film(cuts, placed, parts, picture, SOFTWARE)
        note = note or "no key frame lies where copying could begin"
    encoder = choose_encoder(picture, options.encoder)
    return _Film(cuts, placed, whole_parts(placed), picture, encoder, note)


def place_spans(
    video: CodedVideo,
    cuts: Sequence[Cut],
    spans: Sequence[Span],
    *,
    fade: int = 0,
    titles: bool = False,
    clock: MatchClock | None = None,
) -> list[Placed]:
    """Put spans one after the other on the output's timeline.

    Args:
        video: The footage that the spans are from.
        cuts: The cut of each span.
        spans: What each cut shows.
        fade: How long neighbours overlap, in ticks of the stream's time base. A fade starts on a
            frame and takes at most half of either span, so it may be shorter.
        titles: Add a title for each event.
        clock: Shows the match clock in titles.
    """
    placed: list[Placed] = []
    for cut, span in zip(cuts, spans, strict=True):
        before = placed[-1] if placed else None
        fade_in = _fade_ticks(before.span, span, fade) if before else 0
        placed.append(
            Placed(
                span,
                out_pts=before.out_end - fade_in if before else 0,
                titles=tuple(_titles(video, cut, span, clock)) if titles else (),
                fade_in=fade_in,
                before=before.span if before else None,
            )
        )
    return placed


def _fade_ticks(before: Span, span: Span, fade: int) -> int:
    longest = min(fade, before.length // 2, span.length // 2)
    starts = [pts for pts in before.frame_pts if pts >= before.end_pts - longest]
    return before.end_pts - starts[0] if starts and longest > 0 else 0


def _titles(video: CodedVideo, cut: Cut, span: Span, clock: MatchClock | None) -> Iterator[Title]:
    """One title per event, from the start of its padding; it stays long enough to be read."""
    first_s, end_s = video.seconds(span.first_pts), video.seconds(span.end_pts)
    if not cut.events:
        return
    lead_s = max(Fraction(0), Fraction(cut.events[0].start_s) - first_s)
    starts = [max(first_s, Fraction(e.start_s) - lead_s) for e in cut.events]
    for k, event in enumerate(cut.events):
        until_s = min([starts[k] + TITLE_S, end_s, *starts[k + 1 : k + 2]])
        line = (clock.text(event.peak_s) if clock else "") or timecode(event.peak_s)[:-4]
        if until_s > starts[k]:
            yield Title(starts[k], until_s, one_line(event.label), line)


def _write(
    path: Path,
    video: CodedVideo,
    film: _Film,
    options: RenderOptions,
    chapters: list[Chapter],
    *,
    copies_sound: bool,
) -> None:
    """Write picture and sound packets in order of time, so that few wait in memory."""
    # With "file:" in front FFmpeg cannot take a file name for an address.
    with av.open(f"file:{path}", "w", format="mp4", container_options=FAST_START) as output:
        if film.picture is None:
            pictures = copied_packets(output, video, film.parts)
        else:
            drawing = Drawing(video, film.picture, options.font)
            if film.spliced:
                pictures = spliced_packets(output, video, drawing, film.parts)
            else:
                pictures = encoded_packets(output, drawing, film.parts, film.encoder)
        sound = sound_packets(output, video, film.placed, copy=copies_sound)
        output.set_chapters(chapters)
        tracks: list[Iterator[Packet[Any]]] = [pictures, sound]
        for packet in heapq.merge(*tracks, key=_decoding_s):
            output.mux(packet)


def _decoding_s(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _chapters(video: CodedVideo, film: _Film, clock: MatchClock | None) -> list[Chapter]:
    """One chapter per cut, named after its events, with the match clock if it is known."""
    chapters: list[Chapter] = []
    for k, (cut, placed) in enumerate(zip(film.cuts, film.placed, strict=True)):
        names = dict.fromkeys(
            " ".join(filter(None, (one_line(e.label), clock.text(e.peak_s) if clock else "")))
            for e in cut.events
        )
        chapters.append(
            {
                "id": k,
                "start": placed.out_pts,
                "end": placed.out_end,
                "time_base": video.time_base,
                "metadata": {"title": ", ".join(names)},
            }
        )
    return chapters


def _rendered(path: Path, video: CodedVideo, film: _Film) -> Rendered:
    cuts = (
        Cut(
            float(video.seconds(placed.span.first_pts)),
            float(video.seconds(placed.span.end_pts)),
            cut.events,
        )
        for cut, placed in zip(film.cuts, film.placed, strict=True)
    )
    notes = [film.note] if film.note else []
    if is_silenced(video.container):
        notes.append("without sound, because FFmpeg cannot decode it")
    return Rendered(
        path=path,
        cuts=tuple(cuts),
        duration_s=float(film.placed[-1].out_end * video.time_base),
        num_frames=sum(part.num_frames for part in film.parts),
        num_encoded=sum(part.num_frames for part in film.parts if part.rows is None),
        encoder=film.encoder,
        note="; ".join(notes),
    )

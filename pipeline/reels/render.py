"""Clips and reels: stretches of footage as MP4, copied where possible, encoded where needed.

    mode "copy"     nothing is encoded; cuts begin at the key frame before and end a few frames late
    mode "exact"    cuts are exact; frames are encoded up to the next key frame, behind the last
                    point where the stream can be cut, and under titles and cross-fades
    mode "encode"   everything is encoded

Sound is copied in mode "copy" and encoded otherwise. Picture and sound of a cut are shifted by the
same amount, so that they stay as they were in the footage.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.packet import Packet

from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.files import beside
from touchline.pipeline.outputs.result_view import in_time_order, one_line, safe_name
from touchline.pipeline.outputs.timecode import MatchClock, timecode
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
from touchline.pipeline.types import Event

if TYPE_CHECKING:
    from av.container.core import Chapter

# The index before the pictures, so that a browser plays a reel before it has all of it.
FAST_START = {"movflags": "+faststart"}

# How long a title stays, unless the next one comes.
TITLE_S = 5


@dataclass(frozen=True)
class Rendered:
    """A clip or reel that was written.

    cuts:        what it shows, on the frames that were really cut at.
    num_frames:  of all frames, `num_encoded` were encoded and the rest copied.
    note:        why more was encoded than had to be, and what was left out; empty where neither.
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
) -> Rendered:
    """One MP4 of the best events in time order, at most `max_s` long (see `cuts.plan_reel`).

    ValueError where there is nothing to show.
    """
    if max_s is not None and not max_s > 0:
        raise ValueError(f"the longest reel is {max_s} s; it must be above 0")
    options = options or RenderOptions()
    footage = Path(footage)
    events = list(events)
    duration_s = probe_footage(footage, stream=options.stream).duration_s
    room_s = max_s
    with CodedVideo(footage, stream=options.stream) as video:
        while True:
            planned = plan_reel(
                events,
                duration_s=duration_s,
                before_s=options.before_s,
                after_s=options.after_s,
                max_s=room_s,
                weights=weights,
            )
            cuts = merge_cuts(_on_frames(video, planned, copy=options.mode == "copy"))
            over_s = 0.0 if max_s is None else sum(c.duration_s for c in cuts) - max_s
            if room_s is None or over_s <= 1e-6:
                break
            # Cuts grow to the frames, and copied ones to the key frames, that there are.
            room_s -= over_s
    if not cuts:
        raise ValueError(f"{footage}: there is no event that fits into the reel")
    return render_cuts(footage, cuts, path, options=options, clock=clock)


def _on_frames(video: CodedVideo, cuts: Sequence[Cut], *, copy: bool) -> list[Cut]:
    """The cuts as they can be made."""
    made = []
    for k, cut in enumerate(cuts):
        span = (
            copy_span(video, cut.start_s, cut.end_s, joined=k > 0)[0]
            if copy
            else exact_span(video, cut.start_s, cut.end_s)
        )
        first_s, end_s = video.seconds(span.first_pts), video.seconds(span.end_pts)
        made.append(Cut(float(first_s), float(end_s), cut.events))
    return made


def cut_clips(
    footage: str | os.PathLike[str],
    events: Iterable[Event],
    folder: str | os.PathLike[str],
    *,
    options: RenderOptions | None = None,
    clock: MatchClock | None = None,
) -> Iterator[Rendered]:
    """One MP4 per event, written as they are asked for: 001-goal-0h12m34s.mp4, in time order."""
    options = options or RenderOptions()
    footage = Path(footage)
    duration_s = probe_footage(footage, stream=options.stream).duration_s
    # All of them first: an event outside the footage is told before anything is written.
    cuts = [
        padded_cut(event, before_s=options.before_s, after_s=options.after_s, duration_s=duration_s)
        for event in in_time_order(events)
    ]
    for k, cut in enumerate(cuts, start=1):
        path = Path(folder) / clip_name(k, cut.events[0])
        yield render_cuts(footage, [cut], path, options=options, clock=clock)


def clip_name(number: int, event: Event) -> str:
    """A file name that sorts by time and that every file system takes."""
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
    """The cuts one after the other as one MP4."""
    options = options or RenderOptions()
    with CodedVideo(Path(footage), stream=options.stream) as video:
        _refuse_overwriting(video.path, Path(path))
        if options.mode == "copy":
            film = _copied_film(video, cuts)
        else:
            film = _drawn_film(video, cuts, options, clock)
        chapters = _chapters(video, film, clock)
        with beside(path) as temporary:
            _write(temporary, video, film, options, chapters)
        return _rendered(Path(path), video, film)


def _refuse_overwriting(footage: Path, path: Path) -> None:
    if path.exists() and footage.exists() and path.samefile(footage):
        raise ValueError(f"{path} is the footage itself: choose another folder with -o")


@dataclass(frozen=True)
class _Film:
    """What is written: cuts, their place in the output, the parts each is made of."""

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
    placed = place(video, cuts, [span for span, _ in found])
    parts = [copied_part(p, rows) for p, (_, rows) in zip(placed, found, strict=True)]
    return _Film(cuts, placed, parts)


def _drawn_film(
    video: CodedVideo, cuts: Sequence[Cut], options: RenderOptions, clock: MatchClock | None
) -> _Film:
    spans = [exact_span(video, cut.start_s, cut.end_s) for cut in cuts]
    fade = round(Fraction(options.crossfade_s) / video.time_base)
    placed = place(video, cuts, spans, fade=fade, titles=options.titles, clock=clock)
    picture = picture_format(video, spans[0], height_px=options.height_px)
    note = ""
    if options.mode == "exact":
        note = why_not_spliced(video, picture, scaled=options.height_px is not None)
        parts = [] if note else spliced_parts(placed, video)
        if any(part.rows is not None for part in parts):
            return _Film(cuts, placed, parts, picture, SOFTWARE)
        note = note or "no key frame lies where it could be copied from"
    encoder = choose_encoder(picture, options.encoder)
    return _Film(cuts, placed, whole_parts(placed), picture, encoder, note)


def place(
    video: CodedVideo,
    cuts: Sequence[Cut],
    spans: Sequence[Span],
    *,
    fade: int = 0,
    titles: bool = False,
    clock: MatchClock | None = None,
) -> list[Placed]:
    """Spans one after the other on the output's timeline; neighbours overlap by about `fade`.

    A fade starts on a frame and takes at most half of either span.
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
    """A title per event, from where its padding begins until it has been read."""
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
) -> None:
    """Mux pictures and sound, each packet in its turn, so that little waits in memory."""
    with (
        CodedVideo(video.path, stream=video.stream.index) as drawn,
        CodedVideo(video.path, stream=video.stream.index) as fading,
        # With the protocol written out no name can be taken for an address.
        av.open(f"file:{path}", "w", format="mp4", container_options=FAST_START) as output,
    ):
        if film.picture is None:
            pictures = copied_packets(output, video, film.parts)
        else:
            drawing = Drawing(drawn, fading, film.picture, options.font)
            if film.spliced:
                pictures = spliced_packets(output, video, drawing, film.parts)
            else:
                pictures = encoded_packets(output, drawing, film.parts, film.encoder)
        sound = sound_packets(output, video, film.placed, copy=options.mode == "copy")
        output.set_chapters(chapters)
        tracks: list[Iterator[Packet[Any]]] = [pictures, sound]
        for packet in heapq.merge(*tracks, key=_decoding_s):
            output.mux(packet)


def _decoding_s(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _chapters(video: CodedVideo, film: _Film, clock: MatchClock | None) -> list[Chapter]:
    """A chapter per cut, named after its events, with the match clock where it is known."""
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
        notes.append("no sound: nothing here decodes it")
    return Rendered(
        path=path,
        cuts=tuple(cuts),
        duration_s=float(film.placed[-1].out_end * video.time_base),
        num_frames=sum(part.num_frames for part in film.parts),
        num_encoded=sum(part.num_frames for part in film.parts if part.rows is None),
        encoder=film.encoder,
        note="; ".join(notes),
    )

"""Events as chapters and subtitles: WebVTT, SubRip, ffmetadata, YouTube."""

from __future__ import annotations

import html
import math

from touchline.pipeline.outputs.result_view import Sheet, one_line
from touchline.pipeline.timecode import timecode
from touchline.pipeline.types import Event

# A cue must end after its start. That of an instant must stay long enough to be read.
SHORTEST_CUE_S = 2.0

# Some formats have no escapes, and players and sites take these characters for markup.
PLAIN = str.maketrans("<>{}", "‹›()")

# YouTube ignores shorter chapters, lists of fewer than three, and lists that do not begin at 0:00.
SHORTEST_YOUTUBE_S = 10
LEAST_YOUTUBE = 3
FEW_YOUTUBE = (
    "\n(YouTube shows chapters only if there are three or more, of ten seconds or more.)\n"
)


def vtt_text(sheet: Sheet) -> str:
    """Return WebVTT subtitles: one cue per accepted event, shown for at least two seconds."""
    cues = [
        _vtt_cue(event.start_s, max(event.end_s, event.start_s + SHORTEST_CUE_S), caption)
        for event, caption in _captions(sheet)
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def vtt_chapters_text(sheet: Sheet) -> str:
    """Return WebVTT chapters (kind="chapters"), which end at the latest where the next starts."""
    cues = [_vtt_cue(start_s, end_s, title) for start_s, end_s, title in _chapters(sheet)]
    return "WEBVTT\n\n" + "\n".join(cues)


def srt_text(sheet: Sheet) -> str:
    """Return SubRip subtitles: one numbered cue per accepted event, for at least two seconds."""
    cues = []
    for k, (event, caption) in enumerate(_captions(sheet), start=1):
        end_s = max(event.end_s, event.start_s + SHORTEST_CUE_S)
        # SubRip has no escapes, and players take <...> and {...} for markup.
        plain = caption.translate(PLAIN)
        times = f"{_clock(event.start_s, ',')} --> {_clock(end_s, ',')}"
        cues.append(f"{k}\n{times}\n{plain}\n")
    return "\n".join(cues)


def ffmetadata_text(sheet: Sheet) -> str:
    """Return chapters for `ffmpeg -i MATCH -i chapters.ffmeta -map_chapters 1 -c copy OUT`."""
    blocks = [
        "[CHAPTER]\nTIMEBASE=1/1000\n"
        f"START={_milliseconds(start_s)}\nEND={_milliseconds(end_s)}\ntitle={_escaped(title)}\n"
        for start_s, end_s, title in _chapters(sheet)
    ]
    return f";FFMETADATA1\ntitle={_escaped(sheet.title)}\n" + "".join(blocks)


def youtube_text(sheet: Sheet) -> str:
    """Return chapters for a YouTube description, in whole seconds.

    An event that starts less than ten seconds after a chapter, or before the end of the footage,
    joins the chapter before. If fewer than three chapters remain, a line after them says that
    YouTube does not show them.
    """
    chapters: list[tuple[int, list[str]]] = [(0, ["Start"])]
    for event in sheet.accepted:
        start = max(0, math.floor(event.start_s))
        clock = sheet.clock.text(event.start_s) if sheet.clock else ""
        # YouTube does not take descriptions with angle brackets.
        name = one_line(event.label).translate(PLAIN)
        label = f"{name} ({clock})" if clock else name
        rest_s = sheet.duration_s - start
        if min(start - chapters[-1][0], rest_s) >= SHORTEST_YOUTUBE_S:
            chapters.append((start, [label]))
        elif label not in chapters[-1][1]:
            chapters[-1][1].append(label)
    lines = [f"{timecode(start)[:-4]} {', '.join(names)}\n" for start, names in chapters]
    return "".join(lines) + (FEW_YOUTUBE if len(lines) < LEAST_YOUTUBE else "")


def _captions(sheet: Sheet) -> list[tuple[Event, str]]:
    return [(event, sheet.caption(event)) for event in sheet.accepted]


def _chapters(sheet: Sheet) -> list[tuple[float, float, str]]:
    """Start, end and title of each chapter: in order, without overlap, at least 1 ms long."""
    starts = [_milliseconds(event.start_s) for event in sheet.accepted]
    chapters = []
    for k, (event, start) in enumerate(zip(sheet.accepted, starts, strict=True)):
        later = [other for other in starts[k + 1 :] if other > start]
        end_s = event.end_s if event.end_s > event.start_s else event.start_s + SHORTEST_CUE_S
        end = min([max(_milliseconds(end_s), start + 1), *later[:1]])
        chapters.append((start / 1000, end / 1000, sheet.caption(event)))
    return chapters


def _vtt_cue(start_s: float, end_s: float, text: str) -> str:
    # Escaping > also breaks up "-->", which would end the cue's text.
    return f"{_clock(start_s, '.')} --> {_clock(end_s, '.')}\n{html.escape(text, quote=False)}\n"


def _clock(time_s: float, mark: str) -> str:
    """HH:MM:SS.mmm with the decimal mark of the format; a time before 0 becomes 0."""
    return timecode(max(0.0, time_s)).zfill(12).replace(".", mark)


def _milliseconds(time_s: float) -> int:
    return max(0, math.floor(time_s * 1000 + 0.5))


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "=;#\\" else c for c in text)

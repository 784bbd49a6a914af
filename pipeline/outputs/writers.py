"""Write results to files. Each output format is one entry of WRITERS.

A path inside a file (`video`) is relative to the folder of the file. So results and footage can be
moved together, and `events.csv` can be read as labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from touchline.models.atomic_files import write_atomic
from touchline.pipeline.labels.datasets.soccernet import RESULTS_FILE
from touchline.pipeline.outputs import analysis, chapters, edit_lists, events_json, tables
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.options import WriteOptions
from touchline.pipeline.outputs.result_view import Sheet
from touchline.pipeline.timecode import FrameRate, MatchClock, rate_of_footage


@dataclass(frozen=True)
class Writer:
    """One output format.

    Attributes:
        file_name: The name of its file in OUT/<stem>/.
        text: Makes the text of the file.
        about: What it is, in a few words.
        counts: True if it counts frames and so needs a frame rate.
        extra: The extra of `pip install` whose library it needs; empty for none.
    """

    file_name: str
    text: Callable[[Sheet], str]
    about: str
    counts: bool = False
    extra: str = ""


# The modules that the formats need from each extra of `pip install`.
EXTRAS = {"edit": ("opentimelineio", "otio_fcp_adapter")}

WRITERS = {
    "csv": Writer("events.csv", tables.csv_text, "accepted events as a table"),
    "json": Writer(
        events_json.EVENTS_FILE, events_json.json_text, "all candidates, footage, model, options"
    ),
    "jsonl": Writer("events.jsonl", tables.jsonl_text, "all candidates, one object per line"),
    "soccernet": Writer(RESULTS_FILE, tables.soccernet_text, "SoccerNet action spotting results"),
    "osl": Writer("osl.json", tables.osl_text, "OSL JSON 2.0 of OpenSportsLab: predictions"),
    "player-spotting": Writer(
        "player_spotting.json",
        tables.player_spotting_text_of,
        "SoccerNet player-centric spotting predictions",
    ),
    "activitynet": Writer(
        "activitynet.json", tables.activitynet_text, "ActivityNet 1.3 detections"
    ),
    "labelstudio": Writer(
        "label_studio.json",
        tables.label_studio_text,
        "Label Studio pre-annotations",
        counts=True,
    ),
    "cvat": Writer("cvat.xml", tables.cvat_text, "CVAT for video 1.1 pre-annotations", counts=True),
    "vtt": Writer("events.vtt", chapters.vtt_text, "WebVTT subtitles"),
    "vtt-chapters": Writer(
        "chapters.vtt", chapters.vtt_chapters_text, "WebVTT chapters for web players"
    ),
    "srt": Writer("events.srt", chapters.srt_text, "SubRip subtitles"),
    "ffmetadata": Writer(
        "chapters.ffmeta", chapters.ffmetadata_text, "chapters for FFmpeg to put in the file"
    ),
    "youtube": Writer("youtube.txt", chapters.youtube_text, "chapters for a YouTube description"),
    "edl": Writer("events.edl", edit_lists.edl_text, "CMX 3600 edit list", counts=True),
    "fcpxml": Writer(
        "events.fcpxml", edit_lists.fcpxml_text, "Final Cut Pro, DaVinci Resolve", counts=True
    ),
    "otio": Writer(
        "events.otio", edit_lists.otio_text, "OpenTimelineIO", counts=True, extra="edit"
    ),
    "premiere": Writer(
        "premiere.xml",
        edit_lists.premiere_text,
        "Premiere Pro: Final Cut Pro 7 XML",
        counts=True,
        extra="edit",
    ),
    "sportscode": Writer(
        "sportscode.xml", analysis.sportscode_text, "Hudl Sportscode, Nacsport, Metrica, Angles"
    ),
    "resolve-markers": Writer(
        "markers.edl",
        analysis.resolve_markers_text,
        "timeline markers for DaVinci Resolve",
        counts=True,
    ),
    "premiere-markers": Writer(
        "premiere_markers.csv",
        analysis.premiere_markers_text,
        "markers for Premiere Pro",
        counts=True,
    ),
    "cdf": Writer(
        "video.json", analysis.cdf_video_text, "Common Data Format: the footage and its kick-offs"
    ),
    "losslesscut-csv": Writer(
        "losslesscut.csv", analysis.losslesscut_csv_text, "LosslessCut, as CSV"
    ),
    "losslesscut": Writer("events.llc", edit_lists.losslesscut_text, "LosslessCut project"),
    "xspf": Writer("events.xspf", edit_lists.xspf_text, "VLC playlist"),
    "m3u": Writer("events.m3u8", edit_lists.m3u_text, "VLC playlist, the older format"),
}


BESIDE_VIDEO = {"losslesscut": "-proj.llc", "losslesscut-csv": "-llc-edl.csv"}
"""The ends of the names under which LosslessCut finds files beside a video that it opens."""


def write_beside_video(
    result: MatchResult, name: str, *, options: WriteOptions | None = None
) -> Path:
    """Write a result into the folder of its video, under the name that LosslessCut looks for.

    Args:
        result: The result.
        name: A format of `BESIDE_VIDEO`.
        options: How the format writes events. None: the defaults.

    Raises:
        ValueError: The format is none of these, or the file is there already. It may hold the work
            of somebody.
    """
    if name not in BESIDE_VIDEO:
        raise ValueError(f"--beside-video is for {' and '.join(BESIDE_VIDEO)}, not for {name}.")
    video = result.path
    path = video.with_name(f"{video.stem}{BESIDE_VIDEO[name]}")
    if path.exists():
        raise ValueError(f"{path} is there already. Rename or remove it first.")
    sheet = result_sheet(result, video.parent, options=options)
    return write_atomic(path, WRITERS[name].text(sheet))


def write_result(
    result: MatchResult,
    folder: str | os.PathLike[str],
    *,
    formats: Iterable[str] = ("csv", "json"),
    rate: FrameRate | None = None,
    clock: MatchClock | None = None,
    options: WriteOptions | None = None,
) -> list[Path]:
    """Write a result in one or more formats. Return the paths, in the order of the formats.

    Args:
        result: The result.
        folder: The folder to write to.
        formats: Names in WRITERS.
        rate: Frame rate for formats that count frames. None: the rate of the footage.
        clock: The match clock. None: the one of the result.
        options: How some formats write events. None: the defaults.

    Raises:
        ValueError: A format is unknown, its library is missing, or it cannot hold this result.
            Nothing is written then.

    Example:
        >>> from touchline.pipeline import read_events_json, write_result
        >>> result = read_events_json("out/match/events.json")
        >>> paths = write_result(result, "chapters", formats=["vtt-chapters"])
        >>> print(paths[0].read_text().splitlines()[2])
        00:00:03.125 --> 00:00:04.875
    """
    names = list(formats)
    check_formats(names)
    sheet = result_sheet(result, folder, rate=rate, clock=clock, options=options)
    texts = [(WRITERS[name].file_name, WRITERS[name].text(sheet)) for name in names]
    return [write_atomic(sheet.folder / file_name, text) for file_name, text in texts]


def unwritable(
    result: MatchResult,
    formats: Iterable[str],
    *,
    rate: FrameRate | None = None,
    clock: MatchClock | None = None,
    options: WriteOptions | None = None,
) -> dict[str, str]:
    """Return the formats that cannot hold a result, each with the reason.

    Args:
        result: The result; without events it says what its footage rules out.
        formats: Names in WRITERS.
        rate: Frame rate. None: the rate of the footage.
        clock: The match clock. None: the one of the result.
        options: How some formats write events. None: the defaults.
    """
    sheet = result_sheet(result, Path(), rate=rate, clock=clock, options=options)
    problems = {}
    for name in formats:
        try:
            WRITERS[name].text(sheet)
        except ValueError as error:
            problems[name] = str(error)
    return problems


def check_formats(names: Iterable[str]) -> None:
    """Check the names of output formats.

    Raises:
        ValueError: A name is unknown, or the library of a format is not installed.
    """
    for name in names:
        if name not in WRITERS:
            raise ValueError(f"no output format {name!r}. The formats are {', '.join(WRITERS)}.")
        if not is_installed(name):
            extra = WRITERS[name].extra
            raise ValueError(
                f"the format {name} needs {EXTRAS[extra][0]}. Run pip install "
                f"'touchline[{extra}]', or leave the format out."
            )


def is_installed(name: str) -> bool:
    """Tell whether the library of an output format is installed."""
    extra = WRITERS[name].extra
    return not extra or all(find_spec(library) is not None for library in EXTRAS[extra])


def result_sheet(
    result: MatchResult,
    folder: str | os.PathLike[str],
    *,
    rate: FrameRate | None = None,
    clock: MatchClock | None = None,
    options: WriteOptions | None = None,
) -> Sheet:
    """Return a result as the writers and the report get it.

    Args:
        result: The result.
        folder: The folder that the written file will be in.
        rate: Frame rate. None: the rate of the footage.
        clock: The match clock. None: the one of the result.
        options: How some formats write events. None: the defaults.
    """
    if rate is None and result.health is not None:
        rate = rate_of_footage(result.health)
    if clock is None:
        clock = result.clock
    folder = folder if isinstance(folder, Path) else Path(folder)
    return Sheet(result, folder, rate, clock, options or WriteOptions())

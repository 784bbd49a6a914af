"""List the label formats: how each is recognised, read and written.

A new format is one file in this folder and one entry in `FORMATS`. `touchline labels` and the
contract tests then use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from touchline.pipeline.labels.class_folders import read_class_folders
from touchline.pipeline.labels.csv_files import read_csv, write_csv
from touchline.pipeline.labels.datasets.activitynet import (
    activitynet_videos,
    is_activitynet,
    read_activitynet,
    write_activitynet,
)
from touchline.pipeline.labels.datasets.osl import is_osl, osl_videos, read_osl, write_osl
from touchline.pipeline.labels.datasets.player_spotting import (
    is_player_spotting,
    player_spotting_videos,
    read_player_spotting,
    write_player_spotting,
)
from touchline.pipeline.labels.datasets.soccernet import (
    is_soccernet,
    is_soccernet_tree,
    read_soccernet,
    read_soccernet_tree,
    soccernet_tree_videos,
    soccernet_videos,
    write_soccernet,
)
from touchline.pipeline.labels.programs.boris import (
    is_boris,
    is_boris_table,
    read_boris,
    read_boris_table,
)
from touchline.pipeline.labels.programs.cvat import is_cvat, read_cvat, write_cvat
from touchline.pipeline.labels.programs.elan import is_elan, read_elan, write_elan
from touchline.pipeline.labels.programs.label_studio import (
    is_label_studio,
    read_label_studio,
    write_label_studio,
)
from touchline.pipeline.labels.programs.markers import (
    is_premiere_markers,
    is_resolve_index,
    is_resolve_markers,
    read_premiere_markers,
    read_resolve_index,
    read_resolve_markers,
)
from touchline.pipeline.labels.programs.sportscode import (
    is_sportscode,
    read_sportscode,
    write_sportscode,
)
from touchline.pipeline.labels.programs.via import is_via, read_via
from touchline.pipeline.labels.source import LabelledVideo, LabelSource
from touchline.pipeline.labels.target import LabelTarget
from touchline.pipeline.labels.time_list import is_time_list, read_time_list
from touchline.pipeline.types import Example


@dataclass(frozen=True)
class LabelFormat:
    """One label format.

    Attributes:
        name: Its name on the command line.
        what: One line for people.
        suffix: The ending of a written file.
        recognises: Says whether a source is of this format, by its content.
        read: Turns a source into examples.
        write: Turns examples into the text of a file; None if the format cannot be written.
        one_video: A file holds the labels of one video only.
        needs_times: Examples without times cannot be written.
        loses: What the format cannot hold; empty if it holds everything.
        videos: Lists the videos that the file labels, also those without events. None: those of
            the examples.
        if_empty: What to do about a file without labels; empty if there is no advice.
        heads: A file may label several things (heads), of which one is read.
    """

    name: str
    what: str
    suffix: str
    recognises: Callable[[LabelSource], bool]
    read: Callable[[LabelSource], list[Example]]
    write: Callable[[Sequence[Example], LabelTarget], str] | None
    one_video: bool = False
    needs_times: bool = True
    loses: str = ""
    videos: Callable[[LabelSource], list[LabelledVideo]] | None = None
    if_empty: str = ""
    heads: bool = False


FORMATS: tuple[LabelFormat, ...] = (
    LabelFormat(
        name="resolve-markers",
        what="timeline markers of DaVinci Resolve, as EDL",
        suffix=".edl",
        recognises=is_resolve_markers,
        read=read_resolve_markers,
        write=None,
    ),
    LabelFormat(
        name="resolve-edit-index",
        what="markers of DaVinci Resolve, as the CSV of its edit index",
        suffix=".csv",
        recognises=is_resolve_index,
        read=read_resolve_index,
        write=None,
    ),
    LabelFormat(
        name="premiere-markers",
        what="markers of Premiere Pro, as CSV",
        suffix=".csv",
        recognises=is_premiere_markers,
        read=read_premiere_markers,
        write=None,
    ),
    LabelFormat(
        name="boris-table",
        what="events of BORIS, as CSV or TSV: aggregated or tabular",
        suffix=".csv",
        recognises=is_boris_table,
        read=read_boris_table,
        write=None,
    ),
    LabelFormat(
        name="time-list",
        what="lines that begin with a time: 12:34 goal",
        suffix=".txt",
        recognises=is_time_list,
        read=read_time_list,
        write=None,
    ),
    LabelFormat(
        name="csv",
        what="Touchline's CSV: video,label,start_s,end_s,group",
        suffix=".csv",
        recognises=lambda source: source.kind == "text",
        read=read_csv,
        write=write_csv,
        needs_times=False,
    ),
    LabelFormat(
        name="soccernet",
        what="SoccerNet's Labels-v2.json and Labels-ball.json: points in the halves of a match",
        suffix=".json",
        recognises=is_soccernet,
        read=read_soccernet,
        write=write_soccernet,
        videos=soccernet_videos,
        loses="scores and the length of events: each becomes one moment, rounded to 1 ms",
    ),
    LabelFormat(
        name="soccernet-folder",
        what="a folder of SoccerNet matches, each with its Labels-v2.json or Labels-ball.json",
        suffix="",
        recognises=is_soccernet_tree,
        read=read_soccernet_tree,
        write=None,
        videos=soccernet_tree_videos,
    ),
    LabelFormat(
        name="folders",
        what="a folder with one subfolder of clips per class",
        suffix="",
        recognises=lambda source: source.kind == "folder",
        read=read_class_folders,
        write=None,
    ),
    LabelFormat(
        name="activitynet",
        what="ActivityNet JSON: segments in seconds",
        suffix=".json",
        recognises=is_activitynet,
        read=read_activitynet,
        write=write_activitynet,
        videos=activitynet_videos,
        loses="whether an event is visible, peaks and scores",
    ),
    LabelFormat(
        name="osl",
        what="OSL JSON 2.0 of OpenSportsLab: moments in milliseconds, or classes of clips",
        suffix=".json",
        recognises=is_osl,
        read=read_osl,
        write=write_osl,
        needs_times=False,
        videos=osl_videos,
        heads=True,
        loses="visibility and the length of events: each becomes the moment of its peak, rounded "
        "to 1 ms; which stretches are verified, if the video has events outside of them",
    ),
    LabelFormat(
        name="player-spotting",
        what="SoccerNet's player-centric spotting: [frame, team, jersey, class, confidence]",
        suffix=".json",
        recognises=is_player_spotting,
        read=read_player_spotting,
        write=write_player_spotting,
        videos=player_spotting_videos,
        loses="groups, visibility, attributes other than team and jersey, and the length of "
        "events: each becomes the moment of its peak, on a frame at 25 per second",
    ),
    LabelFormat(
        name="cvat",
        what="CVAT for video 1.1 (a track is an interval), and tags of CVAT for images 1.1",
        suffix=".xml",
        recognises=is_cvat,
        read=read_cvat,
        write=write_cvat,
        one_video=True,
        if_empty="If you labelled with tags, export 'CVAT for images 1.1': this export has none.",
        loses="groups, visibility, peaks, scores, and times after the footage's end; times become "
        "whole frames, and points last one frame",
    ),
    LabelFormat(
        name="label-studio",
        what="Label Studio JSON: timeline labels, ranges in frames",
        suffix=".json",
        recognises=is_label_studio,
        read=read_label_studio,
        write=write_label_studio,
        loses="visibility, peaks and scores; times become whole frames, points last one frame",
    ),
    LabelFormat(
        name="elan",
        what="ELAN .eaf: the aligned annotations of every tier",
        suffix=".eaf",
        recognises=is_elan,
        read=read_elan,
        write=write_elan,
        one_video=True,
        loses="groups, visibility, peaks and scores; times are rounded to 1 ms, points last 1 ms",
    ),
    LabelFormat(
        name="boris",
        what="a project of BORIS: the coded events of its observations",
        suffix=".boris",
        recognises=is_boris,
        read=read_boris,
        write=None,
    ),
    LabelFormat(
        name="via",
        what="a project of VIA 3: temporal segments",
        suffix=".json",
        recognises=is_via,
        read=read_via,
        write=None,
    ),
    LabelFormat(
        name="sportscode",
        what="Hudl Sportscode XML: instances with codes and labels, of one video",
        suffix=".xml",
        recognises=is_sportscode,
        read=read_sportscode,
        write=write_sportscode,
        one_video=True,
        loses="the name of the video, groups, visibility, and the characters & < > in names",
    ),
)

MAKE_CSV = (
    "Touchline cannot read it as labels. Make a CSV file with the columns "
    "video,label,start_s,end_s,group."
)

# What XML files of other programs are, by their root element.
OTHER_XML = {
    "xmeml": "a sequence of Premiere Pro or Final Cut Pro 7",
    "fcpxml": "a project of Final Cut Pro",
    "playlist": "a playlist",
}

BY_NAME = {form.name: form for form in FORMATS}

WRITABLE = tuple(form.name for form in FORMATS if form.write is not None)


def recognise(source: LabelSource) -> LabelFormat:
    """Find the format of a label file by its content.

    Raises:
        LabelsError: The content is of no known format.
    """
    for form in FORMATS:
        if form.recognises(source):
            return form
    if source.kind == "xml":
        if source.xml.tag in OTHER_XML:
            raise source.xml.error(f"{OTHER_XML[source.xml.tag]}. {MAKE_CSV}")
        raise source.xml.error(
            f"no known label format begins with <{source.xml.tag}>. CVAT begins with "
            "<annotations>, ELAN with <ANNOTATION_DOCUMENT>, Sportscode with <file>."
        )
    top = source.json.value
    if isinstance(top, dict) and any(key.startswith("_via_") for key in top):
        raise source.json.error(f"a project of VIA. {MAKE_CSV}")
    found = f"the keys {', '.join(list(top)[:6])}" if isinstance(top, dict) else "a list"
    raise source.json.error(
        f"{found}: no known label format. SoccerNet has 'annotations', ActivityNet has 'database', "
        "OSL has 'data', Label Studio has a list of tasks with 'annotations'."
    )

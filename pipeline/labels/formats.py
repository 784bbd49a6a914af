"""The table of label formats: how each is recognised, read and written.

A new format is one entry here; `touchline labels` and the contract tests pick it up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from touchline.pipeline.labels.activitynet import (
    is_activitynet,
    read_activitynet,
    write_activitynet,
)
from touchline.pipeline.labels.csv_files import read_class_folders, read_csv, write_csv
from touchline.pipeline.labels.cvat import is_cvat, read_cvat, write_cvat
from touchline.pipeline.labels.elan import is_elan, read_elan, write_elan
from touchline.pipeline.labels.label_studio import (
    is_label_studio,
    read_label_studio,
    write_label_studio,
)
from touchline.pipeline.labels.soccernet import (
    SOCCERNET_FILE,
    is_soccernet,
    read_soccernet,
    read_soccernet_tree,
    write_soccernet,
)
from touchline.pipeline.labels.source import LabelSource, LabelTarget, files_below
from touchline.pipeline.types import Example


@dataclass(frozen=True)
class LabelFormat:
    """One label format.

    what:        what is labelled and how, one line.
    suffix:      the ending of the file written.
    recognises:  whether a source is of this format, by its content.
    write:       examples -> the file as text; None where the format cannot be written.
    one_video:   a file holds the labels of one video.
    needs_times: an example must have its times.
    loses:       what writing it loses, "" where nothing is lost.
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


FORMATS: tuple[LabelFormat, ...] = (
    LabelFormat(
        name="csv",
        what="our CSV: video,label,start_s,end_s,group",
        suffix=".csv",
        recognises=lambda source: source.kind == "text",
        read=read_csv,
        write=write_csv,
        needs_times=False,
    ),
    LabelFormat(
        name="soccernet",
        what="SoccerNet-v2 Labels-v2.json: points in the halves of a match",
        suffix=".json",
        recognises=is_soccernet,
        read=read_soccernet,
        write=write_soccernet,
        loses="scores, and the length of events: intervals become instants, times are kept to 1 ms",
    ),
    LabelFormat(
        name="soccernet-folder",
        what="a folder of SoccerNet matches, each with its Labels-v2.json",
        suffix="",
        recognises=lambda source: (
            source.kind == "folder"
            and any(path.name == SOCCERNET_FILE for path in files_below(source.path))
        ),
        read=read_soccernet_tree,
        write=None,
    ),
    LabelFormat(
        name="folders",
        what="one subfolder per class, whole clips in it",
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
        loses="whether an event is visible, peaks and scores",
    ),
    LabelFormat(
        name="cvat",
        what="CVAT for video 1.1: a track is an interval",
        suffix=".xml",
        recognises=is_cvat,
        read=read_cvat,
        write=write_cvat,
        one_video=True,
        loses="groups, visibility, peaks, scores, and what lies behind the footage's end; "
        "times are kept to one frame, points last one",
    ),
    LabelFormat(
        name="label-studio",
        what="Label Studio JSON: timeline labels, ranges in frames",
        suffix=".json",
        recognises=is_label_studio,
        read=read_label_studio,
        write=write_label_studio,
        loses="visibility, peaks and scores; times are kept to one frame, points last one",
    ),
    LabelFormat(
        name="elan",
        what="ELAN .eaf: the aligned annotations of every tier",
        suffix=".eaf",
        recognises=is_elan,
        read=read_elan,
        write=write_elan,
        one_video=True,
        loses="groups, visibility, peaks and scores; times are kept to 1 ms, points last that long",
    ),
)

BY_NAME = {form.name: form for form in FORMATS}

WRITABLE = tuple(form.name for form in FORMATS if form.write is not None)


def recognise(source: LabelSource) -> LabelFormat:
    """The format of a label file, by its content; LabelsError where it is none of ours."""
    for form in FORMATS:
        if form.recognises(source):
            return form
    if source.kind == "xml":
        raise source.xml.error(
            f"<{source.xml.tag}> begins no known label format; CVAT begins with <annotations>, "
            "ELAN with <ANNOTATION_DOCUMENT>"
        )
    top = source.json.value
    found = f"the keys {', '.join(list(top)[:6])}" if isinstance(top, dict) else "a list"
    raise source.json.error(
        f"{found}: no known label format; SoccerNet has 'annotations', ActivityNet 'database', "
        "Label Studio a list of tasks with 'annotations'"
    )

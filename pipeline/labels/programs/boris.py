"""Read the projects of BORIS (.boris), and its exports of events as CSV or TSV."""

from __future__ import annotations

from collections.abc import Iterator

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.csv_files import read_table
from touchline.pipeline.labels.parsed import JsonValue, parse_number
from touchline.pipeline.labels.source import LabelSource, footage_in, make_example
from touchline.pipeline.types import Example

NO_SUBJECT = "No focal subject"
POINT, START, STOP = "POINT", "START", "STOP"

# The columns that BORIS has had for one thing.
MEDIA = ("Media file name", "Media file path", "Media file", "Source")
STATUS = ("Behavior type", "Status")
NOTES = {"Behavioral category": "category", "Modifiers": "modifiers", "Comment": "note",
         "Comment start": "note"}  # fmt: skip


def is_boris(source: LabelSource) -> bool:
    """Recognise a project by its observations and behaviours."""
    return (
        source.kind == "json"
        and source.json.has("observations")
        and source.json.has("behaviors_conf")
    )


def read_boris(source: LabelSource) -> list[Example]:
    """Read the coded events of every observation; two events of a state are an interval.

    Subject, modifier and comment are attributes. The group is the observation.

    Raises:
        LabelsError: A state does not end, or an observation has no media file.
    """
    states = {
        row["code"].text()
        for _, row in source.json["behaviors_conf"].members()
        if row["type"].text().casefold().startswith("state")
    }
    return [
        example
        for name, observation in source.json["observations"].members()
        for example in _observation(source, name, observation, states)
    ]


def _observation(
    source: LabelSource, name: str, observation: JsonValue, states: set[str]
) -> Iterator[Example]:
    rows = observation["events"].elements()
    if not rows:
        return
    files = [file.text() for file in observation["file"]["1"].elements()]
    if not files:
        raise observation["file"].error("no media file of player 1. Touchline needs the video.")
    ends_s = _ends(observation, files)
    began: dict[tuple[str, str], tuple[float, JsonValue]] = {}
    for row in rows:
        values = row.elements()
        if len(values) < 5:
            raise row.error(
                f"{len(values)} values; an event has time, subject, code, modifier, note"
            )
        time_s = values[0].number()
        subject, code, modifier, note = (value.text() for value in values[1:5])
        start_s = time_s
        if code in states:
            key = (subject, code)
            if key not in began:
                began[key] = time_s, row
                continue
            start_s = began.pop(key)[0]
        k = next((k for k, end_s in enumerate(ends_s) if start_s < end_s), len(files) - 1)
        begin_s = ends_s[k - 1] if k else 0.0
        yield make_example(
            source,
            row.where,
            video=footage_in(source, files[k]),
            label=code,
            group=name,
            start_s=start_s - begin_s,
            end_s=time_s - begin_s,
            attributes=_attributes(subject, modifiers=modifier, note=note),
        )
    for (_, code), (_, row) in began.items():
        raise row.error(f"the state {code!r} does not end. Stop it in BORIS.")


def _ends(observation: JsonValue, files: list[str]) -> list[float]:
    """When each media file of an observation ends, on the clock of the observation."""
    if len(files) == 1:
        return [float("inf")]
    lengths = observation["media_info"]["length"]
    total_s, ends_s = 0.0, []
    for file in files:
        total_s += lengths[file].number()
        ends_s.append(total_s)
    return ends_s


def _attributes(subject: str, **others: str) -> list[tuple[str, str]]:
    return [("subject", "" if subject == NO_SUBJECT else subject), *others.items()]


def is_boris_table(source: LabelSource) -> bool:
    """Recognise an export by its columns."""
    if source.kind != "text":
        return False
    return any(
        "Behavior" in line
        and ("Start (s)" in line or "Time" in line)
        and any(m in line for m in MEDIA)
        for line in source.text.splitlines()[:60]
    )


def read_boris_table(source: LabelSource) -> list[Example]:
    """Read aggregated events (start and stop in a row), or tabular events (START and STOP rows).

    Raises:
        LabelsError: A state does not end, or a row cannot be used.
    """
    table = read_table(source, marks=("Behavior",))
    examples = []
    began: dict[tuple[str, str, str], tuple[str, float]] = {}
    for where, cells in table:
        media = next((cells[name] for name in MEDIA if cells.get(name)), "")
        if not media:
            raise LabelsError(source.path, f"{where}: the media file is empty")
        video = footage_in(source, media.split(";")[0].removeprefix("player #1:"))
        subject, code = cells.get("Subject", ""), cells["Behavior"]
        if "Start (s)" in cells:
            start_s = parse_number(source.path, f"{where}: Start (s)", cells["Start (s)"])
            stop = cells.get("Stop (s)", "")
            stop = cells["Start (s)"] if stop in ("", "NA") else stop
            end_s = parse_number(source.path, f"{where}: Stop (s)", stop)
        else:
            end_s = parse_number(source.path, f"{where}: Time", cells.get("Time", ""))
            start_s = end_s
            status = next((cells[name].upper() for name in STATUS if cells.get(name)), POINT)
            key = (video, subject, code)
            if status == START:
                began[key] = where, end_s
                continue
            if status == STOP:
                if key not in began:
                    raise LabelsError(source.path, f"{where}: {code!r} stops, but did not start")
                start_s = began.pop(key)[1]
        examples.append(
            make_example(
                source,
                where,
                video=video,
                label=code,
                group=cells.get("Observation id", ""),
                start_s=start_s,
                end_s=end_s,
                attributes=[
                    *_attributes(subject),
                    *((mine, cells.get(theirs, "")) for theirs, mine in NOTES.items()),
                ],
            )
        )
    for (_, _, code), (where, _) in began.items():
        raise LabelsError(source.path, f"{where}: the state {code!r} does not end")
    return examples

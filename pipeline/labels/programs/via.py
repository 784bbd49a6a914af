"""Read the projects of VIA 3, the VGG Image Annotator for video."""

from __future__ import annotations

from collections.abc import Iterator

from touchline.pipeline.labels.parsed import JsonValue
from touchline.pipeline.labels.source import LabelSource, footage_in, make_example
from touchline.pipeline.types import Example


def is_via(source: LabelSource) -> bool:
    """Recognise a project of VIA 3 by its parts."""
    if source.kind != "json":
        return False
    return all(source.json.has(part) for part in ("attribute", "file", "view", "metadata"))


def read_via(source: LabelSource) -> list[Example]:
    """Read temporal segments, and moments without a region; regions in the picture are skipped.

    The class is the value of the first attribute that the segment has. Others are attributes.

    Raises:
        LabelsError: A segment has no value, or refers to a file that is not there.
    """
    return [e for _, row in source.json["metadata"].members() for e in _segment(source, row)]


def _segment(source: LabelSource, row: JsonValue) -> Iterator[Example]:
    times = [value.number() for value in row["z"].elements()]
    if row["xy"].elements() or not times:
        return
    files = source.json["view"][_key(row["vid"])]["fid_list"].elements()
    if len(files) != 1:
        raise row["vid"].error(f"its view shows {len(files)} files. Touchline reads views of one.")
    name = source.json["file"][_key(files[0])]["fname"].text()
    values = list(_values(source, row["av"]))
    if not values:
        raise row["av"].error("the segment has no value. Give it one in VIA, or delete it.")
    for start_s, end_s in zip(times[::2], times[1::2] or times, strict=False):
        yield make_example(
            source,
            row.where,
            video=footage_in(source, name),
            label=values[0][1],
            start_s=start_s,
            end_s=end_s,
            attributes=values[1:],
        )


def _key(value: JsonValue) -> str:
    """A key, which programs also write as a number."""
    return str(value.value) if isinstance(value.value, int) else value.text()


def _values(source: LabelSource, given: JsonValue) -> Iterator[tuple[str, str]]:
    """The names of the attributes of a segment and their values, in plain words."""
    attributes = source.json["attribute"]
    for key, value in sorted(given.members(), key=lambda member: member[0]):
        if not value.text():
            continue
        attribute = attributes[key]
        options = attribute["options"] if attribute.has("options") else attribute
        chosen = [
            options[one].text() if options.has(one) and attribute.has("options") else one
            for one in value.text().split(",")
        ]
        yield attribute["aname"].text(), ", ".join(chosen)

"""Read labels from plain lines that begin with a time, as people write comments and notes."""

from __future__ import annotations

import re

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.source import LabelSource, footage_beside, make_example
from touchline.pipeline.labels.times import TimeReader
from touchline.pipeline.types import Example

TIME = r"\d{1,3}(?::\d\d){1,3}(?:[;.,]\d+(?![\d:]))?"

# "12:34 goal", "[0:12:34] - goal", "12:34-12:40: goal", "1. 12:34 goal".
LINE = re.compile(
    rf"(?:(?:[-*•]|\d+[.)])\s*)?[\[(]?({TIME})[\])]?"
    rf"(?:\s*(?:-|–|—|to)\s*[\[(]?({TIME})[\])]?)?"
    r"(?:\s*[-–—:|]\s*|\s+)(\S.*)"
)
SHARE_OF_LINES = 0.5
"""A text is a list of times if more than this share of its lines begins with one."""


def is_time_list(source: LabelSource) -> bool:
    """Recognise a list by the times at the start of its lines. Subtitles are none."""
    if source.kind != "text" or "-->" in source.text:
        return False
    lines = [line for line in source.text.splitlines() if line.strip()]
    return sum(bool(LINE.fullmatch(line.strip())) for line in lines) > SHARE_OF_LINES * len(lines)


def read_time_list(source: LabelSource) -> list[Example]:
    """Read each line as a moment, or with two times as an interval.

    The footage is the one video that the source names, or the video with the name of the file.

    Raises:
        LabelsError: A line does not begin with a time.
    """
    video = footage_beside(source)
    times = TimeReader(source)
    examples = []
    for number, line in enumerate(source.text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise LabelsError(
                source.path,
                f"{where}: no time at its start. Write it as 12:34 goal, or remove the line.",
            )
        start_s = times.seconds(where, match[1].replace(",", "."), video)
        end_s = times.seconds(where, (match[2] or match[1]).replace(",", "."), video)
        examples.append(
            make_example(source, where, video=video, label=match[3], start_s=start_s, end_s=end_s)
        )
    return examples

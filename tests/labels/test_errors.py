"""Label files that are wrong, damaged or hostile: refused with the place, never a crash."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_samples import SAMPLES, save

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import read_labels

BILLION_LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotations><meta><source>&b;</source></meta></annotations>
"""


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("soccernet", '"2500"', '"soon"', r"\$\.annotations\[0\]\.position is 'soon'"),
        ("soccernet", '"2500"', "-3", r"\$\.annotations\[0\]\.position is -3"),
        ("soccernet", '"2500"', "NaN", r"\$\.annotations\[0\]\.position is nan"),
        ("soccernet", '"2500"', "true", r"position: true instead of a number"),
        ("soccernet", '"2500"', "9" * 400, r"\$\.annotations\[0\]\.position is 9+; it must be a"),
        ("soccernet", '"1 - 00:02"', '"00:02"', r"annotations\[0\]\.gameTime: .*the half"),
        (
            "soccernet",
            '"label": "Goal"',
            '"lable": "Goal"',
            r"annotations\[0\]: no 'label' here. Did you mean 'lable'",
        ),
        ("soccernet", '"label": "Goal"', '"label": " "', r"annotations\[0\]: the label is empty"),
        ("soccernet", "not shown", "hidden", r"annotations\[1\]\.visibility: 'hidden'"),
        (
            "soccernet",
            '"annotations": [',
            '"annotations": [3,',
            r"annotations\[0\]: 3 instead of an object",
        ),
        ("activitynet", "[2.0, 6.0]", "[6.0, 2.0]", r"annotations\[0\]: the end 2 s is before 6 s"),
        ("activitynet", "[2.0, 6.0]", "[2.0]", r"annotations\[0\]\.segment: 1 numbers"),
        ("activitynet", "[2.0, 6.0]", '"2-6"', r'segment: "2-6" instead of a list'),
        (
            "activitynet",
            '"label": "goal"',
            '"label": 5',
            r"annotations\[0\]\.label: 5 instead of a text",
        ),
        (
            "activitynet",
            '"database"',
            '"date"',
            r"\$: the keys version, date: no known label format",
        ),
        (
            "activitynet",
            '"subset"',
            '"duration": 1, "subset"',
            r"\$\.database\.\S+: the key 'duration' is there twice",
        ),
        (
            "label-studio",
            '"timelinelabels": ["card"]',
            '"x": 1',
            r"result\[2\]\.value: a range without",
        ),
        (
            "label-studio",
            '["goal"]',
            "[]",
            r"result\[0\]\.value: a range without a label",
        ),
        ("activitynet", "}}}", "}}", "line 4: the JSON ends too early"),
        ("label-studio", '"start": 51', '"start": 0', r"ranges\[0\]\.start: 0; .* frames from 1"),
        ("label-studio", '"fps": 25', '"fps": 0', r"\$\[0\]\.data\.fps: 0 frames per second"),
        (
            "label-studio",
            '"was_cancelled": false',
            '"was_cancelled": "false"',
            r'annotations\[0\]\.was_cancelled: "false" instead of true or false',
        ),
        ("label-studio", '"end": 150', '"end": 20', r"ranges\[0\]: the end 0.8 s is before 2 s"),
        ("label-studio", '"data"', '"annotator": 1, "no"', r"\$\[0\]: no 'data' here.*JSON-MIN"),
        ("label-studio", '"annotations"', '"predictions"', r"\$\[0\]: only predictions"),
        ("cvat", 'frame="50"', 'frame="x"', "line 6: frame is 'x'"),
        ("cvat", ' frame="50"', "", "line 6: <box> has no attribute 'frame'"),
        ("cvat", 'label="goal"', "", "line 5: <track> has no attribute 'label'"),
        ("cvat", "<source>match.mp4</source>", "", "line 2: no <source>"),
        ("cvat", "</track>\n</ann", "</ann", "line 13: not XML"),
        ("cvat", "<version>", '<image id="0"/><version>', "line 3: exported as 'CVAT for images'"),
        ("cvat", "<annotations>", "<frames>", "line 14: not XML"),
        ("elan", '"2000"', '"-1"', "line 9: TIME_VALUE is '-1'"),
        ("elan", ' TIME_VALUE="2000"', "", "line 9: the time slot 'ts1' has no time"),
        ("elan", 'REF1="ts1"', 'REF1="ts9"', "line 15: there is no time slot 'ts9'"),
        ("elan", '"milliseconds"', '"PAL-frames"', "line 3: times are in PAL-frames"),
        ("elan", '"6000"', '"1000"', "line 15: the end 1 s is before 2 s"),
    ],
)
def test_an_error_names_the_line_or_the_json_path(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    text = SAMPLES[name]
    assert old in text
    path = save(tmp_path, text.replace(old, new, 1))
    with pytest.raises(LabelsError, match=message) as raised:
        read_labels(path, rate_hz=None if name == "label-studio" else 25)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_dtd_is_refused_so_that_no_entity_is_ever_expanded(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="line 2: a DTD"):
        read_labels(save(tmp_path, BILLION_LAUGHS))
    secret = save(tmp_path, "secret", "secret.txt")
    external = (
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]><annotations>&e;</annotations>'
    )
    with pytest.raises(LabelsError, match="line 1: a DTD"):
        read_labels(save(tmp_path, external))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "<a>" * 100_000, "{}", "[3]"])
def test_nonsense_is_refused_and_does_not_crash(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabelsError):
        read_labels(save(tmp_path, text))


@pytest.mark.parametrize("name", SAMPLES)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    raw = bytearray(SAMPLES[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=6))
    path = save(tmp_path, bytes(raw))
    with contextlib.suppress(LabelsError):
        read_labels(path, rate_hz=25, allow_empty=True)

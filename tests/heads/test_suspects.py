"""Labels that held-out answers disagree with: which, in which order, and as files to open."""

import csv
from pathlib import Path

import numpy as np
import pytest
from train_material import coloured, write_footage

from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.heads.suspects import Suspect, find_suspects, suspects_text
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.report.suspects_page import write_suspects_page
from touchline.pipeline.types import Example

LABELS = ("background", "goal", "card")


def answered(rows, *, multi_label=False, judged=None):
    """Clips of five seconds as (label, probabilities), or (labels, probabilities)."""
    examples, targets = [], np.zeros((len(rows), 3), np.float32)
    for n, (label, _) in enumerate(rows):
        examples.append(Example(Path("/v") / f"{n}.mp4", str(label), f"m{n}", 5.0 * n, 5.0 * n + 5))
        for name in (label,) if isinstance(label, str) else label:
            targets[n, LABELS.index(name)] = 1
    probs = np.array([p for _, p in rows])
    return HeldOut(
        tuple(examples),
        LABELS,
        probs,
        targets,
        np.ones(len(rows), bool) if judged is None else np.array(judged),
        multi_label,
    )


def test_wrong_answers_are_listed_and_the_most_confident_disagreement_is_first():
    held = answered(
        [
            ("goal", (0.1, 0.8, 0.1)),
            ("goal", (0.1, 0.4, 0.5)),
            ("background", (0.2, 0.7, 0.1)),
            ("card", (0.9, 0.1, 0.0)),
        ]
    )
    found = find_suspects(held)
    assert [s.example.path.name for s in found] == ["3.mp4", "2.mp4", "1.mp4"]
    assert [(s.label, s.predicted) for s in found] == [
        ("card", "background"),
        ("background", "goal"),
        ("goal", "card"),
    ]
    assert [(s.label_prob, s.predicted_prob) for s in found] == [(0.0, 0.9), (0.2, 0.7), (0.4, 0.5)]
    assert [s.reason for s in found] == [
        "event not seen",
        "event without a label?",
        "another class?",
    ]


def test_clips_that_are_not_judged_are_no_suspects():
    rows = [("background", (0.0, 1.0, 0.0)), ("goal", (0.0, 0.0, 1.0))]
    found = find_suspects(answered(rows, judged=[False, True]))
    assert [s.label for s in found] == ["goal"]


def test_independent_classes_are_suspected_one_by_one():
    held = answered(
        [(("goal", "card"), (0.0, 0.9, 0.2)), (("card",), (0.0, 0.7, 0.6))], multi_label=True
    )
    found = find_suspects(held)
    assert [(s.example.path.name, s.label, s.predicted) for s in found] == [
        ("0.mp4", "card", "background"),
        ("1.mp4", "background", "goal"),
    ]
    assert found[1].predicted_prob == pytest.approx(0.7)
    assert found[1].label_prob == pytest.approx(0.3)


def test_the_csv_has_the_columns_of_labels_and_can_be_read_as_labels(tmp_path):
    (tmp_path / "clips").mkdir()
    whole = Example(tmp_path / "clips" / "a.mp4", "=goal", "final, 2nd")
    part = Example(tmp_path / "clips" / "b.mp4", "card", "cup", 61.25 + 1e-9, 64.5)
    suspects = [
        Suspect(whole, "=goal", "card", 0.1, 0.75),
        Suspect(part, "card", "=goal", 0.3, 0.6),
    ]
    out = tmp_path / "run" / "suspects.csv"
    out.parent.mkdir()
    out.write_text(suspects_text(suspects, out.parent), encoding="utf-8")
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "video",
        "label",
        "start_s",
        "end_s",
        "group",
        "predicted",
        "label_prob",
        "predicted_prob",
        "reason",
    ]
    assert (rows[1]["start_s"], rows[1]["end_s"]) == ("61.25", "64.5")
    assert rows[0]["label_prob"] == "0.1000"
    assert rows[0]["predicted_prob"] == "0.7500"
    assert rows[0]["predicted"] == "card"
    read = read_labels(out)
    assert [(e.path.resolve(), e.label, e.group, e.start_s, e.end_s) for e in read] == [
        (whole.path, "=goal", "final, 2nd", None, None),
        (part.path, "card", "cup", 61.25, 64.5),
    ]


def test_the_page_shows_the_middle_of_each_clip_and_escapes_names(tmp_path):
    video = tmp_path / "match <1>.mkv"
    pictures = (
        coloured("blue", 20, seed=0) + coloured("red", 8, seed=0) + coloured("blue", 20, seed=0)
    )
    write_footage(video, pictures)
    red = Example(video, "goal <b>", "m", 5.0, 7.0)
    gone = Example(tmp_path / "gone.mkv", "card", "m")
    page = write_suspects_page(
        [Suspect(red, "goal <b>", "card", 0.1, 0.8), Suspect(gone, "card", "goal <b>", 0.2, 0.7)],
        tmp_path / "suspects.html",
    )
    html = page.read_text(encoding="utf-8")
    assert html.count('<img src="data:image/jpeg;base64,') == 1
    assert html.count("no picture") == 1
    assert "goal &lt;b&gt;" in html
    assert "goal <b>" not in html
    assert "match &lt;1&gt;.mkv" in html
    assert "0:00:05.000 to 0:00:07.000" in html
    assert picture_colour(html)[0] > picture_colour(html)[2] + 80  # the red second, not the blue


def picture_colour(html):
    """Mean colour (3,) of the first picture of a page."""
    import base64
    import io

    from PIL import Image

    content = html.split("data:image/jpeg;base64,")[1].split('"')[0]
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    return np.asarray(image.convert("RGB"), dtype=float).mean(axis=(0, 1))

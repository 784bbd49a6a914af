"""The metric of player-centric spotting, by hand and against a plain count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from label_samples import PLAYER_SPOTTING, save

from touchline.models.errors import LabelsError
from touchline.pipeline.evaluation.evaluate import evaluate_events
from touchline.pipeline.evaluation.event_sets import pair_videos, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.evaluation.players import player_f1
from touchline.pipeline.labels.read import label_texts, labelled_videos, read_labels
from touchline.pipeline.types import Event, Example


def action(frame: int, team: str, jersey: str, label: str, score: float = 1.0) -> Event:
    time_s = frame / 25
    return Event(label, time_s, time_s, time_s, score, (("team", team), ("jersey", jersey)))


def test_f1_by_hand() -> None:
    truth = {
        "a": [action(100, "left", "7", "pass"), action(200, "left", "7", "pass"),
              action(300, "right", "7", "pass")],
        "b": [action(100, "left", "1", "shot")],
    }  # fmt: skip
    predictions = {
        "a": [
            action(112, "left", "7", "pass", 0.9),  # hit: 12 frames away
            action(213, "left", "7", "pass", 0.8),  # 13 frames away
            action(300, "left", "7", "pass", 0.7),  # of the other team
            action(301, "right", "8", "pass", 0.7),  # another jersey
            action(300, "right", "7", "pass", 0.15),  # hit, at the least confidence
            action(200, "left", "7", "pass", 0.149),  # does not count
            action(100, "left", "7", "cross", 0.9),  # not labelled: in no class of the mean
        ],
        "b": [action(100, "left", "1", "shot", 0.5), action(101, "left", "1", "shot", 0.9)],
    }
    metric = player_f1(truth, predictions)
    assert metric.labels == ("pass", "shot")
    # pass: 2 hits, 5 predictions, 3 labels; shot: 1 hit, 2 predictions, 1 label.
    assert metric.per_class()[0, :, 0] == pytest.approx([4 / 8, 2 / 3])
    assert metric.value() == pytest.approx((4 / 8 + 2 / 3) / 2)


def plain_f1(truth: dict[str, list[Event]], predictions: dict[str, list[Event]]) -> float:
    """The same by counting, one prediction at a time."""
    f1 = []
    for label in sorted({e.label for events in truth.values() for e in events}):
        hits = shown = labelled = 0
        for video in truth:
            free = [e for e in truth[video] if e.label == label]
            labelled += len(free)
            mine = [e for e in predictions[video] if e.label == label and e.score >= 0.15]
            shown += len(mine)
            for guess in sorted(mine, key=lambda e: -e.score):
                near = [
                    e for e in free
                    if e.attributes == guess.attributes
                    and abs(round(e.peak_s * 25) - round(guess.peak_s * 25)) <= 12
                ]  # fmt: skip
                if near:
                    free.remove(min(near, key=lambda e: abs(e.peak_s - guess.peak_s)))
                    hits += 1
        f1.append(2 * hits / (shown + labelled))
    return float(np.mean(f1))


def test_f1_is_that_of_a_plain_count() -> None:
    rng = np.random.default_rng(5)

    def draw(n: int) -> list[Event]:
        return [
            action(int(rng.integers(2000)), str(rng.choice(["left", "right"])),
                   str(rng.integers(3)), str(rng.choice(["pass", "drive", "shot"])),
                   float(rng.uniform(0, 1)))
            for _ in range(n)
        ]  # fmt: skip

    truth = {"a": draw(120), "b": draw(80)}
    predictions = {"a": draw(200), "b": draw(150)}
    assert 0 < player_f1(truth, predictions).value() < 1
    assert player_f1(truth, predictions).value() == pytest.approx(plain_f1(truth, predictions))


def test_the_challenges_files_are_read_and_measured(tmp_path: Path) -> None:
    path = save(tmp_path, PLAYER_SPOTTING, "labels.json")
    first, second = read_labels(path)
    assert (first.label, first.start_s, first.group, first.visible) == ("pass", 2.0, "game_1", True)
    assert first.attributes == (("team", "left"), ("jersey", "81"))
    assert (second.label, second.visible) == ("block", False)
    assert second.attributes == (("team", "right"), ("replay", "yes"))
    assert [video.path.name for video in labelled_videos(path)] == ["game_1_H1", "game_1_H2"]
    out = tmp_path / "predictions.json"
    text = label_texts([first, second], out, format_name="player-spotting")[out]
    assert "[\n        50,\n        0,\n        81,\n        2,\n        1.0\n      ]" in text
    save(tmp_path, text, "predictions.json")
    truth = read_event_set(path)
    paired = pair_videos(truth, read_event_set(out))
    options = EvaluateOptions(metrics=("player-f1",), resamples=0)
    evaluation = evaluate_events(truth, paired.predictions, options)
    assert evaluation.metrics[0].headline.value == 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[50, 0, 81, 2, 1, 0]", "[50, 0, 81]", r"game_1_H1\[0\]: 3 values; it must be"),
        ("[50, 0, 81, 2, 1, 0]", "[50, 2, 81, 2, 1, 0]", r"\[0\]\[1\]: 2; it must be 0 \(left\)"),
        ("[50, 0, 81, 2, 1, 0]", "[50, 0, 81, 9, 1, 0]", r"\[0\]\[3\]: 9; the classes are 0 to 8"),
        ("[50, 0, 81, 2, 1, 0]", "[50, 0, 81, 2, 7]", r"\[0\]\[4\] is 7; it must be in \[0, 1\]"),
        ("[50, 0, 81, 2, 1, 0]", "[-5, 0, 81, 2, 1]", r"\[0\]\[0\] is -5; it must be 0 or more"),
        ("[50, 0, 81, 2, 1, 0]", "[5, 0, null, 2, 1]", r"\[0\]\[2\]: null instead of a number"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        read_labels(save(tmp_path, PLAYER_SPOTTING.replace(old, new), "labels.json"))


def test_a_team_that_is_neither_left_nor_right_is_refused(tmp_path: Path) -> None:
    other = Example(tmp_path / "a.mp4", "pass", "g", 1.0, 1.0, attributes=(("team", "Ajax"),))
    with pytest.raises(ValueError, match=r"the team is 'Ajax'; .* left and right only"):
        label_texts([other], tmp_path / "out.json", format_name="player-spotting")

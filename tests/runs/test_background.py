"""Hard negatives: the stretches that an earlier model takes for events."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage_made import write_video
from train_material import SPEC, coloured, grey_ramp, tiny_model, write_footage

from touchline.models.errors import FootageError
from touchline.pipeline.clips.load import load_clips
from touchline.pipeline.distributed import World
from touchline.pipeline.labels.split import Split
from touchline.pipeline.runs import background
from touchline.pipeline.runs.background import (
    BackgroundPlan,
    hardest,
    verified_background,
    with_background,
)
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.types import Example


def stretch(start_s: float) -> Example:
    return Example(Path("match.mp4"), "background", "match", start_s, start_s + 1)


@pytest.fixture
def model_sees_events_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier model for which an event is the likelier, the later the stretch."""

    def scores(model: Any, examples: list[Example], options: ClipOptions) -> ClipScores:
        read = tuple(e for e in examples if e.path.name != "damaged.mp4")
        assert len(examples) - len(read) <= options.max_bad
        return ClipScores(read, np.zeros((len(read), 1, 3), np.float32), np.zeros(len(read), int))

    def probs(model: Any, scored: ClipScores) -> np.ndarray:
        event = np.array([e.start_s or 0.0 for e in scored.examples]) / 100
        return np.stack([1 - event, event / 4, 3 * event / 4], axis=1)

    monkeypatch.setattr(background, "score_clips", scores)
    monkeypatch.setattr(background, "clip_probs", probs)


@pytest.mark.usefixtures("model_sees_events_late")
def test_half_of_the_negatives_are_the_hardest_and_half_stay() -> None:
    every = [stretch(float(k)) for k in range(20)]
    random = [every[k] for k in (1, 18, 5, 7)]
    chosen = hardest(random, every, tiny_model())
    assert [e.start_s for e in chosen] == [19, 18, 1, 5]
    damaged = [replace(stretch(99.0), path=Path("damaged.mp4"))]
    assert hardest(random, damaged + every, tiny_model()) == chosen


@pytest.mark.usefixtures("model_sees_events_late")
def test_hard_negatives_are_sought_in_training_footage_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_footage(tmp_path / f"{name}.mkv", grey_ramp(25)[:1] * 80)  # 20 s
    a, b = (Example(tmp_path / f"{n}.mkv", "goal", n, 9.0, 10.0) for n in ("a", "b"))
    split = Split(train=(a,), val=(b,))
    plan = BackgroundPlan(ratio=4.0, margin_s=1.0, earlier=tiny_model())
    mined = with_background(split, plan, window_s=1.0, device="cpu")
    plain = with_background(split, replace(plan, earlier=None), window_s=1.0, device="cpu")
    starts = sorted(e.start_s or 0.0 for e in mined.train if e.label == "background")
    assert len(starts) == 4
    # 11 to 20 s hold nine stretches side by side, the hardest two at the end.
    assert starts[-2:] == pytest.approx([18.0, 19.0])
    assert mined.val == plain.val
    assert mined.train != plain.train


@pytest.mark.usefixtures("model_sees_events_late")
def test_all_processes_train_on_the_hard_negatives_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TwoProcesses(World):
        def agreed(self, mine: object) -> object:
            return [stretch(77.0)]

    write_footage(tmp_path / "a.mkv", grey_ramp(25)[:1] * 80)
    event = Example(tmp_path / "a.mkv", "goal", "a", 9.0, 10.0)
    monkeypatch.setattr("touchline.pipeline.runs.background.current_world", TwoProcesses)
    plan = BackgroundPlan(margin_s=1.0, earlier=tiny_model())
    mined = with_background(Split(train=(event,), val=()), plan, window_s=1.0, device="cpu")
    assert mined.train == (event, stretch(77.0))


def test_unlabelled_time_is_background_only_where_labels_say_verified(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_footage(tmp_path / f"{name}.mkv", grey_ramp(25)[:1] * 80)  # 20 s
    a, b = (Example(tmp_path / f"{n}.mkv", "goal", n, 9.0, 10.0) for n in ("a", "b"))
    plan = BackgroundPlan(ratio=20.0, margin_s=1.0)
    verified = Example(a.path, "verified", "a", 12.0, 16.0)

    def starts(path: Path, *told: Example) -> list[float | None]:
        found = with_background(
            Split(train=(a, b), val=()), replace(plan, verified=told), window_s=1.0, device="cpu"
        )
        return [e.start_s for e in found.train if e.label == "background" and e.path == path]

    # 0 to 8 s and 11 to 20 s, tiled by the second.
    assert len(starts(a.path)) == len(starts(b.path)) == 17
    assert starts(a.path, verified) == [12.0, 13.0, 14.0, 15.0]
    assert starts(b.path, verified) == []
    whole = Example(b.path, "verified", "b")
    assert len(starts(b.path, verified, whole)) == 17


def test_verified_time_without_labels_is_eventless(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_footage(path, grey_ramp(25)[:1] * 80)  # 20 s
    seen = Example(path, "goal", "a", 9.0, 10.0)
    hidden = Example(path, "goal", "a", 16.0, 17.0, visible=False)
    told = [Example(path, "verified", "a", 5.0, 30.0)]
    found = verified_background([seen, hidden], told, margin_s=1.0, least_s=1.5)
    # From the hidden event's 18 s to the end of the footage at 20 s.
    assert [(e.start_s, e.end_s) for e in found] == [(5, 8), (11, 15), (18, 20)]
    assert {(e.label, e.group) for e in found} == {("background", "a")}
    longer = verified_background([seen, hidden], told, margin_s=1.0, least_s=3.5)
    assert [(e.start_s, e.end_s) for e in longer] == [(11, 15)]
    assert verified_background([seen, hidden], [], margin_s=1.0, least_s=1.5) == []


def test_hard_negatives_without_unlabelled_time_are_refused(tmp_path: Path) -> None:
    clip = Example(tmp_path / "a.mkv", "goal", "a")
    plan = BackgroundPlan(earlier=tiny_model())
    with pytest.raises(ValueError, match="Leave out --hard-negatives"):
        with_background(Split(train=(clip,), val=()), plan, window_s=1.0, device="cpu")


@pytest.fixture
def long_sound(tmp_path: Path) -> Path:
    """Pictures from 2 to 12 s, sound from 0 to 16 s."""
    return write_video(
        tmp_path / "sound.mp4",
        indices=range(250),
        stamps=[2 + Fraction(k, 25) for k in range(250)],
        time_base=Fraction(1, 25),
        audio_from=Fraction(0),
        audio_s=16.0,
    )


def test_negatives_lie_where_there_are_pictures(long_sound: Path) -> None:
    goals = tuple(Example(long_sound, "goal", "m", t, t + 0.5) for t in (4.0, 6.0, 8.0, 10.0))
    for plan in (
        BackgroundPlan(margin_s=0.2, ratio=9.0),
        BackgroundPlan(ratio=0.0, footage=(long_sound,)),
    ):
        split = with_background(Split(goals, ()), plan, window_s=SPEC.duration_s, device="cpu")
        negatives = [e for e in split.train if e.label == "background"]
        assert len(negatives) >= 4
        assert all(2 <= e.start_s < e.end_s <= 12 for e in negatives if e.start_s is not None)
        assert load_clips(split.train, SPEC).problems == []


def test_negatives_of_truncated_footage_never_stop_a_training(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    write_footage(whole, coloured("red", 120, seed=0))  # 30 s
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    goal = Example(cut, "goal", "m", 1.0, 2.0)
    plan = BackgroundPlan(footage=(whole, cut), ratio=40.0, margin_s=0.0)
    split = with_background(Split((goal,), ()), plan, window_s=SPEC.duration_s, device="cpu")
    loaded = load_clips(split.train, SPEC)
    read = [clip.example for clip in loaded.clips if clip.example.path == cut]
    assert goal in read
    assert all((e.start_s or 0) < 15 for e in read)
    (problem,) = loaded.problems
    assert problem.startswith(f"{cut}: ")
    with pytest.raises(FootageError, match="past the end"):
        load_clips([*split.train, replace(goal, start_s=25.0, end_s=26.0)], SPEC)

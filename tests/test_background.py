"""Hard negatives: the stretches that an earlier model takes for events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_material import grey_ramp, tiny_model, write_footage

from touchline.pipeline import background
from touchline.pipeline.background import BackgroundPlan, hardest, with_background
from touchline.pipeline.labels import Split
from touchline.pipeline.score_clips import ClipOptions, ClipScores
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

"""The demonstration: how it judges, and that pretraining is worth it on matches never seen."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from train_material import tiny_backbone, write_clips

from touchline.models import catalog
from touchline.models.networks.motion_net import SMALL
from touchline.pipeline.demonstration import demo
from touchline.pipeline.demonstration.court import PLAYS, Match
from touchline.pipeline.demonstration.demo import (
    NUM_FRAMES,
    DemoFootage,
    middle_accuracy,
    run_arm,
    run_demo,
)
from touchline.pipeline.demonstration.options import DemoOptions
from touchline.pipeline.runs import run
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.run import METRICS_FILE, SNAPSHOT_FILE
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.snapshot import KeepState
from touchline.pipeline.types import Event, ScoreTrack


def play(label, middle_s, score=1.0):
    return Event(label, middle_s - 1, middle_s + 1, middle_s, score)


def test_middle_accuracy_asks_the_window_around_each_middle():
    track = ScoreTrack(
        labels=("background", "block", "dunk"),
        start_s=np.array([0.0, 2.0, 4.0]),
        end_s=np.array([2.0, 4.0, 6.0]),
        probs=np.array([[0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.1, 0.3, 0.6]], np.float32),
        damaged=np.zeros(3, bool),
    )
    assert middle_accuracy((play("block", 1.2), play("dunk", 3.1)), track) == 0.5
    assert middle_accuracy((play("dunk", 5.0),), track) == 1.0


def test_a_window_that_is_shifted_in_training_still_shows_the_whole_play():
    match = Match(PLAYS * 10, np.random.default_rng(0))
    for _ in match.frames():
        pass
    longest_s = max(event.end_s - event.start_s for event in match.events)
    shift_s = (NUM_FRAMES // 8) / SMALL.rate_hz
    assert NUM_FRAMES / SMALL.rate_hz >= longest_s + 2 * shift_s


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_demonstration_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.BACKBONES, "tiny", tiny_backbone)
    # Snapshots after every epoch, rather than after a minute.
    monkeypatch.setattr(run, "KeepState", partial(KeepState, every_s=0.0))
    monkeypatch.setattr(demo, "calibrated", lambda model, plays: model)
    labels = write_clips(tmp_path, ("background", "blue", "red"), groups=2, per=1)
    unseen = tmp_path / "red_0_0.mkv"
    footage = DemoFootage(labels, (), unseen, (play("red", 0.5),), unseen_s=1.0, num_plays=4)
    options = TrainOptions(epochs=2, batch_size=4, augmentation=None)
    job = TrainJob(labels, "tiny", val_share=0.0, options=options)

    def interrupt(progress):
        if (tmp_path / "out" / "scratch" / SNAPSHOT_FILE).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_arm("scratch", job, footage, tmp_path / "out", on_progress=interrupt)
    # Another number of seconds, as the first arm takes another time when it is repeated.
    again = replace(job, options=replace(options, max_seconds=600.0))
    run_arm("scratch", again, footage, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "scratch" / METRICS_FILE).read_text())
    assert len(metrics["history"]) == 2
    assert not (tmp_path / "out" / "scratch" / SNAPSHOT_FILE).exists()


# Three demonstrations of two to four minutes each, on a machine that may be five times slower.
@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_over_three_seeds_most_plays_are_found_and_scratch_finds_next_to_none(tmp_path, capsys):
    results = [run_demo(tmp_path / str(seed), DemoOptions(seed=seed)) for seed in range(3)]
    with capsys.disabled():
        for seed, result in enumerate(results):
            for arm in (result.transfer, result.scratch):
                print(
                    f"\nseed {seed}, {arm.name}: {arm.found} found, {arm.false} false, "
                    f"mAP {arm.mean_average_precision:.3f}, {arm.seconds:.0f} s of training"
                )
    found = [result.transfer.found for result in results]
    false = [result.transfer.false for result in results]
    assert np.mean(found) >= 16
    assert np.mean(false) <= 3
    for result in results:
        assert result.transfer.found >= 13
        assert result.transfer.mean_average_precision > 0.85
        assert result.scratch.found <= 6
        assert result.scratch.mean_average_precision < 0.2

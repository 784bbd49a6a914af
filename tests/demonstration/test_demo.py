"""The demonstration: how it judges, and that pretraining is worth it on matches never seen."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from train_material import tiny_backbone, write_clips

from touchline.models import catalog
from touchline.pipeline.demonstration.demo import (
    DemoFootage,
    middle_accuracy,
    pair_events,
    run_arm,
    run_demo,
)
from touchline.pipeline.demonstration.options import DemoOptions
from touchline.pipeline.runs import run
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.run import SNAPSHOT_FILE
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.snapshot import KeepState
from touchline.pipeline.types import Event, ScoreTrack


def play(label, middle_s, score=1.0):
    return Event(label, middle_s - 1, middle_s + 1, middle_s, score)


def test_a_found_event_goes_to_the_nearest_true_one_of_its_class_within_a_second():
    truth = (play("dunk", 10), play("dunk", 12), play("block", 30))
    found = (play("dunk", 11.4, 0.9), play("dunk", 11.2, 0.8), play("block", 31.5, 0.7))
    assert pair_events(truth, found) == (
        (truth[0], None),
        (None, found[1]),
        (truth[1], found[0]),
        (truth[2], None),
        (None, found[2]),
    )


def test_a_class_mixed_up_is_one_missed_and_one_false():
    truth, found = (play("dunk", 10),), (play("block", 10, 0.6),)
    assert set(pair_events(truth, found)) == {(truth[0], None), (None, found[0])}


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


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_demonstration_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.BACKBONES, "tiny", tiny_backbone)
    # Snapshots after every epoch, rather than after a minute.
    monkeypatch.setattr(run, "KeepState", partial(KeepState, every_s=0.0))
    labels = write_clips(tmp_path, ("background", "blue", "red"), groups=2, per=1)
    unseen = tmp_path / "red_0_0.mkv"
    footage = DemoFootage(labels, unseen, (play("red", 0.5),), unseen_s=1.0, num_plays=4)
    options = TrainOptions(epochs=2, batch_size=4, augmentation=None)
    job = TrainJob(labels, "tiny", val_share=0.0, options=options)

    def interrupt(progress):
        if (tmp_path / "out" / "scratch" / SNAPSHOT_FILE).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_arm("scratch", job, footage, tmp_path / "out", on_progress=interrupt)
    # Another number of seconds, as the first arm takes another time when it is repeated.
    again = replace(job, options=replace(options, max_seconds=600.0))
    arm = run_arm("scratch", again, footage, tmp_path / "out")
    assert arm.epochs == 2
    assert not (tmp_path / "out" / "scratch" / SNAPSHOT_FILE).exists()


@pytest.mark.slow
def test_over_three_seeds_transfer_finds_more_than_training_from_scratch(tmp_path, capsys):
    transfer, scratch = [], []
    for seed in range(3):
        result = run_demo(tmp_path / str(seed), DemoOptions(seed=seed))
        transfer.append(result.transfer.mean_average_precision)
        scratch.append(result.scratch.mean_average_precision)
    with capsys.disabled():
        print(f"\nspotting mAP at 1 s, seeds 0 to 2: transfer {transfer}, scratch {scratch}")
    assert np.mean(transfer) > np.mean(scratch)
    assert min(transfer) > 0

"""Verified footage: scored as it is, its events in their places, the rest without events."""

from types import SimpleNamespace

import numpy as np
import pytest
import typer
from calibration_material import make_footage, make_season
from typer.testing import CliRunner

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import load_checkpoint
from touchline.models.training_record import TrainingRecord
from touchline.pipeline.calibration.verified import eventless_parts, in_verified, score_verified
from touchline.pipeline.types import Event, Example, ScoreTrack
from touchline.tools.calibrate import calibrate_command


class ShadeScorer:
    """Scores windows of half a second: the probability of a goal is the shade of the picture."""

    model = SimpleNamespace(
        spec=ClipSpec(4, 8.0, 32), labels=("background", "goal"), record=TrainingRecord()
    )

    def score(self, frames):
        frames = list(frames)
        time_s = np.concatenate([chunk.time_s for chunk in frames])[::4]
        goal = np.concatenate([chunk.pixels.mean(axis=(1, 2, 3)) for chunk in frames])[::4] / 255
        probs = np.stack([1 - goal, goal], axis=1).astype(np.float32)
        return ScoreTrack(
            self.model.labels, time_s, time_s + 0.5, probs, np.zeros(len(time_s), bool)
        )


@pytest.fixture
def matches(tmp_path):
    for name, shade in (("dark", 0), ("bright", 255)):
        make_footage(tmp_path / f"{name}.mp4", shade=shade, seconds=10)
    return tmp_path


def example(path, label, start_s=None, end_s=None):
    return Example(path, label, path.stem, start_s, end_s)


def test_stretches_follow_each_other_and_take_their_events_with_them(matches):
    dark, bright = matches / "dark.mp4", matches / "bright.mp4"
    verified = [example(dark, "verified", 2, 5), example(bright, "verified")]
    labels = [
        example(dark, "goal", 3, 4),
        example(dark, "goal", 7, 8),
        example(dark, "background", 2, 3),
        example(bright, "goal", 1, 2),
    ]
    found = score_verified(ShadeScorer(), labels, verified)
    assert found.truth == (Event("goal", 1, 2, 1.5), Event("goal", 4, 5, 4.5))
    assert np.allclose(found.track.start_s, np.arange(26) / 2)
    # Three seconds of the dark match, then ten of the bright one.
    assert found.track.probs[:6, 1].max() < 0.1
    assert found.track.probs[6:, 1].min() > 0.9


def test_a_label_is_verified_if_all_of_it_lies_in_a_stretch_of_its_file(matches):
    dark, bright = matches / "dark.mp4", matches / "bright.mp4"
    verified = [example(dark, "verified", 2, 5)]
    assert in_verified(example(dark, "goal", 2, 5), verified)
    assert not in_verified(example(dark, "goal", 4, 6), verified)
    assert not in_verified(example(bright, "goal", 3, 4), verified)
    assert not in_verified(example(dark, "goal"), verified)
    assert in_verified(example(bright, "goal", 3, 4), [example(bright, "verified")])


def test_parts_without_events_keep_their_distance_and_are_long_enough(matches):
    dark = matches / "dark.mp4"
    labels = [example(dark, "goal", 3, 4), example(dark, "goal", 6, 7)]
    found = score_verified(ShadeScorer(), labels, [example(dark, "verified")])
    parts = eventless_parts(found, margin_s=1.0, least_s=1.5)
    # From 0 to 2 s and from 8 to 10 s; what is between the goals is too short.
    spans = [(track.start_s[0], track.end_s[-1]) for track in parts.values()]
    assert spans == [(0, 2), (8, 10)]
    assert list(parts) == ["verified time from 0 s", "verified time from 8 s"]


@pytest.mark.parametrize("spots", ["", "--spots"])
def test_the_command_takes_fully_labelled_footage_as_it_is(tmp_path, model, spots):
    season = make_season(tmp_path, model)
    make_footage(season / "match_B.mp4", shade=60, seconds=20)
    head = "video,label,start_s,end_s,group\n"
    rows = "match_B.mp4,goal,9,11,B\nmatch_B.mp4,card,14,15,B\n"
    (season / "told.csv").write_text(f"{head}{rows}match_B.mp4,verified,,,B\n")
    clip = "1.mp4,card,,,A2\n"
    (season / "mixed.csv").write_text(f"{head}{rows}{clip}match_B.mp4,verified,,,B\n")
    app = typer.Typer()
    app.command()(calibrate_command)

    def calibrated(labels):
        out = season / "out.safetensors"
        arguments = [season / "model.safetensors", season / labels, "-o", out, *spots.split()]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split()), load_checkpoint(out).record.calibration

    output, evidence = calibrated("told.csv")
    assert "thresholds set on events in verified footage" in output
    assert (evidence.stitched_orders, evidence.thresholds_of) == (0, "events")
    assert evidence.per_class["goal"].positives == 1
    # More than 2 s from a label: 0 to 7 and 17 to 20 s.
    assert evidence.per_class["goal"].hours == pytest.approx(10 / 3600, rel=0.15)
    # A clip outside of verified footage would be lost, so all are stitched.
    output, evidence = calibrated("mixed.csv")
    assert "stitched in 3 orders" in output
    assert evidence.stitched_orders == 3


def test_verified_footage_that_was_trained_on_is_refused(tmp_path, model):
    season = make_season(tmp_path, model)
    make_footage(season / "match_B.mp4", shade=60, seconds=20)
    rows = "video,label,start_s,end_s,group\nmatch_B.mp4,goal,9,11,B\nmatch_B.mp4,verified,,,B\n"
    (season / "told.csv").write_text(rows)
    make_footage(season / "A.mp4", shade=10, seconds=4)  # the model was trained on group A
    app = typer.Typer()
    app.command()(calibrate_command)
    arguments = [season / "model.safetensors", season / "told.csv", "--eventless", season / "A.mp4"]
    before = (season / "model.safetensors").read_bytes()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "trained on A" in str(result.exception)
    assert (season / "model.safetensors").read_bytes() == before

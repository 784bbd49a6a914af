"""Features of a project serve `detect`: nothing is computed twice."""

from dataclasses import replace

import numpy as np
import pytest

from touchline.models.checkpoint import file_digest
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.scoring import feature_track
from touchline.pipeline.scoring.feature_track import FeatureTrack, track_key
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.teaching.learning import Span, learn
from touchline.pipeline.teaching.output import learnt_model, open_trunk

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tmp_path, footage, options):
    """A model taught on the drawn match, whose features lie in `features`."""
    trunk = open_trunk(options)
    scorer = Scorer(trunk, device="cpu", mode="shared")
    track = FeatureTrack(tmp_path / "features", track_key(file_digest(footage), scorer, stream=0))
    track.compute(footage, scorer)
    marks = [Span("m", "c1", 4, 5), Span("m", "c2", 9, 10), Span("m", "c1", 14, 15)]
    learned = learn({"m": track.rows()}, marks, [])
    names = {"c1": "red", "c2": "blue"}
    return learnt_model(trunk, learned, names, learned.thresholds, groups=["match"])


def test_detection_takes_the_features_of_a_project(tmp_path, footage, model, monkeypatch):
    options = DetectOptions(device="cpu", events=EventOptions(spots=True))
    decoded = detect(footage, model, options)
    monkeypatch.setattr(feature_track, "decode", None)  # nothing is decoded any more
    kept = detect(footage, model, replace(options, features=tmp_path / "features"))
    assert [e.label for e in kept.accepted] == ["red", "blue", "red", "blue"]
    assert [e.label for e in decoded.candidates] == [e.label for e in kept.candidates]
    for ours, theirs in zip(kept.candidates, decoded.candidates, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=5e-3)
        assert ours.peak_s == pytest.approx(theirs.peak_s, abs=0.02)
    np.testing.assert_allclose(kept.track.probs, decoded.track.probs, atol=5e-3)
    np.testing.assert_allclose(kept.track.start_s, decoded.track.start_s)
    assert kept.health.codec == decoded.health.codec


def test_detection_keeps_the_features_that_are_missing(tmp_path, footage, model, monkeypatch):
    options = DetectOptions(device="cpu", features=tmp_path / "new")
    first = detect(footage, model, options)
    assert len(first.track.start_s) == 92
    monkeypatch.setattr(feature_track, "decode", None)
    assert detect(footage, model, options).candidates == first.candidates


def test_features_need_a_local_file_and_the_common_decoder(tmp_path, footage, model):
    options = DetectOptions(device="cpu", features=tmp_path / "new", decoder="decord")
    with pytest.raises(ValueError, match="local files and the decoder pyav"):
        detect(footage, model, options)

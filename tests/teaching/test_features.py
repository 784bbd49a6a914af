"""The features of a match on disk: resumed after kills, read while they grow, never all held."""

import itertools
import json
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_footage import write_footage
from studio_material import write_match
from tiny import small_3d_model

from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline.clips.windows import Sampled
from touchline.pipeline.scoring import feature_track as features_module
from touchline.pipeline.scoring.feature_track import FLUSH_ROWS, FeatureTrack, track_key
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.teaching.output import open_trunk

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def scorer(options) -> Scorer:
    return Scorer(open_trunk(options), device="cpu", batch_size=2, mode="shared")


def computed(folder: Path, footage: Path, scorer: Scorer, **more: object) -> FeatureTrack:
    track = FeatureTrack(folder, "key")
    track.compute(footage, scorer, **more)
    return track


def test_a_row_is_what_the_trunk_gives_at_its_time(tmp_path, footage, scorer):
    track = computed(tmp_path / "features", footage, scorer)
    rows = track.rows()
    assert track.complete
    assert rows.features.shape == (96, 3)
    assert rows.features.dtype == np.float16
    assert isinstance(rows.features, np.memmap)
    np.testing.assert_allclose(rows.start_s, np.arange(96) / 4, atol=1e-6)
    np.testing.assert_allclose(rows.end_s - rows.start_s, 0.25, atol=1e-6)
    # 4-5 s is red, 9-10 s is blue, the rest is green.
    red, green, blue = rows.features.astype(np.float32).T
    assert ((red > 0.5) == np.isin(np.arange(96) // 4, (4, 14))).all()
    assert ((blue > 0.5) == np.isin(np.arange(96) // 4, (9, 19))).all()
    assert ((green > 0.5) == (np.maximum(red, blue) < 0.5)).all()
    assert not rows.damaged.any()


class Killed(BaseException):
    """What no handler of the code catches: as if the process had ended here."""


def kill_at(patch: pytest.MonkeyPatch, cut: int) -> None:
    """The process ends before row `cut` is written."""
    write_row = FeatureTrack._write_row

    def write(track, files, row):
        if track.written >= cut:
            raise Killed
        track.written += 1
        write_row(track, files, row)

    def keep_whole_rows(track, piece):
        rows = keep(track, piece)
        track.written = len(rows)
        return rows

    keep = FeatureTrack._keep_whole_rows
    patch.setattr(FeatureTrack, "_keep_whole_rows", keep_whole_rows)
    patch.setattr(FeatureTrack, "_write_row", write)


def three_dimensional() -> Scorer:
    """A trunk that sees the frames around each row, too."""
    return Scorer(small_3d_model(), device="cpu", batch_size=2, mode="shared")


@pytest.mark.parametrize("cuts", [(1,), (10, 11, 15)])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), "3-D"])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, scorer, monkeypatch, cuts, rate):
    if rate == "3-D":
        scorer, rate = three_dimensional(), 25
        assert scorer.margin > 0
    footage = write_footage(tmp_path / "match.mp4", seconds=9, rate=rate, beep_every_s=None)
    whole = computed(tmp_path / "whole", footage, scorer).rows()
    for cut in cuts:
        with monkeypatch.context() as patch:
            kill_at(patch, cut)
            with pytest.raises(Killed):
                computed(tmp_path / "cut", footage, scorer)
        left = FeatureTrack(tmp_path / "cut", "key")
        assert (left.complete, len(left.rows())) == (False, cut)
    track = computed(tmp_path / "cut", footage, scorer)
    rows = track.rows()
    assert track.complete
    np.testing.assert_array_equal(rows.start_s, whole.start_s)
    np.testing.assert_array_equal(rows.end_s, whole.end_s)
    np.testing.assert_allclose(rows.features, whole.features, atol=1e-3)


@pytest.mark.parametrize("lost", [*itertools.product((0, 1, 5), (0, 7, 30), (0, 4))])
def test_files_that_a_kill_cut_at_different_places_are_mended(tmp_path, footage, scorer, lost):
    whole = computed(tmp_path / "features", footage, scorer, stop=lambda: False)
    before = whole.rows().features[:].copy(), whole.rows().start_s
    facts = json.loads((whole.folder / "track.json").read_text())
    (whole.folder / "track.json").write_text(json.dumps(facts | {"rows": None}))
    for name, num_bytes in zip(("features.f16", "times.f64", "damaged.u8"), lost, strict=True):
        path = whole.folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size - num_bytes])
    rows = FeatureTrack(tmp_path / "features", "key").rows()
    assert len(rows) == 96 - max(-(-lost[0] // 6), -(-lost[1] // 16), lost[2])
    again = computed(tmp_path / "features", footage, scorer)
    np.testing.assert_array_equal(again.rows().start_s, before[1])
    np.testing.assert_allclose(again.rows().features, before[0], atol=1e-3)


def test_stopping_keeps_what_there_is_and_readers_see_rows_while_they_come(
    tmp_path, footage, scorer
):
    seen: list[tuple[float, int]] = []
    reader = FeatureTrack(tmp_path / "features", "key")
    track = FeatureTrack(tmp_path / "features", "key")
    count = itertools.count(1)
    done = track.compute(
        footage,
        scorer,
        on_row=lambda end_s: seen.append((end_s, len(reader.rows()))),
        stop=lambda: next(count) >= 70,
    )
    assert not done
    assert [round(4 * end_s) for end_s, _ in seen] == [FLUSH_ROWS, 2 * FLUSH_ROWS]
    assert [n for _, n in seen] == [FLUSH_ROWS, 2 * FLUSH_ROWS]
    assert len(reader.rows()) == 70
    assert track.compute(footage, scorer)
    assert len(reader.rows()) == 96


def test_a_complete_track_is_not_computed_again(tmp_path, footage, scorer, monkeypatch):
    computed(tmp_path / "features", footage, scorer)
    footage.unlink()
    assert len(computed(tmp_path / "features", footage, scorer).rows()) == 96


def test_two_programs_never_write_one_track(tmp_path, footage, scorer):
    first, second = (FeatureTrack(tmp_path / "features", "key") for _ in range(2))
    told = []

    def meanwhile(_: float) -> None:
        with pytest.raises(TouchlineError, match="another program is computing"):
            second.compute(footage, scorer)
        told.append(True)

    assert first.compute(footage, scorer, on_row=meanwhile)
    assert told
    # What the other one finished is not computed again.
    assert second.compute(tmp_path / "none.mp4", scorer)
    assert len(second.rows()) == 96


def test_other_content_or_another_sampling_is_another_track(tmp_path, footage, scorer, options):
    track = computed(tmp_path / "features", footage, scorer)
    faster = Scorer(open_trunk(replace(options, rate_hz=8)), device="cpu", mode="shared")
    keys = {
        track_key("a", scorer, stream=0),
        track_key("b", scorer, stream=0),
        track_key("a", scorer, stream=1),
        track_key("a", faster, stream=0),
    }
    assert len(keys) == 4
    for key in keys:
        other = FeatureTrack(tmp_path / "features", key)
        assert other.folder != track.folder
        assert not other.complete
        assert len(other.rows()) == 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"key": "other", "width": 3}',
        '{"format": "touchline-features-1", "key": "key", "width": "8", "rows": 96}',
        '{"format": "touchline-features-1", "key": "key", "width": 8, "rows": true}',
        '{"format": "touchline-features-1", "key": "key", "width": -1, "rows": 96}',
        '{"format": "touchline-features-1", "key": "key", "width": 8, "rows": 96, "more": 1}',
    ],
)
def test_damaged_facts_start_the_track_anew(tmp_path, footage, scorer, content):
    track = computed(tmp_path / "features", footage, scorer)
    (track.folder / "track.json").write_text(content)
    again = FeatureTrack(tmp_path / "features", "key")
    assert not again.complete
    assert len(again.rows()) == 0
    again.compute(footage, scorer)
    assert len(again.rows()) == 96


@pytest.mark.parametrize("name", ["features.f16", "times.f64", "damaged.u8"])
def test_a_complete_track_whose_files_are_lost_is_computed_again(tmp_path, footage, scorer, name):
    track = computed(tmp_path / "features", footage, scorer)
    (track.folder / name).unlink()
    again = FeatureTrack(tmp_path / "features", "key")
    assert len(again.rows()) == 0
    assert not again.complete
    again.compute(footage, scorer)
    assert again.complete
    assert len(again.rows()) == 96


class LongTrunk:
    """Rows of 1000 numbers, as many as asked for, without any decoding."""

    def __init__(self, trunk: TrainedModel, num_rows: int) -> None:
        self.model, self._num_rows = trunk, num_rows
        self.margin, self.stride, self.piece_frames = 0, 1, 64

    def feature_track(self, frames):
        for k in range(self._num_rows):
            item = torch.full((1000,), k % 100 / 100)
            yield Sampled(item, start_s=k / 4, end_s=(k + 1) / 4, damaged=k == 7)


def test_memory_does_not_grow_with_the_footage(tmp_path, footage, options):
    trunk = open_trunk(options)
    peaks = []
    for num_rows in (100, 5000):  # 0.2 MB and 10 MB of features
        tracemalloc.start()
        track = computed(tmp_path / str(num_rows), footage, LongTrunk(trunk, num_rows))
        rows = track.rows()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows.features.shape == (num_rows, 1000)
        assert np.flatnonzero(rows.damaged).tolist() == [7]
    assert peaks[1] < peaks[0] + 500_000


def test_numbers_that_float16_lacks_stay_finite(tmp_path, footage, options):
    class Loud(LongTrunk):
        def feature_track(self, frames):
            for row in super().feature_track(frames):
                yield Sampled(row.item * 1e9, row.start_s, row.end_s, row.damaged)

    rows = computed(tmp_path / "features", footage, Loud(open_trunk(options), 9)).rows()
    assert np.isfinite(rows.features).all()
    assert (rows.features[1:] > 60_000).all()


def test_a_full_disk_is_reported_and_earlier_rows_stay(tmp_path, footage, scorer, monkeypatch):
    def full(files):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(features_module, "_flush", full)
        with pytest.raises(TouchlineError, match=r"cannot be written: No space left"):
            computed(tmp_path / "features", footage, scorer)
    track = computed(tmp_path / "features", footage, scorer)
    assert len(track.rows()) == 96
    np.testing.assert_allclose(track.rows().start_s, np.arange(96) / 4, atol=1e-6)


def test_footage_that_is_gone_is_reported(tmp_path, footage, scorer):
    footage.unlink()
    with pytest.raises(FootageError):
        computed(tmp_path / "features", footage, scorer)


def test_footage_that_is_shorter_than_a_row_gives_an_empty_track(tmp_path, scorer):
    short = write_match(tmp_path / "short.mkv", [], seconds=0.25)
    track = computed(tmp_path / "features", short, scorer)
    assert track.complete
    assert len(track.rows()) <= 1

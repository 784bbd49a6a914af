"""Features of clips, read from those of whole footage: of the same frames, or of none."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import drawn_footage
import numpy as np
import pytest
import torch
from studio_material import SPEC as STUDIO_SPEC
from studio_material import mean_colours
from train_material import write_footage

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, file_digest
from touchline.models.errors import FootageError
from touchline.pipeline.clips.load import load_clip
from touchline.pipeline.clips.windows import centre_square
from touchline.pipeline.scoring.feature_track import FeatureTrack, track_key, tracks_in
from touchline.pipeline.scoring.kept_features import KeptFeatures
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = STUDIO_SPEC.with_sampling(num_frames=8)


def trunk(spec=SPEC):
    return mean_colours(2, spec).eval()


def compute(folder: Path, footage: Path, *, spec=SPEC, rows: int | None = None) -> FeatureTrack:
    """The track of a file, or its first rows only."""
    model = TrainedModel(trunk(spec), "colours", ("background", "event"))
    scorer = Scorer(model, device="cpu", precision="float32")
    track = FeatureTrack(folder, track_key(file_digest(footage), scorer, stream=0))
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == rows

    track.compute(footage, scorer, stop=stop)
    return track


def opened(folder: Path, footage: Path, spec=SPEC) -> KeptFeatures:
    return KeptFeatures([folder], [footage], trunk(spec), torch.float32)


def five_a_second(folder: Path) -> Path:
    """20 s in which every frame has another colour; samples at 4 Hz lie between frames."""
    colours = np.random.default_rng(0).integers(0, 256, (100, 3)).astype(np.uint8)
    path = folder / "five.mkv"
    write_footage(path, [np.broadcast_to(c, (16, 24, 3)).copy() for c in colours], rate_hz=5)
    return path


def late_and_uneven(folder: Path) -> Path:
    """20 s whose first picture comes 0.3 s after its sound, at a rate that varies."""
    steps = np.random.default_rng(1).integers(1, 9, 150)
    times = [Fraction(30 + int(s), 100) for s in np.cumsum(steps) * 20 // 6]
    path = folder / "late.mp4"
    return drawn_footage.write_footage(path, seconds=20, width=48, height=32, times=times)


def some_examples(footage: Path) -> list[Example]:
    """On and off the grid, of any length, over both ends of the footage."""
    rng = np.random.default_rng(2)
    spans = [(start, start + length) for start, length in rng.uniform(0, (21, 5), (40, 2))]
    spans += [(k / 4, k / 4 + 1.5) for k in range(0, 80, 7)]
    spans += [(0.0, 0.0), (0.3, 0.3), (7.0, 7.0), (7.0000004, 9.0000004), (19.9, 25.0)]
    examples = [Example(footage, "red", "m", float(a), float(b)) for a, b in spans]
    return [*examples, Example(footage, "red", "m")]


@pytest.mark.parametrize("write", [five_a_second, late_and_uneven])
@pytest.mark.parametrize("rate_hz", [4.0, 3.2, 23.976])
def test_features_are_those_of_the_frames_that_would_be_decoded(tmp_path, write, rate_hz):
    spec = SPEC.with_sampling(rate_hz=rate_hz)
    footage, network = write(tmp_path), trunk(spec)
    compute(tmp_path / "features", footage, spec=spec)
    kept = opened(tmp_path / "features", footage, spec)
    compared = 0
    for example in some_examples(footage):
        for max_clip_s in (None, 1.3):
            found = kept.clip(example, spec, max_clip_s=max_clip_s)
            try:
                clip = load_clip(example, spec, max_clip_s=max_clip_s)
            except FootageError:
                assert found is None  # past the end; whoever decodes it reports that
                continue
            places = [(c.first, c.last, c.begin, c.end, c.num_frames) for c in (found, clip)]
            assert places[0] == places[1], example
            frames = torch.from_numpy(centre_square(clip.pixels, 32).copy())
            with torch.no_grad():
                own = network.features(normalise(frames.transpose(0, 1)[None], spec))[0].T
            np.testing.assert_allclose(found.features, own, atol=1e-3)
            compared += 1
    assert compared > 80


def test_what_is_not_computed_yet_is_not_there(tmp_path):
    footage = five_a_second(tmp_path)
    compute(tmp_path / "features", footage, rows=40)  # 10 s
    kept = opened(tmp_path / "features", footage)
    spans = {(2, 4): True, (8, 10): True, (8, 10.1): False, (12, 14): False, (9.5, 9.5): False}
    for (start_s, end_s), covered in spans.items():
        found = kept.clip(Example(footage, "red", "m", start_s, end_s), SPEC)
        assert (found is not None) == covered, (start_s, end_s)
    assert kept.clip(Example(footage, "red", "m"), SPEC) is None
    assert kept.missing == {}


def test_a_track_that_grows_later_changes_nothing_that_is_open(tmp_path):
    footage, whole = five_a_second(tmp_path), Example(tmp_path / "five.mkv", "red", "m")
    compute(tmp_path / "features", footage, rows=40)
    kept = opened(tmp_path / "features", footage)
    assert compute(tmp_path / "features", footage).complete
    assert kept.clip(whole, SPEC) is None
    assert opened(tmp_path / "features", footage).clip(whole, SPEC).num_frames == 80


def test_footage_that_changed_has_no_features(tmp_path):
    footage = five_a_second(tmp_path)
    compute(tmp_path / "features", footage)
    write_footage(footage, [np.zeros((16, 24, 3), np.uint8)] * 100, rate_hz=5)
    kept = opened(tmp_path / "features", footage)
    assert kept.clip(Example(footage, "red", "m", 2, 4), SPEC) is None
    assert kept.missing == {footage: "they have none of five.mkv as it is now"}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"rate_hz": 2.0}, "those of five.mkv are at 2 Hz, and training samples at 4 Hz"),
        ({"size_px": 64}, "those of five.mkv are of another trunk, picture size or number format"),
        ({"fit": "pad"}, "those of five.mkv are of another trunk, picture size or number format"),
    ],
)
def test_features_of_another_sampling_are_not_taken_and_the_reason_is_said(tmp_path, other, why):
    footage = five_a_second(tmp_path)
    compute(tmp_path / "features", footage, spec=SPEC.with_sampling(**other))
    kept = opened(tmp_path / "features", footage)
    assert kept.clip(Example(footage, "red", "m", 2, 4), SPEC) is None
    assert kept.missing == {footage: why}


def test_features_of_another_normalisation_are_not_taken(tmp_path):
    footage = five_a_second(tmp_path)
    compute(tmp_path / "features", footage, spec=replace(SPEC, mean=(0.5, 0.5, 0.5)))
    assert opened(tmp_path / "features", footage).missing.keys() == {footage}


def test_footage_that_cannot_be_read_is_left_to_whoever_decodes_it(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for path in (broken, tmp_path / "gone.mp4"):
        kept = opened(tmp_path / "features", path)
        assert kept.clip(Example(path, "red", "m", 2, 4), SPEC) is None


def test_a_folder_lists_its_tracks_and_nothing_else(tmp_path):
    folder = tmp_path / "features"
    assert tracks_in(folder) == []
    track = compute(folder, five_a_second(tmp_path))
    (folder / "other").mkdir()
    (folder / "other" / "track.json").write_text((track.folder / "track.json").read_text())
    (folder / "damaged").mkdir()
    (folder / "damaged" / "track.json").write_text("[")
    (folder / "views.safetensors").touch()
    assert [(one.folder, one.key, one.rate_hz) for one in tracks_in(folder)] == [
        (track.folder, track.key, 4.0)
    ]

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SPEC, brightness_model, small_3d_model, write_levels

from touchline.models.backbone import normalise
from touchline.pipeline.clips.windows import Sampled, frames_of, sliding_windows
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.score import Scorer, overlapping_pieces, score_footage
from touchline.pipeline.types import Frames


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """10 s at 16 Hz: dark except in seconds 4 to 6."""
    path = tmp_path_factory.mktemp("score") / "levels.mp4"
    return write_levels(path, [20] * 64 + [235] * 32 + [20] * 64)


def read(path, spec=SPEC):
    return decode(path, rate_hz=spec.rate_hz, size_px=spec.size_px)


def noise(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    return write_levels(tmp_path / "noise.mp4", rng.integers(0, 255, 100).tolist())


def test_scores_rise_where_the_footage_is_bright(footage):
    track = score_footage(brightness_model(), read(footage), hop_s=0.25, device="cpu")
    bright = track.probs[:, 1]
    inside = (track.start_s >= 4) & (track.end_s <= 6)
    outside = (track.end_s <= 4) | (track.start_s >= 6)
    assert bright[inside].min() > 0.99
    assert bright[outside].max() < 0.01
    assert track.labels == ("background", "bright")
    np.testing.assert_allclose(track.probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(track.end_s - track.start_s, 1.0)
    assert track.end_s[-1] == pytest.approx(10.0)


def test_a_framewise_trunk_shared_gives_what_whole_windows_give(footage):
    by_mode = [
        score_footage(brightness_model(), read(footage), mode=mode, device="cpu", batch_size=3)
        for mode in ("windows", "shared", "auto")
    ]
    for track in by_mode[1:]:
        np.testing.assert_array_equal(track.start_s, by_mode[0].start_s)
        np.testing.assert_allclose(track.probs, by_mode[0].probs, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_scores_do_not_depend_on_the_batch_size(footage, batch_size):
    one = score_footage(small_3d_model(), read(footage), device="cpu", precision="float32")
    other = score_footage(
        small_3d_model(), read(footage), device="cpu", precision="float32", batch_size=batch_size
    )
    np.testing.assert_allclose(one.probs, other.probs, atol=1e-5)


def test_the_fast_copy_scores_as_the_plain_network_does(tmp_path):
    model = small_3d_model()
    path = noise(tmp_path)
    track = score_footage(model, read(path), device="cpu", precision="float32")
    clips = np.stack([c.pixels for c in sliding_windows(read(path), model.spec)])
    x = normalise(torch.from_numpy(clips).transpose(1, 2), model.spec)
    with torch.inference_mode():
        plain = model.probs(model.backbone(x)).numpy()
    np.testing.assert_allclose(track.probs, plain, atol=1e-5)


def test_a_shared_3d_trunk_differs_only_by_what_windows_see_around_them(footage):
    """In the dark, far from any change, surroundings and padding are all that can differ."""
    model = small_3d_model()
    shared = score_footage(model, read(footage), mode="shared", hop_s=0.5, precision="float32")
    whole = score_footage(model, read(footage), mode="windows", hop_s=0.5, precision="float32")
    np.testing.assert_array_equal(shared.start_s, whole.start_s)
    np.testing.assert_array_equal(shared.end_s, whole.end_s)
    assert np.abs(shared.probs - whole.probs).max() < 0.2


@pytest.mark.parametrize(("chunk", "batch_size"), [(1, 2), (7, 40), (1000, 3)])
def test_a_shared_trunk_does_not_depend_on_how_the_track_was_cut(tmp_path, chunk, batch_size):
    """Features are the same to the last bit, whatever the chunks and the batch size."""
    path = write_levels(
        tmp_path / "long.mp4", np.random.default_rng(0).integers(0, 256, 400).tolist()
    )
    chunks = list(read(path))

    def joined(name):
        return np.concatenate([getattr(c, name) for c in chunks])

    names = ("pixels", "time_s", "sample_s", "damaged")
    whole = Frames(*map(joined, names))
    cut = [
        Frames(*(getattr(whole, name)[k : k + chunk] for name in names))
        for k in range(0, len(whole), chunk)
    ]

    def scored(frames, **more):
        scorer = Scorer(small_3d_model(), mode="shared", precision="float32", device="cpu", **more)
        track = scorer.feature_track(frames_of(frames, scorer.model.spec))
        return [s.item.numpy() for s in track], scorer.score(frames, hop_s=0.5)

    (features, scores), (other_features, other) = scored(chunks), scored(cut, batch_size=batch_size)
    assert len(whole) == 200
    np.testing.assert_array_equal(other_features, features)
    np.testing.assert_array_equal(other.start_s, scores.start_s)
    # The head sees other batches, and sums may end with another last bit.
    np.testing.assert_allclose(other.probs, scores.probs, atol=1e-6)


def test_a_shared_trunk_needs_a_hop_of_whole_features(footage):
    with pytest.raises(ValueError, match=r"0\.5 s each; it is 0\.25 s"):
        score_footage(small_3d_model(), read(footage), mode="shared", hop_s=0.25)


def test_pieces_give_every_item_once_with_its_neighbours():
    track = [Sampled(k, float(k), k + 1.0) for k in range(10)]
    cut = [
        ([s.item for s in items], [s.item for s in items[first:last]])
        for items, first, last in overlapping_pieces(track, length=4, margin=2)
    ]
    assert cut == [
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3]),
        ([2, 3, 4, 5, 6, 7, 8, 9], [4, 5, 6, 7]),
        ([6, 7, 8, 9], [8, 9]),
    ]


def test_large_windows_go_through_the_network_two_by_two_on_a_cpu(footage, monkeypatch):
    model = small_3d_model()
    whole = score_footage(model, read(footage), device="cpu", precision="float32")
    monkeypatch.setattr("touchline.pipeline.scoring.score.CPU_PIXELS", 2 * 8 * 32**2)
    scorer = Scorer(model, device="cpu", precision="float32")
    honest, sizes = scorer._trunk, []

    def counted(clips):
        sizes.append(len(clips))
        return honest(clips)

    scorer._trunk = counted
    np.testing.assert_allclose(scorer.score(read(footage)).probs, whole.probs, atol=1e-5)
    # 37 windows in batches of eight.
    assert sizes == [2] * 18 + [1]


def test_unknown_modes_and_trunks_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="one of auto, windows, shared"):
        Scorer(brightness_model(), mode="fast")
    model = small_3d_model()
    model.backbone.slides_in_time = False
    with pytest.raises(ValueError, match="Use mode 'windows'"):
        Scorer(model, mode="shared")
    with pytest.raises(ValueError, match="batch_size is 0"):
        Scorer(brightness_model(), batch_size=0)


def test_damaged_frames_mark_their_windows(footage):
    chunks = list(read(footage))
    chunks[0].damaged[3] = True
    track = score_footage(brightness_model(), chunks, hop_s=0.5)
    assert track.damaged[:3].tolist() == [True, False, False]


def test_progress_is_reported_in_footage_time(footage):
    ends = []
    Scorer(brightness_model()).score(read(footage), on_window=ends.append)
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(10.0)


def test_empty_footage_gives_an_empty_track():
    track = score_footage(brightness_model(), [])
    assert track.probs.shape == (0, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["windows", "shared"])
@pytest.mark.parametrize("make", [brightness_model, small_3d_model])
def test_a_gpu_scores_as_a_cpu_does(footage, make, mode):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    by_device = [
        score_footage(
            make(), read(footage), device=device, mode=mode, hop_s=0.5, precision="float32"
        )
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_array_equal(by_device[0].start_s, by_device[1].start_s)
    np.testing.assert_allclose(by_device[0].probs, by_device[1].probs, atol=1e-3)

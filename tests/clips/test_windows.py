import numpy as np
import pytest

from touchline.models.backbone import ClipSpec
from touchline.pipeline.clips.windows import (
    Sampled,
    centre_square,
    default_hop_s,
    hop_samples,
    slide,
    sliding_windows,
    squared,
)
from touchline.pipeline.types import Frames

SPEC = ClipSpec(num_frames=4, rate_hz=4.0, size_px=16)


def frames(numbers, *, first_s=0.0):
    """One chunk of 16 px frames, each filled with its number."""
    n = np.array(list(numbers), dtype=np.uint8)
    pixels = np.broadcast_to(n[:, None, None, None], (len(n), 3, 16, 16)).copy()
    at = first_s + np.arange(len(n)) / 4.0
    return Frames(pixels, at, at, np.zeros(len(n), bool))


def starts(total, *, hop_s=None, chunks=None):
    source = chunks or [frames(range(total))]
    return [
        (int(c.pixels[0, 0, 0, 0]), c.start_s, c.end_s)
        for c in sliding_windows(source, SPEC, hop_s=hop_s)
    ]


def test_windows_follow_the_hop_and_the_last_one_ends_with_the_footage():
    assert starts(7, hop_s=0.5) == [(0, 0.0, 1.0), (2, 0.5, 1.5), (3, 0.75, 1.75)]
    assert starts(8, hop_s=0.5) == [(0, 0.0, 1.0), (2, 0.5, 1.5), (4, 1.0, 2.0)]


def test_footage_of_one_window_gives_one_window():
    assert starts(4) == [(0, 0.0, 1.0)]


def test_shorter_footage_repeats_its_last_frame_and_ends_when_the_footage_does():
    (clip,) = sliding_windows([frames([7, 8])], SPEC)
    assert clip.pixels[:, 0, 0, 0].tolist() == [7, 8, 8, 8]
    assert (clip.start_s, clip.end_s) == (0.0, 0.5)


def test_no_frames_give_no_windows():
    assert list(sliding_windows([], SPEC)) == []


def test_windows_do_not_depend_on_how_decoding_was_chunked():
    whole = starts(11)
    pieces = [
        frames(range(0, 1)),
        frames(range(1, 6), first_s=0.25),
        frames(range(6, 11), first_s=1.5),
    ]
    assert starts(11, chunks=pieces) == whole


def test_a_window_with_a_damaged_frame_is_damaged():
    chunk = frames(range(6))
    chunk.damaged[5] = True
    assert [c.damaged for c in sliding_windows([chunk], SPEC, hop_s=0.25)] == [False, False, True]


def test_the_default_hop_is_a_quarter_of_the_window_in_whole_samples():
    assert default_hop_s(ClipSpec(16, 8.0, 32)) == 0.5
    assert default_hop_s(ClipSpec(2, 8.0, 32)) == 1 / 8
    assert hop_samples(ClipSpec(16, 8.0, 32), 0.3) == 2


@pytest.mark.parametrize("hop_s", [0.0, -1.0, 1.01, float("nan")])
def test_a_hop_outside_the_window_is_refused(hop_s):
    with pytest.raises(ValueError, match=r"must be in \(0, 1.0\]"):
        hop_samples(SPEC, hop_s)


def test_the_centre_square_is_the_middle():
    picture = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert centre_square(picture, 4).tolist() == picture[:, 1:5].tolist()
    assert centre_square(picture, 2).tolist() == [[8, 9], [14, 15]]
    with pytest.raises(ValueError, match="6 x 4 px"):
        centre_square(picture, 5)


def test_squashed_frames_hold_all_of_the_picture():
    wide = np.zeros((2, 3, 16, 32), np.uint8)
    wide[..., :2], wide[..., -2:] = 210, 112
    spec = ClipSpec(2, 8.0, 16)
    assert squared(wide, spec).tolist() == np.zeros((2, 3, 16, 16)).tolist()
    seen = squared(wide, spec.with_sampling(fit="squash"))
    assert seen.shape == (2, 3, 16, 16)
    # Triangular weights 1, 3, 3, 1 of 8; at the border 3, 3, 1 of 7.
    assert seen[0, 0, 0].tolist() == [180, 26, *[0] * 12, 14, 96]


def test_padded_frames_keep_the_proportions_of_the_picture():
    spec = ClipSpec(2, 8.0, 16, fit="pad")
    # 16 x 32 becomes 8 x 16, with 4 black rows above and below.
    wide = np.full((2, 3, 16, 32), 200, np.uint8)
    seen = squared(wide, spec)
    assert seen.shape == (2, 3, 16, 16)
    assert (seen == np.repeat([0, 200, 0], [4, 8, 4])[:, None]).all()
    # 33 x 16 becomes 16 x 8, with 4 black columns on each side.
    upright = np.full((1, 3, 33, 16), 200, np.uint8)
    assert (squared(upright, spec) == np.repeat([0, 200, 0], [4, 8, 4])).all()


def test_a_square_picture_is_not_changed_by_padding():
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), np.uint8)
    assert (squared(picture, ClipSpec(2, 8.0, 16, fit="pad")) == picture).all()


def test_a_fit_that_is_none_is_refused():
    with pytest.raises(ValueError, match="fit is 'fill'; it must be crop, squash, pad"):
        ClipSpec(2, 8.0, 16, fit="fill")


def test_slide_tells_how_many_items_are_real():
    items = [Sampled(k, float(k), k + 1.0) for k in range(3)]
    ((window, real),) = slide(items, length=5, hop=1)
    assert [w.item for w in window] == [0, 1, 2, 2, 2]
    assert real == 3

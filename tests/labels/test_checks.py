"""Problems with labels, negatives from unlabelled time, and near-identical clips."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from touchline.pipeline.clips.leakage import (
    difference_hash,
    example_hashes,
    find_leaks,
    near_duplicates,
)
from touchline.pipeline.labels.checks import find_problems, length_accuracy, names_a_side
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.labels.split import Split, split_by_group
from touchline.pipeline.runs.background import (
    background_examples,
    eventless_examples,
    unlabelled_spans,
)
from touchline.pipeline.types import Example

MATCH = Path("match.mp4")


def event(start_s: float, end_s: float, label: str = "goal", line: int = 2) -> Example:
    return Example(MATCH, label, "match", start_s, end_s, f"labels.csv line {line}")


def clip(label: str, name: str) -> Example:
    return Example(Path(name), label, name, source=f"labels.csv {name}")


def test_labels_in_order_have_no_problems() -> None:
    assert find_problems([event(1, 2), event(2, 3, "card", 3)], {MATCH: 3.0}) == []


def test_labels_beyond_the_footage_are_found() -> None:
    (problem,) = find_problems([event(1, 3.05), event(8, 9.5, "card", 3)], {MATCH: 3.0})
    assert problem == "labels.csv line 3: 'card' ends at 9.5 s, but match.mp4 lasts 3.000 s"


def test_duplicates_and_overlaps_are_found_once_each() -> None:
    examples = [event(1, 4), event(1, 4, line=3), event(3, 9, "card", 4), event(4, 5, line=5)]
    assert find_problems(examples, {}) == [
        "labels.csv line 3: the same label as labels.csv line 2",
        "labels.csv line 4: 'card' overlaps 'goal' (labels.csv line 2) by 1 s",
        "labels.csv line 4: 'card' overlaps 'goal' (labels.csv line 3) by 1 s",
        "labels.csv line 5: 'goal' overlaps 'card' (labels.csv line 4) by 1 s",
    ]


def test_a_file_with_two_whole_file_classes_overlaps_itself() -> None:
    (problem,) = find_problems([clip("goal", "a.mp4"), clip("card", "a.mp4")], {})
    assert "'card' overlaps 'goal'" in problem
    assert "over the whole file" in problem


def test_windows_side_by_side_overlap_by_no_rounding() -> None:
    tiles = eventless_examples(Path("warmup.mp4"), 600.0, window_s=2.56)
    assert any((a.end_s or 0.0) > (b.start_s or 0.0) for a, b in pairwise(tiles))
    assert find_problems(tiles, {}) == []


def test_points_at_one_instant_do_not_overlap() -> None:
    assert find_problems([event(2, 2), event(2, 2, "card", 3)], {}) == []


@pytest.mark.parametrize(
    ("rare", "found"),
    [("Goal-Kick", True), ("goalkick", True), ("gaol kick", True), ("goal", False)],
)
def test_classes_spelt_alike_are_found(rare: str, found: bool) -> None:
    examples = [event(2 * i, 2 * i + 1, "goal kick") for i in range(6)] + [event(50, 51, rare)]
    assert any("spelt almost like 'goal kick'" in p for p in find_problems(examples, {})) == found


@pytest.mark.parametrize("label", ["Background", "back_ground", "BACKGROUND"])
def test_a_class_spelt_almost_as_background_is_found(label: str) -> None:
    examples = [event(2 * i, 2 * i + 1, "goal kick") for i in range(6)] + [event(50, 51, label)]
    (problem,) = find_problems(examples, {})
    assert f"--background-label {label}" in problem
    examples = [replace(e, label="background") if e.label == label else e for e in examples]
    assert find_problems(examples, {}) == []


def test_two_frequent_classes_may_have_like_names() -> None:
    examples = [event(2 * i, 2 * i + 1, f"shot_{i % 2}") for i in range(20)]
    assert find_problems(examples, {}) == []


def test_clip_lengths_that_give_the_class_away_are_found() -> None:
    clips = [clip("goal" if i < 10 else "card", f"{i}.mp4") for i in range(20)]
    even = {c.path: 4.0 for c in clips}
    assert find_problems(clips, even) == []
    telling = {c.path: 6.0 if c.label == "goal" else 4.0 for c in clips}
    (problem,) = find_problems(clips, telling)
    assert "predicts the class of 100% of the clips; the largest class has 50%" in problem
    assert "card 4.00 s, goal 6.00 s" in problem


def test_length_accuracy_guesses_clips_by_others_of_their_length() -> None:
    rng = np.random.default_rng(1)
    labels = list("ab") * 200
    # Lengths that say nothing: each alone, all alike, in pairs by chance.
    for lengths in (range(400), [4.0] * 400, rng.permutation(400) // 2):
        assert length_accuracy(list(map(float, lengths)), labels) == pytest.approx(0.5, abs=0.07)
    # Each alone: the largest class is guessed.
    assert length_accuracy(list(range(400)), ["a"] * 300 + ["b"] * 100) == pytest.approx(
        0.75, abs=0.02
    )
    # 4 s: three a for every b, 6 s: b alone.
    assert length_accuracy([4] * 40 + [6] * 20, ["a"] * 30 + ["b"] * 30) == pytest.approx(
        50 / 60, abs=0.03
    )
    # Classes of one size, one of them longer: 9 + 18 / 2 of 27, less what halves differ by.
    assert 0.5 < length_accuracy([6] * 9 + [4] * 18, list("a" * 9 + "bc" * 9)) < 0.7


@pytest.mark.parametrize(
    ("label", "side"),
    [
        ("left", True),
        ("Shot_Left", True),
        ("throw-in right", True),
        ("RightFoot", True),
        ("left-handed serve", True),
        ("leftmost", True),
        ("corner L", True),
        ("RIGHT", True),
        ("rightwards pass", True),
        ("goal", False),
        ("bright", False),
        ("upright", False),
        ("cleft", False),
        ("copyright", False),
        ("rally", False),
        ("forehand", False),
    ],
)
def test_classes_that_name_a_side_are_known(label: str, side: bool) -> None:
    assert names_a_side(label) == side


def test_unlabelled_time_keeps_its_margin_from_every_label() -> None:
    labels = [event(10, 12), event(11, 15), event(29, 30)]
    assert unlabelled_spans(labels, 30.0, margin_s=2) == [(0.0, 8.0), (17.0, 27.0)]
    assert unlabelled_spans([], 5.0, margin_s=2) == [(0.0, 5.0)]
    assert unlabelled_spans([event(0, 0)], 5.0, margin_s=1) == [(1.0, 5.0)]
    assert unlabelled_spans([Example(MATCH, "goal", "match")], 5.0, margin_s=0) == []


def test_only_verified_stretches_may_be_asked_for() -> None:
    labels = [event(10, 12), event(29, 30)]
    within = [(20.0, 40.0), (5.0, 15.0), (35.0, 45.0)]
    found = unlabelled_spans(labels, 60.0, margin_s=2, within=within)
    assert found == [(5.0, 8.0), (14.0, 15.0), (20.0, 27.0), (32.0, 45.0)]
    assert unlabelled_spans(labels, 60.0, margin_s=2, within=[]) == []
    negatives = background_examples(
        labels, 60.0, window_s=2.0, margin_s=2, within=[(20.0, 30.0)], ratio=9
    )
    times = [(e.start_s or 0.0, e.end_s or 0.0) for e in negatives]
    assert len(times) == 3
    assert all(start >= 20 and end <= 27 for start, end in times)


def test_a_class_named_almost_like_a_reserved_word_is_found() -> None:
    (problem,) = find_problems([event(1, 4, "Verified")], {})
    assert problem.startswith("labels.csv line 2: the class 'Verified' counts as an event")


def test_negatives_lie_in_unlabelled_time_and_do_not_overlap() -> None:
    labels = [event(10, 12), event(40, 45), event(41, 43, "card")]
    for seed in range(20):
        found = background_examples(labels, 60.0, window_s=2.5, margin_s=3.0, ratio=2.0, seed=seed)
        assert len(found) == 6
        assert {(e.label, e.path, e.group) for e in found} == {("background", MATCH, "match")}
        times = [(e.start_s or 0.0, e.end_s or 0.0) for e in found]
        assert all(end - start == pytest.approx(2.5) for start, end in times)
        assert all(end <= later for (_, end), (later, _) in pairwise(times))
        free = [(0.0, 7.0), (15.0, 37.0), (48.0, 60.0)]
        for start, end in times:
            assert any(a - 1e-9 <= start and end <= b + 1e-9 for a, b in free)


def test_negatives_begin_with_the_first_picture() -> None:
    labels = [event(10, 12)]
    assert unlabelled_spans(labels, 20.0, margin_s=1, begin_s=4.0) == [(4.0, 9.0), (13.0, 20.0)]
    assert unlabelled_spans(labels, 20.0, margin_s=1, begin_s=11.0) == [(13.0, 20.0)]
    found = background_examples(labels, 20.0, window_s=2, margin_s=1, ratio=9, begin_s=4.0)
    assert len(found) == 5
    assert found[0].start_s >= 4.0
    tiles = eventless_examples(Path("warmup.mp4"), 9.0, window_s=2.0, begin_s=3.0)
    assert [(e.start_s, e.end_s) for e in tiles] == [(3, 5), (5, 7), (7, 9)]
    assert all(e.optional for e in (*found, *tiles))


def test_negatives_are_the_same_under_the_same_seed_only() -> None:
    def starts(seed: int) -> list[float | None]:
        found = background_examples(
            [event(10, 12)], 300.0, window_s=2, margin_s=1, ratio=5, seed=seed
        )
        return [e.start_s for e in found]

    assert starts(1) == starts(1) != starts(2)


def test_negatives_are_as_many_as_the_time_holds() -> None:
    found = background_examples([event(4, 6)], 10.0, window_s=2, margin_s=0, ratio=100)
    assert [(e.start_s, e.end_s) for e in found] == [(0, 2), (2, 4), (6, 8), (8, 10)]
    assert background_examples([event(4, 6)], 10.0, window_s=5, margin_s=0) == []
    assert background_examples([event(4, 6)], 10.0, window_s=1, margin_s=0, ratio=0) == []


def test_labelled_background_counts_towards_the_ratio() -> None:
    labels = [event(4, 6), event(8, 9), event(20, 22, "background")]
    assert len(background_examples(labels, 60.0, window_s=2, margin_s=1, ratio=1)) == 1


def test_bad_options_for_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match="several files"):
        unlabelled_spans([event(1, 2), clip("goal", "b.mp4")], 9.0, margin_s=0)
    with pytest.raises(ValueError, match="margin_s is -1"):
        background_examples([event(1, 2)], 9.0, window_s=1, margin_s=-1)
    with pytest.raises(ValueError, match="window_s is 0"):
        background_examples([event(1, 2)], 9.0, window_s=0, margin_s=1)


def ramp(*, rising: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    grey = np.linspace(0, 255, 90).astype(np.uint8)
    row = grey if rising else grey[::-1]
    return np.broadcast_to(row, (3, 80, 90)).copy()


def test_the_hash_says_where_the_picture_grows_brighter() -> None:
    assert difference_hash(ramp(rising=True)) == 2**64 - 1
    assert difference_hash(ramp(rising=False)) == 0
    half = ramp(rising=False)
    half[:, 40:] = ramp(rising=True)[:, 40:]
    assert difference_hash(half) == 2**32 - 1  # the lower four rows are the last bits
    assert difference_hash(np.full((3, 20, 20), 77, dtype=np.uint8)) == 0


def test_faint_noise_is_no_pattern() -> None:
    frame = np.full((3, 80, 90), 77, dtype=np.uint8)
    frame[:, ::3, 40:] = 78
    assert difference_hash(frame) == 0


def test_the_hash_hardly_depends_on_size_and_brightness() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 200, size=(3, 8, 9)).astype(np.uint8)
    large = blocks.repeat(20, axis=1).repeat(20, axis=2)
    darker = (blocks.repeat(5, axis=1).repeat(5, axis=2) * 0.8).astype(np.uint8)
    assert (difference_hash(large) ^ difference_hash(darker)).bit_count() <= 1


def test_frames_that_cannot_be_hashed_are_refused() -> None:
    for shape in ((3, 7, 9), (3, 8, 8), (8, 9, 3), (8, 9)):
        with pytest.raises(ValueError, match="frame is"):
            difference_hash(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(ValueError, match="must be uint8"):
        difference_hash(np.zeros((3, 8, 9), dtype=np.float32))


A, B, C = 0x0F0F0F0F0F0F0F0F, 0xF0F0F0F0F0F0F0F0, 0x3333333333333333


def test_near_duplicates_across_groups_are_named_nearest_first() -> None:
    hashes = {
        "a1": [A, B, C],
        "a2": [A, B, C],
        "b1": [A ^ 1, B ^ 1, C ^ 3],  # 1, 1 and 2 bits away: median 1
        "b2": [A ^ 0b11, B ^ 0b111, C ^ 0b1111],  # 2, 3 and 4: median 3
        "b3": [A, B ^ (2**40 - 1), C ^ (2**40 - 1)],
    }
    groups = {name: name[0] for name in hashes}
    found = [(d.first, d.second, d.distance_bits) for d in near_duplicates(hashes, groups)]
    assert found == [("a1", "b1", 1), ("a2", "b1", 1), ("a1", "b2", 3), ("a2", "b2", 3)]


def test_one_frame_in_common_is_no_near_duplicate() -> None:
    hashes = {"a": [A], "b": [A, B, C]}
    assert near_duplicates(hashes, {"a": "1", "b": "2"}) == []


def test_even_frames_say_nothing() -> None:
    hashes = {"a": [0, 0, 1], "b": [0, 0, 1], "c": []}
    assert near_duplicates(hashes, {"a": "1", "b": "2", "c": "3"}) == []


def test_real_clips_are_near_duplicates_of_their_copies_only(shared: Path, tmp_path: Path) -> None:
    examples = read_labels(shared / "clips/football/labels.csv")[::4]
    hashes = {e.path: example_hashes(e) for e in examples}
    assert all(3 <= len(own) <= 7 for own in hashes.values())
    assert near_duplicates(hashes, {e.path: e.group for e in examples}) == []
    copied = tmp_path / "copy.gif"
    shutil.copy(examples[0].path, copied)
    copy = Example(copied, examples[0].label, "another", source="copy")
    (leak,) = find_leaks(Split(train=tuple(examples), val=(copy,)))
    assert leak.startswith(f"{examples[0].source} in training and copy in validation show")
    hashes[Path("copy")] = example_hashes(copy)
    groups = {e.path: e.group for e in examples} | {Path("copy"): "another"}
    (pair,) = near_duplicates(hashes, groups)
    assert (pair.second, pair.distance_bits) == (Path("copy"), 0)


def test_real_labels_split_by_match_with_every_class_on_both_sides(shared: Path) -> None:
    for sport in ("football", "basketball"):
        examples = read_labels(shared / f"clips/{sport}/labels.csv")
        for seed in range(3):
            split = split_by_group(examples, seed=seed)
            assert split.not_validated == ()
            assert 0.1 < len(split.val) / len(examples) < 0.35

"""Learning from few marks, on made features whose events are known."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from touchline.pipeline.scoring.feature_track import TrackRows
from touchline.pipeline.teaching import learning
from touchline.pipeline.teaching.learning import (
    THRESHOLD,
    Learned,
    NothingToLearnError,
    Proposal,
    Span,
    is_answered,
    learn,
    propose,
)
from touchline.pipeline.types import Event, ScoreTrack

RATE_HZ, D = 4, 24
DIRECTIONS = np.linalg.qr(np.random.default_rng(5).normal(size=(D, D)))[0]
GRASS, DUNK, BLOCK = DIRECTIONS[:3]
DECOY = 0.75 * DUNK + 0.4 * DIRECTIONS[3]
"""It looks like a dunk but is none."""

Truth = Sequence[tuple[np.ndarray, float, float]]


def made_track(truth: Truth, *, seconds: float = 300, noise: float = 0.25, seed: int = 1):
    """Features of grass with noise, and of each event while it lasts."""
    rng = np.random.default_rng(seed)
    start_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    centre_s = start_s + 0.5 / RATE_HZ
    features = np.tile(GRASS, (len(start_s), 1))
    for direction, first_s, last_s in truth:
        features[(centre_s >= first_s) & (centre_s <= last_s)] = direction
    features = features + noise * rng.normal(size=features.shape) / np.sqrt(D)
    return TrackRows(
        features.astype(np.float16), start_s, start_s + 1 / RATE_HZ, np.zeros(len(start_s), bool)
    )


def every(direction: np.ndarray, first_s: float, step_s: float, count: int) -> list:
    return [(direction, first_s + k * step_s, first_s + k * step_s + 1.5) for k in range(count)]


DUNKS, BLOCKS = every(DUNK, 10, 14.5, 20), every(BLOCK, 17.5, 14.5, 20)


def spans(label: str, truth: Truth, match: str = "m1") -> list[Span]:
    return [Span(match, label, start_s, end_s) for _, start_s, end_s in truth]


def proposed(
    learned: Learned,
    marks: Sequence[Span],
    rejected: Sequence[Span] = (),
    *,
    match: str = "m1",
) -> list[Proposal]:
    return propose(
        learned.tracks[match],
        marks=[one for one in marks if one.match == match],
        rejected=[one for one in rejected if one.match == match],
        lengths_s=dict.fromkeys(learned.labels[1:], 1.5),
        thresholds=learned.thresholds,
    )


def found(proposals: Sequence[Proposal], label: str, truth: Truth) -> tuple[int, int]:
    """How many of the events are accepted, and how many accepted proposals are no event."""
    accepted = [p.event for p in proposals if p.accepted and p.event.label == label]
    hit = [any(s <= e.peak_s <= t for e in accepted) for _, s, t in truth]
    false = [e for e in accepted if not any(s - 1 <= e.peak_s <= t + 1 for _, s, t in truth)]
    return sum(hit), len(false)


@pytest.mark.parametrize("num_marks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_events_that_look_alike_are_all_found_from_a_few_marks(num_marks):
    track = made_track([*DUNKS, *BLOCKS])
    marks = spans("dunk", DUNKS[:num_marks]) + spans("block", BLOCKS[:num_marks])
    learned = learn({"m1": track}, marks, [])
    proposals = proposed(learned, marks)
    assert learned.labels == ("background", "block", "dunk")
    assert found(proposals, "dunk", DUNKS[num_marks:]) == (20 - num_marks, 0)
    assert found(proposals, "block", BLOCKS[num_marks:]) == (20 - num_marks, 0)
    assert all(0 <= p.event.score <= 1 and 0 <= p.teaches <= 1 for p in proposals)


def test_marks_at_any_time_teach_nothing():
    """The same features, marks at times drawn at random: what is found is no better than chance."""
    track, rng = made_track([*DUNKS, *BLOCKS]), np.random.default_rng(3)
    quiet = [t for t in rng.uniform(0, 298, 60) if not any(s - 3 < t < e + 2 for _, s, e in DUNKS)]
    marks = [Span("m1", "dunk", t, t + 1.5) for t in quiet[:8]]
    hit, _ = found(proposed(learn({"m1": track}, marks, []), marks), "dunk", DUNKS)
    assert hit <= 3


def test_learning_is_repeatable_to_the_last_bit():
    track = made_track([*DUNKS, *BLOCKS])
    marks = spans("dunk", DUNKS[:3]) + spans("block", BLOCKS[:3])
    no = [Span("m1", "dunk", 200, 201)]
    first, second = learn({"m1": track}, marks, no), learn({"m1": track}, marks, no)
    np.testing.assert_array_equal(first.tracks["m1"].probs, second.tracks["m1"].probs)
    np.testing.assert_array_equal(first.head().weight, second.head().weight)
    assert first.thresholds == second.thresholds


FAR_DUNKS, DECOYS = every(DUNK, 10, 29, 20), every(DECOY, 16, 29, 20)


def score_near(learned: Learned, time_s: float, label: str = "dunk") -> float:
    track = learned.tracks["m1"]
    near = np.abs(track.centre_s - time_s) <= 1
    return float(track.probs[near, track.labels.index(label)].max())


def test_a_rejected_proposal_falls_and_stays_away_and_those_like_it_fall_too():
    track, marks = made_track([*FAR_DUNKS, *DECOYS], seconds=600), spans("dunk", FAR_DUNKS[:3])
    before = learn({"m1": track}, marks, [])
    wrong = next(p for p in proposed(before, marks) if is_decoy(p.event))
    no = Span("m1", "dunk", wrong.event.start_s, wrong.event.end_s)
    after = learn({"m1": track}, marks, [no])
    assert score_near(after, wrong.event.peak_s) < 0.8 * score_near(before, wrong.event.peak_s)
    left = proposed(after, marks, [no])
    assert not any(abs(p.event.peak_s - wrong.event.peak_s) < 1 for p in left)
    others = [s + 0.75 for _, s, _ in DECOYS if abs(s - wrong.event.peak_s) > 5]
    mean_before = np.mean([score_near(before, t) for t in others])
    assert np.mean([score_near(after, t) for t in others]) < 0.9 * mean_before
    assert found(left, "dunk", FAR_DUNKS[3:])[0] == 17


def is_decoy(event: Event) -> bool:
    return any(s - 0.5 <= event.peak_s <= e + 0.5 for _, s, e in DECOYS)


def test_unmarked_events_are_not_learnt_as_background(monkeypatch):
    """Two of 60 dunks are marked: as background the other 58 outweigh them."""
    truth = every(DUNK, 5, 9, 60)
    track, marks = made_track(truth, seconds=600, noise=1.2), spans("dunk", truth[:2])
    with_rest = found(proposed(learn({"m1": track}, marks, []), marks), "dunk", truth[2:])
    monkeypatch.setattr(
        learning, "_without_look_alikes", lambda rows, K: np.ones(len(rows.column), bool)
    )
    as_background = found(proposed(learn({"m1": track}, marks, []), marks), "dunk", truth[2:])
    assert with_rest[0] >= 55
    assert as_background[0] < with_rest[0] - 10


def test_a_class_with_one_mark_is_learnt_beside_another():
    track = made_track([*DUNKS, *BLOCKS])
    marks = spans("dunk", DUNKS[:3]) + spans("block", BLOCKS[4:5])
    proposals = proposed(learn({"m1": track}, marks, []), marks)
    assert found(proposals, "block", BLOCKS[:4] + BLOCKS[5:])[0] >= 17
    assert found(proposals, "dunk", DUNKS[3:]) == (17, 0)


def test_marks_where_there_are_no_features_yet_do_not_count():
    half = made_track([*DUNKS, *BLOCKS], seconds=150)
    late = spans("dunk", DUNKS[15:])
    with pytest.raises(NothingToLearnError, match="the part of the match that has marks"):
        learn({"m1": half}, late, [])
    with pytest.raises(NothingToLearnError, match="the part of the match that has marks"):
        learn({"m1": half}, spans("dunk", DUNKS[:3], match="m2"), [])
    with pytest.raises(NothingToLearnError, match="the first features"):
        learn({"m1": made_track([], seconds=0)}, late, [])
    with pytest.raises(NothingToLearnError, match="the first features"):
        learn({}, late, [])


def test_answers_outside_the_features_change_nothing():
    half, marks = made_track([*DUNKS, *BLOCKS], seconds=150), spans("dunk", DUNKS[:3])
    alone = learn({"m1": half}, marks, [])
    more = learn({"m1": half}, marks + spans("dunk", DUNKS[15:]), spans("dunk", BLOCKS[15:]))
    np.testing.assert_allclose(more.tracks["m1"].probs, alone.tracks["m1"].probs, atol=1e-5)


def test_a_class_whose_marks_all_lie_outside_is_never_proposed_yet():
    half = made_track([*DUNKS, *BLOCKS], seconds=150)
    marks = spans("dunk", DUNKS[:3]) + spans("block", BLOCKS[15:])
    learned = learn({"m1": half}, marks, [])
    assert (learned.tracks["m1"].probs[:, learned.labels.index("block")] == 0).all()
    assert {p.event.label for p in proposed(learned, marks)} == {"dunk"}
    assert np.isfinite(learned.head().weight).all()


@pytest.mark.parametrize("at", [0.0, 0.3, 0.75, 1.2])
def test_spots_teach_as_intervals_do(at):
    track = made_track([*DUNKS, *BLOCKS])
    marks = [Span("m1", "dunk", s + at, s + at) for _, s, _ in DUNKS[:4]]
    learned = learn({"m1": track}, marks, [])
    proposals = propose(learned.tracks["m1"], marks=marks, lengths_s={"dunk": 0.0})
    assert found(proposals, "dunk", DUNKS[4:])[0] == 16
    assert all(p.event.start_s == p.event.end_s == p.event.peak_s for p in proposals)


def test_a_proposal_is_as_long_as_its_event_and_at_most_twice_as_usual():
    truth = [*DUNKS[:10], *((DUNK, s, s + 12) for _, s, _ in DUNKS[10:])]
    track, marks = made_track(truth), spans("dunk", truth[:4])
    learned = learn({"m1": track}, marks, [])
    for proposal in proposed(learned, marks):
        event = proposal.event
        assert event.start_s <= event.peak_s <= event.end_s
        assert event.end_s - event.start_s <= 2 * 1.5 + 0.5
        if proposal.accepted and event.peak_s < 140:
            _, start_s, end_s = min(truth, key=lambda one: abs(one[1] - event.start_s))
            assert (event.start_s, event.end_s) == pytest.approx((start_s, end_s), abs=0.8)


def test_what_was_learnt_on_one_match_is_proposed_on_the_next():
    first, second = made_track(DUNKS), made_track(BLOCKS[:10] + DUNKS[10:], seed=9)
    marks = spans("dunk", DUNKS[:4])
    learned = learn({"m1": first, "m2": second}, marks, [])
    assert found(proposed(learned, marks, match="m2"), "dunk", DUNKS[10:])[0] == 10
    learned = learn({"m1": first, "m2": made_track([], seconds=0)}, marks, [])
    assert list(learned.tracks) == ["m1"]


def test_damaged_frames_teach_nothing():
    track, marks = made_track([*DUNKS, *BLOCKS]), spans("dunk", DUNKS[:4])
    expected = learn({"m1": track}, marks[:3], []).tracks["m1"].probs
    damaged, features = track.damaged.copy(), track.features.copy()
    broken = (track.start_s >= DUNKS[3][1] - 1) & (track.end_s <= DUNKS[3][2] + 1)
    damaged[broken] = True
    features[broken] = BLOCK
    learned = learn({"m1": TrackRows(features, track.start_s, track.end_s, damaged)}, marks, [])
    far = np.abs(track.start_s - DUNKS[3][1]) > 5
    assert np.abs(learned.tracks["m1"].probs - expected)[far].max() < 0.1
    np.testing.assert_array_equal(learned.tracks["m1"].damaged, damaged)
    with pytest.raises(NothingToLearnError, match="the part of the match that has marks"):
        learn({"m1": TrackRows(features, track.start_s, track.end_s, damaged)}, marks[3:], [])


def test_thresholds_come_from_answers_that_the_heads_had_not_seen():
    track = made_track([*FAR_DUNKS, *DECOYS], seconds=600, noise=1.5)
    yes, no = spans("dunk", FAR_DUNKS), spans("dunk", DECOYS)
    few = learn({"m1": track}, yes[:4], no[:8])
    assert few.thresholds == {"dunk": THRESHOLD}
    learned = learn({"m1": track}, yes[:12], no[:12])
    assert learned.thresholds["dunk"] != THRESHOLD
    proposals = proposed(learned, yes[:12], no[:12])
    hit, false = found(proposals, "dunk", FAR_DUNKS[12:])
    assert hit >= 6
    assert false <= 3
    # Answers that look all alike cannot be told apart: half of all is right, however it is cut.
    alike = every(DUNK, 14, 14.5, 20)
    yes, no = spans("dunk", DUNKS[:12]), spans("dunk", alike[:12])
    assert learn({"m1": made_track([*DUNKS, *alike])}, yes, no).thresholds["dunk"] < 0.9


@pytest.mark.parametrize(("scores", "best"), [(([0.9, 0.8], [0.2]), 0.5), (([0.6], [0.7]), 0.05)])
def test_the_best_threshold_by_hand(scores, best):
    yes, no = (np.array(one) for one in scores)
    if best == 0.05:
        yes, no = np.array([0.6, 0.65]), np.array([0.7])
        best = 0.625  # 0.625: 1 found, 1 false, F1 1/2; 0.675: none found
    assert learning._best_threshold(yes, no) == best


def test_whole_matches_are_held_out_once_two_have_answers(monkeypatch):
    seen: list[set[int]] = []
    fit = learning._fit

    def spy(rows, used, num_classes):
        seen.append(set(rows.match[used & (rows.answer >= 0)].tolist()))
        return fit(rows, used, num_classes)

    tracks = {"m1": made_track([*DUNKS, *DECOYS]), "m2": made_track([*DUNKS, *DECOYS], seed=2)}
    marks = spans("dunk", DUNKS[:6]) + spans("dunk", DUNKS[:6], match="m2")
    no = spans("dunk", DECOYS[:6]) + spans("dunk", DECOYS[:6], match="m2")
    monkeypatch.setattr(learning, "_fit", spy)
    learn(tracks, marks, no)
    assert {0} in seen
    assert {1} in seen
    assert seen.count({0}) == seen.count({1}) == 1


def test_overlapping_and_repeated_marks_are_borne():
    track = made_track([*DUNKS, *BLOCKS])
    marks = spans("dunk", DUNKS[:3]) * 3 + [Span("m1", "block", DUNKS[0][1], DUNKS[0][2] + 20)]
    no = [Span("m1", "dunk", *DUNKS[1][1:]), Span("m1", "gone class", 100, 101)]
    learned = learn({"m1": track}, marks, no)
    assert np.isfinite(learned.tracks["m1"].probs).all()
    np.testing.assert_allclose(learned.tracks["m1"].probs.sum(axis=1), 1, atol=1e-5)


def test_a_match_that_is_marked_from_start_to_end_is_borne():
    track = made_track([(DUNK, 0, 30), (BLOCK, 30, 60)], seconds=60)
    marks = [Span("m1", "dunk", 0, 30), Span("m1", "block", 30, 60)]
    learned = learn({"m1": track}, marks, [])
    assert np.isfinite(learned.tracks["m1"].probs).all()


def test_constant_features_are_borne():
    track = made_track([], noise=0.0)
    for value in (track.features, np.zeros_like(track.features)):
        rows = TrackRows(value, track.start_s, track.end_s, track.damaged)
        learned = learn({"m1": rows}, spans("dunk", DUNKS[:3]), spans("dunk", BLOCKS[:3]))
        assert np.isfinite(learned.tracks["m1"].probs).all()


def test_a_score_does_not_depend_on_where_the_pieces_are_cut(monkeypatch):
    track, marks = made_track([*DUNKS, *BLOCKS]), spans("dunk", DUNKS[:3])
    whole = learn({"m1": track}, marks, []).tracks["m1"].probs
    monkeypatch.setattr(learning, "CHUNK_ROWS", 7)
    pieces = learn({"m1": track}, marks, []).tracks["m1"].probs
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def track_of(scores: Mapping[float, float], *, seconds: float = 100) -> ScoreTrack:
    """A track of one class, 0 except for peaks at the given times."""
    start_s = np.arange(round(4 * seconds)) / 4
    probs = np.zeros((len(start_s), 2), np.float32)
    for at_s, score in scores.items():
        probs[np.abs(start_s + 0.125 - at_s) < 1.4, 1] = score
    probs[:, 0] = 1 - probs[:, 1]
    damaged = np.zeros(len(start_s), bool)
    return ScoreTrack(("background", "dunk"), start_s, start_s + 0.25, probs, damaged)


def test_the_most_uncertain_teaches_most_and_its_neighbours_teach_less():
    proposals = propose(track_of({5: 0.9, 40: 0.42, 50: 0.36, 90: 0.1}), thresholds={"dunk": 0.4})
    by_peak = {round(p.event.peak_s): p for p in proposals}
    assert sorted(by_peak, key=lambda t: -by_peak[t].teaches)[:1] == [40]
    assert by_peak[50].teaches < 0.55  # ten seconds from a more uncertain one: half
    assert by_peak[5].teaches < 0.4
    assert [t for t, p in by_peak.items() if p.accepted] == [5, 40]


def test_what_was_answered_is_not_proposed_again():
    track = track_of({10: 0.9, 20: 0.8, 30: 0.7, 40: 0.6, 50: 0.5})
    marks = [Span("m1", "dunk", 9.5, 11), Span("m1", "block", 20, 20)]
    no = [Span("m1", "dunk", 30, 30), Span("m1", "block", 40, 40)]
    left = propose(track, marks=marks, rejected=no)
    assert [round(p.event.peak_s) for p in left] == [40, 50]


@pytest.mark.parametrize(("peak_s", "expected"), [(8.9, 0), (9.1, 1), (13.0, 1), (13.2, 0)])
def test_an_answer_is_about_peaks_within_a_second(peak_s, expected):
    event, own = Event("dunk", peak_s, peak_s, peak_s, 0.5), Span("m1", "dunk", 10, 12)
    other = Span("m1", "block", 10, 12)
    assert is_answered(event, [own], []) == is_answered(event, [other], []) == bool(expected)
    assert is_answered(event, [], [own]) == bool(expected)
    assert not is_answered(event, [], [other])


@pytest.mark.slow
def test_ninety_minutes_and_fifty_marks_take_seconds():
    rng = np.random.default_rng(0)
    N = 90 * 60 * RATE_HZ
    start_s = np.arange(N) / RATE_HZ
    features = rng.random((N, 1280), np.float32).astype(np.float16)
    track = TrackRows(features, start_s, start_s + 0.25, np.zeros(N, bool))
    times = itertools.count(20, 100)
    marks = [Span("m1", f"c{k % 5}", t, t + 1.5) for k, t in zip(range(50), times, strict=False)]
    began = time.perf_counter()
    learn({"m1": track}, marks, [])
    assert time.perf_counter() - began < 10

"""Clips in memory, and the views of them."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
import torch
from train_material import SPEC, grey_ramp, write_footage

from touchline.models.backbone import ClipSpec
from touchline.models.errors import FootageError
from touchline.pipeline.clips.augment import augmented_view, jitter_colours, mix_up, view_rng
from touchline.pipeline.clips.load import LabelledClip, each_clip, load_clip, load_clips, plain_view
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.distributed import World
from touchline.pipeline.types import Example


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Three seconds at 4 Hz; the frame at k / 4 s is grey 10 k."""
    path = tmp_path / "ramp.mkv"
    write_footage(path, grey_ramp(12))
    return path


def example(path: Path, start_s: float | None = None, end_s: float | None = None) -> Example:
    return Example(path, "goal", "match", start_s, end_s, "labels.csv line 2")


def greys(clip: LabelledClip, start: int) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in clip.window(start, SPEC.num_frames)]


def test_a_short_example_is_centred_with_what_really_surrounds_it(ramp: Path) -> None:
    # The window of 1 s around 1.25..1.75 s is 1.0..2.0 s: frames 4 to 7.
    clip = load_clip(example(ramp, 1.25, 1.75), SPEC)
    (start,) = clip.even_starts(1)
    assert greys(clip, start) == [40, 50, 60, 70]


def test_windows_may_shift_by_an_eighth_around_a_short_example(ramp: Path) -> None:
    spec = SPEC.with_sampling(num_frames=8, rate_hz=8.0)
    # 8 frames at 8 Hz: one frame of shift on either side of 0.75..1.75 s.
    clip = load_clip(example(ramp, 1.0, 1.5), spec)
    assert clip.last - clip.first == 2
    assert [int(f[0, 0, 0]) for f in clip.window(clip.first, 8)] == [20, 30, 30, 40, 40, 50, 50, 60]


def test_the_nearest_frame_repeats_where_the_footage_has_no_more(ramp: Path) -> None:
    at_start = load_clip(example(ramp, 0.0, 0.5), SPEC)  # centred: -0.25..0.75 s
    assert greys(at_start, at_start.even_starts(1)[0]) == [0, 0, 10, 20]
    at_end = load_clip(example(ramp, 2.75, 3.0), SPEC)  # centred: 2.375..3.375 s
    assert greys(at_end, at_end.even_starts(1)[0]) == [100, 110, 110, 110]


def test_a_whole_file_shorter_than_the_window_is_centred_in_it(tmp_path: Path) -> None:
    write_footage(tmp_path / "short.mkv", grey_ramp(2))
    clip = load_clip(example(tmp_path / "short.mkv"), SPEC)
    assert greys(clip, clip.even_starts(1)[0]) == [0, 0, 10, 10]


def test_windows_of_a_long_example_stay_inside_it(ramp: Path) -> None:
    clip = load_clip(example(ramp, 0.5, 2.5), SPEC)
    assert greys(clip, clip.first) == [20, 30, 40, 50]
    assert greys(clip, clip.last) == [60, 70, 80, 90]
    assert clip.even_starts(3) == [clip.first, clip.first + 2, clip.last]


def test_uniform_sampling_spreads_frames_over_the_whole_example(ramp: Path) -> None:
    # 12 frames in four parts of three: the middle of each, or its first, or its last.
    clip = load_clip(example(ramp), SPEC)

    def shown(place: float) -> list[int]:
        return [int(f[0, 0, 0]) for f in clip.spread(4, np.full(4, place))]

    assert shown(0.5) == [10, 40, 70, 100]
    assert shown(0.0) == [0, 30, 60, 90]
    assert shown(0.99) == [20, 50, 80, 110]
    view = plain_view(clip, SPEC, 0, 1, sampling="uniform")
    assert view[:, 0, 0, 0].tolist() == [10, 40, 70, 100]
    rng = np.random.default_rng(0)
    plain = Augmentation(1.0, flip=False, brightness=0.0, contrast=0.0, saturation=0.0)
    random = augmented_view(clip, SPEC, plain, rng, sampling="uniform")[:, 0, 0, 0].tolist()
    assert [grey // 30 for grey in random] == [0, 1, 2, 3]


def test_uniform_sampling_shows_a_short_example_alone(tmp_path: Path, ramp: Path) -> None:
    spec = SPEC.with_sampling(num_frames=8)
    write_footage(tmp_path / "short.mkv", grey_ramp(4))
    shown = {
        "a file of 4 frames": example(tmp_path / "short.mkv"),
        "a label of 4 frames": example(ramp, 1.0, 2.0),
        "an instant, so the 8 frames about it": example(ramp, 1.5, 1.5),
    }
    greys = {
        name: [int(f[0, 0, 0]) for f in load_clip(e, spec).spread(8, np.full(8, 0.5))]
        for name, e in shown.items()
    }
    assert list(greys.values()) == [
        [0, 0, 10, 10, 20, 20, 30, 30],
        [40, 40, 50, 50, 60, 60, 70, 70],
        [20, 30, 40, 50, 60, 70, 80, 90],
    ]


def test_clips_are_decoded_only_a_few_ahead_of_what_is_taken(ramp: Path) -> None:
    begun = []

    def load(example: Example, spec: ClipSpec, *, max_clip_s: float | None = None) -> LabelledClip:
        begun.append(example)
        return load_clip(example, spec, max_clip_s=max_clip_s)

    most_ahead = 2 * (os.cpu_count() or 1) + 1
    examples = [example(ramp, k / 400, 1.0) for k in range(most_ahead + 5)]
    clips = each_clip(examples, SPEC, load=load)
    assert next(clips).example == examples[0]
    assert len(begun) <= most_ahead
    assert [clip.example for clip in clips] == examples[1:]


def test_who_stops_early_does_not_wait_for_what_has_not_begun(ramp: Path) -> None:
    begun, go_on = [], Event()

    def load(example: Example, spec: ClipSpec, *, max_clip_s: float | None = None) -> LabelledClip:
        begun.append(example)
        if len(begun) > 1:
            go_on.wait(60)
        return load_clip(example, spec, max_clip_s=max_clip_s)

    clips = each_clip([example(ramp, k / 400, 1.0) for k in range(50)], SPEC, load=load)
    assert isinstance(clips, Generator)
    next(clips)
    Timer(0.2, go_on.set).start()
    clips.close()
    # The first, and what each thread was at.
    assert len(begun) <= 1 + (os.cpu_count() or 1)


def test_what_another_process_cannot_read_is_left_out_here_too(
    ramp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TwoProcesses(World):
        def merged(self, mine: dict[int, object]) -> dict[int, object]:
            return {1: FootageError("share/b.mkv", "a stale handle"), **mine}

    monkeypatch.setattr("touchline.pipeline.clips.load.current_world", TwoProcesses)
    examples = [example(ramp, k / 4, 1.0) for k in range(3)]
    loaded = load_clips(examples, SPEC, max_bad=1)
    assert [clip.example for clip in loaded.clips] == [examples[0], examples[2]]
    assert loaded.problems == ["share/b.mkv: a stale handle"]
    with pytest.raises(FootageError, match="1 of 3 examples cannot be read"):
        load_clips(examples, SPEC)


def test_clips_that_would_not_fit_into_memory_are_refused(
    ramp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [example(ramp, 0.0, 1.0)] * 3  # 4 frames and one of jitter: 3 KiB each and more
    num_bytes = load_clips(examples, SPEC).clips[0].num_bytes
    room = "touchline.pipeline.clips.load.memory_per_process"
    monkeypatch.setattr(room, lambda: 4.0 * num_bytes)
    assert len(load_clips(examples, SPEC).clips) == 3
    monkeypatch.setattr(room, lambda: 3.9 * num_bytes)
    with pytest.raises(ValueError, match=r"3 examples take more than .* --cache FOLDER"):
        load_clips(examples, SPEC)
    monkeypatch.setattr(room, lambda: 2.6 * num_bytes)
    with pytest.raises(FootageError, match=r"ramp\.mkv: too long for one example"):
        load_clips(examples[:1], SPEC)


def test_no_more_of_a_clip_is_used_than_asked(ramp: Path) -> None:
    for labelled in (example(ramp), example(ramp, 0.0, 3.0)):
        clip = load_clip(labelled, SPEC, max_clip_s=2.0)
        assert greys(clip, clip.last) == [40, 50, 60, 70]


def test_plain_views_are_the_centre_square(tmp_path: Path) -> None:
    pictures = [np.zeros((16, 24, 3), np.uint8) for _ in range(4)]
    for picture in pictures:
        picture[:, 4:20] = 200
    write_footage(tmp_path / "wide.mkv", pictures)
    view = plain_view(load_clip(example(tmp_path / "wide.mkv"), SPEC), SPEC, 0, 1)
    assert view.shape == (4, 3, 16, 16)
    assert view.dtype == torch.uint8
    assert bool((view == 200).all())


def test_a_label_past_the_end_names_its_line(ramp: Path) -> None:
    with pytest.raises(FootageError, match=r"line 2 begins at 8\.625 s, past the end of the video"):
        load_clip(example(ramp, 9.0, 9.25), SPEC)


def test_unreadable_clips_are_skipped_up_to_the_number_allowed(ramp: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    examples = [example(tmp_path / "text.mp4"), example(ramp), example(tmp_path / "none.mp4")]
    loaded = load_clips(examples, SPEC, max_bad=2)
    assert [c.example.path for c in loaded.clips] == [ramp]
    assert ["text.mp4" in loaded.problems[0], "none.mp4" in loaded.problems[1]] == [True, True]
    with pytest.raises(FootageError, match=r"text.mp4: .* \(2 of 3 examples cannot be read"):
        load_clips(examples, SPEC, max_bad=1)


def test_stretches_that_nobody_labelled_are_left_out_where_they_cannot_be_read(
    ramp: Path, tmp_path: Path
) -> None:
    def stretch(path: Path, start_s: float) -> Example:
        return replace(example(path, start_s, start_s + 1), label="background", optional=True)

    labelled, past = example(ramp, 0.0, 1.0), [stretch(ramp, 20.0), stretch(ramp, 30.0)]
    loaded = load_clips([*past, labelled, stretch(ramp, 1.0)], SPEC)
    assert [c.example.start_s for c in loaded.clips] == [0.0, 1.0]
    (problem,) = loaded.problems
    assert problem.startswith(f"{ramp}: 2 of 3 background examples (")
    assert problem.endswith("past the end of the video)")
    # Labels must be there, and so must something of every file that was named.
    with pytest.raises(FootageError, match=r"1 of 2 examples cannot be read"):
        load_clips([stretch(ramp, 1.0), example(ramp, 20.0, 21.0)], SPEC)
    with pytest.raises(FootageError, match=r"gone\.mkv: no such file \(1 of 2 examples"):
        load_clips([labelled, stretch(tmp_path / "gone.mkv", 0.0)], SPEC)


def views(clip: LabelledClip, augmentation: Augmentation, seed: int, count: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.stack([augmented_view(clip, SPEC, augmentation, rng) for _ in range(count)])


def test_augmented_views_depend_on_the_seed_alone(ramp: Path) -> None:
    clip = load_clip(example(ramp), SPEC)
    first = views(clip, Augmentation(), 1, 5)
    assert first.shape == (5, 4, 3, 16, 16)
    assert torch.equal(first, views(clip, Augmentation(), 1, 5))
    assert not torch.equal(first, views(clip, Augmentation(), 2, 5))


def test_views_are_mirrored_only_where_flips_are_on(tmp_path: Path) -> None:
    pictures = [np.zeros((16, 16, 3), np.uint8) for _ in range(4)]
    for picture in pictures:
        picture[:, 8:] = 200  # bright on the right
    write_footage(tmp_path / "half.mkv", pictures)
    clip = load_clip(example(tmp_path / "half.mkv"), SPEC)
    plain = {"min_area": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}

    def bright_left(augmentation: Augmentation) -> set[bool]:
        made = views(clip, augmentation, 0, 20)
        return {bool(v[..., :8].float().mean() > v[..., 8:].float().mean()) for v in made}

    assert bright_left(Augmentation(flip=False, **plain)) == {False}
    assert bright_left(Augmentation(flip=True, **plain)) == {False, True}


def test_views_depend_on_the_example_and_their_number_alone(ramp: Path) -> None:
    other = Example(ramp, "goal", "match", 1.0, 2.0)
    drawn = {
        view_rng(seed, e, number).random()
        for seed in (0, 1)
        for e in (example(ramp), other)
        for number in (0, 1)
    }
    assert len(drawn) == 8
    elsewhere = Example(Path("/other") / ramp.name, "goal", "another match")
    assert view_rng(0, elsewhere, 1).random() == view_rng(0, example(ramp), 1).random()


def test_saturation_leaves_greys_alone_and_moves_colours() -> None:
    view = torch.tensor([100.0, 150.0, 50.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    only = Augmentation(brightness=0.0, contrast=0.0, saturation=0.5)
    grey = 0.299 * 100 + 0.587 * 150 + 0.114 * 50
    out = jitter_colours(view, only, np.random.default_rng(0))[0, :, 0, 0]
    spread = (out - grey) / (torch.tensor([100.0, 150.0, 50.0]) - grey)
    assert spread.tolist() == pytest.approx([spread[0].item()] * 3, rel=1e-4)
    assert abs(spread[0].item() - 1) > 1e-3
    even = torch.full((1, 3, 2, 2), 90.0)
    assert jitter_colours(even, only, np.random.default_rng(0)).flatten().tolist() == pytest.approx(
        [90.0] * 12
    )


def test_mixup_blends_inputs_and_targets_alike() -> None:
    x = torch.tensor([[0.0], [10.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for seed in range(10):
        mixed, blended = mix_up(x, targets, 1.0, np.random.default_rng(seed))
        torch.testing.assert_close(mixed[:, 0] / 10, blended[:, 1])
        assert blended.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    pixels, _ = mix_up(x.to(torch.uint8), targets, 1.0, np.random.default_rng(0))
    assert pixels.dtype == torch.uint8


@pytest.mark.parametrize("change", [{"min_area": 0.0}, {"brightness": 1.0}, {"saturation": -0.1}])
def test_augmentation_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Augmentation(**change)


def test_all_frames_of_a_view_are_varied_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)
    write_footage(tmp_path / "still.mkv", [picture] * 4)
    clip = load_clip(example(tmp_path / "still.mkv"), SPEC)
    for view in views(clip, Augmentation(), 3, 5):
        assert torch.equal(view, view[:1].expand_as(view))

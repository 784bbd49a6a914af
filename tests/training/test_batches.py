"""Epoch plans, banked features and the cache of clips and features."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from train_material import (
    SPEC,
    TinyBackbone,
    grey_ramp,
    made_examples,
    tiny_backbone,
    write_footage,
)

from touchline.models.backbone import trunk_digest
from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline.clips.load import load_clip, load_clips, plain_view
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.distributed import World
from touchline.pipeline.training import batches as inputs_module
from touchline.pipeline.training import cache
from touchline.pipeline.training.batches import BatchSource, plan_epoch
from touchline.pipeline.training.cache import ClipStore
from touchline.pipeline.training.options import TrainOptions, ViewPlan
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = ViewPlan(Augmentation(), "dense", cached=2, val=2, seed=0)


def plan(epoch: int = 0, num_examples: int = 10, **options: object) -> list[list[int]]:
    chosen = {"batch_size": 4, "accumulate": 1, "seed": 0} | options
    return [s.everyone.tolist() for s in plan_epoch(epoch, num_examples, **chosen)]  # type: ignore[arg-type]


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own() -> None:
    assert sorted(i for step in plan() for i in step) == list(range(10))
    assert [len(step) for step in plan()] == [4, 3, 3]
    assert plan() == plan()
    assert plan() != plan(epoch=1)
    assert plan() != plan(seed=1)


def test_clips_can_be_drawn_with_chances() -> None:
    chances = np.array([0.0] * 5 + [0.2] * 5)
    assert {i for step in plan(chances=chances) for i in step} <= {5, 6, 7, 8, 9}


def test_micro_batches_make_up_a_step() -> None:
    steps = plan_epoch(0, 12, batch_size=2, accumulate=3, seed=0)
    assert [len(step.mine) for step in steps] == [3, 3]
    for step in steps:
        assert np.concatenate(step.mine).tolist() == step.everyone.tolist()


def test_processes_share_out_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = plan_epoch(0, 12, batch_size=4, accumulate=1, seed=0)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(inputs_module, "current_world", lambda rank=rank: World(rank, 2))
        parts.append(plan_epoch(0, 12, batch_size=2, accumulate=1, seed=0))
    for whole, first, second in zip(alone, *parts, strict=True):
        assert first.everyone.tolist() == second.everyone.tolist() == whole.everyone.tolist()
        assert {*first.mine[0], *second.mine[0]} == {*whole.everyone}
    with pytest.raises(ValueError, match="too few for 2 processes"):
        plan_epoch(0, 3, batch_size=1, accumulate=1, seed=0)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return made_examples(tmp_path, ("blue", "red"), 3)


def make_inputs(
    examples: list[Example], freeze: int, plan: ViewPlan = PLAN, cache: Path | None = None
) -> BatchSource:
    torch.manual_seed(0)
    network = SplitNetwork(tiny_backbone(2), freeze=freeze, batch_size=2)
    load = None if cache is None else ClipStore(cache).load
    clips = load_clips(examples, SPEC, load=load).clips
    made = BatchSource(network, clips[:4], clips[4:], plan, cache=cache)
    made.compute_features()
    return made


def train_inputs(made: BatchSource, epoch: int = 0) -> list[torch.Tensor]:
    steps = plan_epoch(epoch, 4, batch_size=2, accumulate=1, seed=0)
    return [x for _, parts in made.train_batches(steps, epoch) for x in parts]


@pytest.mark.parametrize("freeze", [0, 1, 3])
def test_inputs_have_the_shape_of_the_cut(examples: list[Example], freeze: int) -> None:
    made = make_inputs(examples, freeze)
    shape = {0: (2, 4, 3, 16, 16), 1: (2, 4, 4, 8, 8), 3: (2, 8, 4)}[freeze]
    assert [tuple(x.shape) for x in train_inputs(made)] == [shape, shape]
    assert [tuple(x.shape) for x in made.val_batches()] == [shape, shape]


def test_banked_views_are_the_fresh_ones_of_their_numbers(examples: list[Example]) -> None:
    # With one cached view every epoch shows what a fresh epoch 0 shows.
    banked = make_inputs(examples, 2, replace(PLAN, cached=1))
    fresh = make_inputs(examples, 2, replace(PLAN, cached=0))
    for a, b in zip(train_inputs(banked), train_inputs(fresh), strict=True):
        torch.testing.assert_close(a, b)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(train_inputs(fresh, 0), train_inputs(fresh, 1), strict=True)
    )


def test_views_of_the_same_frames_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ramp.mkv"
    write_footage(path, grey_ramp(12))
    window_s = SPEC.num_frames / SPEC.rate_hz
    examples = [Example(path, "a", "m", 0.0, n * window_s) for n in (1, 2, 1)]
    clips = load_clips(examples, SPEC).clips
    network = SplitNetwork(tiny_backbone(2), freeze=3, batch_size=2)
    made = BatchSource(network, [], clips, replace(PLAN, cached=0, val=3))
    ran: list[int] = []
    run_frozen = network.run_frozen

    def counted(views: list[torch.Tensor]) -> torch.Tensor:
        ran.append(len(views))
        return run_frozen(views)

    monkeypatch.setattr(network, "run_frozen", counted)
    made.compute_features()
    # Three windows of the long clip, and one of each clip that is as long as a window.
    assert sum(ran) == 3 + 1 + 1
    views = [plain_view(clip, SPEC, k, 3, sampling="dense") for clip in clips for k in range(3)]
    torch.testing.assert_close(torch.cat(list(made.val_batches())), run_frozen(views))


def test_cached_features_are_the_same_and_not_computed_again(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make_inputs(examples, 3)
    first = make_inputs(examples, 3, cache=tmp_path / "cache")
    monkeypatch.setattr(SplitNetwork, "run_frozen", None)  # would fail
    monkeypatch.setattr(cache, "load_clip", None)
    second = make_inputs(examples, 3, cache=tmp_path / "cache")
    for made in (first, second):
        for a, b in zip(train_inputs(made), train_inputs(plain), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(made.val_batches(), plain.val_batches(), strict=True):
            assert torch.equal(a, b)


def test_features_of_another_trunk_cut_or_seed_are_not_taken_from_the_cache(
    examples: list[Example], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    def files() -> int:
        return len(list((cache / "features").iterdir()))

    make_inputs(examples, 3, cache=cache)
    # Two random views of four clips and a plain one of two.
    assert files() == 10
    make_inputs(examples, 2, cache=cache)
    assert files() == 20
    make_inputs(examples, 3, replace(PLAN, seed=1), cache=cache)
    assert files() == 28  # plain views depend on no seed
    first, second = tiny_backbone(2), tiny_backbone(2)
    assert trunk_digest(first, 3, torch.float32) != trunk_digest(second, 3, torch.float32)
    second.load_state_dict(first.state_dict())
    assert trunk_digest(first, 3, torch.float32) == trunk_digest(second, 3, torch.float32)
    assert trunk_digest(first, 3, torch.float32) != trunk_digest(first, 3, torch.bfloat16)


def test_features_that_cannot_be_written_are_one_error_that_names_the_file(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(cache, "write_tensors", full)
    with pytest.raises(TouchlineError, match=r"features/.*: cannot be written \(.*No space left"):
        make_inputs(examples, 3, cache=tmp_path)
    assert list((tmp_path / "features").iterdir()) == []


def test_a_clip_that_cannot_be_written_is_one_error_that_names_the_file(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("6429696 requested and 99872 written")  # all that numpy says

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(TouchlineError, match=r"clips/.*npy: cannot be written \(6429696"):
        ClipStore(tmp_path).load(examples[0], SPEC)
    assert list((tmp_path / "clips").glob("*.npy")) == []


def test_features_of_a_label_cut_shorter_are_not_those_of_the_whole_label(tmp_path: Path) -> None:
    path = tmp_path / "ramp.mkv"
    write_footage(path, grey_ramp(12))
    example = Example(path, "red", "match", 1.0, 1.75)

    def features(max_clip_s: float | None, cache: Path | None) -> torch.Tensor:
        torch.manual_seed(0)
        network = SplitNetwork(tiny_backbone(2), freeze=3)
        clip = load_clip(example, SPEC, max_clip_s=max_clip_s)
        plan = TrainOptions(max_clip_s=max_clip_s).views()
        made = BatchSource(network, [clip], [clip], plan, cache=cache)
        made.compute_features()
        return next(made.val_batches())

    whole = features(None, tmp_path / "cache")
    cut = features(0.25, tmp_path / "cache")
    assert torch.equal(cut, features(0.25, None))
    assert not torch.equal(cut, whole)


def test_a_cached_clip_is_the_decoded_one_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "ramp.mkv"
    write_footage(path, grey_ramp(12))
    example = Example(path, "goal", "match", 0.0, 0.5)
    plain = load_clip(example, SPEC)
    for _ in range(2):
        clip = ClipStore(tmp_path).load(example, SPEC)
        assert isinstance(clip.pixels, np.memmap)
        np.testing.assert_array_equal(clip.pixels, plain.pixels)
        assert (clip.first, clip.last) == (plain.first, plain.last) == (-1, -1)
    assert len(list((tmp_path / "clips").glob("*.npy"))) == 1
    write_footage(path, grey_ramp(12)[::-1])
    np.testing.assert_array_equal(
        ClipStore(tmp_path).load(example, SPEC).pixels, load_clip(example, SPEC).pixels
    )
    ClipStore(tmp_path).load(example, SPEC, max_clip_s=0.25)
    assert len(list((tmp_path / "clips").glob("*.npy"))) == 3
    # A moved file has the same content.
    shutil.move(path, tmp_path / "moved.mkv")
    ClipStore(tmp_path).load(replace(example, path=tmp_path / "moved.mkv"), SPEC)
    assert len(list((tmp_path / "clips").glob("*.npy"))) == 3
    with pytest.raises(FootageError, match="no such file"):
        ClipStore(tmp_path).load(example, SPEC)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no list of open files here")
def test_a_cached_clip_keeps_no_file_open(tmp_path: Path) -> None:
    write_footage(tmp_path / "ramp.mkv", grey_ramp(12))
    store = ClipStore(tmp_path)
    example = Example(tmp_path / "ramp.mkv", "goal", "match", 0.0, 0.5)
    store.load(example, SPEC)
    before = open_files()
    clips = [store.load(example, SPEC) for _ in range(20)]
    views = [plain_view(clip, SPEC, 0, 1) for clip in clips]
    assert open_files() == before
    assert all(torch.equal(view, views[0]) for view in views)
    assert sum(clip.num_bytes for clip in clips) == 0


def test_a_clip_whose_file_cannot_be_read_is_a_footage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.mkv").write_bytes(b"")
    monkeypatch.setattr("touchline.pipeline.training.cache.file_digest", refuse)
    with pytest.raises(FootageError, match=r"a\.mkv: cannot be read: Permission denied"):
        ClipStore(tmp_path).load(Example(tmp_path / "a.mkv", "goal", "match"), SPEC)


def test_features_that_would_not_fit_are_refused_before_they_are_made(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_inputs(examples, 3)
    # 12 views of 8 x 4 floats are 1.5 KiB, which may take an eighth of the memory; those at the
    # earlier cut are twice as large.
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 8, "SC_PAGE_SIZE": 768}.get)
    made.check_memory([3, 0])
    with pytest.raises(ValueError, match=r"features of 12 views .* Use fewer views"):
        made.check_memory([3, 1])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"features of 12 views .* Use fewer views"):
        made.check_memory([3])


def test_nothing_is_kept_between_the_stages_of_a_network_of_several_paths(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyBackbone, "single_path", False)
    network = SplitNetwork(tiny_backbone(2), freeze=2, precision="float32")
    view = plain_view(load_clips(examples[:1], SPEC).clips[0], SPEC, 0, 1)
    assert [network.feature_bytes(view, stages) for stages in range(4)][:3] == [0, 0, 0]
    assert network.feature_bytes(view, 3) > 0


@pytest.mark.parametrize("freeze", [1, 2, 3])
def test_what_a_view_will_take_is_known_beforehand(examples: list[Example], freeze: int) -> None:
    network = SplitNetwork(tiny_backbone(2), freeze=freeze, precision="float32")
    view = plain_view(load_clips(examples[:1], SPEC).clips[0], SPEC, 0, 1)
    carried = network.run_frozen([view])
    known = SplitNetwork(tiny_backbone(2), freeze=0, precision="float32").feature_bytes(
        view, freeze
    )
    assert known == carried.numel() * carried.element_size()

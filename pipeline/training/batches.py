"""Make the inputs of each training step: views of clips, run through the frozen stages."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.clips.augment import augmented_view, view_rng
from touchline.pipeline.clips.load import (
    LabelledClip,
    LoadClip,
    load_clip,
    load_clips,
    one_per_interval,
    plain_view,
)
from touchline.pipeline.clips.windows import batched
from touchline.pipeline.distributed import current_world, memory_per_process
from touchline.pipeline.scoring.kept_features import KeptFeatures
from touchline.pipeline.training.cache import ClipStore, FeatureStore
from touchline.pipeline.training.optimize import Watch
from touchline.pipeline.training.options import TrainOptions, ViewPlan
from touchline.pipeline.training.result import Progress
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.training.targets import make_targets
from touchline.pipeline.types import Example, Float32, Float64

Int = npt.NDArray[np.int64]

ORDER, VIEWS, MIXING, DROPOUT = 1, 2, 3, 4
"""Streams of random numbers, separate from those of the views."""


@dataclass(frozen=True)
class Step:
    """The examples of one optimizer step, as indices.

    Attributes:
        everyone: The examples of all processes.
        mine: The examples of this process, one array per micro-batch.
    """

    everyone: Int
    mine: tuple[Int, ...]


def plan_epoch(
    epoch: int,
    num_examples: int,
    *,
    batch_size: int,
    accumulate: int,
    seed: int,
    chances: Float64 | None = None,
) -> list[Step]:
    """Return the steps of an epoch: every example once in random order, or drawn at random.

    A step has about batch_size * accumulate examples of each process.

    Args:
        epoch: The number of the epoch, from 0.
        num_examples: How many training examples there are.
        batch_size: Examples per micro-batch and process.
        accumulate: Micro-batches per step.
        seed: Seed of the order.
        chances: (num_examples,) probabilities to draw examples with; None takes each one once.

    Raises:
        ValueError: There are fewer examples than processes.
    """
    world = current_world()
    rng = np.random.default_rng([ORDER, seed, epoch])
    if chances is None:
        order = rng.permutation(num_examples)
    else:
        order = rng.choice(num_examples, num_examples, p=chances)
    step_size = batch_size * accumulate * world.size
    steps = np.array_split(order, -(-num_examples // step_size))
    if min(len(step) for step in steps) < world.size:
        raise ValueError(
            f"batch_size is {batch_size} and there are {num_examples} clips, too few for "
            f"{world.size} processes"
        )
    plan = []
    for step in steps:
        mine = step[world.rank :: world.size]
        parts = np.array_split(mine, min(accumulate, len(mine)))
        plan.append(Step(step, tuple(parts)))
    return plan


class BatchSource:
    """Makes the training and validation inputs of a network: views of clips as frozen features.

    With frozen stages, the features of a few random views per clip and of all validation views are
    computed once and kept. Otherwise every epoch has new random views.
    """

    def __init__(
        self,
        network: SplitNetwork,
        clips: Sequence[LabelledClip],
        val_clips: Sequence[LabelledClip],
        plan: ViewPlan,
        *,
        cache: Path | None = None,
        on_view: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Call `compute_features` before taking batches.

        Args:
            network: The network, split where freezing ends.
            clips: The training clips.
            val_clips: The validation clips.
            plan: Which views of a clip there are.
            cache: Folder of frozen features that later runs reuse.
            on_view: Called with the number of views that are done and of those to be done.
        """
        self._network = network
        self._clips = clips
        self._val_clips = val_clips
        self._plan = plan
        self._cache = cache
        self._on_view = on_view
        self._world = current_world()
        self._workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
        self._features: Tensor | None = None  # (views, N, ...)
        self._val: Tensor | None = None  # (N * views, ...)

    @property
    def num_cached_views(self) -> int:
        """How many random views of each clip have their features computed once; 0 if none have."""
        if self._network.split_at == 0:
            return 0
        return min(self._plan.cached, 1) if self._plan.augmentation is None else self._plan.cached

    def compute_features(self, watch: Watch = lambda done, total: None) -> None:
        """Compute the features that are kept; repeat it whenever the network's split moves.

        Args:
            watch: Called with the number of views that this process has computed, and the number
                that it must compute; those in the cache do not count.
        """
        self._features = self._val = None
        if self._network.split_at == 0:
            return
        random = [
            _View(clip, k, random=True)
            for k in range(self.num_cached_views)
            for clip in self._clips
        ]
        plain = self._plain()
        rows = self._features_of([*random, *plain], watch)
        if random:
            shape = (self.num_cached_views, len(self._clips), *rows[0].shape)
            self._features = torch.stack(rows[: len(random)]).reshape(shape)
        if plain:
            self._val = torch.stack(rows[len(random) :])

    def check_memory(self, freezes: Iterable[int]) -> None:
        """Check that features fit into memory, for each number of frozen stages in `freezes`.

        Raises:
            ValueError: The features would take more than half of the memory.
        """
        view = self._make(_View(self._clips[0], 0, random=False))
        num_views = self.num_cached_views * len(self._clips) + self._plan.val * len(self._val_clips)
        for stages in freezes:
            if stages:
                refuse_too_large(self._network.feature_bytes(view, stages) * num_views, num_views)

    def train_batches(
        self, steps: Sequence[Step], epoch: int
    ) -> Iterator[tuple[Step, list[Tensor]]]:
        """Yield every step with the features of each micro-batch; views are made one step ahead."""
        numbers = np.random.default_rng([VIEWS, self._plan.seed, epoch]).integers(
            0, max(1, self.num_cached_views), len(self._clips)
        )
        waiting: deque[tuple[Step, list[list[Future[Tensor]]]]] = deque()
        for step in [*steps, None]:
            if step is not None and self._features is not None:
                yield step, [self._features[numbers[part], part] for part in step.mine]
                continue
            if step is not None:
                views = [
                    [self._submit(_View(self._clips[i], epoch, random=True)) for i in part]
                    for part in step.mine
                ]
                waiting.append((step, views))
            if waiting and (step is None or len(waiting) > 1):
                ready, parts = waiting.popleft()
                yield ready, [self._network.run_frozen([v.result() for v in p]) for p in parts]

    def val_batches(self) -> Iterator[Tensor]:
        """Yield the features of all views of the validation clips, clip by clip."""
        if self._val is not None:
            yield from torch.split(self._val, self._network.batch_size)
            return
        for batch in batched(self._plain(), self._network.batch_size):
            yield self._network.run_frozen([self._make(view) for view in batch])

    def _plain(self) -> list[_View]:
        return [
            _View(clip, k, random=False) for clip in self._val_clips for k in range(self._plan.val)
        ]

    def _submit(self, view: _View) -> Future[Tensor]:
        return self._workers.submit(self._make, view)

    def _make(self, view: _View) -> Tensor:
        """(T, 3, S, S) uint8."""
        spec, plan = self._network.backbone.spec, self._plan
        if not view.random:
            return plain_view(view.clip, spec, view.number, plan.val, sampling=plan.sampling)
        if plan.augmentation is None:
            return plain_view(view.clip, spec, 0, 1, sampling=plan.sampling)
        rng = view_rng(plan.seed, view.clip.example, view.number)
        device = self._network.device
        return augmented_view(
            view.clip, spec, plan.augmentation, rng, sampling=plan.sampling, device=device
        )

    def _features_of(self, views: Sequence[_View], watch: Watch) -> list[Tensor]:
        """Return the features of each view; processes share the work, batch by batch.

        Views that show the same frames, such as all of a clip as long as a window, share one row.
        """
        network, world = self._network, self._world
        shown = [view.shown(network, self._plan) for view in views]
        distinct: dict[tuple[object, ...], _View] = {}
        for frames, view in zip(shown, views, strict=True):
            distinct.setdefault(frames, view)
        store = None if self._cache is None else FeatureStore(self._cache, network)
        batches = dict(enumerate(batched(distinct.values(), network.batch_size)))
        mine: dict[int, Tensor] = {}
        names = {
            i: [(v.clip.example.path, v.name(self._plan)) for v in batches[i]]
            for i in list(batches)[world.rank :: world.size]
        }
        for i in names:
            features = None if store is None else store.read(names[i])
            if features is not None:
                mine[i] = features
        missing = [i for i in names if i not in mine]
        num_missing, computed = sum(len(batches[i]) for i in missing), 0
        for i in missing:
            watch(computed, num_missing)
            self._on_view(i * network.batch_size, len(distinct))
            mine[i] = network.run_frozen([f.result() for f in map(self._submit, batches[i])]).cpu()
            if store is not None:
                store.write(names[i], mine[i])
            computed += len(batches[i])
        merged = world.merged(mine)
        rows = dict(zip(distinct, (row for i in batches for row in merged[i]), strict=True))
        return [rows[frames] for frames in shown]


@dataclass(frozen=True)
class _View:
    """One view of a clip: the random one of this number, or the plain one of this number."""

    clip: LabelledClip
    number: int
    random: bool

    def shown(self, network: SplitNetwork, plan: ViewPlan) -> tuple[object, ...]:
        """Return what is the same for views of the same frames."""
        if self.random:
            return (id(self.clip), self.number)
        num_frames = network.backbone.spec.num_frames
        index = self.clip.view_index(num_frames, self.number, plan.val, sampling=plan.sampling)
        return (id(self.clip), index.tobytes())

    def name(self, plan: ViewPlan) -> tuple[object, ...]:
        """Return all that the view depends on, except the footage and the network."""
        clip, example = self.clip, self.clip.example
        # A shorter label moves the window around it, but the number of frames may stay the same.
        label = (example.start_s, example.end_s, plan.max_clip_s)
        frames = (*label, clip.first, clip.last, clip.begin, clip.end, len(clip.pixels))
        if not self.random:
            return ("plain", plan.sampling, self.number, plan.val, frames)
        drawn = (plan.augmentation, plan.seed, self.number, example.path.name, example.label)
        return ("random", plan.sampling, *drawn, frames)


def refuse_too_large(num_bytes: int, num_views: int) -> None:
    """Check that features fit into memory.

    Args:
        num_bytes: Their size.
        num_views: The number of views.

    Raises:
        ValueError: They would take more than half of the memory.
    """
    memory = memory_per_process()
    needed = 2 * num_bytes  # twice while they are joined
    if needed > memory / 2:
        raise ValueError(
            f"features of {num_views} views at the end of the frozen stages would take "
            f"{needed / 2**30:.1f} of {memory / 2**30:.1f} GiB memory. Use fewer views "
            "(--cached-views, 0 for none; --val-views), or freeze more stages"
        )


@dataclass(frozen=True)
class Material:
    """The clips of a training run, and their targets.

    Attributes:
        train_clips: The training clips.
        val_clips: The validation clips.
        targets: (N, K) of the training clips, see `make_targets`.
        val_targets: (N, K) of the validation clips.
        problems: One message per example that could not be read.
    """

    train_clips: list[LabelledClip]
    val_clips: list[LabelledClip]
    targets: Float32
    val_targets: Float32
    problems: list[str]


def load_material(
    model: TrainedModel,
    train: Sequence[Example],
    val: Sequence[Example],
    options: TrainOptions,
    *,
    cache: Path | None = None,
    kept: KeptFeatures | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    watch: Watch = lambda done, total: None,
) -> Material:
    """Decode the training and validation examples and make their targets.

    Args:
        model: The model to train, for its classes and input.
        train: The training examples.
        val: The validation examples.
        options: How to train.
        cache: Folder of decoded clips that later runs reuse.
        kept: Features of whole matches: an example that they cover is not decoded.
        on_progress: Called after each example.
        watch: Called with the number of examples decoded, and the number that must be decoded;
            those in the cache or in `kept` do not count.

    Raises:
        FootageError: More than `options.max_bad` examples cannot be read.
        ValueError: No training clip can be read, or the clips do not fit into memory.
    """
    if model.multi_label:
        train_examples, val_examples = one_per_interval(train), one_per_interval(val)
    else:
        train_examples, val_examples = list(train), list(val)
    done, total = 0, len(train_examples) + len(val_examples)

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(Progress("reading clips", done, total))

    examples = [*train_examples, *val_examples]
    loaded = load_clips(
        examples,
        model.spec,
        max_clip_s=options.max_clip_s,
        max_bad=options.max_bad,
        load=_ClipSource(
            examples,
            model.spec,
            max_clip_s=options.max_clip_s,
            cache=cache,
            kept=kept,
            watch=watch,
        ).load,
        on_clip=count,
    )
    in_train = {id(e) for e in train_examples}
    clips = [c for c in loaded.clips if id(c.example) in in_train]
    val_clips = [c for c in loaded.clips if id(c.example) not in in_train]
    if not clips:
        raise ValueError("no training clip can be read: " + "; ".join(loaded.problems[:3]))

    def targets(of: Sequence[LabelledClip], among: Sequence[Example]) -> Float32:
        return make_targets(
            [c.example for c in of], model.labels, among=among if model.multi_label else ()
        )

    return Material(
        clips, val_clips, targets(clips, train), targets(val_clips, val), loaded.problems
    )


class _ClipSource:
    """Loads clips from where they are: features of whole matches, the cache, or the footage."""

    def __init__(
        self,
        examples: Sequence[Example],
        spec: ClipSpec,
        *,
        max_clip_s: float | None,
        cache: Path | None,
        kept: KeptFeatures | None,
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._decode: LoadClip = load_clip
        self._known: dict[int, LabelledClip] = {}
        self._counting, self._decoded = Lock(), 0
        for example in examples:
            clip = None if kept is None else kept.clip(example, spec, max_clip_s=max_clip_s)
            if clip is not None:
                self._known[id(example)] = clip
        self._missing = {id(example) for example in examples} - set(self._known)
        if cache is not None:
            store = ClipStore(cache)
            self._decode = store.load
            self._missing -= {
                id(example)
                for example in examples
                if id(example) in self._missing and store.has(example, spec, max_clip_s=max_clip_s)
            }
        watch(0, len(self._missing))

    def load(
        self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip:
        """Load an example, like `load_clip`."""
        known = self._known.get(id(example))
        if known is not None:
            return known
        clip = self._decode(example, spec, max_clip_s=max_clip_s)
        if id(example) in self._missing:
            with self._counting:
                self._decoded += 1
                self._watch(self._decoded, len(self._missing))
        return clip

"""The clips that a network is trained and validated on, and what it should answer to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.dataset import LabelledClip, load_clips
from touchline.pipeline.targets import make_targets, one_per_interval
from touchline.pipeline.train_cache import ClipStore
from touchline.pipeline.train_options import Progress, TrainOptions
from touchline.pipeline.types import Example, Float32


@dataclass(frozen=True)
class Material:
    """The clips of both parts, and what a network should answer to them: (N, K) each."""

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
    cache: Path | None,
    on_progress: Callable[[Progress], None],
) -> Material:
    """The clips of both parts with their targets, and a message per example not readable."""
    if model.multi_label:
        train_examples, val_examples = one_per_interval(train), one_per_interval(val)
    else:
        train_examples, val_examples = list(train), list(val)
    done, total = 0, len(train_examples) + len(val_examples)

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(Progress("reading clips", done, total))

    loaded = load_clips(
        [*train_examples, *val_examples],
        model.spec,
        max_clip_s=options.max_clip_s,
        max_bad=options.max_bad,
        load=None if cache is None else ClipStore(cache).load,
        on_clip=count,
    )
    in_train = {id(e) for e in train_examples}
    clips = [c for c in loaded.clips if id(c.example) in in_train]
    val_clips = [c for c in loaded.clips if id(c.example) not in in_train]
    if not clips:
        raise ValueError("not one training clip can be read: " + "; ".join(loaded.problems[:3]))

    def targets(of: Sequence[LabelledClip], among: Sequence[Example]) -> Float32:
        return make_targets(
            [c.example for c in of], model.labels, among=among if model.multi_label else ()
        )

    return Material(
        clips, val_clips, targets(clips, train), targets(val_clips, val), loaded.problems
    )

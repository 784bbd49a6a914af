"""Measure how much faster epochs are if the features of a frozen trunk are computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import prepare
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.types import Float32

EPOCHS = 3


@dataclass(frozen=True)
class CacheSpeed:
    """Seconds per epoch over the same clips, with the whole trunk frozen.

    Attributes:
        num_clips: Number of training clips.
        num_views: Augmented views of each clip whose features are kept.
        once_s: Seconds spent once: reading and decoding the clips, which fresh views need too, and
            computing the features.
        banked_epoch_s: Seconds per epoch with the kept features.
        fresh_epoch_s: Seconds per epoch if the features are computed in every epoch.
    """

    num_clips: int
    num_views: int
    once_s: float
    banked_epoch_s: float
    fresh_epoch_s: float

    @property
    def ratio(self) -> float:
        """How many times faster an epoch is with the kept features."""
        return self.fresh_epoch_s / self.banked_epoch_s


def bench_cache(job: TrainJob, *, device: str = "auto") -> CacheSpeed:
    """Train the head of `job` for a few epochs with kept features, then without."""
    job = replace(job, freeze="trunk", val_groups=None, val_share=0.0)
    model, split, job = prepare(job, device=device)
    seconds: dict[int, list[float]] = {}
    for views in (job.options.cached_views, 0):
        ends_s = seconds[views] = []

        def on_epoch(
            row: dict[str, float], val_probs: Float32, ends_s: list[float] = ends_s
        ) -> None:
            ends_s.append(row["seconds"])

        options = replace(job.options, cached_views=views, epochs=EPOCHS + 1, max_seconds=None)
        fine_tune(model, split.train, (), options, device=device, on_epoch=on_epoch)
    banked, fresh = seconds.values()
    banked_epoch_s = (banked[-1] - banked[0]) / EPOCHS
    return CacheSpeed(
        num_clips=len(split.train),
        num_views=job.options.cached_views,
        once_s=banked[0] - banked_epoch_s,
        banked_epoch_s=banked_epoch_s,
        fresh_epoch_s=(fresh[-1] - fresh[0]) / EPOCHS,
    )

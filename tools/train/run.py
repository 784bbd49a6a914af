"""What `touchline train` does once its options are read: where it works, and when it talks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from touchline.tools import console
from touchline.tools.train.screen import (
    conclude,
    downloading,
    introduce,
    tensorboard_log,
    warn_after,
    warn_before,
)

if TYPE_CHECKING:
    from touchline.pipeline.runs.options import TrainJob


@dataclass(frozen=True)
class Places:
    """Where a run works and what it leaves."""

    out: Path
    device: str
    cache: Path | None
    resume: bool
    overwrite: bool
    tensorboard: bool

    def check(self) -> None:
        """ValueError where OUT holds a model that nobody asked to replace."""
        from touchline.pipeline.runs.run import MODEL_FILE, SNAPSHOT_FILE

        goes_on = self.resume and (self.out / SNAPSHOT_FILE).exists()
        if (self.out / MODEL_FILE).exists() and not (self.overwrite or goes_on):
            raise ValueError(
                f"{self.out} holds a trained model already: name another folder, or replace it "
                "with --overwrite"
            )


def train(job: TrainJob, places: Places, *, quiet: bool) -> None:
    """Everything once the job is known; of several processes only the first one talks."""
    from touchline.pipeline.distributed import process_group
    from touchline.pipeline.runs.plots import can_plot
    from touchline.pipeline.runs.prepare import label_warnings, prepare, too_hopeful
    from touchline.pipeline.runs.run import SNAPSHOT_FILE, run_training

    began = time.monotonic()
    places.check()
    with process_group(places.device) as (world, device):
        talks = world.is_first
        quiet = quiet or not talks
        with downloading(quiet=quiet) as on_download:
            model, split, job = prepare(job, device=device, on_download=on_download)
        if not quiet:
            introduce(model.backbone, split, job.weights)
        with console.phase_bars(quiet=quiet) as on_progress:
            problems = label_warnings(
                split, max_clip_s=job.options.max_clip_s, on_progress=on_progress
            )
        if talks:
            warn_before(split, job, problems, too_hopeful(model, split))
        with (
            console.phase_bars(quiet=quiet) as on_progress,
            tensorboard_log(places.out, wanted=places.tensorboard and talks) as on_epoch,
        ):
            try:
                result, metrics = run_training(
                    model,
                    split,
                    job,
                    places.out,
                    device=device,
                    cache=places.cache,
                    resume=places.resume,
                    on_progress=on_progress,
                    on_epoch=on_epoch,
                    already_s=time.monotonic() - began,
                )
            except KeyboardInterrupt:
                if talks and (places.out / SNAPSHOT_FILE).exists():
                    console.warn("the same command with --resume goes on from the last minute")
                raise
        if talks:
            warn_after(result)
            if not can_plot():
                console.warn("no pictures of the curves: pip install 'touchline[plot]'")
        if not quiet:
            conclude(result, metrics, places.out)

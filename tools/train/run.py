"""Run `touchline train` once its options are read."""

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
    """Where and how a run works.

    Attributes:
        out: The run folder.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and frozen features that later runs reuse.
        resume: Whether to continue the unfinished run in `out`.
        overwrite: Whether to replace the model in `out`.
        tensorboard: Whether to log to TensorBoard.
    """

    out: Path
    device: str
    cache: Path | None
    resume: bool
    overwrite: bool
    tensorboard: bool

    def check(self) -> None:
        """Check that no model is replaced by accident.

        Raises:
            ValueError: `out` holds a model, and neither `overwrite` nor `resume` applies.
        """
        from touchline.pipeline.runs.run import MODEL_FILE, SNAPSHOT_FILE

        continues = self.resume and (self.out / SNAPSHOT_FILE).exists()
        if (self.out / MODEL_FILE).exists() and not (self.overwrite or continues):
            raise ValueError(
                f"{self.out} holds a trained model already. Name another folder, or replace the "
                "model with --overwrite"
            )


def train(job: TrainJob, places: Places, *, quiet: bool) -> None:
    """Prepare and train a job, and show how it goes; of several processes only the first prints.

    Args:
        job: Which network to train on which labels.
        places: Where and how the run works.
        quiet: Whether to print only warnings and errors.
    """
    from touchline.pipeline.distributed import process_group
    from touchline.pipeline.runs.plots import can_plot
    from touchline.pipeline.runs.prepare import label_warnings, prepare, too_hopeful, unused_options
    from touchline.pipeline.runs.run import SNAPSHOT_FILE, run_training
    from touchline.pipeline.teaching.training import with_features
    from touchline.pipeline.training.optimize import BudgetClock
    from touchline.pipeline.training.result import Progress

    began = time.monotonic()
    places.check()
    if places.resume and not (places.out / SNAPSHOT_FILE).exists():
        console.warn(f"{places.out} holds no unfinished run, so --resume starts a new one")
    with process_group(places.device) as (world, device):
        is_first = world.is_first
        quiet = quiet or not is_first
        with downloading(quiet=quiet) as on_download:
            job = with_features(job, places.cache)
            model, split, job = prepare(job, device=device, on_download=on_download)
        if not quiet:
            introduce(model.backbone, split, job.weights)
        clock = BudgetClock(job.options.max_seconds, elapsed_s=time.monotonic() - began)
        watch = clock.watch("comparing the clips")
        with console.phase_bars(quiet=quiet) as on_progress:

            def on_compared(news: Progress) -> None:
                on_progress(news)
                watch(int(news.done), int(news.total))

            problems = label_warnings(
                split, max_clip_s=job.options.max_clip_s, on_progress=on_compared
            )
        if is_first:
            warn_before(split, job, problems, too_hopeful(model, split))
            if unused := unused_options(job, num_stages=len(model.backbone.stage_names)):
                console.warn(
                    f"no effect: {', '.join(unused)}. --head {job.head} is fitted to a frozen "
                    "trunk without a training loop. Free stages with --freeze, or use --head own"
                )

        def tell(note: str) -> None:
            if not quiet:
                console.say(note)

        with (
            console.phase_bars(quiet=quiet) as on_progress,
            tensorboard_log(places.out, wanted=places.tensorboard and is_first) as on_epoch,
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
                    on_note=tell,
                    already_s=time.monotonic() - began,
                )
            except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
                if is_first and (places.out / SNAPSHOT_FILE).exists():
                    console.warn(
                        "repeat the command with --resume to continue from the last minute"
                    )
                raise
        if is_first:
            warn_after(result)
            if not can_plot():
                console.warn("no plots without matplotlib. Run pip install 'touchline[plot]'")
        if not quiet:
            conclude(metrics, places.out)

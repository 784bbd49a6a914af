"""`touchline bench teach`: how much a few marks teach, with a simulated person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.pipeline.teaching.options import StudioOptions
from touchline.tools import console

DEFAULTS = StudioOptions()


def bench_teach_command(
    footage: Annotated[Path, typer.Argument(metavar="FOOTAGE", help="A footage file.")],
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="All its events, in any label format.")
    ],
    cache: Annotated[Path, typer.Option(help="Folder where the features are kept.")] = Path(
        "teach-cache"
    ),
    plot: Annotated[Path | None, typer.Option(help="Write the curve as a picture (PNG).")] = None,
    cold: Annotated[
        Path | None,
        typer.Option(help="Also time the start with a match never seen before: this footage."),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="A backbone that can run over a whole match.")
    ] = DEFAULTS.backbone,
    weights: Annotated[str, typer.Option(help="Its pretrained weights.")] = DEFAULTS.weights,
) -> None:
    """Mark 1, 2, 4 and 8 events of each class as a person would, answer twice ten proposals, and
    count what is found of the rest.
    """
    from tempfile import TemporaryDirectory

    import numpy as np
    from rich.table import Table

    from touchline.models.engines.machine import machine
    from touchline.models.errors import TouchlineError
    from touchline.pipeline.benchmarks.teach import (
        TOLERANCE_S,
        bench_teach,
        cold_start,
        learning_seconds,
        match_features,
        plot_lessons,
    )
    from touchline.pipeline.labels.read import read_labels

    truth = [
        example.event()
        for example in read_labels(labels)
        if example.path.resolve() == footage.resolve() and example.start_s is not None
    ]
    if not truth:
        raise TouchlineError(labels, f"has no events of {footage}")
    options = StudioOptions(backbone=backbone, weights=weights)
    with console.err.status("computing features"):
        rows = match_features(footage, options, cache)
    with console.err.status("teaching"):
        lessons = bench_teach(rows, truth)
        seconds = learning_seconds(rows, truth, duration_s=5400, num_marks=50)
    table = Table(box=None, title=f"{len(truth)} events; F1 at {TOLERANCE_S:g} s, mean of 3 orders")
    for name in ("marks per class", "answers", "F1", "range", "found of the rest", "false"):
        table.add_column(name, justify="right")
    for marks, answers in sorted({(one.marks, one.answers) for one in lessons}):
        own = [one for one in lessons if (one.marks, one.answers) == (marks, answers)]
        f1 = [one.f1 for one in own]
        table.add_row(
            str(marks),
            str(answers),
            f"{np.mean(f1):.3f}",
            f"{min(f1):.2f}-{max(f1):.2f}",
            f"{sum(one.found for one in own)} of {sum(one.rest for one in own)}",
            str(sum(one.false for one in own)),
        )
    console.out.print(table)
    console.out.print(
        f"learning 50 marks on 90 minutes (the features repeated): {seconds:.1f} s; "
        f"the slowest lesson: {max(one.seconds for one in lessons):.1f} s",
        highlight=False,
    )
    if cold is not None:
        with console.err.status("starting cold"), TemporaryDirectory() as folder:
            start = cold_start(cold, options, Path(folder))
        console.out.print(
            f"cold start, {start.footage_s:.0f} s of footage: first proposals after "
            f"{start.proposals_s:.1f} s, all features after {start.features_s:.1f} s",
            highlight=False,
        )
    console.out.print(machine(), highlight=False)
    if plot is not None:
        plot_lessons(lessons, plot)

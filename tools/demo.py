"""`touchline demo`: run everything on rendered matches, and show what pretraining is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.pipeline.demonstration.options import DemoOptions
from touchline.tools import console

DEFAULTS = DemoOptions()

if TYPE_CHECKING:
    from touchline.pipeline.demonstration.demo import Arm, DemoResult


def demo_command(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for everything that the demonstration writes."),
    ],
    seed: Annotated[
        int, typer.Option(help="Random seed of the matches and of the training.")
    ] = DEFAULTS.seed,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Render matches, train a small pretrained network on them, detect plays in a new match.

    The same network is also trained from scratch for the same time, for comparison.
    """
    import time

    from touchline.pipeline.demonstration.demo import run_demo

    started = time.monotonic()
    options = DemoOptions(seed=seed)
    with console.phase_bars(quiet=quiet) as on_progress:
        result = run_demo(out, options, on_progress=on_progress)
    if not quiet:
        _show(result, out, time.monotonic() - started)


def _show(result: DemoResult, out: Path, seconds: float) -> None:
    from rich.table import Table

    from touchline.pipeline.demonstration.court import PLAYS
    from touchline.pipeline.demonstration.demo import NUM_CALIBRATION, NUM_TRAINING

    footage, transfer, scratch = result.footage, result.transfer, result.scratch
    say = console.out.print
    say(
        f"Rendered {NUM_TRAINING} matches to train on, with {footage.num_plays} labelled plays of "
        f"{len(PLAYS)} classes, {NUM_CALIBRATION} matches to set thresholds on, and one match of "
        f"{footage.unseen_s:.0f} s to test on.\n"
        f"Trained on the plays and {transfer.num_negatives} background clips.",
        highlight=False,
    )
    say(console.stages(transfer.backbone, "Stages of the pretrained network"))
    table = Table(box=None, title="Results on the unseen match", title_justify="left")
    table.add_column("")
    for name in ("pretrained, stages frozen", "from scratch, all trained"):
        table.add_column(name, justify="right")
    for row in _figures(transfer, scratch, len(footage.truth)):
        table.add_row(*row)
    say(table)
    say(_events(transfer))
    say(f"{_verdict(transfer, scratch)}\n", highlight=False)
    say(_where(footage.labels, footage.unseen, transfer, out), highlight=False, soft_wrap=True)
    say(f"Finished in {seconds:.0f} s.", highlight=False)


def _figures(transfer: Arm, scratch: Arm, num_truth: int) -> list[tuple[str, str, str]]:
    from touchline.pipeline.demonstration.demo import TOLERANCE_S

    rows = (
        ("training, seconds", "{0.seconds:.0f}"),
        (f"spotting mAP at {TOLERANCE_S:g} s", "{0.mean_average_precision:.3f}"),
        ("right class, share of plays", "{0.accuracy:.3f}"),
        (f"plays found, of {num_truth}", "{0.found}"),
        ("false alarms", "{0.false}"),
    )
    return [(name, form.format(transfer), form.format(scratch)) for name, form in rows]


def _events(arm: Arm) -> Any:
    from rich.table import Table

    from touchline.pipeline.timecode import timecode

    table = Table(box=None, title="True plays and detected events", title_justify="left")
    for name in ("play", "true start", "true end", "detected at", "score"):
        table.add_column(name, justify="left" if name == "play" else "right", no_wrap=True)
    for true, found in arm.rows:
        times = (timecode(true.start_s), timecode(true.end_s)) if true else ("", "")
        if found is None:
            table.add_row(true.label if true else "", *times, "[red]missed[/]", "")
        else:
            peak = (
                timecode(found.peak_s) if true else f"[red]false alarm[/] {timecode(found.peak_s)}"
            )
            table.add_row(found.label, *times, peak, f"{found.score:.2f}")
    return table


def _verdict(transfer: Arm, scratch: Arm) -> str:
    gain = transfer.mean_average_precision - scratch.mean_average_precision
    if gain == 0:
        return "Pretraining made no difference on this match."
    change = "raises" if gain > 0 else "lowers"
    return (
        f"With the same clips and the same {scratch.seconds:.0f} s of training, pretraining "
        f"{change} mAP on this match by {abs(gain):.3f}."
    )


def _where(labels: Path, unseen: Path, arm: Arm, out: Path) -> str:
    from touchline.pipeline.runs.run import MODEL_FILE

    found = arm.folder / unseen.stem
    rows = (
        ("the new match", unseen),
        ("its plays", out / "unseen.csv"),
        ("events found", found / "events.csv"),
        ("open this page", found / "report.html"),
        ("training labels", labels),
        ("the model", arm.folder / MODEL_FILE),
    )
    return console.escape("\n".join(f"{name:<18} {path}" for name, path in rows))

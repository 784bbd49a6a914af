"""touchline watch: analyse footage as it arrives in a folder."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import output_path
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season.options import RunOptions, WatchOptions
from touchline.tools.detect import detect_job, print_start, run_and_show

DEFAULTS = DetectOptions()
RUN_DEFAULTS = RunOptions()


def watch_command(
    folder: Annotated[Path, typer.Argument(help="The folder to watch, with all folders below it.")],
    model: Annotated[str, typer.Option(help="A checkpoint of touchline train.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=output_path,
            metavar="FOLDER",
            help="Folder for the results, as of touchline detect.",
        ),
    ] = Path("out"),
    rest: Annotated[
        float,
        typer.Option(
            help="Seconds for which a file must stay the same before it is analysed. Choose more "
            "than the longest pause of a recording or a copy."
        ),
    ] = WatchOptions().rest_s,
    hop: Annotated[
        float | None,
        typer.Option(
            help="Seconds from the start of one window to the next (default: a quarter of the "
            "window)."
        ),
    ] = DEFAULTS.hop_s,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Lowest score of an event (default: the calibrated threshold of each class, else "
            f"{DEFAULTS.point.threshold:g})."
        ),
    ] = DEFAULTS.threshold,
    spots: Annotated[
        bool, typer.Option("--spots", help="Report each peak as an event without length.")
    ] = DEFAULTS.events.spots,
    to: Annotated[
        str, typer.Option(help="Output formats, comma-separated (touchline export lists them).")
    ] = "csv,json",
    device: Annotated[
        str, typer.Option(help="Where the network runs: auto, cpu, cuda, cuda:1, mps.")
    ] = DEFAULTS.device,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that analyse matches side by side (default: one per device of "
            "--devices, else 0: no extra process)."
        ),
    ] = RUN_DEFAULTS.workers,
    devices: Annotated[
        str, typer.Option(help="The devices of the workers, comma-separated.")
    ] = ",".join(RUN_DEFAULTS.devices),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Analyse footage as it arrives in FOLDER, until Ctrl-C."""
    from touchline.models.load import load_model
    from touchline.pipeline.scoring.options import EventOptions
    from touchline.pipeline.season.watch import Arrivals

    signal.signal(signal.SIGTERM, _stop)
    arrivals = Arrivals(folder, rest_s=rest, leave_out=out)
    trained = load_model(model)
    options = DetectOptions(
        hop_s=hop, threshold=threshold, events=EventOptions(spots=spots), device=device
    )
    job = detect_job(model, options, formats=to, report=True)
    run_options = RunOptions(workers=workers, devices=RunOptions.named(devices))
    print_start(trained, options, say=not quiet)
    run_and_show(Inputs(()), job, trained, out, run_options, say=not quiet, arrivals=arrivals)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt

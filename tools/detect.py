"""touchline detect: footage in, events out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.footage.address import footage_path
from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel
    from touchline.pipeline.outputs.timecode import MatchClock
    from touchline.pipeline.types import MatchResult

EVENTS = "From scores to events"


def detect_command(
    footage: Annotated[
        list[Path],
        typer.Argument(help="Footage files or addresses.", parser=footage_path, metavar="FOOTAGE"),
    ],
    model: Annotated[
        str, typer.Option(help="A checkpoint, or the name of weights with published classes.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for OUT/<stem>/events.csv, ...")
    ] = Path("out"),
    hop: Annotated[
        float | None,
        typer.Option(help="Seconds between windows (default: a quarter of the window)."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="One threshold for all classes (default: calibrated, else 0.5)."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Keep only these classes of the model.")
    ] = None,
    spots: Annotated[
        bool,
        typer.Option(
            "--spots", help="Every peak is an event without length.", rich_help_panel=EVENTS
        ),
    ] = False,
    refractory: Annotated[
        float,
        typer.Option(
            help="Seconds after an event in which its class is a replay; 0: none.",
            rich_help_panel=EVENTS,
        ),
    ] = 0.0,
    smooth: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation in seconds of the Gaussian over scores (default: one hop).",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(
            help="An event goes on while the score is at least this (default: its threshold).",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    join: Annotated[
        float,
        typer.Option(help="Runs at most so many seconds apart are one.", rich_help_panel=EVENTS),
    ] = 1.0,
    min_length: Annotated[
        float, typer.Option(help="Shorter events are dropped.", rich_help_panel=EVENTS)
    ] = 0.0,
    max_length: Annotated[
        float | None,
        typer.Option(help="Longer events are cut around their peak.", rich_help_panel=EVENTS),
    ] = None,
    nms: Annotated[
        float | None,
        typer.Option(
            help="Of peaks at most so many seconds apart the best stays (default: a window for "
            "spots, else 0).",
            rich_help_panel=EVENTS,
        ),
    ] = None,
    soft_nms: Annotated[
        bool,
        typer.Option(
            "--soft-nms", help="Weaken the others instead, by distance.", rich_help_panel=EVENTS
        ),
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            help="Formats to write beside events.json, which is always there; comma-separated "
            "(touchline export lists them)."
        ),
    ] = "csv,json",
    report: Annotated[
        bool, typer.Option(help="A page to look at for each match, and one over the run.")
    ] = True,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    mode: Annotated[
        str, typer.Option(help="windows: each one whole. shared: the trunk once (faster).")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bf16.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Windows per batch.")] = 8,
    decoder: Annotated[
        str, typer.Option(help="pyav, pyav-cuda, decord, opencv, torchcodec or torchcodec-cuda.")
    ] = "pyav",
    stream: Annotated[
        int | None, typer.Option(help="The video stream, by its index in the file.")
    ] = None,
    decode_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that decode one file (default: by cores and length)."),
    ] = None,
    isolation: Annotated[
        bool, typer.Option(help="Decode in processes of their own (--no-isolation for debuggers).")
    ] = True,
    skip_done: Annotated[
        bool, typer.Option("--skip-done", help="Pass over inputs finished earlier.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Find events in FOOTAGE with a trained MODEL."""
    from touchline.models.checkpoint import file_digest
    from touchline.models.load import load_model
    from touchline.pipeline.detection.batch import detect_all
    from touchline.pipeline.detection.detect import DetectOptions
    from touchline.pipeline.footage.isolation import AVAILABLE
    from touchline.pipeline.report.run_page import write_index
    from touchline.pipeline.scoring.events import EventOptions, OperatingPoint

    trained = load_model(model, labels=labels or ())
    options = DetectOptions(
        hop_s=hop,
        threshold=threshold,
        point=OperatingPoint(
            threshold=_default_threshold(trained, threshold, low),
            low=low,
            join_s=join,
            min_length_s=min_length,
            max_length_s=max_length,
        ),
        events=EventOptions(
            smooth_s=smooth, spots=spots, nms_s=nms, soft_nms=soft_nms, refractory_s=refractory
        ),
        device=device,
        precision=precision,
        batch_size=batch_size,
        decoder=decoder,
        mode=mode,
        stream=stream,
        isolation=isolation and AVAILABLE,
        decode_workers=decode_workers,
    )
    clocks = _clocks(footage, kickoff or [], period_min)
    record: dict[str, object] = {"path": model}
    if Path(model).is_file():
        record["sha256"] = file_digest(Path(model))
    say = not quiet and not json_
    if say:
        _introduce(trained, options.hop_s)
    for notice in _notices(trained, threshold):
        console.warn(notice)
    failed = 0
    results = []
    try:
        with console.progress_bar(quiet=not say) as progress:
            task = progress.add_task("", total=1.0, note="")
            log = console.LogLines(quiet=not say)

            def on_start(path: Path) -> None:
                log.begin(path.name)
                progress.reset(task, description=console.escape(path.name[:30]), total=1.0)

            def on_time(done_s: float, total_s: float) -> None:
                progress.update(task, completed=done_s, total=max(total_s, done_s))
                log.tell(done_s, total_s)

            for result in detect_all(
                footage,
                trained,
                out,
                options,
                model_record=record,
                formats=[name.strip() for name in to.split(",")],
                report=report,
                clocks=clocks,
                skip_done=skip_done,
                on_start=on_start,
                on_time=on_time,
            ):
                results.append(result)
                if result.error is not None:
                    failed += 1
                    console.fail(f"{result.path}: {result.error}")
                elif say:
                    _show(result)
                _warn_of(result)
    except KeyboardInterrupt:
        console.fail(
            f"interrupted after {len(results)} of {len(footage)} files (results in {out}): "
            "give the same command with --skip-done to go on"
        )
        raise typer.Exit(130) from None
    if report:
        write_index(results, out, folders=[result.folder or out for result in results])
    if json_:
        console.print_json(_documents(results))
    elif say:
        console.out.print(f"{len(footage) - failed} of {len(footage)} files done; results in {out}")
    if failed:
        raise typer.Exit(1)


def _default_threshold(trained: TrainedModel, threshold: float | None, low: float | None) -> float:
    """The threshold of classes without one of their own, where --low may be as high as this."""
    if threshold is not None:
        return threshold
    calibrated = set(trained.labels[1:]) <= set(trained.thresholds or ())
    return max(0.5, low or 0.0) if calibrated else 0.5


def _clocks(
    footage: list[Path], kickoffs: list[str], period_min: float | None
) -> dict[Path, MatchClock]:
    """The match clock of each file that has a kick-off."""
    from touchline.pipeline.types import MatchResult
    from touchline.tools.results.clock import clocks_of

    found = clocks_of([MatchResult(path) for path in footage], kickoffs, period_min=period_min)
    return {path: c for path, c in zip(footage, found, strict=True) if c is not None}


def _introduce(trained: TrainedModel, hop_s: float | None) -> None:
    from touchline.pipeline.clips.windows import hop_samples

    spec = trained.spec
    hop = hop_samples(spec, hop_s) / spec.rate_hz
    console.out.print(
        f"{trained.architecture}: windows of {spec.duration_s:.2f} s every {hop:.3f} s, {spec}",
        highlight=False,
    )


def _notices(trained: TrainedModel, threshold: float | None) -> list[str]:
    """What the user must know before believing the events."""
    notices = []
    if not trained.thresholds and threshold is None:
        notices.append(
            "this model is not calibrated: every class uses threshold 0.5 "
            "(touchline calibrate sets them by evidence, --threshold by hand)"
        )
    if not trained.has_background:
        notices.append(
            "this model never saw eventless footage: every window gets some class, so expect "
            "false events (touchline train --background FOOTAGE adds negatives)"
        )
    return notices


def _show(result: MatchResult) -> None:
    from rich.table import Table

    from touchline.pipeline.outputs.timecode import MatchClock, timecode

    health = result.health
    clock = MatchClock.from_options(result.options)
    seconds = f", {timecode(health.duration_s)}" if health else ""
    below = len(result.candidates) - len(result.accepted)
    table = Table(
        title=console.escape(f"{result.path.name}{seconds}"), title_justify="left", box=None
    )
    for name in ("start", "end", "peak"):
        table.add_column(name, justify="right", no_wrap=True)
    if clock is not None:
        table.add_column("clock", justify="right")
    table.add_column("label")
    table.add_column("score", justify="right")
    for event in result.accepted:
        times = map(timecode, (event.start_s, event.end_s, event.peak_s))
        shown = [clock.text(event.peak_s)] if clock else []
        table.add_row(*times, *shown, console.escape(event.label), f"{event.score:.2f}")
    console.out.print(table)
    console.out.print(
        f"{len(result.accepted)} events; {below} candidates below the threshold\n",
        highlight=False,
    )


def _warn_of(result: MatchResult) -> None:
    """What the file's health holds against the result, on stderr."""
    from touchline.pipeline.outputs.timecode import timecode

    health = result.health
    for warning in health.warnings if health else ():
        console.warn(f"{result.path}: {warning}")
    for start_s, end_s in health.damaged_s[:3] if health else ():
        console.warn(
            f"{result.path}: damaged from {timecode(start_s)} to {timecode(end_s)}: no events there"
        )


def _documents(results: list[MatchResult]) -> list[dict[str, object]]:
    """What happened to each input, as events.json has it."""
    import json

    from touchline.pipeline.outputs.events_json import json_text
    from touchline.pipeline.outputs.writers import result_sheet

    return [
        json.loads(json_text(result_sheet(r, Path.cwd()))) | {"error": r.error} for r in results
    ]

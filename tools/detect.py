"""touchline detect: find events in footage with a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.inputs import find_inputs
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.scoring.score import Scorer
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.types import FootageHealth

EVENTS = "From scores to events"
NETWORK = "Running the network"
FOOTAGE = "Reading the footage"

DEFAULTS = DetectOptions()


def detect_command(
    footage: Annotated[
        list[str],
        typer.Argument(
            help="Footage files, folders of footage, patterns ('season/**/*.mp4'), lists "
            "(@list.txt, or - for standard input), addresses (https://, s3://, gs://), or remote "
            "folders (s3://bucket/season/).",
            metavar="FOOTAGE",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A checkpoint of touchline train, or the name of published weights that know "
            "classes (touchline models lists them)."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for the results: OUT/<name of the footage>/events.json, ..."
        ),
    ] = Path("out"),
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
            help="Lowest score of an event, one value for all classes (default: the calibrated "
            f"threshold of each class, else {DEFAULTS.point.threshold:g})."
        ),
    ] = DEFAULTS.threshold,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Look for this class of the model only; repeat it for several classes."),
    ] = None,
    spots: Annotated[
        bool,
        typer.Option(
            "--spots",
            help="Report each peak of the score as an event without length (action spotting).",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.events.spots,
    refractory: Annotated[
        float,
        typer.Option(
            help="Drop an event that comes at most this many seconds after another of its class: "
            "it is probably a replay. 0 keeps all.",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.events.refractory_s,
    smooth: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation in seconds of the Gaussian that smooths the scores of every "
            "class; 0: no smoothing (default: calibrated for each class, else one hop, or 0.8 for "
            "a model that scores single frames).",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.events.smooth_s,
    low: Annotated[
        float | None,
        typer.Option(
            help="An event lasts while the score is at least this (default: its threshold).",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.point.low,
    join: Annotated[
        float,
        typer.Option(
            help="Join events of a class that are at most this many seconds apart.",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.point.join_s,
    min_length: Annotated[
        float,
        typer.Option(help="Drop events shorter than this, in seconds.", rich_help_panel=EVENTS),
    ] = DEFAULTS.point.min_length_s,
    max_length: Annotated[
        float | None,
        typer.Option(
            help="Cut longer events to this many seconds around their peak (default: no limit).",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.point.max_length_s,
    nms: Annotated[
        float | None,
        typer.Option(
            help="Non-maximum suppression: of two events of a class whose peaks are at most this "
            "many seconds apart, keep the one with the higher score (default: 0; with --spots "
            "calibrated for each class, else the length of a window, or 2 for a model that scores "
            "single frames).",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.events.nms_s,
    soft_nms: Annotated[
        bool,
        typer.Option(
            "--soft-nms",
            help="Lower the score of nearby events (the closer, the more) instead of removing "
            "them. See --nms.",
            rich_help_panel=EVENTS,
        ),
    ] = DEFAULTS.events.soft_nms,
    to: Annotated[
        str,
        typer.Option(
            help="Output formats, comma-separated (touchline export lists them). "
            "events.json is always written."
        ),
    ] = "csv,json",
    report: Annotated[
        bool,
        typer.Option(
            help="Write report.html, a page to look at, for each match, and index.html over all."
        ),
    ] = True,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    mode: Annotated[
        str,
        typer.Option(
            help="windows: run the network on every window separately (exact). shared: run its "
            "first part once over the whole video (faster; scores differ slightly). auto: shared "
            "if the scores stay the same, else windows.",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.mode,
    engine: Annotated[
        str,
        typer.Option(
            help="What the network runs on: torch, onnxruntime, openvino, or auto (on a CPU the "
            "fastest one that is installed, found by a trial of seconds that is kept).",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.engine,
    device: Annotated[
        str,
        typer.Option(
            help="Where the network runs: auto (the first GPU, else the CPU), cpu, cuda, cuda:1, "
            "mps.",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.device,
    precision: Annotated[
        str,
        typer.Option(
            help="Number format of the network: float32, bf16, or auto (bf16 if the hardware "
            "gains by it).",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.precision,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Windows that run through the network together.", rich_help_panel=NETWORK
        ),
    ] = DEFAULTS.batch_size,
    decoder: Annotated[
        str,
        typer.Option(
            help="Library that decodes the footage: pyav, pyav-cuda, decord, opencv, torchcodec "
            "or torchcodec-cuda.",
            rich_help_panel=FOOTAGE,
        ),
    ] = DEFAULTS.decoder,
    stream: Annotated[
        int | None,
        typer.Option(
            help="Index of the video stream in the file (default: the file's default stream, "
            "else the largest).",
            rich_help_panel=FOOTAGE,
        ),
    ] = DEFAULTS.stream,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps the features of whole matches, such as PROJECT/features of "
            "touchline studio: what is there is not computed again. Scores differ in the third "
            "decimal.",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.features,
    decode_workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that decode one file (default: depends on cores and length).",
            rich_help_panel=FOOTAGE,
        ),
    ] = DEFAULTS.decode_workers,
    isolation: Annotated[
        bool,
        typer.Option(
            help="Decode in separate processes, so that a crash of a decoder costs one file "
            "(--no-isolation is for debugging).",
            rich_help_panel=FOOTAGE,
        ),
    ] = DEFAULTS.isolation,
    skip_done: Annotated[
        bool,
        typer.Option(
            "--skip-done",
            help="Skip footage whose results are complete, newer than the footage, and made with "
            "the same model and options.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Find events in FOOTAGE with a trained MODEL."""
    from touchline.models.checkpoint import file_digest
    from touchline.models.load import load_model
    from touchline.models.spelling import counted
    from touchline.pipeline.detection.batch import detect_all
    from touchline.pipeline.outputs.writers import WRITERS
    from touchline.pipeline.report.run_page import write_index

    inputs = find_inputs(footage, leave_out=out, standard_input=sys.stdin)
    files = list(inputs.files)
    for again, first in inputs.duplicates:
        same = "" if again == first else f" (the same file as {first})"
        console.warn(f"{again} is given twice{same}. It is analysed once.")
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
        engine=engine,
        stream=stream,
        isolation=isolation,
        features=features,
        decode_workers=decode_workers,
    )
    clocks = _clocks(files, kickoff or [], period_min)
    say = not quiet and not json_
    if say:
        _introduce(trained, options.hop_s)
    for notice in _notices(trained, threshold):
        console.warn(notice)
    failed = incomplete = 0
    results = []
    try:
        with console.progress_bar(quiet=not say) as progress:
            task = progress.add_task("", total=1.0, note="")
            log = console.LogLines(quiet=not say)

            def on_ready(scorer: Scorer) -> None:
                if say and scorer.trial is not None:
                    console.out.print(_engines(scorer), highlight=False)

            def on_start(path: Path) -> None:
                log.begin(path.name)
                progress.reset(task, description=console.escape(path.name[:30]), total=1.0)

            def on_time(done_s: float, total_s: float) -> None:
                progress.update(task, completed=done_s, total=max(total_s, done_s))
                log.tell(done_s, total_s)

            told: set[str] = set()

            def on_unwritable(path: Path, name: str, reason: str) -> None:
                told.add(name)
                console.warn(f"no {WRITERS[name].file_name} for {path.name}. {reason}")

            for result in detect_all(
                files,
                trained,
                out,
                options,
                model_path=model,
                model_sha256=file_digest(Path(model)) if Path(model).is_file() else None,
                formats=[name.strip() for name in to.split(",")],
                report=report,
                clocks=clocks,
                skip_done=skip_done,
                on_ready=on_ready,
                on_start=on_start,
                on_unwritable=on_unwritable,
                on_time=on_time,
            ):
                results.append(result)
                if result.error is not None:
                    failed += 1
                    console.fail(f"{result.path}: {result.error}")
                elif say:
                    _show(result)
                for name in result.unwritten.keys() - told:
                    on_unwritable(result.path, name, result.unwritten[name])
                told.clear()
                incomplete += bool(result.unwritten)
                _warn_of(result)
    except KeyboardInterrupt:
        console.fail(
            f"interrupted after {len(results)} of {counted(len(files), 'file')} (results in "
            f"{out}). To go on, repeat the command with --skip-done."
        )
        raise typer.Exit(130) from None
    if report:
        write_index(results, out, folders=[result.folder or out for result in results])
    if json_:
        console.print_json(_documents(results))
    elif say:
        without = sorted({name for result in results for name in result.unwritten})
        note = f"; {counted(incomplete, 'file')} without {', '.join(without)}" if without else ""
        console.out.print(
            f"{len(files) - failed} of {counted(len(files), 'file')} done, "
            f"results in {console.escape(str(out))}{note}",
            highlight=False,
        )
    if failed or incomplete:
        raise typer.Exit(1)


def _default_threshold(trained: TrainedModel, threshold: float | None, low: float | None) -> float:
    """The threshold of classes without a calibrated one; at least --low if no class needs it."""
    if threshold is not None:
        return threshold
    default = DEFAULTS.point.threshold
    calibrated = set(trained.labels[1:]) <= set(trained.thresholds or ())
    return max(default, low or 0.0) if calibrated else default


def _clocks(
    footage: list[Path], kickoffs: list[str], period_min: float | None
) -> dict[Path, MatchClock]:
    """The match clock of each file that has a kick-off."""
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.tools.results.clock import clocks_of

    healths = [_declared(path) if kickoffs else None for path in footage]
    results = [MatchResult(p, health=h) for p, h in zip(footage, healths, strict=True)]
    found = clocks_of(results, kickoffs, period_min=period_min)
    return {path: c for path, c in zip(footage, found, strict=True) if c is not None}


def _declared(path: Path) -> FootageHealth | None:
    """What the headers of a file declare; None if it cannot be read (decoding reports that)."""
    from touchline.models.errors import FootageError
    from touchline.pipeline.decoding.probe import probe_footage

    try:
        return probe_footage(path)
    except FootageError:
        return None


def _engines(scorer: Scorer) -> str:
    """Which engine runs the network, and how fast each was in the trial."""
    assert scorer.trial is not None
    times = ", ".join(f"{name} {ms:.1f}" for name, ms in scorer.trial.ms.items())
    return f"The network runs on {scorer.engine} (ms per frame on this machine: {times})."


def _introduce(trained: TrainedModel, hop_s: float | None) -> None:
    from touchline.pipeline.clips.windows import hop_samples

    spec = trained.spec
    hop = hop_samples(spec, hop_s) / spec.rate_hz
    console.out.print(
        f"{trained.architecture}: windows of {spec.duration_s:.2f} s every {hop:.3f} s, {spec}",
        highlight=False,
    )


def _notices(trained: TrainedModel, threshold: float | None) -> list[str]:
    """What the user must know to judge the events."""
    notices = []
    if not trained.thresholds and threshold is None:
        notices.append(
            "this model is not calibrated: every class has threshold "
            f"{DEFAULTS.point.threshold:g}. Measure better ones with touchline calibrate, or "
            "choose one with --threshold."
        )
    if not trained.has_background:
        notices.append(
            "this model never saw eventless footage: it gives every window some class, so expect "
            "false events. Train with --background FOOTAGE to change that."
        )
    return notices


def _show(result: MatchResult) -> None:
    from rich.table import Table

    from touchline.models.spelling import counted
    from touchline.pipeline.timecode import timecode

    health = result.health
    clock = result.clock
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
        f"{counted(len(result.accepted), 'event')}, {counted(below, 'candidate')} below the "
        "threshold\n",
        highlight=False,
    )


def _warn_of(result: MatchResult) -> None:
    """Warn about what is wrong with the footage, on stderr."""
    from touchline.pipeline.timecode import timecode

    health = result.health
    for warning in health.warnings if health else ():
        console.warn(f"{result.path}: {warning}")
    for start_s, end_s in health.damaged_s[:3] if health else ():
        console.warn(
            f"{result.path}: damaged from {timecode(start_s)} to {timecode(end_s)}: no events there"
        )


def _documents(results: list[MatchResult]) -> list[dict[str, object]]:
    """Return what events.json has for each input, and the error."""
    import json

    from touchline.pipeline.outputs.events_json import json_text
    from touchline.pipeline.outputs.writers import result_sheet

    return [
        json.loads(json_text(result_sheet(r, Path.cwd()))) | {"error": r.error} for r in results
    ]

"""touchline detect: find events in footage with a trained model."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import Address, StoredFolder, output_path
from touchline.pipeline.footage.inputs import find_inputs
from touchline.pipeline.live.options import LiveOptions
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.season.options import RunOptions
from touchline.tools import console
from touchline.tools.clock import scoreboard_clocks
from touchline.tools.live import follow
from touchline.tools.results.clock import Kickoff, PeriodMin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from touchline.models.checkpoint import TrainedModel
    from touchline.pipeline.footage.inputs import Inputs
    from touchline.pipeline.live.source import LiveSource
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.scoring.score import Scorer
    from touchline.pipeline.season.attempt import Job
    from touchline.pipeline.season.run import Record
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.types import FootageHealth

EVENTS = "From scores to events"
NETWORK = "Running the network"
FOOTAGE = "Reading the footage"

RUN = "Many matches"
LIVE = "Live streams"

DEFAULTS = DetectOptions()
RUN_DEFAULTS = RunOptions()
LIVE_DEFAULTS = LiveOptions()


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
            "--out",
            "-o",
            parser=output_path,
            metavar="FOLDER",
            help="Folder for the results: OUT/<name of the footage>/events.json, ... It may be in "
            "a remote store (s3://bucket/season, gs://...).",
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
    clock: Annotated[
        str,
        typer.Option(
            help="auto: read the match clock from the scoreboard, where no --kickoff is given "
            "(needs the extra `clock`). none: do not."
        ),
    ] = "none",
    mode: Annotated[
        str,
        typer.Option(
            help="windows: run the network on every window separately (exact). shared: run its "
            "first part once over the whole video (faster; scores differ slightly). auto: shared "
            "if the scores stay the same, or if training found that the events do (mAP of one's "
            "events against the other's at least 0.98 at 1 s); else windows.",
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
    int8: Annotated[
        Path | None,
        typer.Option(
            help="Run the network in 8-bit whole numbers: a file of touchline models export --to "
            "int8. Faster on many CPUs. Scores change by what export has printed.",
            metavar="FILE",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.int8,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Run the network through torch.compile (on CUDA as one graph), which takes a "
            "minute or so at the start and needs a C++ compiler on a CPU. If that fails, the "
            "network runs without.",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.compiled,
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
        int | None,
        typer.Option(
            help="Windows that run through the network together (default: what the memory of the "
            "device holds, at most 8 on a CPU and 32 on a GPU).",
            rich_help_panel=NETWORK,
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
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that analyse matches side by side, each with the model in memory. A "
            "crash of one costs one match. 0: no extra process (default: one per device of "
            "--devices, else 0).",
            rich_help_panel=RUN,
        ),
    ] = RUN_DEFAULTS.workers,
    devices: Annotated[
        str,
        typer.Option(
            help="The devices of the workers, comma-separated, such as cuda:0,cuda:1 (default: "
            "--device for all).",
            rich_help_panel=RUN,
        ),
    ] = ",".join(RUN_DEFAULTS.devices),
    on: Annotated[
        str,
        typer.Option(
            help="local: analyse on this machine. ray: on a Ray cluster, one worker per GPU (needs "
            "the extra ray). See --ray-address.",
            rich_help_panel=RUN,
        ),
    ] = RUN_DEFAULTS.on,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="With --on ray: the cluster, such as auto or ray://head:10001 (default: Ray "
            "starts one on this machine).",
            rich_help_panel=RUN,
        ),
    ] = RUN_DEFAULTS.ray_address,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Analyse every match again. Without it, matches are skipped whose results are "
            "complete and were made from the same footage with the same model and options.",
            rich_help_panel=RUN,
        ),
    ] = RUN_DEFAULTS.again,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Follow FOOTAGE while it goes on: a file that is still written, or - for a stream "
            "on standard input. Events are printed as JSON lines. Addresses such as rtsp:// or "
            "udp:// are live without this option.",
            rich_help_panel=LIVE,
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            help="A live run ends when the stream is silent, or its connection broken, for this "
            "many seconds.",
            rich_help_panel=LIVE,
        ),
    ] = LIVE_DEFAULTS.wait_s,
    post: Annotated[
        str | None,
        typer.Option(
            help="Live: send each event as JSON to this web address (webhook).",
            metavar="URL",
            rich_help_panel=LIVE,
        ),
    ] = LIVE_DEFAULTS.post,
    clips: Annotated[
        Path | None,
        typer.Option(
            help="Live: folder for a clip of each event, cut while the stream goes on.",
            metavar="DIR",
            rich_help_panel=LIVE,
        ),
    ] = LIVE_DEFAULTS.clips,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Find events in FOOTAGE with a trained MODEL."""
    from touchline.models.load import load_model

    live_options = LiveOptions(wait_s=wait, post=post, clips=clips)
    source = _live_source(footage, live_options, asked=live)
    _refuse(
        source is not None,
        live={"--post": post, "--clips": clips},
        complete={
            "--json": json_,
            "--again": again,
            "--clock auto": clock == "auto",
            "--workers": workers,
            "--devices": devices,
            "--on": on != RUN_DEFAULTS.on,
            "--features": features,
            "--decode-workers": decode_workers,
            "--decoder": decoder != DEFAULTS.decoder,
            "--out with an address": isinstance(out, Address),
        },
    )
    inputs = find_inputs([] if source else footage, leave_out=out, standard_input=sys.stdin)
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
        int8=int8,
        compiled=compiled,
        stream=stream,
        isolation=isolation,
        features=features,
        decode_workers=decode_workers,
    )
    job = detect_job(model, options, labels=labels or (), formats=to, report=report)
    if source is not None:
        for notice in _notices(trained, threshold):
            console.warn(notice)
        clock_of = _clocks([source.path], kickoff or [], period_min)
        follow(source, trained, job, live_options, out, clock_of.get(source.path), quiet=quiet)
        return
    run_options = RunOptions(
        again=again,
        workers=workers,
        on=on,
        ray_address=ray_address,
        devices=RunOptions.named(devices),
    )
    if clock not in ("auto", "none"):
        raise ValueError(f"clock is {clock!r}; it must be auto or none")
    read_clocks = clock == "auto" and not kickoff
    clocks = _clocks(list(inputs.files), kickoff or [], None if read_clocks else period_min)
    if read_clocks:
        clocks = scoreboard_clocks(inputs.files, period_min)
    say = not quiet and not json_
    print_start(trained, options, say=say)
    records = run_and_show(inputs, job, trained, out, run_options, clocks=clocks, say=say)
    if json_:
        console.print_json(_documents([r.result for r in records if not r.is_duplicate]))
    if any(record.state == "failed" or record.result.unwritten for record in records):
        raise typer.Exit(1)


def detect_job(
    model: str,
    options: DetectOptions,
    *,
    formats: str,
    report: bool,
    labels: Sequence[str] = (),
) -> Job:
    """Return what is done with each match.

    Args:
        model: A checkpoint, or the name of published weights.
        options: How to look for events.
        formats: Names of output formats, comma-separated.
        report: Whether to write report.html.
        labels: The classes to look for; empty for all.
    """
    from touchline.models.checkpoint import file_digest
    from touchline.pipeline.season.attempt import Job

    return Job(
        model,
        labels=tuple(labels),
        sha256=file_digest(Path(model)) if Path(model).is_file() else None,
        options=options,
        formats=tuple(name.strip() for name in formats.split(",")),
        report=report,
    )


def print_start(trained: TrainedModel, options: DetectOptions, *, say: bool) -> None:
    """Print the model's windows, and warn about what the user must know of the model.

    Args:
        trained: The model.
        options: How to look for events.
        say: Print more than warnings.
    """
    if say:
        _introduce(trained, options)
    for notice in _notices(trained, options.threshold):
        console.warn(notice)


def run_and_show(
    inputs: Inputs,
    job: Job,
    trained: TrainedModel,
    out: Path,
    options: RunOptions,
    *,
    say: bool,
    clocks: Mapping[Path, MatchClock] | None = None,
    arrivals: Callable[[], Sequence[Path]] | None = None,
) -> list[Record]:
    """Run the matches, show each as it ends, write index.html and print the summary.

    Args:
        inputs: The footage.
        job: What is done with it.
        trained: The model of the job.
        out: The folder for the results.
        options: Workers, and whether to analyse again what is done.
        say: Print more than warnings and errors.
        clocks: The match clock of each file that has one.
        arrivals: Asked for more footage until Ctrl-C, which then is the proper end.

    Returns:
        How the inputs ended, in the order in which they were given.
    """
    from touchline.models.spelling import counted
    from touchline.pipeline.outputs.writers import WRITERS
    from touchline.pipeline.season.run import News, run_matches

    records: list[Record] = []
    told: dict[Path, set[str]] = {}
    num_files = len(inputs.files)

    def on_ready(scorer: Scorer) -> None:
        if say and scorer.trial is not None:
            console.out.print(_engines(scorer), highlight=False)
        if say and scorer.warm_up:
            console.out.print(console.escape(scorer.warm_up), highlight=False)

    def on_note(path: Path, note: str) -> None:
        if say:
            console.out.print(f"{console.escape(path.name)}: {note}", highlight=False)

    def on_unwritable(path: Path, name: str, reason: str) -> None:
        if name not in told.setdefault(path, set()):
            told[path].add(name)
            console.warn(f"no {WRITERS[name].file_name} for {path.name}. {reason}")

    with console.run_progress(
        num_files, one_by_one=options.on == "local" and not options.num_workers, quiet=not say
    ) as bar:
        news = News(
            on_ready=on_ready,
            on_start=bar.begin,
            on_time=bar.tell,
            on_retry=lambda path, why: console.warn(f"{path}: {why} It is tried again at the end."),
            on_unwritable=on_unwritable,
            on_note=on_note,
            on_takeover=lambda who: console.warn(f"{who}, ended without finishing. Going on."),
        )
        run = run_matches(
            inputs, job, trained, out, options, clocks=clocks, news=news, arrivals=arrivals
        )
        try:
            with closing(run):
                for record in run:
                    records.append(record)
                    bar.end(record.result.path)
                    if arrivals is not None and job.report:
                        _write_index(records, out)
                    _show_record(record, say=say)
                    for name, reason in record.result.unwritten.items():
                        on_unwritable(record.result.path, name, reason)
        except KeyboardInterrupt:
            if arrivals is None:
                num_ended = sum(not record.is_duplicate for record in records)
                console.fail(
                    f"interrupted after {num_ended} of {counted(num_files, 'file')} (results in "
                    f"{out}). To go on, repeat the command."
                )
                raise typer.Exit(130) from None
    place = {path: k for k, path in enumerate(inputs.files)}
    records.sort(key=lambda record: place.get(record.result.path, num_files))
    if job.report:
        _write_index(records, out)
    if say:
        _summarise(records, out)
    return records


def _show_record(record: Record, *, say: bool) -> None:
    result = record.result
    if record.is_duplicate:
        console.warn(f"{result.path} is {record.reason}. It is analysed once.")
    elif record.state == "failed":
        console.fail(f"{result.path}: {record.reason}")
    elif record.state == "skipped" and say:
        name = console.escape(result.path.name)
        console.out.print(f"{name}: skipped, {record.reason}", highlight=False)
    elif say:
        _show(result)
    if not record.is_duplicate:
        _warn_of(result)


def _write_index(records: Sequence[Record], out: Path) -> None:
    """Write index.html; of a match that was analysed several times, the last record counts."""
    from tempfile import TemporaryDirectory

    from touchline.pipeline.report.run_page import write_index
    from touchline.pipeline.season.store import Store

    last = {record.result.path: record for record in records if not record.is_duplicate}
    results = [record.result for record in last.values()]
    num_skipped = sum(record.state == "skipped" for record in last.values())

    def write(folder: Path) -> Path:
        folders = [
            folder if result.folder is None else folder / result.folder.name for result in results
        ]
        return write_index(results, folder, folders=folders, num_skipped=num_skipped)

    if isinstance(out, Address):
        with TemporaryDirectory(prefix="touchline-") as local:
            page = write(StoredFolder(local))
            Store(out).write(page.name, page.read_bytes())
    else:
        write(out)


def _summarise(records: list[Record], out: Path) -> None:
    """Print how many inputs ended how, and why those failed that did."""
    from rich.table import Table

    from touchline.models.spelling import counted
    from touchline.pipeline.timecode import timecode

    failed = [record for record in records if record.state == "failed"]
    if len(failed) > 1:
        table = Table(title="failed", title_justify="left", box=None, show_header=False)
        for record in failed:
            table.add_row(
                console.escape(record.result.path.name), console.escape(record.reason or "")
            )
        console.out.print(table)
    counts = Counter(record.state for record in records if not record.is_duplicate)
    num_duplicates = sum(record.is_duplicate for record in records)
    done = [record.result for record in records if record.state == "done"]
    footage_s = sum(result.health.duration_s for result in done if result.health)
    seconds = sum(record.seconds for record in records if record.state == "done")
    table = Table(box=None)
    for name in ("done", "skipped", "failed", "duplicates", "footage", "work"):
        table.add_column(name, justify="right")
    table.add_row(
        *(str(counts[state]) for state in ("done", "skipped", "failed")),
        str(num_duplicates),
        timecode(footage_s)[:-4],
        timecode(seconds)[:-4],
    )
    console.out.print(table)
    incomplete = [record.result for record in records if record.result.unwritten]
    without = sorted({name for result in incomplete for name in result.unwritten})
    note = f"; {counted(len(incomplete), 'file')} without {', '.join(without)}" if without else ""
    num_inputs = sum(counts.values())
    console.out.print(
        f"{num_inputs - counts['failed']} of {counted(num_inputs, 'file')} done, "
        f"results in {console.escape(str(out))}{note}",
        highlight=False,
    )


def _default_threshold(trained: TrainedModel, threshold: float | None, low: float | None) -> float:
    """The threshold of classes without a calibrated one; at least --low if no class needs it."""
    if threshold is not None:
        return threshold
    default = DEFAULTS.point.threshold
    calibrated = set(trained.labels[1:]) <= set(trained.thresholds or ())
    return max(default, low or 0.0) if calibrated else default


def _live_source(footage: Sequence[str], options: LiveOptions, *, asked: bool) -> LiveSource | None:
    """The stream to follow; None if all footage is complete."""
    from touchline.pipeline.live.source import live_source

    found = [live_source(text, wait_s=options.wait_s, asked=asked) for text in footage]
    source = next((stream for stream in found if stream is not None), None)
    if source is not None and len(footage) > 1:
        raise ValueError("a live run follows one stream. Start one command for each.")
    return source


def _refuse(is_live: bool, *, live: dict[str, object], complete: dict[str, object]) -> None:
    """Refuse options of live runs for complete footage, and the other way round."""
    given = [name for name, value in (complete if is_live else live).items() if value]
    if given:
        kind = "not for live streams" if is_live else "for live streams only"
        raise ValueError(f"{given[0]} is {kind}. Leave it out.")


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


def _introduce(trained: TrainedModel, options: DetectOptions) -> None:
    from touchline.models.engines.int8 import read_facts
    from touchline.pipeline.clips.windows import hop_samples
    from touchline.pipeline.scoring.mode import choose_mode, runs_on

    spec = trained.spec
    hop = hop_samples(spec, options.hop_s) / spec.rate_hz
    console.out.print(
        f"{trained.architecture}: windows of {spec.duration_s:.2f} s every {hop:.3f} s, {spec}",
        highlight=False,
    )
    engine = runs_on(options.engine, int8=options.int8 is not None, compiled=options.compiled)
    mode = choose_mode(trained, options.mode, hop_s=options.hop_s, engine=engine)
    if mode.why:
        console.out.print(console.escape(mode.why), highlight=False)
    if options.compiled:
        console.out.print("PyTorch compiles the network, which may take minutes ...")
    if options.int8 is not None:
        change = read_facts(options.int8, trained.backbone).change
        text = "" if change is None else change.text()
        console.out.print(console.escape(f"The network runs in int8. {text}"), highlight=False)


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

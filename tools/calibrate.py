"""touchline calibrate: set temperature and thresholds from labelled clips and eventless footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.calibration.options import Target
from touchline.pipeline.scoring.options import ClipOptions, EventOptions
from touchline.tools import console

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.models.checkpoint import TrainedModel
    from touchline.models.training_record import ThresholdChoice
    from touchline.pipeline.calibration.calibrate import Calibration
    from touchline.pipeline.calibration.stitched_clips import StitchedClips
    from touchline.pipeline.scoring.score_clips import ClipScores
    from touchline.pipeline.types import Example

DEFAULTS = ClipOptions()

ON = ("events", "windows")

# With fewer labels of a class its threshold is a guess.
FEW = 5


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="The checkpoint.", metavar="CKPT")],
    labels: Annotated[
        Path,
        typer.Argument(
            help="Labelled clips of matches the model was not trained on.", metavar="LABELS"
        ),
    ],
    groups: Annotated[
        str | None,
        typer.Option(
            help="Groups to calibrate on, separated by commas. val: the validation groups of the "
            "training. By default all groups of LABELS."
        ),
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(help="Choose thresholds that reach this precision, instead of the best F1."),
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="The earlier name of --min-precision.", hidden=True)
    ] = None,
    false_per_hour: Annotated[
        float | None,
        typer.Option(
            help="Choose thresholds that give at most this many false events of each class per "
            "hour; needs --eventless."
        ),
    ] = None,
    eventless: Annotated[
        list[Path] | None,
        typer.Option(
            help="Footage in which nothing happens and that the model was not trained on, a file "
            "or a folder; repeatable. Unlabelled time counts as such where a row of LABELS says "
            "verified."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the calibrated checkpoint here. By default CKPT is replaced, and the file "
            "as it was is kept as NAME.old.safetensors.",
        ),
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(help="Draw reliability.png and thresholds.png into this folder."),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            help="How thresholds are chosen. events: on the events found in the clips stitched "
            "into footage. windows: on the windows of each clip."
        ),
    ] = "events",
    spots: Annotated[
        bool,
        typer.Option(
            "--spots",
            help="Calibrate for detect --spots: events without length. This also chooses smoothing "
            "and non-maximum suppression (NMS) for each class.",
        ),
    ] = EventOptions().spots,
    views: Annotated[int, typer.Option(min=1, help="Windows per clip.")] = DEFAULTS.views,
    max_clip: Annotated[
        float | None,
        typer.Option(help="Use at most this many seconds of a clip. By default as in training."),
    ] = None,
    max_bad: Annotated[
        int,
        typer.Option(min=0, help="How many unreadable clips are skipped before it is an error."),
    ] = DEFAULTS.max_bad,
    device: Annotated[
        str, typer.Option(help="Where the model runs: auto, cpu, cuda, cuda:1 or mps.")
    ] = DEFAULTS.device,
    arithmetic: Annotated[
        str,
        typer.Option(help="Number format: auto, float32 or bf16 (detect calls it --precision)."),
    ] = DEFAULTS.precision,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")
    ] = False,
) -> None:
    """Set a checkpoint's temperature and thresholds from labelled clips and eventless footage."""
    from touchline.models.checkpoint import load_checkpoint, save_checkpoint
    from touchline.models.spelling import counted
    from touchline.pipeline.calibration.calibrate import (
        calibration_examples,
        eventless_footage,
        evidence_record,
        stretch_name,
    )
    from touchline.pipeline.calibration.plots import write_reliability, write_thresholds
    from touchline.pipeline.calibration.verified import in_verified
    from touchline.pipeline.footage.inputs import footage_files
    from touchline.pipeline.labels.read import read_labels, split_verified
    from touchline.pipeline.runs.background import BackgroundPlan, verified_background
    from touchline.pipeline.scoring.score_clips import keep_visible

    if on not in ON:
        raise ValueError(f"--on is {on!r}; it must be {' or '.join(ON)}")
    console.keep_inputs(out, labels, *(eventless or []))
    if out is not None and out.is_dir():
        raise ValueError(f"{out} is a folder. Name the file to write in it.")
    target = _target(_renamed_option(min_precision, precision), false_per_hour)
    trained = load_checkpoint(model)
    options = ClipOptions(
        views=views,
        max_clip_s=trained.record.max_clip_s if max_clip is None else max_clip,
        max_bad=max_bad,
        device=device,
        precision=arithmetic,
    )
    names = None if groups is None else [g.strip() for g in groups.split(",") if g.strip()]
    chosen = calibration_examples(trained, read_labels(labels, verified=True), names)
    labelled, verified = split_verified(chosen)
    examples, hidden = keep_visible(trained, labelled)
    if hidden:
        console.warn(f"left out {counted(hidden, 'event')} that the broadcast does not show")
    quiet_footage = eventless_footage(footage_files(eventless or ()))
    stretches = [*verified, *quiet_footage]
    quiet_footage += verified_background(
        labelled, verified, margin_s=BackgroundPlan().margin_s, least_s=trained.spec.duration_s
    )
    # Events outside verified stretches would be lost, and hidden ones would count as false alarms.
    on_footage = verified and not hidden and all(in_verified(one, verified) for one in examples)
    target.require_footage(given=bool(quiet_footage))
    scores, calibration = _calibrate(
        trained,
        examples,
        options,
        target,
        quiet_footage,
        stretches if on_footage else (),
        stitched=on == "events",
        spots=spots,
    )
    evidence = evidence_record(
        calibration, scores, target, eventless=[stretch_name(e) for e in quiet_footage]
    )
    written = model if out is None else out
    kept = _keep_old(written)
    save_checkpoint(written, calibration.apply(trained, evidence))
    if curves is not None:
        write_reliability(calibration, curves / "reliability.png")
        write_thresholds(calibration, curves / "thresholds.png")
    for notice in _notices(trained, scores, calibration):
        console.warn(notice)
    if not quiet:
        _show(scores, calibration)
        was = "" if kept is None else f". The file as it was: {kept}"
        console.say(f"Wrote {written}{was}")


def _keep_old(written: Path) -> Path | None:
    """Copy a file that will be replaced to NAME.old.safetensors; None if there is no such file."""
    import shutil

    from touchline.models.atomic_files import atomic_path

    if not written.exists():
        return None
    kept = written.with_name(f"{written.stem}.old{written.suffix}")
    with atomic_path(kept) as part:
        shutil.copyfile(written, part)
    return kept


def _renamed_option(min_precision: float | None, precision: float | None) -> float | None:
    if precision is None:
        return min_precision
    console.warn("--precision of calibrate is now called --min-precision")
    if min_precision is not None:
        raise ValueError("give --min-precision only, not its earlier name --precision too")
    return precision


def _target(precision: float | None, false_per_hour: float | None) -> Target:
    if precision is not None and false_per_hour is not None:
        raise ValueError(
            "--min-precision and --false-per-hour are two targets. Give only one of these options."
        )
    if precision is not None:
        return Target("precision", precision)
    if false_per_hour is None:
        return Target("f1")
    return Target("false_per_hour", false_per_hour)


def _calibrate(
    trained: TrainedModel,
    examples: Sequence[Example],
    options: ClipOptions,
    target: Target,
    eventless: Sequence[Example],
    verified: Sequence[Example],
    *,
    stitched: bool,
    spots: bool,
) -> tuple[ClipScores, Calibration]:
    from touchline.pipeline.calibration.calibrate import (
        calibrate,
        score_eventless,
        score_in_several_orders,
    )
    from touchline.pipeline.calibration.temperature import fit_model_temperature
    from touchline.pipeline.calibration.verified import eventless_parts, score_verified
    from touchline.pipeline.runs.background import BackgroundPlan
    from touchline.pipeline.scoring.score import Scorer
    from touchline.pipeline.scoring.score_clips import load_for, score_loaded

    loaded = load_for(trained, examples, options)
    scores = score_loaded(trained, loaded, options)
    for problem in scores.problems:
        console.warn(f"skipped {problem}")
    at = fit_model_temperature(trained, scores)
    scorer = Scorer(
        replace(trained, temperature=at), device=options.device, precision=options.precision
    )
    footage: list[StitchedClips] = []
    if stitched and verified:
        footage = [score_verified(scorer, examples, verified)]
        tracks = eventless_parts(
            footage[0], margin_s=BackgroundPlan().margin_s, least_s=trained.spec.duration_s
        )
    else:
        if stitched:
            footage = score_in_several_orders(scorer, loaded.clips, eventless)
        tracks = score_eventless(scorer, eventless)
    calibration = calibrate(
        trained,
        scores,
        target=target,
        stitched=footage,
        tracks=tracks,
        temperature=at,
        events=EventOptions(spots=spots),
        verified=stitched and bool(verified),
    )
    return scores, calibration


def _notices(trained: TrainedModel, scores: ClipScores, calibration: Calibration) -> list[str]:
    """Warn where the evidence is not enough."""
    from touchline.pipeline.calibration.temperature import at_the_end

    notices = []
    with_footage = any(choice.hours is not None for choice in calibration.choices.values())
    if not with_footage:
        notices.append(
            "the number of false events per hour is unknown, because only clips were used. Add "
            "footage in which nothing happens: --eventless FOOTAGE. Or mark where all events are "
            "labelled: a row with the label verified"
        )
    if at_the_end(calibration.temperature):
        notices.append(
            f"the temperature {calibration.temperature:.3g} is at the end of the range searched: "
            "the model cannot tell these clips apart, or there are too few of them"
        )
    if not with_footage and not (scores.truth == 0).any():
        notices.append("no clip is of the class background: thresholds will be too low for matches")
    counts = {label: int((scores.truth == k).sum()) for k, label in enumerate(trained.labels)}
    few = [f"{label} {counts[label]}" for label in trained.labels[1:] if 0 < counts[label] < FEW]
    if few:
        notices.append(
            f"too few labels for a sure threshold: {', '.join(few)}. Label {FEW} or more of each "
            "class, in matches that the model has not seen"
        )
    for label in trained.labels[1:]:
        choice = calibration.choices.get(label)
        if choice is None:
            notices.append(f"no clip is of class {label!r}: its threshold stays at the default")
        elif not choice.reached:
            notices.append(f"class {label!r} does not reach the target at any threshold")
        elif choice.positives == 0:
            notices.append(
                f"no clip is of class {label!r}: its threshold comes from eventless footage only"
            )
    return notices


def _show(scores: ClipScores, calibration: Calibration) -> None:
    from rich.table import Table

    from touchline.models.spelling import counted

    N, V, _ = scores.logits.shape
    groups = len(set(scores.groups))
    before, after = calibration.before.ece, calibration.after.ece
    on = (
        "each group at the temperature fitted on the others"
        if calibration.held_out
        else "on the one group that the temperature was fitted on: too optimistic"
    )
    console.out.print(
        f"{counted(N, 'clip')} of {counted(groups, 'group')}, {counted(V, 'window')} each; "
        f"thresholds set on {calibration.unit}"
        f"{_where(calibration)}\n"
        f"temperature {calibration.temperature:.3f}: log loss {calibration.nll_before:.3f} -> "
        f"{calibration.nll_after:.3f}, calibration error {before:.3f} -> {after:.3f} ({on})",
        highlight=False,
    )
    table = Table(box=None)
    heads = ("class", calibration.unit, "threshold", "precision", "recall", "F1", "false events")
    for k, name in enumerate(heads):
        table.add_column(name, justify="right" if k else "left")
    for label, choice in calibration.choices.items():
        figures = ["-" if f is None else f"{f:.2f}" for f in _figures(choice)]
        counts = [str(choice.positives), f"{choice.threshold:.3f}"]
        table.add_row(console.escape(label), *counts, *figures, _rate(choice))
    console.out.print(table)
    if calibration.unit == "events":
        console.out.print(_peaks_table(calibration))
    console.out.print(
        f"Precision, recall and F1 are measured on the {calibration.unit} that chose the "
        "thresholds: too optimistic",
        highlight=False,
    )


def _where(calibration: Calibration) -> str:
    if calibration.verified:
        return " in verified footage"
    orders = calibration.num_orders
    return f" of the clips stitched in {orders} orders" if orders else ""


def _figures(choice: ThresholdChoice) -> tuple[float | None, ...]:
    return choice.precision, choice.recall, choice.f1


def _peaks_table(calibration: Calibration) -> Table:
    """The timing error of each class; for spots the smoothing and suppression as well."""
    from rich.table import Table

    table = Table(box=None, title="peaks of the right events", title_justify="left")
    heads = ("timing error", "smoothing", "NMS")
    for k, name in enumerate(("class", *heads[: 3 if calibration.widths else 1])):
        table.add_column(name, justify="right" if k else "left")
    for label, choice in calibration.choices.items():
        seconds = [choice.timing_error_s]
        if choice.widths is not None:
            seconds += [choice.widths.smooth_s, choice.widths.nms_s]
        elif calibration.widths:
            seconds += [None, None]
        cells = ["-" if value is None else f"{value:.2f} s" for value in seconds]
        table.add_row(console.escape(label), *cells)
    return table


def _rate(choice: ThresholdChoice) -> str:
    """False events found, and the 95 % upper bound of their rate."""
    from touchline.pipeline.calibration.thresholds import most_events_per_hour

    if choice.hours is None or choice.false_events is None:
        return "-"
    most = most_events_per_hour(choice.false_events, choice.hours)
    return f"{choice.false_events} in {choice.hours * 60:.1f} min: < {most:.0f}/h"

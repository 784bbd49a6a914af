"""touchline calibrate: temperature and thresholds from labelled clips and eventless footage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.scoring.options import ClipOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel
    from touchline.pipeline.calibration.calibrate import Calibration
    from touchline.pipeline.calibration.options import Target
    from touchline.pipeline.calibration.thresholds import Choice
    from touchline.pipeline.scoring.score_clips import ClipScores
    from touchline.pipeline.types import Example

ON = ("events", "windows")


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="The checkpoint.", metavar="CKPT")],
    labels: Annotated[Path, typer.Argument(help="Labelled clips of matches it has not seen.")],
    groups: Annotated[
        str | None,
        typer.Option(help="Groups to use, comma-separated; val: those training validated on."),
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Thresholds for this precision, not for the best F1.")
    ] = None,
    false_per_hour: Annotated[
        float | None,
        typer.Option(
            help="At most so many false events of each class per hour; needs --eventless."
        ),
    ] = None,
    eventless: Annotated[
        list[Path] | None,
        typer.Option(help="Footage in which nothing happens, not trained on; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here; by default CKPT is rewritten.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Folder for reliability.png and thresholds.png.")
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            help="What thresholds are set on. events: those found on the stitched clips, "
            "as in footage; windows: those of the clips."
        ),
    ] = "events",
    spots: Annotated[
        bool, typer.Option("--spots", help="Events are to be found as by detect --spots.")
    ] = False,
    views: Annotated[int, typer.Option(min=1, help="Windows per clip.")] = 3,
    max_clip: Annotated[
        float | None,
        typer.Option(help="Use at most so many seconds of a clip; by default as training did."),
    ] = None,
    max_bad: Annotated[
        int, typer.Option(min=0, help="So many unreadable clips may be skipped.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    arithmetic: Annotated[
        str, typer.Option(help="auto, float32 or bf16 (detect calls it --precision).")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Set a checkpoint's operating points by evidence, and write both into it."""
    from touchline.models.checkpoint import load_checkpoint, save_checkpoint
    from touchline.pipeline.calibration.calibrate import calibration_examples, evidence_record
    from touchline.pipeline.calibration.plots import write_reliability, write_thresholds
    from touchline.pipeline.labels.read import read_labels
    from touchline.pipeline.scoring.score_clips import keep_visible
    from touchline.pipeline.scoring.seen_groups import recorded_max_clip_s

    if on not in ON:
        raise ValueError(f"--on is {on!r}; it must be {' or '.join(ON)}")
    target = _target(precision, false_per_hour, has_footage=bool(eventless))
    trained = load_checkpoint(model)
    options = ClipOptions(
        views=views,
        max_clip_s=recorded_max_clip_s(trained) if max_clip is None else max_clip,
        max_bad=max_bad,
        device=device,
        precision=arithmetic,
    )
    names = None if groups is None else [g.strip() for g in groups.split(",") if g.strip()]
    seen, hidden = keep_visible(trained, read_labels(labels))
    if hidden:
        console.warn(f"left out: {hidden} events that are not in the picture")
    examples = calibration_examples(trained, seen, names)
    scores, calibration = _calibrate(
        trained,
        examples,
        options,
        target,
        eventless or (),
        stitched=on == "events",
        spots=spots,
    )
    evidence = evidence_record(
        calibration, scores, target, eventless=[path.name for path in eventless or ()]
    )
    written = model if out is None else out
    save_checkpoint(written, calibration.apply(trained, evidence))
    if curves is not None:
        write_reliability(calibration, curves / "reliability.png")
        write_thresholds(calibration, curves / "thresholds.png")
    for notice in _notices(trained, scores, calibration):
        console.warn(notice)
    if not quiet:
        _show(scores, calibration)
        console.out.print(f"written into {console.escape(str(written))}", highlight=False)


def _target(precision: float | None, false_per_hour: float | None, *, has_footage: bool) -> Target:
    from touchline.pipeline.calibration.options import Target

    if precision is not None and false_per_hour is not None:
        raise ValueError("--precision and --false-per-hour are two targets: give one of them")
    if precision is not None:
        return Target("precision", precision)
    if false_per_hour is None:
        return Target("f1")
    if not has_footage:
        raise ValueError(
            "false events per hour cannot be told from clips: give footage in which nothing "
            "happens (--eventless FOOTAGE)"
        )
    return Target("false_per_hour", false_per_hour)


def _calibrate(
    trained: TrainedModel,
    examples: Sequence[Example],
    options: ClipOptions,
    target: Target,
    eventless: Sequence[Path],
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
    from touchline.pipeline.scoring.options import EventOptions
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
    calibration = calibrate(
        trained,
        scores,
        target=target,
        stitched=score_in_several_orders(scorer, loaded.clips, eventless) if stitched else (),
        tracks=score_eventless(scorer, eventless),
        temperature=at,
        events=EventOptions(spots=spots),
    )
    return scores, calibration


def _notices(trained: TrainedModel, scores: ClipScores, calibration: Calibration) -> list[str]:
    """What the evidence cannot bear."""
    from touchline.pipeline.calibration.temperature import at_the_end

    notices = []
    with_footage = any(choice.hours is not None for choice in calibration.choices.values())
    if not with_footage:
        notices.append(
            f"thresholds are set on {calibration.unit} of clips: how many false events an hour of "
            "footage gives cannot be told without footage in which nothing happens "
            "(--eventless FOOTAGE)"
        )
    if at_the_end(calibration.temperature):
        notices.append(
            f"the temperature {calibration.temperature:.3g} is at the end of what is tried: the "
            "scores say next to nothing about these clips, or there are too few"
        )
    if not with_footage and not (scores.truth == 0).any():
        notices.append("no clip is of the class background: thresholds will be too low for matches")
    for label in trained.labels[1:]:
        choice = calibration.choices.get(label)
        if choice is None:
            notices.append(f"no clip of class {label!r}: its threshold stays at the default")
        elif not choice.reached:
            notices.append(f"class {label!r} does not reach the target at any threshold")
        elif choice.positives == 0:
            notices.append(f"no clip of class {label!r}: its threshold rests on footage alone")
    return notices


def _show(scores: ClipScores, calibration: Calibration) -> None:
    from rich.table import Table

    N, V, _ = scores.logits.shape
    groups = len(set(scores.groups))
    before, after = calibration.before.ece, calibration.after.ece
    on = (
        "every group at the temperature the others give"
        if calibration.held_out
        else "on the one group it was fitted on: too hopeful"
    )
    console.out.print(
        f"{N} clips of {groups} groups, {V} windows each; thresholds of {calibration.unit}"
        f"{_orders(calibration.num_orders)}\n"
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
    console.out.print(
        f"precision, recall and F1 are of the {calibration.unit} that chose the thresholds: too "
        "hopeful",
        highlight=False,
    )


def _orders(num_orders: int) -> str:
    return f" on clips stitched in {num_orders} orders" if num_orders else ""


def _figures(choice: Choice) -> tuple[float | None, ...]:
    return choice.precision, choice.recall, choice.f1


def _rate(choice: Choice) -> str:
    """What was seen, and the rate that so much footage rules out (one time in twenty wrongly)."""
    from touchline.pipeline.calibration.thresholds import most_events_per_hour

    if choice.hours is None or choice.false_events is None:
        return "-"
    most = most_events_per_hour(choice.false_events, choice.hours)
    return f"{choice.false_events} in {choice.hours * 60:.1f} min: < {most:.0f}/h"

"""touchline evaluate: predictions against labels, or a checkpoint on labelled clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.tools import console

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.pipeline.evaluation.breakdown import Breakdown
    from touchline.pipeline.evaluation.clips import ClipCounts, ClipEvaluation
    from touchline.pipeline.evaluation.evaluate import Evaluation, MetricFigures
    from touchline.pipeline.evaluation.event_sets import EventSet
    from touchline.pipeline.evaluation.significance import Difference, Figure

UNLABELLED = ("refuse", "false", "skip")

MOST_COLUMNS = 5
"""Of more thresholds the first, the middle and the last are shown, and the average of all."""


def evaluate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="PREDICTIONS LABELS: label files of any format, events, or an output folder of "
            "detect. With --model or --compare LABELS alone.",
            metavar="[PREDICTIONS] LABELS",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="A checkpoint, to be measured on the labelled clips.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two predictions, or two checkpoints: is B better by more than chance?"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="spotting, soccernet-tight, soccernet-loose, soccernet-visible, "
            "soccernet-unshown, activitynet, thumos; repeatable. By default spotting, and "
            "activitynet where labels have lengths."
        ),
    ] = None,
    tolerance: Annotated[
        list[float] | None,
        typer.Option(help="Seconds: half the window (soccernet: all of it); repeatable."),
    ] = None,
    tiou: Annotated[
        list[float] | None,
        typer.Option(help="Temporal IoU, for activitynet and thumos; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write all figures as JSON.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Folder for precision/recall curves as PNG.")
    ] = None,
    unlabelled: Annotated[
        str,
        typer.Option(
            help="Videos without labels: refuse, false (nothing happens in them), or skip."
        ),
    ] = "refuse",
    block: Annotated[
        float | None,
        typer.Option(help="Resample stretches of so many seconds, not matches (for want of them)."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of matches; 0: no intervals, no test.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    max_clip: Annotated[
        float | None,
        typer.Option(help="Use at most so many seconds of a clip; by default as training did."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Measure predictions against labels, or a checkpoint on labelled clips."""
    _check_arguments(paths, model=model, compare=compare, unlabelled=unlabelled)
    options = EvaluateOptions(
        metrics=tuple(metric or ()),
        tolerances_s=tuple(tolerance) if tolerance else None,
        tious=tuple(tiou) if tiou else None,
        resamples=resamples,
        seed=seed,
        block_s=block,
    )
    say = not quiet and not json_
    if model is not None or (compare is not None and compare[0].suffix == ".safetensors"):
        checkpoints = [model] if model is not None else list(compare or ())
        record = _on_clips(
            checkpoints, paths[0], options, max_clip_s=max_clip, device=device, say=say
        )
    elif compare is not None:
        record = _compare_events(compare, paths[0], options, unlabelled, say=say)
    else:
        record = _on_events(paths, options, unlabelled=unlabelled, curves=curves, say=say)
    if out is not None:
        _write(out, record)
        if say:
            console.out.print(f"all figures in {console.escape(str(out))}", highlight=False)
    if json_:
        console.print_json(record)


def _check_arguments(
    paths: Sequence[Path],
    *,
    model: Path | None,
    compare: tuple[Path, Path] | None,
    unlabelled: str,
) -> None:
    if model is not None and compare is not None:
        raise ValueError("--model measures one checkpoint, --compare two: give one of them")
    wanted = 2 if model is None and compare is None else 1
    if len(paths) != wanted:
        given = "PREDICTIONS and LABELS" if wanted == 2 else "LABELS alone"
        raise ValueError(f"{len(paths)} paths given; it must be {given}")
    if unlabelled not in UNLABELLED:
        raise ValueError(f"--unlabelled is {unlabelled!r}; it must be {', '.join(UNLABELLED)}")


def _on_events(
    paths: Sequence[Path],
    options: EvaluateOptions,
    *,
    unlabelled: str,
    curves: Path | None,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.evaluate import evaluate_events
    from touchline.pipeline.evaluation.plots import write_metric_plots
    from touchline.pipeline.evaluation.record import evaluation_record

    truth, predictions = _read_pair(paths[0], paths[1], unlabelled)
    evaluation = evaluate_events(truth, predictions, options)
    if say:
        _show_evaluation(evaluation)
    if curves is not None:
        for path in write_metric_plots(evaluation.metrics, curves):
            if say:
                console.out.print(f"curves in {console.escape(str(path))}", highlight=False)
    return evaluation_record(evaluation)


def _compare_events(
    compare: tuple[Path, Path],
    labels: Path,
    options: EvaluateOptions,
    unlabelled: str,
    *,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.evaluate import compare_events, unit_name

    truth, first = _read_pair(compare[0], labels, unlabelled)
    _, second = _read_pair(compare[1], labels, unlabelled)
    found = compare_events(truth, first, second, options)
    return _comparison(found, compare, unit_name(options), options, say=say)


def _comparison(
    found: Mapping[str, Difference],
    compared: Sequence[Path],
    unit: str,
    options: EvaluateOptions,
    *,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.record import comparison_record
    from touchline.pipeline.evaluation.significance import describe_intervals

    num_units = max(one.num_units for one in found.values())
    intervals = describe_intervals(num_units, unit, resamples=options.resamples)
    if say:
        _show_differences(found, intervals)
    names = [str(path) for path in compared]
    return {"compared": names, "intervals": intervals, **comparison_record(found)}


def _read_pair(predictions: Path, labels: Path, unlabelled: str) -> tuple[EventSet, EventSet]:
    """The labels as (truth, predictions), the latter under the videos' names of the former."""
    from touchline.pipeline.evaluation.event_sets import as_truth, pair_videos, read_event_set

    truth = as_truth(read_event_set(labels))
    if not any(truth.events.values()):
        raise ValueError(f"{labels} holds no event: there is nothing to measure against")
    found = read_event_set(predictions)
    if len(found.runs) > 1:
        console.warn(
            f"{predictions} holds results of {len(found.runs)} models or sets of options, which "
            "these figures mix: touchline detect --skip-done brings all to one"
        )
    paired = pair_videos(truth, found)
    if paired.unlabelled:
        some = ", ".join(paired.unlabelled[:3]) + (", ..." if len(paired.unlabelled) > 3 else "")
        if unlabelled == "refuse":
            raise ValueError(
                f"{len(paired.unlabelled)} videos of {predictions} are not in {labels} ({some}): "
                "--unlabelled false if nothing happens in them, --unlabelled skip to leave them "
                "out (a row of the class background makes a video labelled)"
            )
        if unlabelled == "skip":
            paired = paired.labelled_only()
        console.warn(f"{len(paired.unlabelled)} videos without labels ({some}): {unlabelled}")
    if paired.unpredicted:
        console.warn(
            f"labelled videos without predictions: {len(paired.unpredicted)}; all their events "
            f"count as missed ({', '.join(paired.unpredicted[:3])})"
        )
    return truth, paired.predictions


def _on_clips(
    checkpoints: Sequence[Path],
    labels: Path,
    options: EvaluateOptions,
    *,
    max_clip_s: float | None,
    device: str,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.clips import compare_clips, evaluate_clips
    from touchline.pipeline.evaluation.record import clips_record

    counted = _count_clips(checkpoints, labels, max_clip_s=max_clip_s, device=device)
    if len(counted) == 1:
        evaluation = evaluate_clips(counted[0], resamples=options.resamples, seed=options.seed)
        if say:
            _show_clips(evaluation)
        return clips_record(evaluation)
    found = compare_clips(*counted, resamples=options.resamples, seed=options.seed)
    return _comparison(found, checkpoints, "matches", options, say=say)


def _count_clips(
    checkpoints: Sequence[Path], labels: Path, *, max_clip_s: float | None, device: str
) -> list[ClipCounts]:
    """What each checkpoint makes of the clips that none of them was trained on."""
    from touchline.models.checkpoint import load_checkpoint
    from touchline.pipeline.evaluation.clips import count_clips
    from touchline.pipeline.labels.read import read_labels
    from touchline.pipeline.scoring.score_clips import (
        ClipOptions,
        clip_probs,
        score_clips,
        to_be_seen,
    )
    from touchline.pipeline.scoring.seen_groups import recorded_max_clip_s, unseen_examples

    models = [load_checkpoint(path) for path in checkpoints]
    examples = read_labels(labels)
    for model in models:
        examples, hidden = to_be_seen(model, examples)
        if hidden:
            console.warn(f"left out: {hidden} events that are not in the picture")
        examples, left_out = unseen_examples(model, examples)
        if left_out:
            console.warn(
                f"left out: {len(left_out)} groups the model was trained on "
                f"({', '.join(left_out[:8])})"
            )
    counted = []
    for model in models:
        longest = recorded_max_clip_s(model) if max_clip_s is None else max_clip_s
        clip_options = ClipOptions(max_clip_s=longest, device=device)
        scores = score_clips(model, examples, clip_options)
        probs = clip_probs(model, scores)
        counted.append(count_clips(probs, scores.truth, model.labels, scores.groups))
    return counted


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich.table import Table

    # Not as the table's title, which would wrap at the table's width.
    console.out.print(title, highlight=False)
    table = Table(box=None)
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if k else "left")
    return table


def _show_evaluation(evaluation: Evaluation) -> None:
    for one in evaluation.metrics:
        _show_metric(one)
    for breakdown, accepted in zip(evaluation.breakdowns, evaluation.accepted, strict=True):
        _show_breakdown(breakdown, accepted)
    told = f"{evaluation.num_videos} videos; {evaluation.intervals}"
    if evaluation.num_units < 2 and evaluation.unit == "matches":
        told += " (--block SECONDS resamples stretches of it)"
    console.out.print(told, highlight=False)


def _show_metric(one: MetricFigures) -> None:
    from touchline.pipeline.evaluation.evaluate import METRICS

    unit, thresholds = METRICS[one.name].unit, one.metric.thresholds
    T = len(thresholds)
    shown = range(T) if T <= MOST_COLUMNS else (0, T // 2, T - 1)
    heads = [f"{thresholds[t]:g} s" if unit == "s" else f"{thresholds[t]:.2g}" for t in shown]
    columns = ["class", "truth", "predicted", *heads, "average"]
    table = _table(f"{one.name}: {METRICS[one.name].what}", columns)
    for row in one.per_class:
        cells = [_short(each) for each in (*(row.ap[t] for t in shown), row.average)]
        counts = [str(row.num_truth), str(row.num_predictions)]
        table.add_row(console.escape(row.label), *counts, *cells)
    means = [_short(one.per_threshold[t]) for t in shown]
    table.add_row("mean", "", "", *means, _short(one.headline), style="bold")
    console.out.print(table)
    console.out.print(f"average {one.headline}\n", highlight=False)


def _short(one: Figure) -> str:
    return "-" if one.value is None else f"{one.value:.3f}"


def _with_interval(one: Figure) -> str:
    """Two digits, so that three figures stand side by side."""
    if one.value is None or one.low is None or one.high is None:
        return "-" if one.value is None else f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _show_breakdown(one: Breakdown, accepted: Mapping[str, Figure]) -> None:
    from touchline.pipeline.evaluation.breakdown import MISSED, Kind

    short = {Kind.MISTIMED: "time", Kind.CONFUSED: "class", Kind.DUPLICATE: "double"}
    kinds = [short.get(kind, kind.value) for kind in Kind]
    heads = ["class", *kinds, MISSED, "prec.", "recall", "F1"]
    table = _table(f"accepted events at {one.at}", heads)
    for row in one.per_class:
        figures = ["-" if f is None else f"{f:.2f}" for f in (row.precision, row.recall, row.f1)]
        counts = [str(row.kinds[kind]) for kind in Kind]
        table.add_row(console.escape(row.label), *counts, str(row.missed), *figures)
    console.out.print(table)
    overall = ", ".join(f"{name} {each}" for name, each in accepted.items())
    console.out.print(f"all classes: {overall}", highlight=False)
    worst = sorted(one.cost.items(), key=lambda item: -item[1])
    console.out.print(
        f"AP of these {one.average_precision:.3f}; mending one kind of error alone would add: "
        + ", ".join(f"{kind.replace('_', ' ')} {gain:+.3f}" for kind, gain in worst),
        highlight=False,
    )
    for timing in one.timing:
        if at_s := timing.quantiles_s():
            console.out.print(
                f"{timing.what} minus truth: median {at_s[0.5]:+.2f} s, 90 % within "
                f"{at_s[0.05]:+.2f} .. {at_s[0.95]:+.2f} s ({len(timing.errors_s)} events)",
                highlight=False,
            )
    console.out.print()


def _show_clips(evaluation: ClipEvaluation) -> None:
    from touchline.pipeline.evaluation.clips import PER_CLASS

    table = _table("clips", ["class", "clips", *PER_CLASS])
    for label, figures in evaluation.per_class.items():
        clips = evaluation.num_clips(label)
        if clips or figures["precision"].value is not None:
            cells = [_with_interval(figures[name]) for name in PER_CLASS]
            table.add_row(console.escape(label), str(clips), *cells)
    console.out.print(table)
    for name, one in evaluation.headlines.items():
        console.out.print(f"{name} {one}", highlight=False)
    console.out.print(evaluation.intervals, highlight=False)


def _show_differences(found: Mapping[str, Difference], intervals: str) -> None:
    from touchline.pipeline.evaluation.significance import figure

    table = _table("second minus first", ["metric", "first", "second", "difference", ""])
    for name, one in found.items():
        pair = (_short(figure(value, None)) for value in (one.a, one.b))
        table.add_row(name, *pair, str(one.difference), one.verdict)
    console.out.print(table)
    console.out.print(intervals, highlight=False)


def _write(path: Path, record: Mapping[str, Any]) -> None:
    import json

    from touchline.pipeline.files import write_atomic

    write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")

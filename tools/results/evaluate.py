"""touchline evaluate: measure predictions against labels, or a checkpoint on labelled clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.scoring.options import ClipOptions
from touchline.tools import console

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.pipeline.evaluation.breakdown import Breakdown
    from touchline.pipeline.evaluation.clips import ClipCounts, ClipEvaluation
    from touchline.pipeline.evaluation.evaluate import Evaluation, MetricFigures
    from touchline.pipeline.evaluation.event_sets import EventSet
    from touchline.pipeline.evaluation.significance import Difference, Figure

DEFAULTS = EvaluateOptions()

UNLABELLED = ("refuse", "false", "skip")

MOST_COLUMNS = 5
"""With more thresholds the table shows the first, the middle, the last and the average of all."""


def evaluate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="PREDICTIONS and LABELS, each a label file of any format, an events file or an "
            "output folder of detect. With --model or --compare only LABELS.",
            metavar="[PREDICTIONS] LABELS",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Measure this checkpoint on the labelled clips.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="Compare two predictions or two checkpoints: is the second significantly better?"
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric to compute: spotting, soccernet-tight, soccernet-loose, "
            "soccernet-visible, soccernet-unshown, player-f1, activitynet or thumos; repeatable. "
            "By default spotting, and activitynet if labels have lengths."
        ),
    ] = None,
    tolerance: Annotated[
        list[float] | None,
        typer.Option(
            help="Tolerance of spotting in seconds; for the soccernet metrics the full width of "
            "the window. Repeatable."
        ),
    ] = None,
    tiou: Annotated[
        list[float] | None,
        typer.Option(help="Threshold of activitynet and thumos: a temporal IoU. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write all figures to this JSON file.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Write precision/recall curves as PNG into this folder.")
    ] = None,
    unlabelled: Annotated[
        str,
        typer.Option(
            help="What to do with predictions for videos without labels. refuse: stop with an "
            "error. false: count them as false events. skip: leave the videos out."
        ),
    ] = "refuse",
    subset: Annotated[
        list[str] | None,
        typer.Option(
            help="For labels with subsets (ActivityNet): measure on this subset only; repeatable. "
            "By default those that PREDICTIONS cover."
        ),
    ] = None,
    bins_per_second: Annotated[
        float,
        typer.Option(
            help="Bins per second of the soccernet metrics. SoccerNet uses 2 for actions and 25 "
            "for ball actions."
        ),
    ] = DEFAULTS.bins_per_second,
    block: Annotated[
        float | None,
        typer.Option(
            help="Resample stretches of this many seconds instead of matches; for few matches."
        ),
    ] = DEFAULTS.block_s,
    resamples: Annotated[
        int,
        typer.Option(
            help="Number of bootstrap resamples for the confidence intervals, and of permutations "
            "for the significance test of --compare; 0 skips both."
        ),
    ] = DEFAULTS.resamples,
    seed: Annotated[
        int, typer.Option(help="Random seed of the bootstrap and the significance test.")
    ] = DEFAULTS.seed,
    max_clip: Annotated[
        float | None,
        typer.Option(
            help="With --model: use at most this many seconds of a clip. By default as in training."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where a checkpoint runs: auto, cpu, cuda, cuda:1 or mps.")
    ] = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Measure predictions against labels, or a checkpoint on labelled clips."""
    _check_arguments(paths, model=model, compare=compare, unlabelled=unlabelled)
    on_clips = model is not None or (compare is not None and compare[0].suffix == ".safetensors")
    _refuse_unused(
        on_clips,
        "measure events, and a checkpoint is measured on clips",
        {
            "--metric": metric,
            "--tolerance": tolerance,
            "--tiou": tiou,
            "--curves": curves,
            "--block": block,
            "--subset": subset,
            "--unlabelled": unlabelled != "refuse",
            "--bins-per-second": bins_per_second != DEFAULTS.bins_per_second,
        },
    )
    _refuse_unused(
        not on_clips,
        "are for checkpoints",
        {"--max-clip": max_clip, "--device": device != "auto"},
    )
    _refuse_unused(compare is not None, "show one set of predictions", {"--curves": curves})
    console.keep_inputs(out, *paths, *(compare or ()), *([model] if model is not None else []))
    options = EvaluateOptions(
        metrics=tuple(metric or ()),
        tolerances_s=tuple(tolerance) if tolerance else None,
        tious=tuple(tiou) if tiou else None,
        resamples=resamples,
        seed=seed,
        block_s=block,
        bins_per_second=bins_per_second,
    )
    say = not quiet and not json_
    if on_clips:
        checkpoints = [model] if model is not None else list(compare or ())
        record = _on_clips(
            checkpoints, paths[0], options, max_clip_s=max_clip, device=device, say=say
        )
    elif compare is not None:
        reading = _Reading(paths[0], unlabelled, subset)
        record = _compare_events(compare, reading, options, say=say)
    else:
        reading = _Reading(paths[1], unlabelled, subset)
        record = _on_events(paths[0], reading, options, curves=curves, say=say)
    if bins_per_second == DEFAULTS.bins_per_second:
        _warn_of_ball_actions(paths[-1], options.metrics)
    if out is not None:
        _write(out, record)
        if say:
            console.out.print(f"Wrote all figures to {console.escape(str(out))}", highlight=False)
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
        raise ValueError(
            "--model measures one checkpoint, --compare two. Give only one of these options."
        )
    wanted = 2 if model is None and compare is None else 1
    if len(paths) != wanted:
        needed = "PREDICTIONS and LABELS" if wanted == 2 else "LABELS alone"
        raise ValueError(f"{len(paths)} paths were given. Give {needed}.")
    if unlabelled not in UNLABELLED:
        raise ValueError(
            f"--unlabelled is {unlabelled!r}; it must be one of {', '.join(UNLABELLED)}"
        )


@dataclass(frozen=True)
class _Reading:
    """The labels, and what to read of them: --unlabelled and --subset."""

    labels: Path
    unlabelled: str
    subsets: Sequence[str] | None


def _warn_of_ball_actions(labels: Path, metrics: Sequence[str]) -> None:
    from touchline.pipeline.labels.datasets.soccernet import BALL_FILE

    measured = [name for name in metrics if name.startswith("soccernet")]
    found = labels.name == BALL_FILE or (labels.is_dir() and any(labels.rglob(BALL_FILE)))
    if measured and found:
        console.warn(
            f"{labels} labels ball actions, for which SoccerNet uses 25 bins per second. These "
            "figures use 2. Use --bins-per-second 25."
        )


def _refuse_unused(unused: bool, why: str, options: Mapping[str, object]) -> None:
    """Raise ValueError if options are given that would have no effect; `why` says so of them."""
    given = [name for name, value in options.items() if value]
    if unused and given:
        raise ValueError(
            f"{' and '.join(given)} would have no effect here, because such options {why}. Leave "
            "them out."
        )


def _on_events(
    predicted: Path,
    reading: _Reading,
    options: EvaluateOptions,
    *,
    curves: Path | None,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.evaluate import evaluate_events
    from touchline.pipeline.evaluation.plots import write_metric_plots
    from touchline.pipeline.evaluation.record import evaluation_record

    truth, predictions = _read_pair(predicted, reading)
    evaluation = evaluate_events(truth, predictions, options)
    if say:
        _show_evaluation(evaluation)
    if curves is not None:
        for path in write_metric_plots(evaluation.metrics, curves):
            if say:
                console.out.print(f"Wrote curves to {console.escape(str(path))}", highlight=False)
    return evaluation_record(evaluation)


def _compare_events(
    compare: tuple[Path, Path],
    reading: _Reading,
    options: EvaluateOptions,
    *,
    say: bool,
) -> dict[str, Any]:
    from touchline.pipeline.evaluation.evaluate import compare_events, unit_name

    truth, first = _read_pair(compare[0], reading)
    other_truth, second = _read_pair(compare[1], reading)
    if truth.events.keys() != other_truth.events.keys():
        raise ValueError(
            f"{compare[0]} and {compare[1]} cover different subsets of {reading.labels}. Choose "
            "one with --subset."
        )
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


def _read_pair(predictions: Path, reading: _Reading) -> tuple[EventSet, EventSet]:
    """Read (labels, predictions), the predictions under the video names of the labels."""
    from touchline.models.spelling import counted
    from touchline.pipeline.evaluation.event_sets import as_truth, pair_videos, read_event_set

    labels, unlabelled = reading.labels, reading.unlabelled
    truth = _judged_labels(labels, as_truth(read_event_set(labels)))
    if not any(truth.events.values()):
        raise ValueError(f"{labels} holds no event. There is nothing to measure against.")
    found = read_event_set(predictions)
    if len(found.runs) > 1:
        console.warn(
            f"{predictions} mixes results of {len(found.runs)} different models or options. Run "
            "touchline detect again so that all results use one."
        )
    truth = _in_subsets(truth, found, predictions, reading)
    paired = pair_videos(truth, found)
    _warn_of_classes(truth, paired.predictions)
    if paired.unlabelled:
        some = ", ".join(paired.unlabelled[:3]) + (", ..." if len(paired.unlabelled) > 3 else "")
        if unlabelled == "refuse":
            raise ValueError(
                f"{labels} says nothing of {counted(len(paired.unlabelled), 'video')} of "
                f"{predictions} ({some}). "
                "Use --unlabelled false if nothing happens in them, or --unlabelled skip to leave "
                "them out. A row of the class background also makes a video labelled."
            )
        if unlabelled == "skip":
            paired = paired.labelled_only()
        done = "left out" if unlabelled == "skip" else "all their events count as false"
        console.warn(f"no labels for {counted(len(paired.unlabelled), 'video')} ({some}): {done}")
    if missed := [video for video in paired.unpredicted if truth.events[video]]:
        console.warn(
            f"no predictions for {counted(len(missed), 'labelled video')} "
            f"({', '.join(missed[:3])}): all events there count as missed"
        )
    return truth, _judged_predictions(truth, paired.predictions)


def _judged_labels(labels: Path, truth: EventSet) -> EventSet:
    """The labels in verified stretches, if some are verified; the others are warned of."""
    from touchline.models.spelling import counted
    from touchline.pipeline.evaluation.event_sets import only_judged

    judged = only_judged(truth, truth)
    if out := _num_events(truth) - _num_events(judged):
        console.warn(
            f"{counted(out, 'event')} of {labels} outside of the verified stretches: left out. If "
            "everything is labelled, remove the rows with the label verified."
        )
    return judged


def _judged_predictions(truth: EventSet, predictions: EventSet) -> EventSet:
    from touchline.models.spelling import counted
    from touchline.pipeline.evaluation.event_sets import only_judged

    judged = only_judged(predictions, truth)
    if out := _num_events(predictions) - _num_events(judged):
        console.warn(
            f"{counted(out, 'prediction')} outside of the verified stretches: neither right nor "
            "false"
        )
    return judged


def _num_events(events: EventSet) -> int:
    return sum(map(len, events.events.values()))


def _in_subsets(truth: EventSet, found: EventSet, predictions: Path, reading: _Reading) -> EventSet:
    """The labels of the chosen subsets, or else of those that the predictions cover."""
    from touchline.pipeline.evaluation.event_sets import in_subsets, pair_videos

    known = set(truth.subsets.values())
    if reading.subsets is not None:
        if unknown := [name for name in reading.subsets if name not in known]:
            there = f"Its subsets are {', '.join(sorted(known))}." if known else "It has none."
            raise ValueError(f"{reading.labels} has no subset {unknown[0]!r}. {there}")
        chosen = set(reading.subsets)
    else:
        covered = pair_videos(truth, found).predictions.events
        chosen = {truth.subsets[video] for video in covered if video in truth.subsets}
        if not chosen or chosen == known:
            return truth
        console.warn(
            f"{predictions} covers only the subset {' and '.join(sorted(chosen))} of "
            f"{reading.labels}, so the figures are of that subset. Choose with --subset."
        )
    kept = in_subsets(truth, chosen)
    if not any(kept.events.values()):
        raise ValueError(
            f"{reading.labels} holds no event in the subset {' and '.join(sorted(chosen))}"
        )
    return kept


def _warn_of_classes(truth: EventSet, predictions: EventSet) -> None:
    """Warn of predicted classes that may be labelled ones under another name."""
    from touchline.pipeline.labels.checks import plain_name

    labelled, predicted = (
        {event.label for events in one.events.values() for event in events}
        for one in (truth, predictions)
    )
    alike = False
    for label in sorted(predicted - labelled):
        for other in sorted(labelled - predicted):
            if plain_name(label) == plain_name(other):
                console.warn(
                    f"the class {label!r} is predicted, but {other!r} is labelled. They count as "
                    "two classes. If they are the same class, use one name."
                )
                alike = True
    if predicted and not predicted & labelled and not alike:
        console.warn(
            f"no predicted class is labelled. Predicted: {', '.join(sorted(predicted)[:8])}. "
            f"Labelled: {', '.join(sorted(labelled)[:8])}."
        )


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
    """Count right and wrong clips of each checkpoint, on matches that none was trained on."""
    from touchline.models.checkpoint import load_checkpoint
    from touchline.models.spelling import counted as spelt
    from touchline.pipeline.evaluation.clips import count_clips
    from touchline.pipeline.labels.read import read_labels
    from touchline.pipeline.scoring.score_clips import (
        clip_probs,
        keep_visible,
        score_clips,
    )
    from touchline.pipeline.scoring.seen_groups import unseen_examples

    models = [load_checkpoint(path) for path in checkpoints]
    examples = read_labels(labels)
    for model in models:
        examples, hidden = keep_visible(model, examples)
        if hidden:
            console.warn(f"left out {spelt(hidden, 'event')} that the broadcast does not show")
        examples, left_out = unseen_examples(model, examples)
        if left_out:
            console.warn(
                f"left out {spelt(len(left_out), 'group')} that the model was trained on "
                f"({', '.join(left_out[:8])})"
            )
    counted = []
    for model in models:
        longest = model.record.max_clip_s if max_clip_s is None else max_clip_s
        clip_options = ClipOptions(max_clip_s=longest, device=device)
        scores = score_clips(model, examples, clip_options)
        probs = clip_probs(model, scores)
        counted.append(count_clips(probs, scores.truth, model.labels, scores.groups))
    return counted


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich.table import Table

    # The title of a rich table would wrap at the table's width.
    console.out.print(title, highlight=False)
    table = Table(box=None)
    for k, name in enumerate(columns):
        table.add_column(name, justify="right" if k else "left")
    return table


def _show_evaluation(evaluation: Evaluation) -> None:
    from touchline.models.spelling import counted

    for one in evaluation.metrics:
        _show_metric(one)
    for breakdown, accepted in zip(evaluation.breakdowns, evaluation.accepted, strict=True):
        _show_breakdown(breakdown, accepted)
    summary = f"{counted(evaluation.num_videos, 'video')}. {evaluation.intervals}"
    if evaluation.num_units < 2 and evaluation.unit == "matches":
        summary += " Use --block SECONDS to resample stretches of the match."
    console.out.print(summary, highlight=False)


def _show_metric(one: MetricFigures) -> None:
    from touchline.pipeline.evaluation.evaluate import METRICS

    unit, thresholds = METRICS[one.name].unit, one.metric.thresholds
    T = len(thresholds)
    shown = range(T) if T <= MOST_COLUMNS else (0, T // 2, T - 1)
    heads = [f"{thresholds[t]:g} s" if unit == "s" else f"{thresholds[t]:.2g}" for t in shown]
    columns = ["class", "labelled", "predicted", *heads, "average"]
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
    """Two digits, so that three figures fit side by side."""
    if one.value is None or one.low is None or one.high is None:
        return "-" if one.value is None else f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _show_breakdown(one: Breakdown, accepted: Mapping[str, Figure]) -> None:
    from touchline.models.spelling import counted
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
        f"AP of these {one.average_precision:.3f}; correcting only one kind of error would add: "
        + ", ".join(f"{kind.replace('_', ' ')} {gain:+.3f}" for kind, gain in worst),
        highlight=False,
    )
    for timing in one.timing:
        if at_s := timing.quantiles_s():
            console.out.print(
                f"{timing.what}, predicted minus labelled: median {at_s[0.5]:+.2f} s, 90 % within "
                f"{at_s[0.05]:+.2f} .. {at_s[0.95]:+.2f} s "
                f"({counted(len(timing.errors_s), 'event')})",
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

    from touchline.models.atomic_files import write_atomic

    write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")

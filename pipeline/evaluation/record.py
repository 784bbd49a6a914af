"""Turn evaluations into JSON values, as `touchline evaluate -o` writes. Intervals are 95 %."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from touchline.pipeline.evaluation.breakdown import MISSED, Breakdown, Kind, Timing
from touchline.pipeline.evaluation.clips import ClipEvaluation
from touchline.pipeline.evaluation.evaluate import METRICS, Evaluation, MetricFigures
from touchline.pipeline.evaluation.significance import Difference, Figure


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Turn an evaluation into JSON values; `intervals` says what the intervals rest on."""
    return {
        "videos": evaluation.num_videos,
        "resampled": {"number": evaluation.num_units, "unit": evaluation.unit},
        "intervals": evaluation.intervals,
        "metrics": {one.name: _metric_record(one) for one in evaluation.metrics},
        "errors": [
            _breakdown_record(one, accepted)
            for one, accepted in zip(evaluation.breakdowns, evaluation.accepted, strict=True)
        ],
    }


def figure_record(one: Figure) -> dict[str, float | None]:
    """Turn a figure and its interval into JSON values; null without an interval."""
    return {"value": one.value, "low": one.low, "high": one.high}


def comparison_record(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """Turn the differences by metric into JSON values."""
    return {
        name: {
            "a": _number(one.a),
            "b": _number(one.b),
            "difference": figure_record(one.difference),
            "p": one.p,
            "resampled": one.num_units,
            "verdict": one.verdict,
        }
        for name, one in differences.items()
    }


def _metric_record(one: MetricFigures) -> dict[str, Any]:
    thresholds = [round(threshold, 6) for threshold in one.metric.thresholds]
    return {
        "what": METRICS[one.name].what,
        "value": figure_record(one.headline),
        "thresholds": thresholds,
        "unit": METRICS[one.name].unit,
        "per_threshold": [figure_record(each) for each in one.per_threshold],
        "per_class": {
            row.label: {
                "truth": row.num_truth,
                "predictions": row.num_predictions,
                "average": figure_record(row.average),
                "per_threshold": [figure_record(each) for each in row.ap],
            }
            for row in one.per_class
        },
    }


def _breakdown_record(one: Breakdown, accepted: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "threshold": round(one.threshold, 6),
        "accepted": {name: figure_record(each) for name, each in accepted.items()},
        "average_precision_of_accepted": _number(one.average_precision),
        "gained_by_correcting": {kind: _number(gain) for kind, gain in one.cost.items()},
        "per_class": {
            row.label: {
                "truth": row.num_truth,
                "predictions": row.num_predictions,
                **{kind.value: row.kinds[kind] for kind in Kind},
                MISSED: row.missed,
                "precision": row.precision,
                "recall": row.recall,
                "f1": row.f1,
            }
            for row in one.per_class
        },
        "timing": {each.what: _timing_record(each) for each in one.timing},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _timing_record(one: Timing) -> dict[str, Any]:
    """Predicted minus labelled time in seconds; only the number if it is 0."""
    if len(one.errors_s) == 0:
        return {"number": 0}
    return {
        "number": len(one.errors_s),
        "mean_s": float(one.errors_s.mean()),
        "mean_absolute_s": float(np.abs(one.errors_s).mean()),
        "quantiles_s": {f"{q:g}": error_s for q, error_s in one.quantiles_s().items()},
    }


def clips_record(evaluation: ClipEvaluation) -> dict[str, Any]:
    """Turn an evaluation on clips into JSON values; rows of the matrix are true classes."""
    return {
        "clips": int(evaluation.counts.confusion.sum()),
        "resampled": {"number": evaluation.counts.num_units, "unit": "matches"},
        "intervals": evaluation.intervals,
        "figures": {name: figure_record(one) for name, one in evaluation.headlines.items()},
        "per_class": {
            label: {
                "clips": evaluation.num_clips(label),
                **{name: figure_record(one) for name, one in figures.items()},
            }
            for label, figures in evaluation.per_class.items()
        },
        "labels": list(evaluation.counts.labels),
        "confusion_matrix": evaluation.counts.confusion.sum(axis=0).astype(int).tolist(),
    }

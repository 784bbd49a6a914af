"""Show what a training run found, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from touchline.tools import console

MOST_CLASSES = 8
"""Of more classes than this, those with the lowest recall are shown."""


def show_summary(metrics: Mapping[str, Any], out: Path) -> None:
    """Print how good the model is, what it confuses, what to label next and the next command.

    Args:
        metrics: The content of metrics.json.
        out: The run folder.
    """
    summary = metrics["summary"]
    if summary["per_class"]:
        _say("on matches that the answering model did not see:")
        for name, row in summary["accuracy"].items():
            _say(f"  {name}: {_accuracy(row)}")
        if metrics["figures"] and "map" in metrics["figures"]:
            _say(f"  validation: mean AP {metrics['figures']['map']:.2f}")
        if metrics["history"]:
            _say(f"  (epoch {metrics['best_epoch']}, chosen on these clips, so slightly too good)")
        _show_classes(summary)
    if summary["confusions"]:
        cells = [
            f"{c['true']} taken for {c['predicted']}: {c['clips']} of {c['of']}"
            for c in summary["confusions"]
        ]
        _say("confused: " + "; ".join(cells))
    if summary["label_next"]:
        _say("next labels: " + summary["label_next"]["sentence"])
    if summary["suspects"]:
        _say(f"labels to check: {summary['suspects']}, with pictures in {out / 'suspects.html'}")
    _say(f"{metrics['seconds']:.0f} s; model, metrics and curves in {out}")
    console.out.print(
        "next: " + console.escape(summary["next_command"]), highlight=False, soft_wrap=True
    )


def _say(text: str) -> None:
    console.out.print(console.escape(text), highlight=False)


def _accuracy(row: Mapping[str, Any]) -> str:
    matches = "1 match" if row["matches"] == 1 else f"{row['matches']} matches"
    text = f"{row['value']:.2f} of {row['clips']} clips right"
    if row["low"] is None:
        return f"{text} ({matches}, so no interval)"
    return f"{text}, 95 % interval {row['low']:.2f} to {row['high']:.2f} ({matches})"


def _show_classes(summary: Mapping[str, Any]) -> None:
    from rich.table import Table

    rows = summary["per_class"]
    shown = sorted(rows, key=lambda label: rows[label]["recall"])[:MOST_CLASSES]
    hidden = len(rows) - len(shown)
    by = next(iter(summary["accuracy"]))
    _say(f"by class ({by}){f'; metrics.json has {hidden} more' if hidden else ''}:")
    table = Table(box=None)
    table.add_column("class", overflow="ellipsis", no_wrap=True)
    for name in ("clips", "matches", "recall", "precision"):
        table.add_column(name, justify="right")
    for label in (label for label in rows if label in shown):
        row = rows[label]
        figures = ("-" if row[k] is None else f"{row[k]:.2f}" for k in ("recall", "precision"))
        table.add_row(console.escape(label), str(row["clips"]), str(row["matches"]), *figures)
    console.out.print(table)

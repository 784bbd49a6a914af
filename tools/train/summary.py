"""Show what a training run found, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from touchline.tools import console

if TYPE_CHECKING:
    from rich.table import Table

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
        _show_accuracy(summary["accuracy"])
        if metrics["figures"] and "map" in metrics["figures"]:
            _say(f" validation: mean AP {metrics['figures']['map']:.2f}")
        if metrics["history"]:
            _say(f" (epoch {metrics['best_epoch']}, chosen on these clips, so slightly too good)")
        _say(f"by class ({next(iter(summary['accuracy']))}):")
        _show_classes(summary["per_class"])
    if summary["confusions"]:
        cells = [
            f"{c['true']} taken for {c['predicted']}: {c['clips']} of {c['of']}"
            for c in summary["confusions"]
        ]
        _say("confused: " + "; ".join(cells))
    if summary["label_next"]:
        _say(summary["label_next"]["sentence"])
    if summary["suspects"]:
        console.say(f"labels to check: {summary['suspects']}, pictures: {out / 'suspects.html'}")
    console.say(f"{metrics['seconds']:.0f} s; model, metrics and curves in {out}")
    console.say(f"next: {summary['next_command']}")


def _say(text: str) -> None:
    console.out.print(console.escape(text), highlight=False)


def _show_accuracy(rows: Mapping[str, Mapping[str, Any]]) -> None:
    table = _table("", "accuracy", "95 % interval", "clips", "matches")
    for name, row in rows.items():
        has_interval = row["low"] is not None
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if has_interval else "-"
        counts = (str(row["clips"]), str(row["matches"]))
        table.add_row(name, f"{row['value']:.2f}", interval, *counts)
    console.out.print(table)
    if any(row["too_narrow"] for row in rows.values()):
        _say(" (with so few matches, the true interval is wider)")


def _show_classes(rows: Mapping[str, Mapping[str, Any]]) -> None:
    shown = sorted(rows, key=lambda label: rows[label]["recall"])[:MOST_CLASSES]
    table = _table("class", "clips", "matches", "recall", "precision")
    for label in (label for label in rows if label in shown):
        row = rows[label]
        figures = ("-" if row[k] is None else f"{row[k]:.2f}" for k in ("recall", "precision"))
        table.add_row(console.escape(label), str(row["clips"]), str(row["matches"]), *figures)
    console.out.print(table)
    if len(rows) > len(shown):
        _say(f" ({len(rows) - len(shown)} classes with higher recall are in metrics.json)")


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None)
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table

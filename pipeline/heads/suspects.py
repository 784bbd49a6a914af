"""Find labels that a model which did not see their match disagrees with, and list them as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from touchline.models.classes import BACKGROUND
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.labels.csv_files import COLUMNS, csv_lines
from touchline.pipeline.types import Example

EXTRA_COLUMNS = ("predicted", "label_prob", "predicted_prob", "reason")


@dataclass(frozen=True)
class Suspect:
    """An example whose label the model disagrees with.

    Attributes:
        example: The example.
        label: The class in the labels; background if a model of independent classes gives a class
            that the labels do not have there.
        predicted: The class that the model gives; background if it gives none.
        label_prob: Probability of `label`.
        predicted_prob: Probability of `predicted`.
    """

    example: Example
    label: str
    predicted: str
    label_prob: float
    predicted_prob: float

    @property
    def margin(self) -> float:
        """How much more probable the model's answer is than the label."""
        return self.predicted_prob - self.label_prob

    @property
    def reason(self) -> str:
        """Why it is worth a look."""
        if self.label == BACKGROUND:
            return "event without a label?"
        return "event not seen" if self.predicted == BACKGROUND else "another class?"


def find_suspects(*answers: HeldOut) -> list[Suspect]:
    """Return the examples that are answered wrongly, most confident disagreement first."""
    found = [suspect for held in answers for suspect in _suspects(held.only_judged())]
    return sorted(found, key=lambda suspect: -suspect.margin)


def _suspects(held: HeldOut) -> list[Suspect]:
    found = []
    wrong = held.true != held.given
    for i, example in enumerate(held.examples):
        if held.multi_label:
            for k in wrong[i].nonzero()[0]:
                p = float(held.probs[i, k])
                labelled, name = bool(held.true[i, k]), held.labels[k]
                found.append(
                    Suspect(example, name, BACKGROUND, p, 1 - p)
                    if labelled
                    else Suspect(example, BACKGROUND, name, 1 - p, p)
                )
        elif wrong[i].any():
            true, given = int(held.true[i].argmax()), int(held.probs[i].argmax())
            probs = float(held.probs[i, true]), float(held.probs[i, given])
            found.append(Suspect(example, held.labels[true], held.labels[given], *probs))
    return found


def suspects_text(suspects: Sequence[Suspect], folder: Path) -> str:
    """Return suspects as CSV with the columns of labels, and what the model says.

    Args:
        suspects: The suspects, in the order of the rows.
        folder: The folder of the file. Footage is named relative to it.
    """
    rows: list[Sequence[str]] = [(*COLUMNS, *EXTRA_COLUMNS)]
    for suspect in suspects:
        example = suspect.example
        rows.append(
            (
                footage_reference(example.path, folder),
                suspect.label,
                *("" if t is None else repr(round(t, 3)) for t in (example.start_s, example.end_s)),
                example.group,
                suspect.predicted,
                f"{suspect.label_prob:.4f}",
                f"{suspect.predicted_prob:.4f}",
                suspect.reason,
            )
        )
    return csv_lines(rows)

"""The last screen of `touchline train`: the facts of metrics.json, on 80 columns and 24 lines."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from touchline.tools import console
from touchline.tools.train.summary import show_summary

FIGURES = {"clips": 25, "matches": 7, "recall": 0.84, "precision": None}
CONFUSED = {"true": "card", "predicted": "substitution", "clips": 4, "of": 25}


def made_metrics(*, num_classes=4, **summary):
    accuracy = {"value": 0.931, "low": 0.874, "high": 0.968, "clips": 75, "matches": 12}
    accuracy["too_narrow"] = False
    facts = {
        "accuracy": {
            "cross-validation": accuracy,
            "validation": accuracy | {"value": 1.0, "low": None, "clips": 18, "matches": 1},
        },
        "per_class": {f"class {k}": FIGURES | {"recall": 1 - k / 100} for k in range(num_classes)},
        "confusions": [CONFUSED] * 3,
        "suspects": 5,
        "learning_curve": [],
        "label_next": {
            "sentence": "Label more penalty clips first: 5 clips, recall 0.60, and it did not rise "
            "from 0.60 with half of them. Check these clips in suspects.csv before you label more. "
            "They are of 2 matches, so take clips of other matches."
        },
        "next_command": "touchline detect MATCH.mp4 --model run/model.safetensors -o out/",
    }
    metrics = {"summary": facts | summary, "figures": None, "history": []}
    return metrics | {"best_epoch": 0, "seconds": 41.2}


@pytest.fixture
def shown(monkeypatch):
    def show(metrics):
        out = Console(file=io.StringIO(), width=80)
        monkeypatch.setattr(console, "out", out)
        show_summary(metrics, Path("run"))
        return out.file.getvalue()

    return show


def test_it_fits_on_one_screen_with_many_classes(shown):
    text = shown(made_metrics(num_classes=30))
    lines = text.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert "22 classes with higher recall are in metrics.json" in text
    assert "class 29" in text  # of many classes, those with the lowest recall
    assert "class 0 " not in text


def test_it_says_how_good_what_is_confused_and_what_to_do_next(shown):
    text = shown(made_metrics())
    words = " ".join(text.split())
    assert "cross-validation 0.93 0.87 to 0.97 75 12" in words
    assert "validation 1.00 - 18 1" in words
    assert "card taken for substitution: 4 of 25" in words
    assert "Label more penalty clips first" in words
    assert "run/suspects.html" in words
    assert "\nnext: touchline detect MATCH.mp4 --model run/model.safetensors -o out/\n" in text


def test_a_command_is_never_broken_into_lines(shown):
    command = "touchline detect MATCH.mp4 --model " + "long/" * 20 + "model.safetensors -o out/"
    assert f"next: {command}\n" in shown(made_metrics(next_command=command))


def test_without_validation_only_the_model_and_the_next_command_are_reported(shown):
    nothing = {"accuracy": {}, "per_class": {}, "confusions": [], "suspects": 0, "label_next": None}
    lines = shown(made_metrics(**nothing)).splitlines()
    assert lines == [
        "41 s; model, metrics and curves in run",
        "next: touchline detect MATCH.mp4 --model run/model.safetensors -o out/",
    ]


def test_figures_of_the_best_epoch_are_named_as_chosen_on_the_same_clips(shown):
    trained = {"history": [{"epoch": 1}], "best_epoch": 3, "figures": {"map": 0.625}}
    text = shown(made_metrics() | trained)
    assert "(epoch 3, chosen on these clips, so slightly too good)" in text
    assert "validation: mean AP 0.62" in text


def test_intervals_of_few_matches_are_told_to_be_too_narrow(shown):
    assert "the true interval is wider" not in shown(made_metrics())
    row = made_metrics()["summary"]["accuracy"]["cross-validation"]
    few = made_metrics(accuracy={"cross-validation": row | {"matches": 4, "too_narrow": True}})
    assert "with so few matches, the true interval is wider" in shown(few)

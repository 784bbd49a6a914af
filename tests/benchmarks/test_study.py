"""Studies of transfer: their files, their cells, and the figures by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_material import tiny_backbone, write_clips

from touchline.models import catalog
from touchline.models.errors import LabelsError
from touchline.pipeline.benchmarks import study as study_module
from touchline.pipeline.benchmarks.study import few_of_each, longer, read_study, study_cells
from touchline.pipeline.benchmarks.study_figures import (
    Spread,
    accuracy,
    accuracy_over_time,
    arm_figures,
    balanced_accuracy,
)
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example
from touchline.tools import cli

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = """
labels = "labels.csv"
folds = [["match_0", "match_1"], ["match_2", "match_3"]]
seeds = [0, 1]
clips_per_class = [1]
curve_arms = ["frozen"]
without = ["red"]

[train]
backbone = "tiny"
augmentation = { min_area = 0.8 }
epochs = 2
cached_views = 1

[arms.scratch]
lr = 0.01

[arms.frozen]
freeze = "trunk"

[arms.gradual]
freeze = 3
unfreeze = [[1, "third"]]
"""


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(catalog.BACKBONES, "tiny", tiny_backbone)
    write_clips(tmp_path, ("blue", "red"), per=1)
    path = tmp_path / "colours.toml"
    path.write_text(TEXT)
    return path


def run(*arguments: object) -> None:
    cli.app(["bench", "transfer", *(str(a) for a in arguments)], standalone_mode=False)


def test_a_study_file_says_what_is_compared(study_file: Path) -> None:
    footage = 'lr = 0.01\nbackground = ["warmup.mp4"]\nhard_negatives = "earlier.safetensors"'
    study_file.write_text(TEXT.replace("lr = 0.01", footage))
    study = read_study(study_file)
    assert study.folds == (("match_0", "match_1"), ("match_2", "match_3"))
    assert study.arms["scratch"].options.lr == 0.01
    assert study.arms["frozen"].freeze == "trunk"
    assert study.arms["gradual"].unfreeze == ((1, "third"),)
    assert {arm.options.epochs for arm in study.arms.values()} == {2}
    assert {arm.options.augmentation for arm in study.arms.values()} == {Augmentation(0.8)}
    assert study.arms["scratch"].background == (study_file.parent / "warmup.mp4",)
    assert study.arms["scratch"].hard_negatives == study_file.parent / "earlier.safetensors"
    cells = [(c.seed, c.fold, c.arm, c.per_class) for c in study_cells(study)]
    assert len(cells) == 2 * 2 * 3 + 2
    assert cells[:4] == [
        (0, 0, "scratch", None),
        (0, 0, "frozen", None),
        (0, 0, "gradual", None),
        (0, 1, "scratch", None),
    ]
    assert cells[-1] == (0, 1, "frozen", 1)
    study_file.write_text(
        TEXT.replace("[1]", "[1, 2]", 1)
        .replace("curve_arms", "curve_folds = [1]\ndraws = 2\ncurve_arms")
        .replace("[0, 1]", "[]")
    )
    cells = [(c.seed, c.fold, c.arm, c.per_class) for c in study_cells(read_study(study_file))]
    assert cells == [
        (0, 1, "frozen", 1),
        (0, 1, "frozen", 2),
        (1, 1, "frozen", 1),
        (1, 1, "frozen", 2),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 0.01", "multi_label = true", "which do not exist with multi_label"),
        ("lr = 0.01", "learning_rate = 0.01", "there is no option 'learning_rate'"),
        ("folds =", "fold =", "'folds' is missing"),
        ('["frozen"]', '["thawed"]', "curve_arms names 'thawed', which is not one of the arms"),
        ("epochs = 2", "epochs = ", "not a study"),
        ("epochs = 2", "epochs = 0", "epochs is 0"),
        ("min_area = 0.8", "min_area = 8", "min_area is 8; it must be in"),
        ("min_area = 0.8", "min_aera = 0.8", "not a study: .*'min_aera'"),
        ("{ min_area = 0.8 }", "0.8", "not a study"),
        ('"labels.csv"', "3", "labels is 3; it must be a text"),
        ("[train]", "[[train]]", "train is .*; it must be a table"),
        ("[arms.frozen]", "[[arms.frozen]]", "frozen is .*; it must be a table"),
        ('[["match_0", "match_1"], ["match_2", "match_3"]]', "3", "folds is 3; it must be a list"),
        ('[["match_0", "match_1"], ["match_2", "match_3"]]', '["match_0"]', "fold is 'match_0'"),
        ('["match_0", "match_1"]', "[0, 1]", "one of a fold is 0; it must be a text"),
        ('[["match_0", "match_1"], ["match_2", "match_3"]]', "[]", "folds is empty"),
        ("[0, 1]\nclips_per_class = [1]", "[]", "seeds is empty"),
        ("[0, 1]", '["a"]', "one of seeds is 'a'; it must be a whole number"),
        ('without = ["red"]', 'without = "red"', "without is 'red'; it must be a list"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(
    study_file: Path, old: str, new: str, message: str
) -> None:
    study_file.write_text(TEXT.replace(old, new))
    with pytest.raises(LabelsError, match=message) as caught:
        read_study(study_file)
    assert str(caught.value).startswith(f"{study_file}: ")


def test_a_study_whose_arms_are_a_list_is_refused(study_file: Path) -> None:
    study_file.write_text('labels = "a.csv"\nfolds = [["x"]]\narms = [1]\n')
    with pytest.raises(LabelsError, match=r"arms is \[1\]; it must be a table"):
        read_study(study_file)


def test_a_folder_beside_a_study_does_not_hide_the_name_of_weights(study_file: Path) -> None:
    study_file.write_text(TEXT.replace("lr = 0.01", 'weights = "i3d-kinetics400"'))
    (study_file.parent / "i3d-kinetics400").mkdir()
    assert read_study(study_file).arms["scratch"].weights == "i3d-kinetics400"


def test_a_study_is_run_once_and_in_pieces(
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    run(study_file, "-o", out, "--arm", "frozen", "--seed", 0)
    assert "4 of 14 runs are done" in capsys.readouterr().out
    run(study_file, "-o", out, "-q", "--clock", "cpu")
    shown = capsys.readouterr().out
    assert "14 of 14 runs are done" in shown
    figures = json.loads((out / "colours.json").read_text())
    rows = {(a["arm"], a["per_class"]): a for a in figures["arms"]}
    assert set(rows) == {("scratch", None), ("frozen", None), ("gradual", None), ("frozen", 1)}
    assert rows["frozen", None]["seeds"] == [0, 1]
    assert rows["frozen", 1]["seeds"] == [0]
    # With half of the clips an epoch has half of the steps, and there are twice as many.
    assert {row["epochs"] for key, row in rows.items() if key[1] is None} == {2}
    assert rows["frozen", 1]["epochs"] == 4
    assert all(row["clips"] == 8 for row in rows.values())
    assert all(row["accuracy_without"] is not None for row in rows.values())
    assert (out / "colours.png").stat().st_size > 10_000

    cell = json.loads((out / "cells" / "frozen-fold0-seed0-1-per-class.json").read_text())
    assert cell["train_clips"] == 2
    assert cell["truth"] == ["blue", "red", "blue", "red"]
    assert [(row["epoch"], len(row["answers"])) for row in cell["epochs"]] == [(2, 4), (4, 4)]

    monkeypatch.setattr(study_module, "run_cell", None)  # would fail
    run(study_file, "-o", out, "-q")

    # The folder is of this study as it was, and of no other.
    study_file.write_text(TEXT.replace("epochs = 2", "epochs = 3"))
    changed = r"scratch-fold0-seed0.json was trained with epochs = 2, now it is 3"
    for only in ([], ["--report"]):
        with pytest.raises(ValueError, match=changed):
            run(study_file, "-o", out, "-q", *only)
    other = study_file.rename(study_file.with_name("others.toml"))
    with pytest.raises(ValueError, match=r"with study = 'colours', now it is 'others'"):
        run(other, "-o", out, "-q")
    (out / "cells" / "scratch-fold0-seed0.json").write_text("{}")
    with pytest.raises(ValueError, match=r"scratch-fold0-seed0.json is not a result of a study"):
        run(other, "-o", out, "-q")


def test_an_arm_that_is_not_there_is_refused(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no arm 'forzen'; it has scratch, frozen, gradual"):
        run(study_file, "-o", tmp_path / "out", "--arm", "forzen")


def test_a_clock_that_is_not_there_is_refused(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--clock is 'sun'; it must be one of wall, cpu"):
        run(study_file, "-o", tmp_path / "out", "--clock", "sun")


def test_few_clips_come_from_as_many_matches_as_possible() -> None:
    examples = [
        Example(Path(f"{label}{group}{k}.mp4"), label, group)
        for label in ("goal", "card")
        for group in "ABC"
        for k in range(4)
    ]
    for seed in range(5):
        few = few_of_each(examples, 3, seed=seed)
        for label in ("goal", "card"):
            assert {e.group for e in few if e.label == label} == set("ABC")
        assert len(few) == 6
    assert len(few_of_each(examples, 100, seed=0)) == 24
    assert few_of_each(examples, 2, seed=0) != few_of_each(examples, 2, seed=1)


def test_longer_training_frees_stages_at_the_same_share_of_it() -> None:
    options = longer(TrainOptions(freeze=3, unfreeze=((6, 2), (12, 1)), epochs=24), 2.5)
    assert (options.epochs, options.unfreeze) == (60, ((15, 2), (30, 1)))
    # As often as before in all, or every epoch.
    assert options.validate_every == 2
    assert longer(TrainOptions(), 1.0).validate_every == 1


def cell(fold: int, truth: str, *epochs: tuple[float, str], seed: int = 0) -> dict[str, object]:
    rows = [
        {"epoch": k + 1.0, "seconds": s, "cpu_seconds": 2 * s, "answers": list(a)}
        for k, (s, a) in enumerate(epochs)
    ]
    return {
        "arm": "scratch",
        "fold": fold,
        "seed": seed,
        "per_class": None,
        "truth": list(truth),
        "seconds": epochs[-1][0],
        "epochs": rows,
    }


def test_figures_by_hand(study_file: Path) -> None:
    study = read_study(study_file)
    runs = [
        # Seed 0: 3 of 4 at the end (blue b 2 of 2, red r 1 of 2); all right an epoch before.
        cell(0, "bb", (1.0, "rr"), (2.0, "bb"), (3.0, "bb")),
        cell(1, "rr", (1.0, "rr"), (4.0, "br")),
        # Seed 1: 1 of 4.
        cell(0, "bb", (2.0, "rr"), seed=1),
        cell(1, "rr", (2.0, "rb"), seed=1),
    ]
    runs = [
        json.loads(json.dumps(r).replace('"b"', '"blue"').replace('"r"', '"red"')) for r in runs
    ]
    (row,) = arm_figures(study, runs)
    assert row.seeds == (0, 1)
    assert row.clips == 4
    assert row.accuracy == Spread(0.5, 0.25, 0.75)
    assert row.balanced_accuracy == Spread(0.5, 0.25, 0.75)
    assert row.accuracy_without == Spread(0.5, 0.0, 1.0)
    assert row.best_accuracy == Spread(0.625, 0.25, 1.0)
    assert row.seconds == pytest.approx((3 + 4 + 2 + 2) / 4)
    assert row.cpu_seconds == pytest.approx((6 + 8 + 4 + 4) / 4)
    # A seed with a fold missing does not count.
    (row,) = arm_figures(study, runs[:3])
    assert row.seeds == (0,)


def test_accuracy_over_time_takes_each_folds_latest_epoch() -> None:
    runs = [
        cell(0, "bb", (1.0, "rr"), (2.0, "bb"), (3.0, "bb")),
        cell(1, "rr", (1.5, "rr"), (4.0, "br")),
    ]
    times, shares = accuracy_over_time(runs, "seconds")
    # Before 1.5 s the second fold has no epoch.
    assert times == [1.5, 2.0, 3.0, 4.0]
    assert shares == [0.5, 1.0, 1.0, 0.75]


def test_accuracies_by_hand() -> None:
    truth, answers = list("bbbr"), list("bbrr")
    assert accuracy(truth, answers) == 0.75
    assert accuracy(truth, answers, without=["r"]) == pytest.approx(2 / 3)
    assert balanced_accuracy(truth, answers) == pytest.approx((2 / 3 + 1) / 2)


def test_the_bench_of_kept_views_tells_both_speeds(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = study_file.parent / "labels.csv"
    cli.app(["bench", "cache", str(labels), "--backbone", "tiny"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "8 clips, tiny; decoding them and computing the features took" in shown
    assert "4 views of each clip kept" in shown


def test_a_fitted_head_is_an_arm_of_one_epoch(study_file: Path, tmp_path: Path) -> None:
    fitted = '[arms.fitted]\nfreeze = "trunk"\nhead = "linear"\n'
    curve = 'clips_per_class = [2]\ndraws = 2\ncurve_arms = ["fitted"]'
    text = TEXT.replace('clips_per_class = [1]\ncurve_arms = ["frozen"]', curve)
    study_file.write_text(text + fitted)
    run(study_file, "-o", tmp_path / "out", "-q", "--arm", "fitted")
    figures = json.loads((tmp_path / "out" / "colours.json").read_text())
    rows = {row["per_class"]: row for row in figures["arms"]}
    assert rows[None]["epochs"] == 1
    assert rows[None]["clips"] == rows[2]["clips"] == 8
    # Each of the two draws of two clips per class is a run of each fold.
    assert rows[2]["seeds"] == [0, 1]
    assert 0.5 <= rows[None]["accuracy"]["mean"] <= 1

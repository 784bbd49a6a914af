"""Videos that labels name without events, subsets, names under other roofs, and equal scores."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from label_samples import save, touch
from typer.testing import CliRunner

from touchline.pipeline.evaluation.event_sets import pair_videos, read_event_set
from touchline.pipeline.evaluation.spotting import soccernet_map, spotting_map
from touchline.pipeline.types import Event
from touchline.tools.cli import app


def evaluated(*arguments: object) -> tuple[dict[str, Any], str]:
    """All figures of `touchline evaluate`, and what it warned of."""
    given = [str(argument) for argument in ("evaluate", *arguments, "--json", "--resamples", 0)]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)["metrics"], " ".join(result.stderr.split())


def soccernet(folder: Path, name: str, key: str, *rows: tuple[int, float, float]) -> None:
    """A match with events of (half, second, confidence)."""
    document = {
        "UrlLocal": "league/match",
        key: [
            {"gameTime": f"{half} - 00:00", "label": "Goal", "position": str(1000 * second),
             "confidence": str(score)}
            for half, second, score in rows
        ],
    }  # fmt: skip
    save(folder, json.dumps(document), f"match/{name}")


def test_a_half_without_labels_is_labelled(tmp_path: Path) -> None:
    soccernet(tmp_path / "gt", "Labels-v2.json", "annotations", (1, 10, 1.0))
    soccernet(tmp_path / "pred", "results_spotting.json", "predictions", (1, 10, 0.5), (2, 30, 0.9))
    figures, warned = evaluated(tmp_path / "pred", tmp_path / "gt", "--metric", "soccernet-tight")
    # SoccerNet's package gives 0.5: the false event of the second half comes first.
    assert figures["soccernet-tight"]["value"]["value"] == pytest.approx(0.5)
    assert warned == ""
    truth = read_event_set(tmp_path / "gt")
    assert set(truth.groups.values()) == {"league/match"}
    assert len(truth.groups) == 2


def anet(tmp_path: Path, results: dict[str, list[float]], **database: Any) -> list[Path]:
    """Predictions and labels in ActivityNet's form: videos with goals that begin at these times."""

    def rows(starts: list[float]) -> list[dict[str, Any]]:
        return [{"segment": [s, s + 10], "label": "goal", "score": 0.9 - s / 1000} for s in starts]

    labels = {
        name: {"subset": subset, "annotations": rows(starts)}
        for name, (subset, starts) in database.items()
    }
    found = {name: rows(starts) for name, starts in results.items()}
    return [
        save(tmp_path, json.dumps({"results": found}), "pred.json"),
        save(tmp_path, json.dumps({"database": labels}), "gt.json"),
    ]


def test_figures_are_of_the_subset_that_the_predictions_cover(tmp_path: Path) -> None:
    paths = anet(
        tmp_path,
        {"c": [10]},
        a=("training", [10]),
        b=("training", [30]),
        c=("validation", [10]),
        d=("testing", []),
    )
    figures, warned = evaluated(*paths, "--metric", "activitynet")
    assert figures["activitynet"]["value"]["value"] == 1.0
    assert "covers only the subset validation" in warned
    chosen, warned = evaluated(*paths, "--subset", "validation", "--metric", "activitynet")
    assert (chosen, warned) == (figures, "")
    both = ["--subset", "validation", "--subset", "training"]
    assert evaluated(*paths, *both)[0]["activitynet"]["value"]["value"] == pytest.approx(1 / 3)
    refused = CliRunner().invoke(app, ["evaluate", *map(str, paths), "--subset", "val"])
    assert "no subset 'val'. Its subsets are testing, training, validation." in str(
        refused.exception
    )


def test_a_video_with_an_empty_list_of_annotations_is_labelled(tmp_path: Path) -> None:
    paths = anet(tmp_path, {"b": [5], "a": [10]}, a=("", [10]), b=("", []))
    for more in ([], ["--unlabelled", "skip"]):
        figures, warned = evaluated(*paths, *more, "--metric", "activitynet")
        # The false event of b has the higher score.
        assert figures["activitynet"]["value"]["value"] == pytest.approx(0.5)
        assert warned == ""


@pytest.mark.parametrize("names", [("v_a", "a"), ("a", "v_a")])
@pytest.mark.parametrize("beside", [(), ("a.mp4",), ("v_a.mp4",)])
def test_names_are_paired_with_and_without_v_whatever_files_are_there(
    tmp_path: Path, names: tuple[str, str], beside: tuple[str, ...]
) -> None:
    touch(tmp_path, *beside)
    paths = anet(tmp_path, {names[0]: [10]}, **{names[1]: ("", [10])})
    figures, warned = evaluated(*paths, "--metric", "activitynet")
    assert (figures["activitynet"]["value"]["value"], warned) == (1.0, "")


def test_videos_are_paired_whatever_form_their_accents_have(tmp_path: Path) -> None:
    sets = []
    for form in ("NFC", "NFD"):
        row = unicodedata.normalize(form, "m/é.mp4,pénalty,1,2\n")
        sets.append(save(tmp_path, "video,label,start_s,end_s\n" + row, f"{form}/labels.csv"))
    paired = pair_videos(*map(read_event_set, sets))
    assert (paired.unlabelled, paired.unpredicted) == ((), ())


@pytest.mark.parametrize("beside", [(), ("match/720p.mp4",), ("match/1_720p.mkv",)])
def test_a_season_of_ball_actions_is_read_and_paired(
    tmp_path: Path, beside: tuple[str, ...]
) -> None:
    touch(tmp_path / "gt", *beside)
    soccernet(tmp_path / "gt", "Labels-ball.json", "annotations", (1, 10, 1.0))
    soccernet(tmp_path / "pred", "results_spotting.json", "predictions", (1, 10.9, 0.5))
    paths = [tmp_path / "pred", tmp_path / "gt", "--metric", "soccernet-tight", "--tolerance", 1]
    figures, warned = evaluated(*paths)
    assert figures["soccernet-tight"]["value"]["value"] == 1.0
    assert "for which SoccerNet uses 25 bins per second" in warned
    # 0.9 s apart is too far for a window of 1 s, unless times are rounded to half a second.
    figures, warned = evaluated(*paths, "--bins-per-second", 25)
    assert (figures["soccernet-tight"]["value"]["value"], warned) == (0.0, "")


def test_files_of_actions_and_of_ball_actions_are_not_mixed(tmp_path: Path) -> None:
    for name in ("Labels-v2.json", "Labels-ball.json"):
        soccernet(tmp_path, name, "annotations", (1, 10, 1.0))
    refused = CliRunner().invoke(app, ["evaluate", str(tmp_path), str(tmp_path)])
    assert "which label different things" in str(refused.exception)


def spot(at_s: float, score: float = 1.0) -> Event:
    return Event("goal", at_s, at_s, at_s, score)


def test_bins_per_second_change_what_a_window_holds() -> None:
    truth, guesses = {"m": [spot(10.0)]}, {"m": [spot(10.9, 0.9)]}
    assert soccernet_map(truth, guesses, (1.0,), rate_hz=2.0).value() == 1.0
    assert soccernet_map(truth, guesses, (1.0,), rate_hz=25.0).value() == 0.0


def test_equal_scores_rank_in_the_order_of_the_predictions() -> None:
    truth = {"a": [spot(10)], "b": [spot(10)]}
    false, right = [spot(50, 0.5)], [spot(10, 0.5)]
    # E2E-Spot sorts stably by score: the file that names the false event first has it first.
    assert spotting_map(truth, {"b": false, "a": right}, (1.0,)).value() == 0.25
    assert spotting_map(truth, {"a": right, "b": false}, (1.0,)).value() == 0.5


@pytest.mark.parametrize("predicted", ["Goal", "GOAL", "go-al"])
def test_a_class_that_differs_only_in_spelling_is_warned_of(tmp_path: Path, predicted: str) -> None:
    head = "video,label,start_s,end_s\n"
    truth = save(tmp_path, head + "m.mp4,goal,10,14\n", "gt.csv")
    found = save(tmp_path, head + f"m.mp4,{predicted},10,14\n", "pred.csv")
    assert f"{predicted!r} is predicted, but 'goal' is labelled" in evaluated(found, truth)[1]
    other = save(tmp_path, head + "m.mp4,throw-in,10,14\n", "pred.csv")
    assert "no predicted class is labelled. Predicted: throw-in." in evaluated(other, truth)[1]
    assert evaluated(truth, truth)[1] == ""

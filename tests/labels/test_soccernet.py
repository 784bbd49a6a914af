"""SoccerNet's files and measures, with SoccerNet's own package as the judge."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_samples import SOCCERNET, save

from touchline.pipeline.evaluation.event_sets import read_event_set
from touchline.pipeline.evaluation.spotting import SOCCERNET_WIDTHS_S, soccernet_map
from touchline.pipeline.labels.datasets.soccernet import join_halves, results_spotting, split_halves
from touchline.pipeline.labels.read import label_texts, read_labels
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.types import Event
from touchline.tools.results.export import export_command


def spot(at_s, score=1.0, label="Goal"):
    return Event(label, at_s, at_s, at_s, score)


def test_results_hold_both_halves_with_positions_in_milliseconds():
    text = results_spotting(
        {1: [spot(754.25, 0.9)], 2: [spot(3725.0, 0.25, "Corner")]}, match="league/season/match"
    )
    assert json.loads(text) == {
        "UrlLocal": "league/season/match",
        "predictions": [
            {
                "gameTime": "1 - 12:34",
                "label": "Goal",
                "position": "754250",
                "half": "1",
                "confidence": "0.9",
            },
            {
                "gameTime": "2 - 62:05",
                "label": "Corner",
                "position": "3725000",
                "half": "2",
                "confidence": "0.25",
            },
        ],
    }


def test_one_file_splits_at_the_second_kick_off_and_joins_again():
    events = [spot(10), Event("Goal", 2990, 3010, 3001, 0.5), spot(4000)]
    first, second = split_halves(events, second_half_s=3000)
    assert first == [spot(10)]
    assert second == [Event("Goal", 0, 10, 1, 0.5), spot(1000)]
    assert join_halves((first, second), second_half_s=3000) == [
        spot(10),
        Event("Goal", 3000, 3010, 3001, 0.5),
        spot(4000),
    ]


def test_a_kick_off_before_the_footage_is_refused():
    with pytest.raises(ValueError, match="second_half_s"):
        split_halves([], second_half_s=0)


def random_halves(rng, labels, *, num, scored):
    """Two halves of events at whole milliseconds, crowded enough that windows compete.

    In time order, as files have them: of two in one bin the last counts.
    """
    return tuple(
        sorted(
            (
                spot(
                    int(rng.integers(0, 240_000)) / 1000,
                    # Few levels: ties and thresholds are met exactly.
                    float(rng.integers(0, 200)) / 199 if scored else 1.0,
                    str(rng.choice(labels)),
                )
                for _ in range(num)
            ),
            key=lambda event: event.peak_s,
        )
        for _ in range(2)
    )


def write_match(folder, name, halves, rng=None):
    """Predictions in our own format, or labels as SoccerNet has them; returns what was visible."""
    folder = folder / name
    folder.mkdir(parents=True)
    if rng is None:
        (folder / "results_spotting.json").write_text(
            results_spotting({1: halves[0], 2: halves[1]}, match=name)
        )
        return None
    visible = tuple([bool(rng.random() < 0.7) for _ in events] for events in halves)
    rows = [
        {
            "gameTime": f"{half} - 00:00",
            "label": event.label,
            "position": str(round(event.peak_s * 1000)),
            "visibility": "visible" if flag else "not shown",
        }
        for half in (1, 2)
        for event, flag in zip(halves[half - 1], visible[half - 1], strict=True)
    ]
    (folder / "Labels-v2.json").write_text(json.dumps({"annotations": rows}))
    return visible


@pytest.mark.slow
# The package leaves files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("metric", ["tight", "loose", "at3"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_soccernet_package_gives_the_same_figures(tmp_path, metric, seed):
    oracle = pytest.importorskip("SoccerNet.Evaluation.ActionSpotting", reason="extra soccernet")
    rng = np.random.default_rng(seed)
    # The last class never occurs in the truth, the one before it nowhere.
    labels = ["Goal", "Corner", "Foul", "Offside", "Penalty", "Throw-in"]
    truth, predictions, visible = {}, {}, {}
    for m in range(4):
        actual = random_halves(rng, labels[:4], num=25, scored=False)
        guess = random_halves(rng, [*labels[:4], labels[5]], num=60, scored=True)
        shown = write_match(tmp_path / "labels", f"match{m}", actual, rng)
        write_match(tmp_path / "results", f"match{m}", guess)
        for half in (0, 1):
            name = f"match{m}/{half + 1}"
            truth[name], predictions[name] = actual[half], guess[half]
            visible[name] = shown[half]
    expected = oracle.evaluate(
        SoccerNet_path=str(tmp_path / "labels"),
        Predictions_path=str(tmp_path / "results"),
        metric=metric,
        dataset=None,
        EVENT_DICTIONARY={label: k for k, label in enumerate(labels)},
    )
    widths_s = SOCCERNET_WIDTHS_S.get(metric, (3.0,))
    for shown, key in [
        ("all", "a_mAP"),
        ("visible", "a_mAP_visible"),
        ("unshown", "a_mAP_unshown"),
    ]:
        result = soccernet_map(
            truth, predictions, widths_s=widths_s, labels=labels, visible=visible, shown=shown
        )
        per_class = np.nan_to_num(result.average(result.per_class()[0]))
        assert 0 < result.value() < 1
        assert result.value() == pytest.approx(expected[key], abs=1e-6)
        by_class = expected[key.replace("a_mAP", "a_mAP_per_class")]
        assert per_class.tolist() == pytest.approx(list(by_class), abs=1e-6)


def test_two_files_of_one_match_become_one_results_file(tmp_path):
    for half, at_s in (("1_720p", 60.0), ("2_720p", 90.5)):
        result = MatchResult(tmp_path / "A 1 - 0 B" / f"{half}.mkv", (spot(at_s, 0.75),))
        write_result(result, tmp_path / "out" / half, formats=["json"])
    files = [tmp_path / "out" / half / "events.json" for half in ("1_720p", "2_720p")]
    export_command(files, to="soccernet", out=tmp_path / "sent", one_match=True, quiet=True)
    document = json.loads((tmp_path / "sent" / "results_spotting.json").read_text())
    assert document["UrlLocal"] == "A 1 - 0 B"
    rows = document["predictions"]
    assert [(row["half"], row["position"]) for row in rows] == [("1", "60000"), ("2", "90500")]


def test_two_files_of_one_match_count_from_their_kick_offs(tmp_path):
    files = []
    for half, at_s in (("first", 100.0), ("second", 95.5)):
        result = MatchResult(tmp_path / f"{half}.mkv", (spot(at_s, 0.75),))
        write_result(result, tmp_path / "out" / half, formats=["json"])
        files.append(tmp_path / "out" / half / "events.json")

    def positions(*kickoffs):
        export_command(
            files, to="soccernet", out=tmp_path / "sent", one_match=True, quiet=True,
            kickoff=list(kickoffs),
        )  # fmt: skip
        document = json.loads((tmp_path / "sent" / "results_spotting.json").read_text())
        return [(row["half"], row["position"]) for row in document["predictions"]]

    given = ("1=first.mkv@0:00:40", "2=second.mkv@0:00:05")
    assert positions(*given) == [("1", "60000"), ("2", "90500")]
    assert positions(given[1]) == [("1", "100000"), ("2", "90500")]
    with pytest.raises(
        ValueError, match=r"first\.mkv is half 1, but the kick-off of half 1 is missing"
    ):
        positions("2=first.mkv@0:00:40")
    with pytest.raises(ValueError, match=r"names third\.mkv"):
        positions("1=third.mkv@0:00:40")


def test_one_file_with_two_kick_offs_and_two_files_give_the_same_results(tmp_path):
    """Footage of a whole match, the second half from 3,000 s on, against the two halves' files."""
    whole = (spot(70.0, 0.9), spot(3090.5, 0.8))
    write_result(
        MatchResult(tmp_path / "A 1 - 0 B" / "match.mp4", whole),
        tmp_path / "whole",
        formats=["json"],
    )
    kickoffs = ["1=0:00:10", "2=0:50:00"]
    export_command(
        [tmp_path / "whole" / "events.json"],
        to="soccernet",
        out=tmp_path / "one",
        kickoff=kickoffs,
        quiet=True,
    )
    for half, event in (("1_720p", spot(60.0, 0.9)), ("2_720p", spot(90.5, 0.8))):
        result = MatchResult(tmp_path / "A 1 - 0 B" / f"{half}.mkv", (event,))
        write_result(result, tmp_path / "halves" / half, formats=["json"])
    files = [tmp_path / "halves" / half / "events.json" for half in ("1_720p", "2_720p")]
    export_command(files, to="soccernet", out=tmp_path / "two", one_match=True, quiet=True)
    one, two = (tmp_path / name / "results_spotting.json" for name in ("one", "two"))
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    # And back: a half is a video of its own, on its own clock.
    read = read_event_set(tmp_path / "one").events
    assert [Path(video).name for video in read] == ["1_224p.mkv", "2_224p.mkv"]
    assert list(read.values()) == [[spot(60.0, 0.9)], [spot(90.5, 0.8)]]


CAMERAS = """{"UrlLocal": "league/2015/A/", "annotations": [
  {"change_type": "abrupt", "gameTime": "1 - 00:10", "label": "Main camera center",
   "position": "10120", "replay": "real-time"},
  {"change_type": "logo", "gameTime": "2 - 00:05", "label": "Close-up", "position": "5000",
   "replay": "replay", "link": {"label": "Goal", "team": "home", "time": "1 - 05:12"}}]}
"""


def test_camera_shots_are_moments_with_what_they_replay(tmp_path: Path) -> None:
    wide, close = read_labels(save(tmp_path, CAMERAS, "Labels-cameras.json"))
    assert (wide.label, wide.start_s, wide.path.name) == ("Main camera center", 10.12, "1_224p.mkv")
    assert wide.attributes == (("change_type", "abrupt"), ("replay", "real-time"))
    assert (close.start_s, close.path.name) == (5.0, "2_224p.mkv")
    assert dict(close.attributes)["replay_of"] == "1 - 05:12"


def test_a_folder_gives_its_camera_shots_only_without_actions(tmp_path: Path) -> None:
    save(tmp_path, CAMERAS, "league/A/Labels-cameras.json")
    assert [e.label for e in read_labels(tmp_path)] == ["Main camera center", "Close-up"]
    save(tmp_path, SOCCERNET, "league/A/Labels-v2.json")
    assert [e.label for e in read_labels(tmp_path)] == ["Goal", "Foul"]


def test_ball_actions_keep_their_team(tmp_path: Path) -> None:
    row = {"gameTime": "1 - 00:00", "label": "PASS", "position": "840", "team": "left"}
    text = json.dumps({"UrlLocal": "", "annotations": [row | {"visibility": "visible"}]})
    (action,) = read_labels(save(tmp_path, text, "Labels-ball.json"))
    assert (action.path.name, action.start_s) == ("224p.mp4", 0.84)
    assert action.attributes == (("team", "left"),)
    out = tmp_path / "out/Labels-ball.json"
    text = label_texts(
        [replace(action, path=out.parent / "224p.mp4")], out, format_name="soccernet"
    )
    (again,) = read_labels(save(tmp_path, text[out], "out/Labels-ball.json"))
    assert (again.path.name, again.start_s, again.attributes) == (
        "224p.mp4", 0.84, (("team", "left"),),
    )  # fmt: skip

"""The labels themselves, given as predictions, score 1 in every metric and every format.

Footage is of constant and of variable rate, events come after 90 minutes too, files list them in
another order, and there are several videos. Last, `detect` finds the events in real footage.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from footage_made import write_video
from label_samples import save
from torch import Tensor, nn

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.evaluation.evaluate import METRICS, Evaluation, evaluate_events
from touchline.pipeline.evaluation.event_sets import EventSet, pair_videos, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.labels.formats import BY_NAME, WRITABLE
from touchline.pipeline.labels.read import label_texts, read_labels
from touchline.pipeline.outputs.match_result import MatchResult, ModelSummary
from touchline.pipeline.outputs.writers import WRITERS, write_result
from touchline.pipeline.timecode import MatchClock, rate_of_footage
from touchline.pipeline.types import Event, Example, FootageHealth

# SoccerNet scales the metric of unshown actions for 17 classes of which 13 have some.
CLASSES = [f"class {k:02d}" for k in range(17)]
NEVER_HIDDEN = CLASSES[13:]

MATCH_S = 6900.0
"""Extra time goes on beyond 90 minutes; SoccerNet's metrics end at two hours."""

HEALTHS = {
    "25 per second": FootageHealth("mp4", "h264", 64, 48, "25/1", False, MATCH_S, 0.0),
    "variable rate": FootageHealth("mp4", "h264", 64, 48, "274/10", True, MATCH_S, 0.0),
    "29.97 drop-frame from ten o'clock": FootageHealth(
        "mp4", "h264", 64, 48, "30000/1001", False, MATCH_S, 0.0, start_timecode="10:00:00;00"
    ),
}

# What touchline writes for prediction, and reads again as events.
LENGTHS = ("csv", "json", "activitynet", "cvat", "labelstudio", "sportscode", "premiere-markers",
           "resolve-markers")  # fmt: skip
MOMENTS = ("soccernet", "osl", "player-spotting")

# These hold no scores. The markers hold team and jersey only in a note for people.
NO_PLAYERS = ("premiere-markers", "resolve-markers")

# These hold start and end only, so the moment of an event is its middle.
NO_PEAKS = ("activitynet", "cvat", "labelstudio", *NO_PLAYERS)
INTERVAL_METRICS = ("activitynet", "thumos")


def labels_of(video: int, *, middle: bool) -> list[Event]:
    """Two events per class, not on frame boundaries of any rate, ten seconds long."""
    rng = random.Random(video)
    events = []
    for k, label in enumerate([*CLASSES, *CLASSES]):
        start_s = 7.0 + 200.0 * k + rng.uniform(0, 90)
        peak_s = start_s + (5.0 if middle else rng.uniform(2, 8))
        who = (("team", rng.choice(["left", "right"])), ("jersey", str(rng.randint(1, 30))))
        events.append(Event(label, start_s, start_s + 10.0, peak_s, 1.0, who))
    return events


def truth_of(videos: Sequence[str], *, middle: bool = False) -> EventSet:
    events = {video: labels_of(k, middle=middle) for k, video in enumerate(videos)}
    # The second event of a class is hidden, except of four classes.
    visible = {
        video: [k < len(CLASSES) or e.label in NEVER_HIDDEN for k, e in enumerate(mine)]
        for video, mine in events.items()
    }
    accepted = {video: [True] * len(mine) for video, mine in events.items()}
    return EventSet(events, accepted, visible)


def refused(evaluation: Evaluation, metrics: Sequence[str]) -> list[str]:
    """What is not perfect: the metrics below 1, and errors of accepted events."""
    found = [
        f"{one.name} is {one.headline.value}"
        for one in evaluation.metrics
        if one.name in metrics and one.headline.value != pytest.approx(1.0, abs=1e-9)
    ]
    for breakdown, accepted in zip(evaluation.breakdowns, evaluation.accepted, strict=True):
        if breakdown.metric != "intervals" or set(INTERVAL_METRICS) <= set(metrics):
            found += [f"{k} is {v.value}" for k, v in accepted.items() if v.value != 1.0]
    return found


def test_every_format_that_holds_predictions_is_here() -> None:
    # Captions, chapters, clips and playlists are for people and players, not for evaluation.
    shown = {
        "jsonl", "vtt", "vtt-chapters", "srt", "ffmetadata", "youtube", "edl", "fcpxml", "otio",
        "premiere", "cdf", "losslesscut", "losslesscut-csv", "xspf", "m3u",
    }  # fmt: skip
    assert {*LENGTHS, *MOMENTS} | shown == set(WRITERS)


@pytest.mark.slow
@pytest.mark.parametrize("health_name", HEALTHS)
@pytest.mark.parametrize("name", [*LENGTHS, *MOMENTS])
def test_the_labels_as_predictions_are_perfect(tmp_path: Path, name: str, health_name: str) -> None:
    health = HEALTHS[health_name]
    videos = [str(tmp_path / f"match {k}.mp4") for k in range(2)]
    truth = truth_of(videos, middle=name in NO_PEAKS)
    rng = random.Random(3)
    found: dict[str, list[Event]] = {}
    for k, video in enumerate(videos):
        Path(video).touch()
        events = [replace(e, score=rng.uniform(0.16, 1)) for e in truth.events[video]]
        rng.shuffle(events)
        # The model names its classes in another order.
        model = ModelSummary(labels=("background", *reversed(CLASSES)))
        result = MatchResult(Path(video), tuple(events), tuple(events), health, model=model)
        (path,) = write_result(result, tmp_path / f"out {k}", formats=[name])
        found[video] = events_in(path, name, Path(video), health)
    accepted = {video: [True] * len(events) for video, events in found.items()}
    predictions = EventSet(found, accepted, accepted)
    metrics = metrics_of(name)
    options = EvaluateOptions(metrics=tuple(metrics), resamples=0)
    assert refused(evaluate_events(truth, predictions, options), metrics) == []


def metrics_of(name: str) -> list[str]:
    """The metrics that a format holds enough for."""
    return [
        metric
        for metric in METRICS
        if not (metric in INTERVAL_METRICS and name in MOMENTS)
        and not (metric == "player-f1" and name in NO_PLAYERS)
    ]


def events_in(path: Path, name: str, video: Path, health: FootageHealth) -> list[Event]:
    """The events of a written file, as a user reads them."""
    if name == "labelstudio":
        # Predictions become labels when somebody accepts them in Label Studio.
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    if name in ("csv", "json", "soccernet", "osl", "activitynet", "player-spotting"):
        (events,) = read_event_set(path).events.values()
        return list(events)
    rate = rate_of_footage(health)
    assert rate is not None
    read = [e.event() for e in read_labels(path, footage_folder=video, rate_hz=float(rate.rate))]
    if not (name in NO_PLAYERS and health.start_timecode):
        return read
    # The empty file that stands for the footage has no timecode, unlike the footage.
    early_s = float(rate.seconds(rate.frame_number(health.start_timecode)))
    if name == "resolve-markers":
        early_s -= float(rate.seconds(rate.frame_number("01:00:00;00")))
    return [
        replace(e, start_s=e.start_s - early_s, end_s=e.end_s - early_s, peak_s=e.peak_s - early_s)
        for e in read
    ]


# The red of a frame says which class it shows, the green how near the peak is.
STEP = 14
REACH_S = 8.0


class PictureReader(nn.Module):
    """Features (B, colours, T) -> logits (B, classes), by the colours that `variable_footage` has.

    An event scores 0.6 far from its peak and 0.95 at its peak.
    """

    def forward(self, features: Tensor) -> Tensor:
        red, green = features[:, 0] * 127.5 + 127.5, features[:, 1] * 0.5 + 0.5  # (B, T)
        levels = STEP * torch.arange(1, len(CLASSES) + 1, device=red.device)
        wrong = (red[..., None] - levels).abs() > STEP / 3  # (B, T, classes)
        scores = torch.where(wrong, -50.0, 0.4 + 2.5 * green[..., None]).mean(dim=1)
        return torch.cat([torch.zeros_like(scores[:, :1]), scores], dim=1)


def picture_reader() -> TrainedModel:
    spec = ClipSpec(num_frames=2, rate_hz=8.0, size_px=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    network = CNNLSTM({"stem": nn.Sequential(nn.AvgPool2d(4))}, 3, spec, 18, hidden=4)
    network.head = PictureReader()
    return TrainedModel(network.eval(), "cnn_lstm", ("background", *CLASSES))


def variable_footage(path: Path, events: Sequence[Event], rng: random.Random) -> None:
    """Footage of variable frame rate that shows each event; a frame begins where an event does."""
    stamps = {round(s, 3) for e in events for s in (e.start_s, e.peak_s, e.end_s)}
    time_s = 0.0
    while time_s < MATCH_S:
        stamps.add(round(time_s, 3))
        shown = any(e.start_s - 1 <= time_s < e.end_s for e in events)
        time_s += rng.choice([0.02, 0.04, 0.1, 0.24] if shown else [0.033, 0.1, 0.2, 0.7])
    times_s = sorted(stamps)

    def picture(index: int) -> np.ndarray:
        rgb = np.zeros((48, 64, 3), np.uint8)
        for event in events:
            if round(event.start_s, 3) <= times_s[index] < round(event.end_s, 3):
                rgb[..., 0] = STEP * (1 + CLASSES.index(event.label))
                rgb[..., 1] = 255 * (1 - abs(times_s[index] - event.peak_s) / REACH_S)
        return rgb

    write_video(
        path,
        indices=range(len(times_s)),
        stamps=[Fraction(round(time_s * 1000), 1000) for time_s in times_s],
        time_base=Fraction(1, 1000),
        size=(64, 48),
        picture=picture,
    )


@pytest.mark.slow
def test_events_found_in_footage_of_variable_rate_are_perfect_in_every_format(
    tmp_path: Path,
) -> None:
    """From the pictures to the figures: decoding, scoring, events, every format, every metric."""
    video = str(tmp_path / "match.mp4")
    truth = truth_of([video], middle=True)
    variable_footage(Path(video), truth.events[video], random.Random(4))
    result = detect(video, picture_reader(), DetectOptions(hop_s=0.125))
    assert result.health is not None
    assert result.health.variable_rate
    assert result.accepted == result.candidates
    assert len(result.accepted) == 2 * len(CLASSES)
    # Who did it is what a person adds.
    both = zip(result.accepted, truth.events[video], strict=True)
    events = tuple(replace(found, attributes=true.attributes) for found, true in both)
    result = replace(result, candidates=events, accepted=events)
    for name in (*LENGTHS, *MOMENTS):
        (path,) = write_result(result, tmp_path / f"out {name}", formats=[name])
        found = {video: events_in(path, name, Path(video), result.health)}
        flags = {video: [True] * len(found[video])}
        metrics = metrics_of(name)
        options = EvaluateOptions(metrics=tuple(metrics), resamples=0)
        evaluation = evaluate_events(truth, EventSet(found, flags, flags), options)
        assert (name, refused(evaluation, metrics)) == (name, [])


@pytest.mark.parametrize("name", [n for n in WRITABLE if not BY_NAME[n].one_video])
def test_labels_of_several_videos_in_one_file_are_perfect(tmp_path: Path, name: str) -> None:
    stems = ["1_224p", "2_224p"] if name == "soccernet" else ["match 0", "match 1"]
    videos = [str(tmp_path / f"{stem}.mkv") for stem in stems]
    for video in videos:
        Path(video).touch()
    truth = truth_of(videos, middle="peaks" in BY_NAME[name].loses)
    group = "match" if name == "soccernet" else None
    examples = [
        Example(Path(video), e.label, group or video, e.start_s, e.end_s, peak_s=e.peak_s,
                attributes=e.attributes)
        for video in reversed(videos)
        for e in reversed(truth.events[video])
    ]  # fmt: skip
    out = tmp_path / f"out{BY_NAME[name].suffix}"
    text = label_texts(examples, out, format_name=name, rate_hz=25)[out]
    predictions = pair_videos(truth, read_event_set(save(tmp_path, text, out.name))).predictions
    moments = "length of events" in BY_NAME[name].loses
    metrics = [m for m in METRICS if not (m in INTERVAL_METRICS and moments)]
    options = EvaluateOptions(metrics=tuple(metrics), resamples=0)
    assert refused(evaluate_events(truth, predictions, options), metrics) == []


def test_two_halves_on_the_clock_of_one_file_are_perfect(tmp_path: Path) -> None:
    """Positions of SoccerNet count from the kick-off of each half."""
    clock = MatchClock({1: 5.0, 2: 3100.5})
    video = tmp_path / "match/match.mp4"
    events = labels_of(0, middle=False)
    result = MatchResult(video, tuple(events), tuple(events), HEALTHS["variable rate"])
    (path,) = write_result(result, tmp_path / "match", formats=["soccernet"], clock=clock)
    found = read_event_set(path)
    halves = {
        half: [
            replace(e, start_s=0.0, end_s=e.peak_s - kick_off_s, peak_s=e.peak_s - kick_off_s)
            for e in events
            if (e.peak_s >= 3100.5) == (half == 2)
        ]
        for half, kick_off_s in clock.kickoff_s.items()
    }
    truth_events = {
        video: halves[1 if "1_" in Path(video).name else 2] for video in sorted(found.events)
    }
    every = {video: [True] * len(mine) for video, mine in truth_events.items()}
    options = EvaluateOptions(metrics=("spotting", "soccernet-tight"), resamples=0)
    evaluation = evaluate_events(EventSet(truth_events, every, every), found, options)
    assert refused(evaluation, options.metrics) == []


def test_what_is_not_the_truth_is_not_perfect() -> None:
    """The check itself: a missing, a late and a false event are seen."""
    truth = truth_of(["a"])
    events = truth.events["a"]
    late = [replace(e, start_s=e.start_s + 300, end_s=e.end_s + 300, peak_s=e.peak_s + 300)
            for e in events[:1]]  # fmt: skip
    metrics = tuple(METRICS)
    options = EvaluateOptions(metrics=metrics, resamples=0)
    for wrong in (events[1:], [*late, *events[1:]], [*events, late[0]]):
        accepted = {"a": [True] * len(wrong)}
        evaluation = evaluate_events(truth, EventSet({"a": wrong}, accepted, accepted), options)
        assert refused(evaluation, metrics)

"""`touchline train` takes the features that the studio has computed; the model stays the same."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from studio_material import write_match

from touchline.models.checkpoint import TrainedModel, file_digest, load_checkpoint
from touchline.pipeline.decoding.decode import FrameStream, decode
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.scoring.feature_track import FeatureTrack, track_key
from touchline.pipeline.scoring.score import Scorer, score_footage
from touchline.pipeline.teaching.output import open_trunk
from touchline.pipeline.teaching.project import FEATURES_FOLDER, Project
from touchline.pipeline.teaching.training import read_settings, with_features
from touchline.tools import cli

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = {"red": (4.1, 14.0, 25.3), "blue": (9.0, 19.6, 31.2)}
MATCHES = ("north", "south", "west")


@pytest.fixture
def project(tmp_path, options) -> Path:
    """A project of three matches of 36 s, with three red marks and three blue ones in each."""
    events = [(name, t, t + 1.5) for name, times in TIMES.items() for t in times]
    footage = [
        write_match(tmp_path / f"{name}.mkv", events, seconds=36, seed=k)
        for k, name in enumerate(MATCHES)
    ]
    made = Project(tmp_path / "project", footage, options)
    labels = {name: made.do({"do": "add_class", "name": name})[1] for name in TIMES}
    for match in made.matches:
        for name, t, end in events:
            mark = {"match": match, "class": labels[name], "start": t, "end": end}
            made.do({"do": "mark", **mark})
    made.write_labels()
    made.close()
    return made.folder


def compute_features(project: Path, options, *, until_s: float = 1e9, rate_hz=None) -> None:
    """As the studio does, for every match."""
    trunk = open_trunk(options)
    if rate_hz is not None:
        trunk.backbone.spec = trunk.spec.with_sampling(rate_hz=rate_hz)
    scorer = Scorer(trunk, device="cpu", mode="shared")
    opened = Project(project)
    for match in opened.matches.values():
        content, reached = file_digest(match.path), [0.0]
        opened.remember_content(match.id, content)
        key = track_key(content, scorer, stream=0)
        FeatureTrack(project / FEATURES_FOLDER, key).compute(
            match.path,
            scorer,
            on_row=reached.append,
            stop=lambda reached=reached: reached[-1] >= until_s,
        )
    opened.close()


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """How often a stretch of footage is decoded."""
    begun: list[object] = []
    init = FrameStream.__init__

    def counted(self, *arguments) -> None:
        begun.append(arguments)
        init(self, *arguments)

    monkeypatch.setattr(FrameStream, "__init__", counted)
    return begun


@pytest.fixture
def train(tmp_path, options, capsys) -> Callable[..., tuple[TrainedModel, str]]:
    """Runs the command; returns the model, and the line about features."""

    def run(labels: Path, name: str, *more: object) -> tuple[TrainedModel, str]:
        network = ("--backbone", options.backbone, "--weights", options.weights)
        fixed = (*network, "--head", "auto", "--val-share", 0, "--device", "cpu")
        command = ["train", labels, "-o", tmp_path / name, *fixed, *more]
        cli.app([str(word) for word in command], standalone_mode=False)
        printed = capsys.readouterr().out.splitlines()
        told = [line for line in printed if "features" in line and "taken" in line]
        assert len(told) <= 1
        return load_checkpoint(tmp_path / name / "model.safetensors"), "".join(told)

    return run


def probs(model: TrainedModel, footage: Path) -> np.ndarray:
    spec = model.spec
    frames = decode(footage, rate_hz=spec.rate_hz, size_px=spec.size_px)
    return score_footage(model, frames, hop_s=1 / spec.rate_hz, device="cpu").probs


def test_the_features_of_a_project_are_taken_and_nothing_is_decoded(
    project, options, train, decoded
):
    plain, told = train(project, "without")
    assert told == ""
    assert len(decoded) == 18 + 18  # the marks, and as many background clips
    compute_features(project, options)
    decoded.clear()
    taken, told = train(project, "with")
    assert decoded == []
    assert told == f"features of all 36 clips are taken from {project / FEATURES_FOLDER}"
    # Only rounding to float16 lies between them.
    assert taken.spec == plain.spec
    assert taken.record.groups == plain.record.groups
    assert taken.labels == plain.labels == ("background", "blue", "red")
    for name in MATCHES:
        ours, theirs = (probs(m, project.parent / f"{name}.mkv") for m in (taken, plain))
        np.testing.assert_allclose(ours, theirs, atol=0.01)
    losses = []
    for run in ("with", "without"):
        heads = json.loads((project.parent / run / "metrics.json").read_text())["heads"]
        losses.append({row["normalisation"]: row["log_loss"] for row in heads})
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
    red = [probs(taken, project.parent / "north.mkv")[round(4 * t) + 2, 2] for t in TIMES["red"]]
    assert min(red) > 0.5


def test_every_name_of_the_project_finds_its_features(project, options, train, decoded):
    compute_features(project, options)
    decoded.clear()
    names = ((project,), (project / "labels.csv",))
    caches = (project, project / FEATURES_FOLDER)
    for k, labels in enumerate(names):
        assert train(*labels, f"labels_{k}")[1].startswith("features of all 36 clips")
    copied = project.parent / "labels.csv"
    copied.write_text((project / "labels.csv").read_text().replace("../", ""))
    for k, cache in enumerate(caches):
        assert train(copied, f"cache_{k}", "--cache", cache)[1].startswith("features of all 36")
    assert decoded == []


def test_clips_that_are_not_covered_yet_are_computed(project, options, train, decoded):
    plain, _ = train(project, "without")
    compute_features(project, options, until_s=20)
    decoded.clear()
    partly, told = train(project, "partly")
    taken = int(told.split()[2])
    assert 9 < taken < 30
    assert told.endswith("they do not reach the other clips yet")
    assert len(decoded) == 36 - taken
    footage = project.parent / "north.mkv"
    np.testing.assert_allclose(probs(partly, footage), probs(plain, footage), atol=0.01)


def test_a_match_that_changed_is_decoded_again(project, options, train, decoded):
    compute_features(project, options)
    events = [(name, t, t + 1.5) for name, times in TIMES.items() for t in times]
    write_match(project.parent / "south.mkv", events, seconds=36, seed=77)
    decoded.clear()
    _, told = train(project, "run")
    assert told == (
        f"features of 24 of 36 clips are taken from {project / FEATURES_FOLDER}: "
        "they have none of south.mkv as it is now"
    )
    assert len(decoded) == 12


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--rate", 3), "those of north.mkv are at 4 Hz, and training samples at 3 Hz"),
        (("--size", 64), "another trunk, picture size or number format"),
        (("--head", "linear"), "a linear head sees mirror images, too"),
        (("--head", "linear", "--freeze", 0, "--no-augment"), "stages may be fine-tuned"),
        (("--head", "own", "--epochs", 1), "--head own trains on varied pictures"),
    ],
)
def test_where_features_do_not_fit_training_computes_them_and_says_why(
    project, options, train, decoded, more, why
):
    compute_features(project, options)
    decoded.clear()
    _, told = train(project, "run", *more)
    assert told.startswith(f"no features are taken from {project / FEATURES_FOLDER}: ")
    assert why in told
    assert len(decoded) == 36


def test_a_linear_head_without_mirror_images_takes_them(project, options, train, decoded):
    compute_features(project, options)
    decoded.clear()
    model, told = train(project, "run", "--head", "linear", "--no-augment")
    assert told.startswith("features of all 36 clips")
    assert decoded == []
    assert model.backbone.head_spec.kind == "linear"


def test_a_project_decides_the_sampling_whether_it_has_features_or_not(project, options):
    job = TrainJob(project, options.backbone, options.weights)
    found = with_features(job).features
    assert found.folders == (project / FEATURES_FOLDER,)
    assert (found.rate_hz, found.size_px) == (4.0, 32)
    # Another network has nothing to gain from the project's sampling.
    other = with_features(TrainJob(project, "cnn_lstm_lite0", "efficientnet_lite0-imagenet"))
    assert (other.features.rate_hz, other.features.size_px) == (None, None)
    outside = TrainJob(project.parent / "labels.csv", options.backbone, options.weights)
    assert with_features(outside).features.folders == ()
    assert with_features(outside, project).features.rate_hz == 4.0


def test_the_settings_of_a_project_are_read_while_a_studio_has_it_open(project, options, tmp_path):
    opened = Project(project)
    assert read_settings(project).weights == options.weights
    opened.close()
    (tmp_path / "journal.jsonl").write_text('{"format": "touchline-studio-1"}\n{"sett')
    assert read_settings(tmp_path) is None

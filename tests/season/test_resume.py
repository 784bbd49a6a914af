"""A match that was cut off in the middle goes on there, and the result is that of a run without."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import brightness_model, small_3d_model, write_levels

from touchline.models.checkpoint import TrainedModel
from touchline.models.load import load_model
from touchline.pipeline.clips.windows import Sampled
from touchline.pipeline.detection import kept_scores
from touchline.pipeline.detection.kept_scores import KEPT_FILE
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, run_matches

FILES = {"events.json", "events.csv", "scores.npz", "report.html"}


def levels(seconds: int, seed: int = 0) -> list[int]:
    """Half-second steps of grey, so that no two windows look alike."""
    return np.random.default_rng(seed).integers(0, 256, 2 * seconds).repeat(8).tolist()


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40.3 s, so that the last window begins between two hops."""
    return write_levels(tmp_path_factory.mktemp("long") / "long.mp4", [*levels(40), *[77] * 5])


def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames went through the network, batch by batch."""
    counts: list[int] = []
    features = Scorer.features

    def counting(self: Scorer, clips: np.ndarray) -> torch.Tensor:
        counts.append(clips.shape[0] * clips.shape[1])
        return features(self, clips)

    monkeypatch.setattr(Scorer, "features", counting)
    return counts


def analyse(
    job: Job, model: TrainedModel, footage: Path, out: Path, **options: bool
) -> tuple[dict[str, bytes], list[str]]:
    """Run over one match; the files of its folder, and what was said of kept scores."""
    notes: list[str] = []
    news = News(on_note=lambda _, note: notes.append(note))
    run = run_matches(Inputs((footage,)), job, model, out, RunOptions(**options), news=news)
    assert [record.state for record in run] == ["done"]
    return {p.name: p.read_bytes() for p in sorted(out.glob("*/*"))}, notes


def stop_after(
    num_parts: int,
    monkeypatch: pytest.MonkeyPatch,
    job: Job,
    model: TrainedModel,
    footage: Path,
    out: Path,
) -> Path:
    """Stop a run with Ctrl-C once `num_parts` parts are on disk, and return the file with them."""
    write, written = kept_scores._write_part, []

    def cut_off(*arguments: Any) -> None:
        write(*arguments)
        written.append(1)
        if len(written) == num_parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kept_scores, "_write_part", cut_off)
        with pytest.raises(KeyboardInterrupt):
            analyse(job, model, footage, out)
    return out / footage.stem / KEPT_FILE


@pytest.mark.parametrize("num_parts", [1, 4])
@pytest.mark.parametrize(
    ("make", "mode", "hop_s"),
    [
        (small_3d_model, "windows", 0.25),
        (small_3d_model, "shared", 0.5),
        (brightness_model, "auto", 0.125),
    ],
)
def test_a_run_that_is_cut_off_goes_on_in_mid_file_with_the_same_result(
    job: Job,
    footage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], TrainedModel],
    mode: str,
    hop_s: float,
    num_parts: int,
) -> None:
    # Parts of four windows, or of sixteen where the trunk is shared.
    options = replace(job.options, mode=mode, hop_s=hop_s, batch_size=4, engine="torch")
    job, model = replace(job, options=options), make()
    counts = seen(monkeypatch)
    whole, notes = analyse(job, model, footage, tmp_path / "whole")
    all_frames = sum(counts)
    assert (set(whole), notes) == (FILES, [])

    out = tmp_path / "out"
    kept = stop_after(num_parts, monkeypatch, job, model, footage, out)
    # A kill may leave half a record.
    kept.write_bytes(kept.read_bytes() + b"\x04\x00\x00\x00half a record")
    counts.clear()
    again, [note] = analyse(job, model, footage, out)
    assert again == whole
    assert note.startswith("goes on at 0:00:")
    # The network saw scored frames again only where a piece shares them with the next.
    part = {"windows": 4 * 8, "shared": 16 * 4, "auto": 16}[mode]
    assert all_frames - sum(counts) >= num_parts * part - 64
    assert sum(counts) < all_frames or num_parts == 1


@pytest.mark.parametrize(
    ("make", "mode", "hop_s", "num_parts", "first"),
    [
        # 92 windows: the next begins at 23 s, and segments end near 10 s and 20 s.
        (small_3d_model, "windows", 0.25, 23, 20),
        # 48 windows of half a second: the piece of 8 s from 16 s on, and half a second before it.
        (small_3d_model, "shared", 0.5, 3, 10),
        (brightness_model, "auto", 0.125, 12, 20),
    ],
)
def test_segments_that_are_done_are_not_decoded_again(
    job: Job,
    footage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], TrainedModel],
    mode: str,
    hop_s: float,
    num_parts: int,
    first: int,
) -> None:
    options = replace(job.options, mode=mode, hop_s=hop_s, batch_size=4, engine="torch")
    job, model = replace(job, options=replace(options, decode_workers=2)), make()
    whole, _ = analyse(job, model, footage, tmp_path / "whole")
    stop_after(num_parts, monkeypatch, job, model, footage, tmp_path / "out")
    begins: list[int] = []
    score_parts = Scorer.score_parts

    def noted(self: Scorer, frames: Any, **more: Any) -> Any:
        begins.append(more["first"])
        return score_parts(self, frames, **more)

    monkeypatch.setattr(Scorer, "score_parts", noted)
    again, [note] = analyse(job, model, footage, tmp_path / "out")
    assert again == whole
    assert note.startswith("goes on at 0:00:")
    assert [round(begin / 8) for begin in begins] == [first]


def test_a_run_that_had_scored_everything_only_decodes(
    job: Job, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 159 windows: whole parts to the end, the last window between two hops among them.
    job = replace(job, options=replace(job.options, batch_size=3))
    model = load_model(job.model)
    whole, _ = analyse(job, model, footage, tmp_path / "whole")
    out = tmp_path / "out"
    stop_after(53, monkeypatch, job, model, footage, out)
    counts = seen(monkeypatch)
    again, [note] = analyse(job, model, footage, out)
    assert again == whole
    assert (note.split(",")[0], counts) == ("goes on at 0:00:40.375", [])


@pytest.fixture
def cut_off(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run over 10 s that was cut off."""
    path = write_levels(tmp_path / "short.mp4", levels(10))
    stop_after(2, monkeypatch, job, load_model(job.model), path, tmp_path / "out")
    return path


def refused(why: str) -> list[str]:
    return [f"scores of a run that was stopped are not used, because {why}"]


def test_scores_are_not_used_when_weights_options_footage_or_machine_changed(
    job: Job, cut_off: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kept = load_model(job.model), tmp_path / "out" / "short" / KEPT_FILE
    before = kept.read_bytes()

    def notes(job: Job = job, model: TrainedModel = model, **options: bool) -> list[str]:
        for path in kept.parent.iterdir():
            path.unlink()
        kept.write_bytes(before)
        return analyse(job, model, cut_off, tmp_path / "out", **options)[1]

    [note] = notes()
    assert note.startswith("goes on at 0:00:")
    assert notes(again=True) == []
    # A threshold changes no score.
    assert notes(replace(job, options=replace(job.options, threshold=0.9))) == [note]
    assert notes(replace(job, options=replace(job.options, hop_s=0.5))) == refused(
        "an option changed"
    )
    other = load_model(job.model)
    with torch.no_grad():
        next(other.backbone.head.parameters())[0] += 1e-6
    assert notes(model=other) == refused("the model changed")
    assert notes(model=replace(model, temperature=1.5)) == refused("the model changed")
    with monkeypatch.context() as patched:
        patched.setattr(kept_scores, "processor", lambda: "another one")
        assert notes() == refused("the machine, its threads or torch changed")
    before = b"{}\n" + before
    assert notes() == refused("they are damaged")
    before = before[3:]
    write_levels(cut_off, levels(10, seed=1))
    assert notes() == refused("the footage changed")


def test_a_damaged_record_ends_what_is_used(job: Job, cut_off: Path, tmp_path: Path) -> None:
    kept = tmp_path / "out" / "short" / KEPT_FILE
    raw = bytearray(kept.read_bytes())
    raw[-40] ^= 1
    kept.write_bytes(raw)
    again, [note] = analyse(job, load_model(job.model), cut_off, tmp_path / "out")
    whole, _ = analyse(job, load_model(job.model), cut_off, tmp_path / "whole")
    # The second part is damaged: it goes on after eight windows.
    assert note.startswith("goes on at 0:00:02.750")
    assert again == whole


def test_progress_is_reported_while_frames_are_passed_over(
    job: Job, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is silent for minutes is taken for one that hangs."""
    stop_after(15, monkeypatch, job, load_model(job.model), footage, tmp_path / "out")
    told: list[float] = []
    news = News(on_time=lambda _, done_s, total_s: told.append(done_s))
    model = load_model(job.model)
    list(run_matches(Inputs((footage,)), job, model, tmp_path / "out", RunOptions(), news=news))
    told = [done_s for done_s in told if done_s]
    assert told == sorted(told)
    assert sum(done_s < 30 for done_s in told) >= 5


def test_features_that_nobody_needs_are_not_computed() -> None:
    scorer = Scorer(small_3d_model(), mode="shared", device="cpu", batch_size=2)
    frames = [
        Sampled(np.full((3, 32, 32), k, np.uint8), k / 8, (k + 1) / 8, False) for k in range(200)
    ]
    whole = list(scorer.feature_track(iter(frames)))
    some = list(scorer.feature_track(iter(frames), skip=20))
    assert [(s.start_s, s.end_s) for s in some] == [(s.start_s, s.end_s) for s in whole]
    # A feature lasts four frames, and a piece 64: the first piece holds 16 features.
    assert [len(s.item) for s in some[:17]] == [0] * 16 + [len(whole[0].item)]
    for one, other in zip(some[16:], whole[16:], strict=True):
        torch.testing.assert_close(one.item, other.item, rtol=0, atol=0)


KILLED = """
import os, signal, sys
from touchline.pipeline.detection import kept_scores
from touchline.tools.cli import main
write, number = kept_scores._write_part, 0
last, place = int(sys.argv[1]), sys.argv[2]
def killed(file, part):
    global number
    number += 1
    if number == last:
        if place == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        raw = []
        class Half:
            def write(self, content): raw.append(content)
            def flush(self): pass
        write(Half(), part)
        file.write(raw[0][:len(raw[0]) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, part)
kept_scores._write_part = killed
sys.argv = ["touchline", *sys.argv[3:]]
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("mode", "hop"), [("windows", "0.25"), ("shared", "0.5")])
def test_kills_at_many_places_leave_the_result_of_a_run_without(
    job: Job, footage: Path, tmp_path: Path, mode: str, hop: str
) -> None:
    arguments = ["detect", str(footage), "--model", job.model, "--mode", mode, "--hop", hop]
    arguments += ["--threshold", "0.2", "--device", "cpu", "--batch-size", "2", "--engine", "torch"]

    def run(out: str, part: int = 0, place: str = "before") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(part), place, *arguments]
        return subprocess.run(
            [*command, "-o", str(tmp_path / out)], capture_output=True, text=True, check=False
        )

    assert run("whole").returncode == 0
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole" / "long").iterdir()}
    assert set(whole) == FILES
    for part, place in [(1, "half"), (3, "half"), (2, "before"), (1, "before"), (4, "half")]:
        assert run("out", part, place).returncode == -signal.SIGKILL
    done = run("out")
    assert done.returncode == 0, done.stderr
    assert "long.mp4: goes on at 0:00:" in done.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "long").iterdir()} == whole

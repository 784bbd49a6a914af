"""The folder in which the commands of docs/ run: small footage in colours, and labels of it.

match.mp4, matches/*.mp4    20 s: red is a goal, blue is a card, green is neither
warmup.mp4, warmup_2.mp4    green
labels.csv, test.csv        clips of 1.5 s: two goals and two cards of each match
match.csv                   the events of match.mp4 with times
model.safetensors           a network with random weights
cache/                      random weights under the names of the published files
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tiny import small_3d_model
from train_material import COLOURS

from touchline.models.checkpoint import save_checkpoint
from touchline.models.networks import pytorchvideo
from touchline.models.networks.cnn2d import mobilenet_v2_stages
from touchline.models.weights.table import WEIGHTS

RATE_HZ = 25
SIZE_PX = 64
COLOUR_OF = {"goal": COLOURS["red"], "card": COLOURS["blue"], "": COLOURS["background"]}

MATCH = (("", 4), ("goal", 3), ("", 4), ("card", 3), ("", 6))
"""What is to be seen, and for how many seconds."""


def make_docs_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill `folder`, and let it be the one where commands run and weights are cached."""
    rng = np.random.default_rng(0)
    (folder / "matches").mkdir()
    for name in ("match.mp4", "matches/a.mp4", "matches/b.mp4"):
        _write_footage(folder / name, MATCH, rng)
    for name in ("warmup.mp4", "warmup_2.mp4"):
        _write_footage(folder / name, [("", 6)], rng)
    _write_clips(folder, "labels.csv", [f"match_{k}" for k in range(1, 6)], rng)
    _write_clips(folder, "test.csv", ["match_6", "match_7"], rng)
    (folder / "match.csv").write_text(
        "video,label,start_s,end_s\nmatch.mp4,goal,4,7\nmatch.mp4,card,11,14\n"
    )
    save_checkpoint(folder / "model.safetensors", small_3d_model())
    monkeypatch.setenv("TOUCHLINE_CACHE", str(folder / "cache"))
    torch.manual_seed(0)
    mobilenet = {
        f"features.{key}": value
        for stage in mobilenet_v2_stages()[0].values()
        for key, value in stage.state_dict().items()
    }
    _publish(folder, monkeypatch, "mobilenet_v2-imagenet", mobilenet)
    x3d = pytorchvideo._hub("x3d_s")(model_num_class=400).state_dict()
    _publish(folder, monkeypatch, "x3d_s-kinetics400", {"model_state": x3d})
    monkeypatch.chdir(folder)


def _publish(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: object) -> None:
    """Put weights into the cache as the file of that name, made for short clips."""
    short = replace(WEIGHTS[name].spec, num_frames=5, size_px=64)
    entry = replace(WEIGHTS[name], digest=None, spec=short)
    monkeypatch.setitem(WEIGHTS, name, entry)
    (folder / "cache/weights").mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "cache/weights" / entry.file_name)


def _write_clips(
    folder: Path, labels: str, matches: Sequence[str], rng: np.random.Generator
) -> None:
    rows = ["video,label,start_s,end_s,group"]
    for match in matches:
        for label in ("goal", "goal", "card", "card"):
            name = f"clip_{match}_{len(rows)}.mp4"
            _write_footage(folder / name, [(label, 1.5)], rng)
            rows.append(f"{name},{label},,,{match}")
    (folder / labels).write_text("\n".join(rows) + "\n")


def _write_footage(
    path: Path, parts: Sequence[tuple[str, float]], rng: np.random.Generator
) -> None:
    """H.264 of noise in the colour of each part's class."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "ultrafast"})
        stream.width = stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p"
        for label, seconds in parts:
            for _ in range(round(seconds * RATE_HZ)):
                noise = rng.integers(-25, 26, (SIZE_PX, SIZE_PX, 3))
                picture = (np.array(COLOUR_OF[label]) + noise).clip(0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))

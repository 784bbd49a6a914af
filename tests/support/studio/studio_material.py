"""Projects of the studio over drawn matches: green grass, red and blue events, a cheap trunk."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from train_material import COLOURS, write_footage

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.pipeline.teaching.actions import State
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.teaching.project import Project

SPEC = ClipSpec(num_frames=1, rate_hz=4.0, size_px=32, mean=(0.0,) * 3, std=(1.0,) * 3)

Drawn = tuple[str, float, float]
"""The colour of an event, its start and its end in seconds."""


def write_match(path: Path, events: Sequence[Drawn], *, seconds: float, seed: int = 0) -> Path:
    """Green noise at 4 frames per second, red or blue while an event lasts."""
    times = np.arange(round(4 * seconds)) / 4
    rng = np.random.default_rng(seed)
    pictures = []
    for time_s in times:
        shown = [name for name, start, end in events if start <= time_s < end]
        colour = np.array(COLOURS[shown[0] if shown else "background"])
        noise = rng.integers(-30, 31, (16, 16, 3))
        pictures.append((colour + noise).clip(0, 255).astype(np.uint8))
    write_footage(path, pictures)
    return path


def mean_colours(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """Nothing is random in its trunk: the features of a frame are its mean colour."""
    stages = {"pool": nn.Sequential(nn.AvgPool2d(4))}
    return CNNLSTM(stages, 3, spec or SPEC, num_classes, hidden=4)


def write_colours_weights(folder: Path) -> StudioOptions:
    """The options of a studio with the trunk `colours`; a test must add it to the catalog."""
    path = folder / "colours.safetensors"
    if not path.exists():
        model = TrainedModel(mean_colours(2).eval(), "colours", ("background", "event"))
        save_checkpoint(path, model)
    return StudioOptions(
        backbone="colours", weights=str(path), rate_hz=4.0, size_px=32, device="cpu"
    )


def random_action(rng: random.Random, project: Project) -> dict[str, Any]:
    """One that the project can do now."""
    state: State = project.state
    possible = ["add_class"] if len(state.classes) < 8 else []
    if state.classes:
        possible += ["edit_class", "mark", "mark", "mark", "accept", "reject"]
    if len(state.classes) > 2:
        possible += ["merge_classes", "remove_class"]
    if state.marks:
        possible += ["edit_mark", "edit_mark", "remove_mark"]
    if state.rejected:
        possible += ["remove_rejection"]
    possible += ["undo", "undo"] * project.can_undo + ["redo", "redo"] * project.can_redo
    action: dict[str, Any] = {"do": rng.choice(possible)}
    classes = [one.id for one in state.classes]
    start = round(rng.uniform(0, 20), 3)
    match action["do"]:
        case "add_class":
            action["name"] = f"class <{rng.random()}> ü"
        case "edit_class":
            action |= {"class": rng.choice(classes), "colour": rng.randrange(12)}
        case "merge_classes":
            old, into = rng.sample(classes, 2)
            action |= {"class": old, "into": into}
        case "remove_class":
            action["class"] = rng.choice(classes)
        case "mark" | "accept" | "reject" as kind:
            action |= {"match": "m1", "class": rng.choice(classes)}
            action |= {"start": start, "end": start + rng.choice([0, 1.5])}
            action |= (
                {"note": "a\nnote " * rng.randrange(200)} if kind == "mark" else {"score": 0.5}
            )
        case "edit_mark":
            action |= {"mark": rng.choice(list(state.marks)), "start": start, "end": start + 1}
        case "remove_mark":
            action["mark"] = rng.choice(list(state.marks))
        case "remove_rejection":
            action["rejection"] = rng.choice(list(state.rejected))
    return action


def act_until_killed(folder: Path, footage: Path, acknowledged: Path, seed: int) -> None:
    """Do random actions for ever; write down each one only after the project has taken it."""
    rng = random.Random(seed)
    with acknowledged.open("ab", buffering=0) as file:
        project = Project(folder, [footage])
        while True:
            action = random_action(rng, project)
            revision, made = project.do(action)
            line = {"revision": revision, "made": made, "action": action}
            file.write(json.dumps(line).encode() + b"\n")
            if revision % 7 == 0:
                project.write_labels()


def hold_open(folder: Path, footage: Path, ready: Path) -> None:
    """Keep a project open until this process is killed."""
    project = Project(folder, [footage])
    project.announce("http://127.0.0.1:1234/")
    ready.write_text(str(os.getpid()))
    while True:
        time.sleep(60)

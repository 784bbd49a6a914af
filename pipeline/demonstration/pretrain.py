"""Pretrain the small network of the demonstration on clips of moving abstract shapes.

    python -m touchline.pipeline.demonstration.pretrain models/pretrained/motion_net.safetensors

There are three losses: what happens in the clip, where the small shape is, and what happens to it
there. The last two help the trunk to find the small shape sooner. Their layers are not kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.models.networks.motion_net import MotionNet, motion_net
from touchline.models.training_record import TrainingRecord
from touchline.pipeline.demonstration.moving_shapes import (
    MOTION_NAMES,
    MOTIONS,
    ShapeClip,
    shape_clip,
)

STATES = tuple(dict.fromkeys(name for pair in MOTIONS for name in pair))
PLACE_STAGE = 3
"""The stage before which the place is predicted: half the time steps, 8 x 8 cells of 64 px."""


@dataclass(frozen=True)
class PretrainOptions:
    """How to pretrain.

    Attributes:
        steps: Number of steps.
        batch_size: New clips per step.
        lr: Highest learning rate of the one cycle.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the clips and of the weights.
    """

    steps: int = 1500
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0


class Guides(nn.Module):
    """Two extra layers that guide the trunk: place from block2, state from block4."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Conv3d(64, 1, 1)
        self.state = nn.Conv3d(128, len(STATES), 1)


def pretrain(options: PretrainOptions) -> Iterator[tuple[int, dict[str, float], MotionNet]]:
    """After every step: its number, the losses and accuracy of its batch, and the network."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network = motion_net(1 + len(MOTIONS))
    guides = Guides()
    parameters = [*network.parameters(), *guides.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.steps, pct_start=0.1
    )
    network.train()
    for step in range(1, options.steps + 1):
        clips = [
            shape_clip(
                int(motion),
                rng,
                num_frames=network.spec.num_frames,
                size_px=network.spec.size_px,
            )
            for motion in rng.integers(0, len(MOTIONS), options.batch_size)
        ]
        losses, accuracy = _losses(network, guides, clips)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        figures = {name: loss.item() for name, loss in losses.items()}
        yield step, figures | {"accuracy": accuracy}, network


def _losses(
    network: MotionNet, guides: Guides, clips: Sequence[ShapeClip]
) -> tuple[dict[str, Tensor], float]:
    """The three losses of a batch, and the share of clips whose motion is predicted right."""
    pixels = torch.from_numpy(np.stack([clip.pixels for clip in clips]))
    middle = network.run_stages(
        network.enter(normalise(pixels, network.spec)), stop=PLACE_STAGE
    )  # (B, 64, T / 2, 8, 8)
    last = network.run_stages(middle, start=PLACE_STAGE)  # (B, 128, T / 4, 4, 4)
    logits = network.head(network.leave(last, len(clips)))
    # Column 0 is background, which does not occur here.
    motion = torch.tensor([1 + clip.motion for clip in clips])
    place = guides.place(middle)[:, 0].flatten(2)  # (B, T / 2, cells)
    states = guides.state(last).flatten(3)  # (B, states, T / 4, cells)
    cells = _cells(clips, network.spec.size_px, like=last)
    at_place = states.gather(3, cells.clamp(min=0)[:, None, :, None].expand_as(states[..., :1]))
    losses = {
        "motion": F.cross_entropy(logits, motion, label_smoothing=0.05),
        "place": F.cross_entropy(
            place.flatten(0, 1), _cells(clips, network.spec.size_px, like=middle).flatten()
        ),
        "state": F.cross_entropy(at_place[..., 0], _states(clips, cells)),
    }
    return losses, float((logits.argmax(1) == motion).float().mean())


def _cells(clips: Sequence[ShapeClip], size_px: int, *, like: Tensor) -> Tensor:
    """(B, T') the cell of `like` (B, C, T', H', W') with the small shape; -100 outside."""
    steps, H, W = like.shape[2:]
    place = np.stack([clip.place_px for clip in clips])
    every = place.shape[1] // steps
    x, y = np.moveaxis(np.floor(place[:, every // 2 :: every] * (W / size_px)), -1, 0)
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    return torch.from_numpy(np.where(inside, y * W + x, -100).astype(np.int64))


def _states(clips: Sequence[ShapeClip], cells: Tensor) -> Tensor:
    """(B, T') what happens to the small shape at each step; -100 if it is out of sight."""
    steps = cells.shape[1]
    every = clips[0].pixels.shape[1] // steps
    rows = [
        [
            STATES.index(MOTIONS[clip.motion][every // 2 + every * k >= clip.turn])
            for k in range(steps)
        ]
        for clip in clips
    ]
    return torch.where(cells < 0, -100, torch.tensor(rows))


def main() -> None:
    """Pretrain and write the checkpoint. Every 50 steps print the losses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="The checkpoint to write.")
    parser.add_argument("--steps", type=int, default=PretrainOptions.steps, help="Number of steps.")
    parser.add_argument("--seed", type=int, default=PretrainOptions.seed, help="Random seed.")
    parser.add_argument(
        "--threads", type=int, default=None, help="CPU threads (default: all cores)."
    )
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    options = PretrainOptions(steps=arguments.steps, seed=arguments.seed)
    started, recent = time.monotonic(), []
    for step, figures, network in pretrain(options):
        recent.append(figures)
        if step % 50 == 0 or step == options.steps:
            mean = {name: float(np.mean([row[name] for row in recent])) for name in figures}
            seconds = time.monotonic() - started
            line = "  ".join(f"{name} {value:.3f}" for name, value in mean.items())
            print(f"step {step} of {options.steps}, {seconds:.0f} s: {line}", flush=True)
            record = TrainingRecord(
                seconds=round(seconds), job={"steps": step, "seed": options.seed}, figures=mean
            )
            save_checkpoint(
                arguments.out,
                TrainedModel(
                    backbone=network,
                    architecture="motion_net",
                    labels=(BACKGROUND, *MOTION_NAMES),
                    has_background=False,
                    record=record,
                ),
            )
            recent = []


if __name__ == "__main__":
    main()

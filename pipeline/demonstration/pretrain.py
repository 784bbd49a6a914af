"""Pretrain the small network of the demonstration on rendered practice sessions.

    python -m touchline.pipeline.demonstration.pretrain models/pretrained/motion_net.safetensors

The network learns what happens to the ball and where the ball is, at every moment of a window. The
layers that say so are not kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.models.networks.motion_net import SMALL, MotionNet, motion_net
from touchline.models.training_record import TrainingRecord
from touchline.pipeline.demonstration.practice import (
    ACTIONS,
    MEASURES,
    Session,
    render_session,
)
from touchline.pipeline.types import Float32, Int64, UInt8

PLACE_STAGE = 3
"""The stage before which the place is predicted: half the time steps, 8 x 8 cells of 64 px."""

RARE = tuple(ACTIONS.index(name) for name in ("scored", "rebounding", "knocked"))
"""Windows with these actions are drawn four times as often as others."""


@dataclass(frozen=True)
class PretrainOptions:
    """How to pretrain.

    Attributes:
        steps: Number of steps.
        sessions: Number of practice sessions.
        session_s: Length of each session in seconds.
        batch_size: Windows per step.
        lr: Highest learning rate of the one cycle.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the sessions, the windows and the weights.
    """

    steps: int = 1500
    sessions: int = 320
    session_s: float = 60.0
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.02
    seed: int = 0


@dataclass(frozen=True)
class WindowBatch:
    """Windows of sessions.

    Attributes:
        pixels: (B, 3, T, S, S) uint8.
        actions: (B, T) index in ACTIONS.
        ball_px: (B, T, 2).
        measures: (B, T, 4), scaled to mean 0 and standard deviation 1.
    """

    pixels: Tensor
    actions: Tensor
    ball_px: Float32
    measures: Tensor


class Windows:
    """Random windows of sessions: cropped to squares near the middle, half of them mirrored."""

    def __init__(self, sessions: Sequence[Session], rng: np.random.Generator) -> None:
        self.sessions, self.rng = sessions, rng
        measures = np.concatenate([session.measures for session in sessions])
        self.mean, self.std = measures.mean(axis=0), measures.std(axis=0)
        T = SMALL.num_frames
        starts = [(s, i) for s, one in enumerate(sessions) for i in range(len(one.actions) - T + 1)]
        self.starts = np.array(starts)
        rare = np.array([np.isin(sessions[s].actions[i : i + T], RARE).any() for s, i in starts])
        likelihood = np.where(rare, 4.0, 1.0)
        self.likelihood = likelihood / likelihood.sum()

    def draw(self, count: int) -> WindowBatch:
        """Draw windows at random."""
        chosen = self.rng.choice(len(self.starts), count, p=self.likelihood)
        windows = [self._window(*self.starts[k]) for k in chosen]
        pixels, actions, places, measures = (
            np.stack(values) for values in zip(*windows, strict=True)
        )
        return WindowBatch(
            torch.from_numpy(pixels).permute(0, 4, 1, 2, 3),
            torch.from_numpy(actions),
            places,
            torch.from_numpy((measures - self.mean) / self.std),
        )

    def _window(self, session: int, start: int) -> tuple[UInt8, Int64, Float32, Float32]:
        one, T, S = self.sessions[session], SMALL.num_frames, SMALL.size_px
        at = slice(start, start + T)
        slack = one.pixels.shape[2] - S
        left = int(np.clip(self.rng.normal(slack / 2, slack / 5), 0, slack))
        pixels, place = one.pixels[at, :, left : left + S], one.ball_px[at] - [left, 0]
        if self.rng.random() < 0.5:
            pixels, place = pixels[:, :, ::-1], [S, 0] + place * [-1, 1]
        return pixels, one.actions[at], place.astype(np.float32), one.measures[at]


class Guides(nn.Module):
    """Layers that say what the trunk should know, of each quarter of a window.

    `place` finds the ball's cell from block2. `at_ball` and `anywhere` name the actions and
    measures of the quarter's four frames: from the feature of the ball's cell, and from the
    features that a head sees.
    """

    def __init__(self) -> None:
        super().__init__()
        per_frame = len(ACTIONS) + len(MEASURES)
        self.place = nn.Conv3d(64, 1, 1)
        self.at_ball = nn.Linear(128, 4 * per_frame)
        self.anywhere = nn.Linear(128, 4 * per_frame)


def render_sessions(options: PretrainOptions) -> list[Session]:
    """Render the sessions, one process per core."""
    render = partial(
        render_session,
        seconds=options.session_s,
        rate_hz=round(SMALL.rate_hz),
        height_px=SMALL.size_px,
    )
    seeds = np.random.SeedSequence(options.seed).generate_state(options.sessions).tolist()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        return list(pool.map(render, seeds, chunksize=4))


def pretrain(
    options: PretrainOptions, sessions: Sequence[Session]
) -> Iterator[tuple[int, dict[str, float], MotionNet]]:
    """After every step: its number, the losses and accuracy of its batch, and the network."""
    torch.manual_seed(options.seed)
    windows = Windows(sessions, np.random.default_rng(options.seed))
    network = motion_net(1 + len(ACTIONS))
    guides = Guides()
    parameters = [*network.parameters(), *guides.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.steps, pct_start=0.1
    )
    network.train()
    for step in range(1, options.steps + 1):
        losses, accuracy = _losses(network, guides, windows.draw(options.batch_size))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        figures = {name: loss.item() for name, loss in losses.items()}
        yield step, figures | {"accuracy": accuracy}, network


def _losses(
    network: MotionNet, guides: Guides, batch: WindowBatch
) -> tuple[dict[str, Tensor], float]:
    """The losses of a batch, and the share of frames whose action is right."""
    B = len(batch.pixels)
    pixels = normalise(batch.pixels, network.spec)
    # Brightness, contrast and tint vary more than between sessions.
    pixels = pixels * (1 + 0.15 * torch.randn(B, 1, 1, 1, 1)) + 0.15 * torch.randn(B, 3, 1, 1, 1)
    middle = network.run_stages(network.enter(pixels), stop=PLACE_STAGE)  # (B, 64, T / 2, 8, 8)
    last = network.run_stages(middle, start=PLACE_STAGE)  # (B, 128, T / 4, 4, 4)
    features = network.leave(last, B)  # (B, 128, T / 4)
    place = guides.place(middle)[:, 0].flatten(2)  # (B, T / 2, cells)
    cells = _cells(batch.ball_px, like=last)
    visible = cells >= 0
    index = cells.clamp(min=0)[:, None, :, None].expand(-1, last.shape[1], -1, 1)
    at_ball = last.flatten(3).gather(3, index)[..., 0].transpose(1, 2)[visible]  # (M, 128)
    quarters = (B, last.shape[2], 4)
    actions = batch.actions.reshape(quarters)
    measures = batch.measures.reshape(*quarters, -1)
    anywhere, sizes = _answers(guides.anywhere(features.transpose(1, 2)))
    near, near_sizes = _answers(guides.at_ball(at_ball))
    losses = {
        "middle": 0.5 * F.cross_entropy(network.head(features)[:, 1:], actions[:, 2, 0]),
        "place": F.cross_entropy(place.flatten(0, 1), _cells(batch.ball_px, like=middle).flatten()),
        "actions": F.cross_entropy(anywhere.flatten(0, 2), actions.flatten()),
        "measures": 2 * F.smooth_l1_loss(sizes, measures),
        "actions at the ball": F.cross_entropy(near.flatten(0, 1), actions[visible].flatten()),
        "measures at the ball": 2 * F.smooth_l1_loss(near_sizes, measures[visible]),
    }
    return losses, float((anywhere.argmax(-1) == actions).float().mean())


def _answers(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 4 * (A + M)) -> logits (..., 4, A) of the actions and (..., 4, M) measures."""
    x = x.reshape(*x.shape[:-1], 4, -1)
    return x[..., : len(ACTIONS)], x[..., len(ACTIONS) :]


def _cells(ball_px: Float32, *, like: Tensor) -> Tensor:
    """(B, T') the cell of `like` (B, C, T', H', W') with the ball; -100 outside."""
    steps, H, W = like.shape[2:]
    every = ball_px.shape[1] // steps
    x, y = np.moveaxis(np.floor(ball_px[:, every // 2 :: every] * (W / SMALL.size_px)), -1, 0)
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    return torch.from_numpy(np.where(inside, y * W + x, -100).astype(np.int64))


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
    sessions = render_sessions(options)
    print(f"{len(sessions)} sessions, {time.monotonic() - started:.0f} s", flush=True)
    for step, figures, network in pretrain(options, sessions):
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
                    labels=(BACKGROUND, *ACTIONS),
                    has_background=False,
                    record=record,
                ),
            )
            network.train()
            recent = []


if __name__ == "__main__":
    main()

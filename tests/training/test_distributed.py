"""Two processes train one model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_material import made_examples, write_clips

from touchline.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def call(*command: object) -> subprocess.CompletedProcess[str]:
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command], env=threads, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_end_with_the_weights_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    worker = SUPPORT / "distributed_worker.py"
    made_examples(tmp_path, ("blue", "red", "background"), 4)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    call(sys.executable, worker, tmp_path / "one", tmp_path, 4, "keep")
    call(*TORCHRUN, worker, tmp_path / "two", tmp_path, 2, "keep")
    alone = torch.load(tmp_path / "one" / "0.pt")
    first, second = (torch.load(tmp_path / "two" / f"{rank}.pt") for rank in range(2))
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
        torch.testing.assert_close(value, alone["state"][key], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["probs"], alone["probs"], rtol=1e-4, atol=1e-6)
    # Each process tells its share of the loss.
    mean_loss = (first["loss"] + second["loss"]) / 2
    torch.testing.assert_close(mean_loss, alone["loss"], rtol=1e-4, atol=1e-6)


def test_processes_whose_batches_differ_agree_on_statistics_and_on_the_best_epoch(
    tmp_path: Path,
) -> None:
    worker = SUPPORT / "distributed_worker.py"
    made_examples(tmp_path, ("blue", "red", "background"), 4)
    call(*TORCHRUN, worker, tmp_path, tmp_path, 2, "train")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert [k for k, v in first["state"].items() if not torch.equal(v, second["state"][k])] == []
    assert torch.equal(first["probs"], second["probs"])


def test_the_command_trains_under_torchrun_and_talks_once(tmp_path: Path) -> None:
    labels = write_clips(tmp_path, ("blue", "red"))
    done = call(
        *TORCHRUN, "-m", "touchline.tools.cli", "train", labels, "-o", tmp_path / "run",
        "--backbone", "cnn_lstm", "--num-frames", 2, "--rate", 2, "--size", 32, "--epochs", 2,
        "--freeze", "trunk", "--val-groups", "match_3", "--batch-size", 2,
    )  # fmt: skip
    assert done.stdout.count("starting from random weights") == 1
    assert done.stderr.count("no background examples") == 1
    assert load_checkpoint(tmp_path / "run" / "model.safetensors").labels[1:] == ("blue", "red")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["history"]) == 2
    assert not (tmp_path / "run" / "snapshot.safetensors").exists()

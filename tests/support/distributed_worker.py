"""Train the tiny network as one of the processes that torchrun started; not a test itself.

python distributed_worker.py OUT CLIPS BATCH_SIZE BATCHNORM: leaves OUT/<rank>.pt, the weights it
ended with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from train_material import made_examples, tiny_model

from touchline.pipeline.distributed import process_group
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.options import TrainOptions


def main(out: Path, clips: Path, batch_size: int, batchnorm: str) -> None:
    torch.set_num_threads(1)
    examples = made_examples(clips, ("blue", "red", "background"), 4)
    val = [e for e in examples if e.group == "match_3"]
    model = tiny_model()
    # Noise is each process's own; without it nothing may differ.
    for module in model.backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    options = TrainOptions(
        freeze=2,
        unfreeze=((2, 1),),
        batchnorm=batchnorm,
        ema=0.5 if batchnorm == "train" else 0.0,
        epochs=4,
        batch_size=batch_size,
        accumulate=2,
        lr=1e-2,
        val_views=2,
        # The processes agree on the time spent, too little of it to matter.
        max_seconds=1e9,
        # In bf16 the order of sums would show.
        precision="float32",
    )
    with process_group("cpu") as (world, device):
        result = fine_tune(
            model, [e for e in examples if e not in val], val, options, device=device
        )
        torch.save(
            {
                "state": result.model.backbone.state_dict(),
                "probs": torch.from_numpy(result.val_probs),
                "loss": torch.tensor([row["loss"] for row in result.history]),
            },
            out / f"{world.rank}.pt",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

"""Compare ways of training a language model: python measure_language.py TEXT [WAY ...]

Each way gets 100 s of processor time on one thread. The ways: last6, lora, all, scratch.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from touchline.pipeline.language.options import LanguageOptions
from touchline.pipeline.language.train import train_language

SECONDS = 100.0

LAST6 = LanguageOptions(max_seconds=SECONDS, epochs=50, batch_size=2)
WAYS = {
    "last6": LAST6,
    "lora": replace(LAST6, lora=16),
    "all": replace(LAST6, freeze="none"),
    "scratch": replace(LAST6, scratch=True),
}


def main(text: str, *names: str) -> None:
    """Train in each way, and print a row for it."""
    torch.set_num_threads(1)
    print("| way | perplexity before | after | bits per byte before | after | steps | tokens |")
    print("|---|---|---|---|---|---|---|")
    for name in names or WAYS:
        with tempfile.TemporaryDirectory() as folder:
            found = train_language(
                [Path(text)], Path(folder), WAYS[name], device="cpu", clock=time.process_time
            )
        before, after = found.before, found.after
        print(
            f"| {name} | {before.perplexity:,.1f} | {after.perplexity:,.1f} "
            f"| {before.bits_per_byte:.3f} | {after.bits_per_byte:.3f} "
            f"| {found.num_steps} | {found.num_seen:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

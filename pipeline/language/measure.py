"""How well a language model expects a text: perplexity and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from touchline.pipeline.language.tokens import HeldOutText
from touchline.pipeline.types import Int64

IGNORED = -100
ROWS = 4


@dataclass(frozen=True)
class TextFigures:
    """How well a language model expects a text.

    Attributes:
        perplexity: exp of the mean negative log probability per token; 1 would be perfect.
        bits_per_byte: The negative log2 probability of the text per byte of UTF-8. It can be
            compared between models with different tokens; perplexity cannot.
        num_tokens: How many tokens were predicted.
        num_bytes: How many bytes they stand for.

    Example:
        >>> from touchline.pipeline import TextFigures
        >>> before = TextFigures(66.9, 1.94, num_tokens=40_000, num_bytes=125_000)
        >>> after = TextFigures(54.6, 1.85, num_tokens=40_000, num_bytes=125_000)
        >>> f"{before.bits_per_byte - after.bits_per_byte:.2f} bits less for each byte"
        '0.09 bits less for each byte'
    """

    perplexity: float
    bits_per_byte: float
    num_tokens: int
    num_bytes: int


def text_figures(nats: float, num_tokens: int, num_bytes: int) -> TextFigures:
    """Return the figures of a text.

    Args:
        nats: The sum of the negative log probabilities of all its tokens.
        num_tokens: How many there are.
        num_bytes: Length of the text as UTF-8.

    Example:
        >>> from touchline.pipeline.language.measure import text_figures
        >>> import math
        >>> text_figures(10 * math.log(4), num_tokens=10, num_bytes=40)
        TextFigures(perplexity=4.0, bits_per_byte=0.5, num_tokens=10, num_bytes=40)
    """
    # exp of more than 700 is no float.
    perplexity = math.exp(min(nats / num_tokens, 700.0))
    bits = nats / math.log(2) / num_bytes
    return TextFigures(round(perplexity, 12), round(bits, 12), num_tokens, num_bytes)


@torch.inference_mode()
def measure(
    network: Any,
    texts: Sequence[HeldOutText],
    *,
    separator: int,
    context: int,
    device: torch.device,
    dtype: torch.dtype,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> TextFigures:
    """Measure a model on texts: every token is predicted once, from at most `context` before it.

    Args:
        network: A causal language model of transformers, on `device`.
        texts: What is measured.
        separator: The token that stands before each text.
        context: Tokens that the network sees at once.
        device: Where the network is.
        dtype: What it computes in.
        on_done: Called with how many tokens are done, and of how many.
    """
    was_training = network.training
    network.eval()
    total = sum(len(text.tokens) for text in texts)
    nats, done = 0.0, 0
    for seen, wanted in _batches(texts, separator, context):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(torch.from_numpy(seen).to(device), use_cache=False).logits
        losses = F.cross_entropy(
            logits.float().flatten(0, 1),
            torch.from_numpy(wanted).to(device).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        nats += float(losses.double().sum())
        done += int((wanted != IGNORED).sum())
        on_done(done, total)
    network.train(was_training)
    return text_figures(nats, total, sum(text.num_bytes for text in texts))


def _batches(
    texts: Sequence[HeldOutText], separator: int, context: int
) -> Iterator[tuple[Int64, Int64]]:
    """What is seen (B, T) and what is wanted (B, T), filled up with IGNORED."""
    windows = []
    for text in texts:
        tokens = np.concatenate([[separator], text.tokens]).astype(np.int64)
        for start in range(0, len(tokens) - 1, context):
            windows.append(tokens[start : start + context + 1])
    # Windows of like length go together, so that little is filled up.
    windows.sort(key=len)
    for start in range(0, len(windows), ROWS):
        batch = windows[start : start + ROWS]
        longest = max(map(len, batch)) - 1
        seen = np.full((len(batch), longest), separator, np.int64)
        wanted = np.full((len(batch), longest), IGNORED, np.int64)
        for row, window in enumerate(batch):
            seen[row, : len(window) - 1] = window[:-1]
            wanted[row, : len(window) - 1] = window[1:]
        yield seen, wanted

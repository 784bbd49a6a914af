"""Options of training a language model and of talking to it; quick to import."""

from __future__ import annotations

import math
from dataclasses import dataclass

from touchline.models.errors import check_seed

SMOLLM2 = "smollm2-135m"
"""SmolLM2-135M-Instruct: 30 blocks, 134.5 million parameters."""

LAST_BLOCKS = 6
"""How many blocks at the end are trained by default."""


@dataclass(frozen=True)
class LanguageOptions:
    """How `train_language` fine-tunes a language model.

    Attributes:
        weights: smollm2-135m, or the path of a model: a folder as transformers saves it, or GGUF.
        freeze: How many blocks stay frozen, counted from the input; the embeddings then are, too.
            `auto` trains the last 6 blocks (with `lora` and `scratch`: see there). `none` trains
            everything.
        lora: Rank of low-rank additions (LoRA) to the linear layers of the blocks that are not
            frozen (`auto`: of all blocks), trained instead of the layers. None: no LoRA.
        scratch: Start from random weights instead. Everything is trained.
        val_share: Share of the text to hold out, in whole documents; in (0, 0.9].
        val_tokens: Held-out text is measured on at most this many tokens, from the beginning of
            each document.
        epochs: Passes over the text.
        max_seconds: Stop training after this many seconds; None: after all passes. Reading the text
            and measuring come on top.
        context: Tokens that the network sees at once, in [8, 8192].
        batch_size: Windows of `context` tokens in a step.
        lr: Peak learning rate. None: 0.0003; 0.0001 if everything is trained, 0.001 with `lora` or
            `scratch`.
        precision: auto, float32 or bf16. auto is bf16 where the hardware is faster with it.
        seed: Seed of all random numbers, in [0, 2**31).

    Raises:
        ValueError: An option is outside its range.

    Example:
        >>> from touchline.pipeline import LanguageOptions
        >>> LanguageOptions(lora=16).peak_lr
        0.001
    """

    weights: str = SMOLLM2
    freeze: str = "auto"
    lora: int | None = None
    scratch: bool = False
    val_share: float = 0.1
    val_tokens: int = 20_000
    epochs: int = 3
    max_seconds: float | None = None
    context: int = 256
    batch_size: int = 4
    lr: float | None = None
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.freeze not in ("auto", "none") and not self.freeze.isdecimal():
            raise ValueError(f"freeze is {self.freeze!r}. Use auto, none, or a number of blocks")
        if self.lora is not None and not 1 <= self.lora <= 1024:
            raise ValueError(f"lora is {self.lora}; it must be in [1, 1024]")
        if self.lora is not None and self.freeze == "none":
            raise ValueError("freeze is none, but lora trains no layer itself. Use one of them")
        if self.scratch and (self.lora is not None or self.freeze not in ("auto", "none")):
            raise ValueError("scratch trains everything. Leave out --freeze and --lora")
        if not 0 < self.val_share <= 0.9:
            raise ValueError(f"val_share is {self.val_share}; it must be in (0, 0.9]")
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise ValueError(
                f"max_seconds is {self.max_seconds}; it must be more than 0. For no limit, leave "
                "it out"
            )
        if not 8 <= self.context <= 8192:
            raise ValueError(f"context is {self.context}; it must be in [8, 8192]")
        if self.lr is not None and not 0 < self.lr < 1:
            raise ValueError(f"lr is {self.lr}; it must be in (0, 1)")
        for name in ("val_tokens", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        check_seed(self.seed)

    @property
    def peak_lr(self) -> float:
        """The peak learning rate: `lr`, or what suits the parts that are trained."""
        if self.lr is not None:
            return self.lr
        if self.lora is not None or self.scratch:
            return 1e-3
        return 1e-4 if self.freeze == "none" else 3e-4


@dataclass(frozen=True)
class ChatOptions:
    """How `Chat` chooses the next token.

    Attributes:
        temperature: Scores are divided by this, in [0, 10]; 0 always takes the most probable token.
        top_p: Only the most probable tokens that together have this share are chosen from.
        max_tokens: An answer has at most this many tokens.
        seed: Seed of the choice, in [0, 2**31).

    Raises:
        ValueError: An option is outside its range.

    Example:
        >>> from touchline.pipeline import ChatOptions
        >>> ChatOptions(temperature=0).max_tokens
        80
    """

    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature is {self.temperature}; it must be in [0, 10]")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not 1 <= self.max_tokens <= 4096:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be in [1, 4096]")
        check_seed(self.seed)

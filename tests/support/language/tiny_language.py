"""A language model that fits a test, and commentary that it can learn."""

from __future__ import annotations

import random
from pathlib import Path

TEAMS = ("United", "City", "Rovers", "Athletic")
NAMES = ("Keita", "Silva", "Novak", "Moreno", "Berg", "Holm")


def commentary(seed: int, *, num_lines: int = 40) -> str:
    """Lines in one voice: a model that learnt some of them expects others."""
    chance = random.Random(seed)
    patterns = (
        "And {name} takes the corner for {team}, a lovely ball into the box.",
        "What a goal by {name}! {team} are in front, and the crowd goes wild.",
        "The referee shows {name} a yellow card, and {team} will defend the free kick.",
        "Throw-in to {team}, quickly taken by {name} on the near side.",
    )
    lines = [
        chance.choice(patterns).format(name=chance.choice(NAMES), team=chance.choice(TEAMS))
        for _ in range(num_lines)
    ]
    return "\n".join(lines) + "\n"


def write_matches(folder: Path, number: int = 6, *, num_lines: int = 40) -> Path:
    """A folder with a text for each match."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(number):
        (folder / f"match_{k}.txt").write_text(commentary(k, num_lines=num_lines))
    return folder


def write_tiny_language(folder: Path, *, num_blocks: int = 2, tie: bool = True) -> Path:
    """A Llama of random weights with a byte-level tokenizer, as transformers saves it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([commentary(99)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=num_blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tie,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder

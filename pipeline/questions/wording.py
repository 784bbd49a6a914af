"""Let a language model word sentences that are known to be true, and check each of them.

A small model invents numbers, names and times even where it only has to repeat them. So what it
says is used only if it holds the facts of the sentence that it was given, and no others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

INSTALL = "pip install 'touchline[wording]'"

PROMPT = """Fact: card at 0:12:03, Silva.
Sentence: At 0:12:03 there was a card for Silva.
Fact: 3 corners.
Sentence: There were 3 corners.
Fact: second free kick at 1H 40:10 (0:41:00), 7 Moreno, City.
Sentence: The second free kick of City came at 1H 40:10, by number 7, Moreno.
Fact: {fact}
Sentence:"""
"""Examples show even a model that only continues text what is wanted."""

MAX_TOKENS = 64

_WORD = re.compile(r"\w+(?:[:.'’+-]\w+)*")
_BRACKETS = re.compile(r"\([^)]*\)")

# Words that add no fact: no number, no negation, no comparison, nothing that may be an event.
_PLAIN = frozenset(
    (files("touchline.pipeline.questions") / "words" / "plain.txt").read_text("utf-8").split()
)


@dataclass(frozen=True)
class Worded:
    """Sentences after a model had its say.

    Attributes:
        sentences: One for each fact, worded by the model or as it was.
        num_worded: How many are the model's.
    """

    sentences: tuple[str, ...]
    num_worded: int


def word_facts(facts: Sequence[str], say: Callable[[str], str]) -> Worded:
    """Word each fact anew where the new sentence passes the check.

    Args:
        facts: Sentences that are true.
        say: Takes a prompt and returns what the model says, as from `open_model`.
    """
    sentences, num_worded = [], 0
    for fact in facts:
        said = say(PROMPT.format(fact=fact)).strip() if fact else ""
        said = said.partition("\n")[0].strip()
        good = keeps_facts(said, fact)
        sentences.append(said if good else fact)
        num_worded += good
    return Worded(tuple(sentences), num_worded)


def keeps_facts(sentence: str, fact: str) -> bool:
    """Tell whether a sentence says what a fact says, and nothing else.

    Every number, time, name and other word that could be a fact must be in both; what the fact
    has in brackets may be left out. A fact with two counts or more (a score) is never worded anew,
    because they could change places.

    Args:
        sentence: What a model said.
        fact: What it was given.
    """
    said, given = _tokens(sentence), _tokens(fact)
    needed = _tokens(_BRACKETS.sub(" ", fact))
    if sum(token.isdigit() for token in needed.elements()) > 1:
        return False
    telling = {token: n for token, n in said.items() if token not in _PLAIN}
    kept = all(said[token] for token in needed if token not in _PLAIN)
    return bool(said) and kept and all(n <= given[token] for token, n in telling.items())


def _tokens(text: str) -> Counter[str]:
    words = _WORD.findall(text.casefold().replace("_", " "))
    return Counter(word.removesuffix("'s").removesuffix("’s") for word in words)


def open_model(path: Path) -> Callable[[str], str]:
    """Open a chat model on this machine; nothing is downloaded and no code of the model is run.

    Args:
        path: A folder with safetensors and a tokenizer, as transformers saves it, or a GGUF file.

    Returns:
        A function from a prompt to the answer, always the same for the same prompt.

    Raises:
        ValueError: transformers is not installed, or it cannot read the model.
        FileNotFoundError: There is no such file or folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder. --wording takes a model on disk")
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise ValueError(f"--wording needs transformers. Run: {INSTALL}") from error
    model, tokenizer = load_language_model(path)

    @torch.inference_mode()
    def say(prompt: str) -> str:
        seen = tokenizer(prompt, return_tensors="pt")
        if tokenizer.chat_template:
            seen = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            )
        found = model.generate(**seen, max_new_tokens=MAX_TOKENS, do_sample=False)
        new = found[0, seen["input_ids"].shape[1] :]
        return str(tokenizer.decode(new, skip_special_tokens=True))

    return say


def load_language_model(path: Path) -> tuple[Any, Any]:
    """Load a model and its tokenizer from this machine; no code of the model is run.

    Needs transformers.

    Args:
        path: A folder with safetensors and a tokenizer, as transformers saves it, or a GGUF file.

    Returns:
        The model in float32, in evaluation mode; and the tokenizer.

    Raises:
        ValueError: transformers cannot read the model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    quieten: Any = logging
    quieten.set_verbosity_error()
    quieten.disable_progress_bar()
    is_gguf = path.is_file()
    place = {"gguf_file": path.name} if is_gguf else {}
    # A pickle could run code; safetensors and GGUF cannot.
    safe = {} if is_gguf else {"use_safetensors": True}
    folder = str(path.parent if is_gguf else path)
    try:
        # What GGUF files are read with shows a progress bar of its own.
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **place)
            model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, **place, **safe
            )
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path}: not a chat model that transformers can read ({reason[0][:200]})"
        ) from error
    model.train(False)
    return model, tokenizer

"""Talk to a language model in the voice of its text. It knows no facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from touchline.models.errors import WeightsError
from touchline.models.inference import pick_device
from touchline.pipeline.language.options import ChatOptions
from touchline.pipeline.language.pretrained import NOT_FINITE, load_saved, longest_context
from touchline.pipeline.language.tokens import separator_of

NOTICE = (
    "This model speaks in the voice of the text that it learnt from. It knows no facts: scores, "
    'names and times are made up. For facts: touchline ask RESULTS "question".'
)

REPETITION = 1.15
"""Scores of the last tokens are weakened by this factor, so that the model does not repeat itself
without end (Keskar et al. 2019)."""

LEAST_TEMPERATURE = 1e-4
"""With less, scores would overflow; it is the same as 0."""

REPEATED = 64
"""How many of the last tokens are weakened."""

CONTEXT = 1024
"""How many tokens of the conversation the model sees."""


class Chat:
    """A conversation with a language model.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import Chat, ChatOptions
        >>> chat = Chat(Path("tiny-language"), ChatOptions(temperature=0, max_tokens=5))
        >>> type("".join(chat.answer("What a goal!")))
        <class 'str'>
    """

    def __init__(
        self, folder: Path, options: ChatOptions | None = None, *, device: str = "auto"
    ) -> None:
        """Load a model.

        Args:
            folder: What `touchline language train` or transformers wrote; or a GGUF file.
            options: How to choose tokens.
            device: auto, cpu, cuda, cuda:1 or mps.

        Raises:
            WeightsError: It is no language model.
            ValueError: The model cannot make answers of `max_tokens`.
        """
        model = load_saved(folder)
        self._options = options or ChatOptions()
        self._name = model.name
        self._device = pick_device(device)
        self._network = model.network.to(self._device).eval()
        self._tokenizer = model.tokenizer
        self._separator = separator_of(model.tokenizer)
        longest = longest_context(model.network) - self._options.max_tokens
        if longest < 1:
            raise ValueError(
                f"max_tokens is {self._options.max_tokens}, but the model sees only "
                f"{longest_context(model.network)} tokens at once. Use less"
            )
        self._remembered = min(CONTEXT, longest)
        self._generator = torch.Generator().manual_seed(self._options.seed)
        self._said: list[int] = [self._separator]

    def answer(self, text: str) -> Iterator[str]:
        """Yield the answer to a line, bit by bit as it is made.

        Args:
            text: What was said. Control tokens of the model in it are plain text.

        Raises:
            WeightsError: The model gives no probabilities; its weights are damaged.
        """
        self._said += self._encoded(f"{text.strip()}\n")
        new: list[int] = []
        shown = 0
        try:
            for token in self._tokens():
                new.append(token)
                found = str(self._tokenizer.decode(new, skip_special_tokens=True)).lstrip()
                # Half a character, and what may be the end of the answer, wait for the next token.
                whole = found.rstrip("\N{REPLACEMENT CHARACTER}\n ")
                if len(whole) > shown:
                    yield whole[shown:]
                    shown = len(whole)
                if whole and "\n\n" in found:
                    break
                if len(new) >= self._options.max_tokens * 0.7 and whole.endswith((".", "!", "?")):
                    break
        finally:  # also if somebody cuts the answer off
            self._said += [*new, *self._encoded("\n")]

    def _encoded(self, text: str) -> list[int]:
        # Bytes that are not UTF-8 come from the command line as halves of surrogate pairs.
        text = text.encode("utf-8", "replace").decode()
        found = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return list(found["input_ids"])

    @torch.inference_mode()
    def _tokens(self) -> Iterator[int]:
        """The tokens of an answer, up to the end of the text or the limit."""
        from transformers import DynamicCache

        self._said = self._said[-self._remembered :]
        recent = self._said[-REPEATED:]
        seen = torch.tensor([self._said], device=self._device)
        cache = DynamicCache(config=self._network.config)
        for _ in range(self._options.max_tokens):
            # In float32: for one token at a time, nothing else is faster.
            out = self._network(input_ids=seen, cache=cache, use_cache=True)
            token = self._chosen(out.logits[0, -1].float().cpu(), recent)
            if token == self._separator:
                return
            yield token
            recent = [*recent[1 - REPEATED :], token]
            seen = torch.tensor([[token]], device=self._device)

    def _chosen(self, scores: Tensor, recent: list[int]) -> int:
        """Choose the next token by its score."""
        if not bool(scores.isfinite().all()):
            raise WeightsError(self._name, NOT_FINITE)
        used = torch.tensor(sorted(set(recent)))
        again = scores[used]
        scores[used] = torch.where(again > 0, again / REPETITION, again * REPETITION)
        options = self._options
        if options.temperature < LEAST_TEMPERATURE:
            return int(scores.argmax())
        probs, order = (scores / options.temperature).softmax(0).sort(descending=True)
        before = probs.cumsum(0) - probs
        probs = torch.where(before < options.top_p, probs, torch.zeros_like(probs))
        return int(order[torch.multinomial(probs, 1, generator=self._generator)])

"""The option --wording: a local language model words what is already known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from collections.abc import Callable

Wording = Annotated[
    Path | None,
    typer.Option(
        help="A chat model on this machine (a folder of transformers, or a GGUF file) that words "
        "the sentences anew. One is used only if it has the same numbers, times and names."
    ),
]


def reword(facts: Sequence[str], path: Path) -> tuple[str, ...]:
    """Word sentences by a model, as far as they pass the check; say how many did.

    Args:
        facts: Sentences that are true.
        path: The model.
    """
    from touchline.pipeline.questions.wording import word_facts

    worded = word_facts(facts, _opened(path))
    num_facts = sum(bool(fact) for fact in facts)
    console.err.print(
        console.escape(
            f"{worded.num_worded} of {num_facts} sentences worded by {path.name}; the others did "
            "not keep the facts and are as they were"
            if worded.num_worded < num_facts
            else f"worded by {path.name}"
        ),
        highlight=False,
        soft_wrap=True,
    )
    return worded.sentences


@cache
def _opened(path: Path) -> Callable[[str], str]:
    from touchline.pipeline.questions.wording import open_model

    return open_model(path)

"""`touchline chat`: talk to a language model in the voice of its text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.language.options import ChatOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.language.chat import Chat

DEFAULTS = ChatOptions()

MOST_CHARS = 20_000
"""The longest prompt. The model sees the end of it only."""


def chat_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="The folder that `touchline language train` wrote.",
            show_default=False,
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Answer this and exit. Without: ask at a prompt, or read standard input if it is "
            "no terminal.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="How adventurous answers are. 0: always the most probable token.")
    ] = DEFAULTS.temperature,
    top_p: Annotated[
        float,
        typer.Option(help="Choose from the most probable tokens that together have this share."),
    ] = DEFAULTS.top_p,
    max_tokens: Annotated[
        int, typer.Option(help="Longest answer, in tokens.")
    ] = DEFAULTS.max_tokens,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = DEFAULTS.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Talk to a model in the voice of its text. It knows no facts."""
    from touchline.pipeline.language.chat import NOTICE, Chat

    is_talk = prompt is None and sys.stdin.isatty()
    said = sys.stdin.read(MOST_CHARS + 1) if prompt is None and not is_talk else prompt or ""
    if len(said) > MOST_CHARS:
        raise ValueError(
            f"prompt has more than {MOST_CHARS:,} characters, but the model sees about a thousand "
            "tokens. Give its end"
        )
    if not is_talk and not said.strip():
        raise ValueError("prompt is empty. Say something")
    options = ChatOptions(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    with console.err.status("loading the model"):
        chat = Chat(folder, options, device=device)
    console.err.print(console.escape(NOTICE), highlight=False, soft_wrap=True)
    if is_talk:
        _talk(chat)
    else:
        _show(chat, said)


def _talk(chat: Chat) -> None:
    """Answer line after line, until Ctrl-D or Ctrl-C at the prompt."""
    console.err.print("Ctrl-D ends the talk, Ctrl-C ends an answer.", highlight=False)
    while True:
        try:
            said = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if said.strip():
            try:
                _show(chat, said)
            except KeyboardInterrupt:
                print()


def _show(chat: Chat, said: str) -> None:
    for piece in chat.answer(said):
        print(console.printable(piece), end="", flush=True)
    print()

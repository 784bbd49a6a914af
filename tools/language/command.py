"""`touchline language`: its sub-commands."""

from __future__ import annotations

import typer

from touchline.tools.language.train import train_command

language_app = typer.Typer(
    help="Learn how a text speaks, for `touchline chat`.", no_args_is_help=True
)
language_app.command("train")(train_command)


@language_app.callback()
def _language() -> None:
    """Learn how a text speaks, for `touchline chat`."""

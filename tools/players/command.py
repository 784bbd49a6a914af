"""`touchline players`: its sub-commands."""

from __future__ import annotations

import typer

from touchline.tools.players.name import name_command
from touchline.tools.players.train import train_command

players_app = typer.Typer(
    help="Learn players from photos; name who is in a picture or an event.",
    no_args_is_help=True,
)
players_app.command("train")(train_command)
players_app.command("name")(name_command)

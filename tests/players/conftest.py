"""Rendered players in folders, and a model trained on them once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_players import looks, write_photos

from touchline.pipeline.players.options import PlayersOptions
from touchline.pipeline.players.train import TrainedPlayers, train_players
from touchline.tools.cli import main


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), looks(4, seed=3), 6)


@pytest.fixture(scope="session")
def trained(photos: Path) -> TrainedPlayers:
    return train_players(photos, PlayersOptions(), device="cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call `touchline players` with words, and return its exit code."""

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["touchline", "players", *map(str, words)])
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    return call

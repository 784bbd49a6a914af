"""Rendered players in folders, and a model trained on them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command import touchline
from drawn_players import looks, write_photos

from touchline.pipeline.players.options import PlayersOptions
from touchline.pipeline.players.train import TrainedPlayers, train_players


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), looks(4, seed=3), 6)


@pytest.fixture(scope="session")
def trained(photos: Path) -> TrainedPlayers:
    return train_players(photos, PlayersOptions(crop="none"), device="cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call `touchline players` with words, and return its exit code."""

    def call(*words: object) -> int:
        return touchline(monkeypatch, "players", *words)

    return call

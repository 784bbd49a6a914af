"""The example in the docstring of each public name runs and prints what it says."""

import doctest
import shutil
from importlib.util import find_spec

import pytest
from example_material import ARCHITECTURE, brightness_backbone, make_examples_folder
from tiny_language import write_matches, write_tiny_language

import touchline.pipeline as touchline
from touchline.models import catalog

HAS_LANGUAGE = all(map(find_spec, ("transformers", "gguf", "peft")))

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(catalog.BACKBONES, ARCHITECTURE, brightness_backbone)
        folder = tmp_path_factory.mktemp("examples")
        make_examples_folder(folder)
        write_matches(folder / "matches")
        if HAS_LANGUAGE:
            write_tiny_language(folder / "tiny-language")
        yield folder


def example_of(name: str) -> doctest.DocTest:
    text = getattr(touchline, name).__doc__ or ""
    return doctest.DocTestParser().get_doctest(text, {}, name, None, None)


@pytest.mark.parametrize("name", touchline.__all__)
def test_every_public_name_has_an_example_that_runs(name, material, tmp_path, monkeypatch):
    if "tiny-language" in example_of(name).docstring and not HAS_LANGUAGE:
        pytest.skip("needs pip install 'touchline[language]'")
    folder = tmp_path / "work"
    shutil.copytree(material, folder)
    monkeypatch.chdir(folder)
    printed = []
    failed, run = doctest.DocTestRunner(optionflags=OPTIONS).run(
        example_of(name), out=printed.append
    )
    assert (failed, run > 0) == (0, True), "".join(printed)

"""The shape of the code that `tests/support/measured/measure_house.py` measures."""

import textwrap
import tomllib
from pathlib import Path

import pytest
from measure_house import measure

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def house() -> dict[str, list[tuple[str, int]]]:
    return measure(ROOT)


def test_a_folder_holds_at_most_twelve_modules(house):
    folders = dict(house["folders, by modules"])
    assert {"models", "pipeline/decoding", "tools", "tests/support"} <= set(folders)
    assert {folder: n for folder, n in folders.items() if n > 12} == {}


def test_no_packages_import_each_other_in_a_circle(house):
    assert house["packages whose direct children import in a circle"] == []


def test_every_listed_package_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    folders = {name: ROOT.joinpath(*name.split(".")[1:]) for name in listed}
    missing = [name for name, folder in folders.items() if not (folder / "__init__.py").is_file()]
    assert missing == []


def test_measures_are_those_counted_by_hand(tmp_path):
    def write(path: str, code: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(textwrap.dedent(code), encoding="utf-8")

    write("models/__init__.py", "")
    write("models/net.py", "x: int = 1\n" * 401)
    write("tests/test_net.py", "")
    write("tools/run.py", "import touchline.pipeline.a.one\n")
    write("pipeline/__init__.py", "")
    write("pipeline/a/__init__.py", "")
    write("pipeline/b/__init__.py", "")
    write("pipeline/b/two.py", "def late(n):\n    from touchline.pipeline.a import one\n")
    long_body = "\n".join(["    x = 1"] * 60)
    write(
        "pipeline/a/three.py",
        f'from touchline.models.net import x\ndef long() -> None:\n    """Long."""\n{long_body}',
    )
    write(
        "pipeline/a/one.py",
        '''
        from touchline.pipeline.a.three import long
        from touchline.pipeline.b import two

        def told(x: int, y: int, *, z: int) -> int:
            """Add.

            Args:
                z: seconds.

            Raises:
                ValueError: x is negative.
            """
            if x < 0:
                raise ValueError(x)
            return x + y + z

        class Shown:
            def untold(self, x: int, y: int, *rest: int) -> None:
                raise ValueError(x)

            def few(self, x: int, y: int) -> None:
                try:
                    self.untold(x, y)
                except ValueError:
                    raise

            def _private(self, x: int, y: int, z: int) -> None:
                raise ValueError(x)

        def command(x: Annotated[int, typer.Option(help="X.")], y: int, z: int) -> None:
            def inner(x: int, y: int, z: int) -> None:
                raise ValueError(x)
        ''',
    )
    found = measure(tmp_path)
    assert found == {
        "folders, by modules": [
            ("pipeline/a", 2),
            ("models", 1),
            ("pipeline/b", 1),
            ("tests", 1),
            ("tools", 1),
        ],
        "files over 400 lines": [("models/net.py", 401)],
        # `one` and `two` import each other, so chains have no end.
        "import graphs, by floors": [
            ("models, 1 nodes", 1),
            ("tools, 1 nodes", 1),
            ("pipeline, 2 nodes", 0),
            ("touchline, 9 nodes", 0),
        ],
        "packages whose direct children import in a circle": [
            ("pipeline: a imports b imports a", 2)
        ],
        "functions over 60 lines": [("pipeline/a/three.py:2: long", 61)],
        "public functions of 3 or more parameters, with Args:": [("pipeline/a/one.py:5: told", 3)],
        "public functions of 3 or more parameters, without": [("pipeline/a/one.py:19: untold", 3)],
        "public functions that raise, with Raises:": [("pipeline/a/one.py:5: told", 1)],
        "public functions that raise, without": [("pipeline/a/one.py:19: untold", 1)],
        "functions without a type hint": [("pipeline/b/two.py:1: late", 1)],
    }


def test_floors_are_the_longest_chain_of_imports(tmp_path):
    for package in ("models", "pipeline", "tools"):
        (tmp_path / package).mkdir()
    (tmp_path / "models" / "net.py").write_text("")
    (tmp_path / "pipeline" / "low.py").write_text("from touchline.models import net\n")
    (tmp_path / "pipeline" / "high.py").write_text("from touchline.pipeline import low\n")
    (tmp_path / "tools" / "run.py").write_text("from touchline.models.net import x\n")
    floors = dict(measure(tmp_path)["import graphs, by floors"])
    assert floors == {
        "touchline, 4 nodes": 3,
        "pipeline, 2 nodes": 2,
        "models, 1 nodes": 1,
        "tools, 1 nodes": 1,
    }

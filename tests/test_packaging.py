"""What is installed is what stands in the folders, and it works outside the repository."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "pipeline", "tools")


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, str]:
    """The wheel, and all that its build printed."""
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--verbose",
        "--no-deps",
        "-w",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (path,) = out.glob("*.whl")
    return path, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built[0]


def tracked(folder: str) -> set[str]:
    """The committed files of a folder, as the wheel would name them."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return {f"touchline/{name}" for name in listed if name}


def test_every_folder_with_code_is_a_listed_package(pyproject):
    folders = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {f"touchline.{name}" for name in folders} == set(
        pyproject["tool"]["setuptools"]["packages"]
    )


def test_the_wheel_holds_every_committed_file(wheel):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed is not known")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = set().union(*(tracked(folder) for folder in PACKAGES))
    assert expected - names == set()


def test_the_wheel_holds_licence_and_notice(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in ("LICENSE", "NOTICE"):
            (inside,) = [n for n in archive.namelist() if n.endswith(f".dist-info/licenses/{name}")]
            assert archive.read(inside) == (ROOT / name).read_bytes()


def test_setuptools_builds_without_a_warning(built):
    log = built[1]
    assert "running build_py" in log
    assert [line for line in log.splitlines() if "Warning:" in line] == []


def test_the_wheel_installs_nothing_outside_its_namespace(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"touchline"}


def test_the_installed_command_works_outside_the_repository(wheel, tmp_path):
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    # The heavy dependencies are those of the running environment; only touchline is the wheel's.
    site = next((home / "lib").glob("python*/site-packages"))
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, capture_output=True)
    outer = [p for p in sys.path if p.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    shown = subprocess.run(
        [home / "bin" / "touchline", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "detect" in shown.stdout
    where = subprocess.run(
        [python, "-c", "import touchline.pipeline.types as t; print(t.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in where.stdout


def test_help_needs_no_heavy_library():
    code = (
        "import sys; from touchline.tools import cli; "
        "print([m for m in ('torch', 'av', 'cv2', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The command as a user types it: what it prints, what it leaves, and how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_footage import write_footage
from rich.text import Text
from tiny import write_levels

from touchline.tools.cli import spread_lists, with_option_names
from touchline.tools.console import escape


def touchline(*arguments, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "touchline.tools.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder with two classes of clips in two matches each, and a model trained on them."""
    folder = tmp_path_factory.mktemp("cli")
    rows = ["video,label,start_s,end_s,group"]
    for match in range(4):
        for label, level in (("dark", 30), ("light", 220)):
            name = f"{label}{match}.mp4"
            write_levels(folder / name, [level + match] * 24)
            rows.append(f"{name},{label},,,match{match}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    done = touchline(
        *("train", folder / "labels.csv", "--backbone", "motion_net", "-o", folder / "run"),
        *("--num-frames", 8, "--size", 32, "--epochs", 3, "--val-groups", "match3"),
        *("--device", "cpu", "--lr", 0.01),
    )
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout + done.stderr)
    return folder


def test_version_and_help_fit_a_screen():
    assert touchline("--version").stdout.startswith("touchline 0.")
    lines = touchline("--help").stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


@pytest.mark.slow
def test_training_says_where_it_started_and_what_it_lacks(run):
    told = " ".join((run / "train.txt").read_text().split())
    assert "random weights" in told
    assert "no background examples" in told
    metrics = json.loads((run / "run" / "metrics.json").read_text())
    assert metrics["groups"]["val"] == ["match3"]
    assert metrics["classes"] == ["background", "dark", "light"]
    assert len(metrics["figures"]["confusion_matrix"]) == 3


def test_detect_writes_events_and_says_what_to_doubt(run, tmp_path):
    footage = write_levels(tmp_path / "match.mp4", [30] * 48 + [220] * 48)
    done = touchline(
        "detect", footage, "--model", run / "run" / "model.safetensors", "-o", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "not calibrated" in " ".join(done.stderr.split())
    assert "never saw eventless footage" in " ".join(done.stderr.split())
    header = (tmp_path / "match" / "events.csv").read_text().splitlines()[0]
    assert header == "video,label,start_s,end_s,peak_s,score,start,end,peak"
    document = json.loads((tmp_path / "match" / "events.json").read_text())
    assert document["model"]["architecture"] == "motion_net"


def test_bad_footage_is_one_line_each_and_the_rest_still_runs(run, tmp_path):
    good = write_levels(tmp_path / "good.mp4", [30] * 32)
    truncated = tmp_path / "cut.mp4"
    truncated.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / "gone.mp4", tmp_path / "folder", empty, text, truncated]
    done = touchline(
        *("detect", *bad, good, "--model", run / "run" / "model.safetensors"),
        *("-o", tmp_path / "out", "--quiet"),
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == len(bad)
    for path, line in zip(bad, errors, strict=True):
        assert str(path) in line
    assert "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("good", "index.html", "run.jsonl", ".lock")
    }


@pytest.mark.slow
def test_json_is_one_document_that_names_every_input(run, tmp_path):
    good = write_levels(tmp_path / "good.mp4", [220] * 32)
    done = touchline(
        *("detect", good, tmp_path / "gone.mp4", "--json", "-o", tmp_path / "out"),
        *("--model", run / "run" / "model.safetensors"),
    )
    first, second = json.loads(done.stdout)
    assert first["error"] is None
    assert first["events"]
    assert "no such file" in second["error"]


TRAIN = ["train", "labels.csv", "--backbone", "motion_net"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "m.mp4", "--model", "gone.safetensors", "-o", "out"], "gone.safetensors"),
        (["detect", "m.mp4", "--model", "labels.csv", "-o", "out"], "labels.csv"),
        (["train", "gone.csv", "--backbone", "cnn_lstm", "-o", "out"], "gone.csv"),
        (["train", "labels.csv", "--backbone", "cnn_lsmt", "-o", "out"], "cnn_lstm"),
        (
            [*TRAIN, "--freeze", "blok1", "-o", "o"],
            "block1",
        ),
        (
            [
                "train",
                "labels.csv",
                "--backbone",
                "motion_net",
                "--val-groups",
                "match9",
                "-o",
                "o",
            ],
            "match9",
        ),
        (["train", "column.csv", "--backbone", "motion_net", "-o", "o"], "label"),
        (["train", "times.csv", "--backbone", "motion_net", "-o", "o"], "line 2"),
        (
            [*TRAIN, "--weights", "gone.pth", "-o", "o"],
            "gone.pth",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_it(run, arguments, message):
    (run / "column.csv").write_text("video,lable\na.mp4,goal\n")
    (run / "times.csv").write_text("video,label,start_s,end_s\na.mp4,goal,5,3\n")
    done = touchline(*arguments, cwd=run)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_to_is_one_line_that_names_it(run, tmp_path):
    (tmp_path / "labels.csv").write_text("video,label,start_s,end_s\nm.mp4,goal,1,2\n")
    (tmp_path / "file").write_text("mine")
    done = touchline("export", "labels.csv", "--to", "vtt", "-o", "file/out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: file is a file, but a folder is needed. Choose another name.\n"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_folder_named_as_the_file_to_write_is_named_without_its_temporary_file(tmp_path):
    (tmp_path / "labels.csv").write_text("video,label,start_s,end_s\nm.mp4,goal,1,2\n")
    (tmp_path / "there").mkdir()
    done = touchline("evaluate", "labels.csv", "labels.csv", "-q", "-o", "there", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: there is a folder. Name the file to write in it.\n"
    done = touchline("export", "labels.csv", "--to", "vtt", "-o", "labels.csv", cwd=tmp_path)
    assert (
        done.stderr == "error: labels.csv is a file, but a folder is needed. Choose another name.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["evaluate", "labels.csv", "labels.csv", "--quiet", "-o", "figures.json"], "figures.json"),
        (["export", "labels.csv", "--to", "vtt", "-o", "out"], "out/events.vtt"),
        (["report", "labels.csv", "-o", "out"], "out/report.html"),
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, arguments, file):
    resource = pytest.importorskip("resource")
    (tmp_path / "labels.csv").write_text("video,label,start_s,end_s\nm.mp4,goal,1,2\n")
    done = subprocess.run(
        [sys.executable, "-m", "touchline.tools.cli", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        # No file may grow beyond nothing: what the system says of it names no file either.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {file}: File too large"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / file).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_printed_is_one_line(unbuffered):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "touchline.tools.cli", "export"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device\n"


@pytest.fixture
def without_libgl(tmp_path, monkeypatch) -> None:
    """OpenCV as it is in slim images: its package is there, a library of the system is not."""
    (tmp_path / "packages" / "cv2").mkdir(parents=True)
    (tmp_path / "packages" / "cv2" / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or "
        "directory', name='cv2')\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}{os.pathsep}{before}")


@pytest.mark.usefixtures("without_libgl")
def test_a_library_the_system_lacks_is_one_line_that_says_what_to_install(tmp_path):
    done = touchline("demo", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == (
        "error: cv2 cannot be imported (libGL.so.1: cannot open shared object file: No such file "
        "or directory). Install the missing system library. On Debian: apt-get install libgl1 "
        "libglib2.0-0.\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("without_libgl")
def test_detecting_needs_no_opencv(run, tmp_path):
    footage = write_levels(tmp_path / "match.mp4", [30] * 48)
    model = run / "run" / "model.safetensors"
    for arguments in (
        ("detect", footage, "--model", model, "-o", tmp_path / "out", "--device", "cpu"),
        ("labels", run / "labels.csv"),
        ("probe", footage),
        ("report", tmp_path / "out" / "match" / "events.json", "-o", tmp_path / "page"),
    ):
        done = touchline(*arguments)
        assert done.returncode == 0, done.stderr


def test_a_length_that_was_only_found_is_not_said_to_be_declared(tmp_path):
    footage = write_footage(tmp_path / "a.mkv", seconds=2, beep_every_s=None, muxer={"live": "1"})
    told = " ".join(touchline("probe", footage, "--quick").stdout.split())
    assert "duration 2.000 s, none declared" in told
    footage = write_footage(tmp_path / "b.mkv", seconds=2, beep_every_s=None)
    told = " ".join(touchline("probe", footage, "--quick").stdout.split())
    assert "duration 2.000 s, 2.000 s declared" in told


def test_a_list_of_labels_ends_at_the_next_option():
    typed = ["detect", "a.mp4", "--labels", "shot (soccer)", "dunk", "--model", "m", "b.mp4"]
    spread = ["--labels", "shot (soccer)", "--labels", "dunk", "--model", "m", "b.mp4"]
    assert spread_lists(typed) == ["detect", "a.mp4", *spread]
    assert spread_lists(["evaluate", "--labels", "x", "y"]) == ["evaluate", "--labels", "x", "y"]


def test_text_from_outside_is_printed_literally():
    shown = Text.from_markup(escape("[red]a[/red]\x1b[2J")).plain
    assert shown == "[red]a[/red]\N{REPLACEMENT CHARACTER}[2J"


@pytest.mark.parametrize(
    ("command", "message", "told"),
    [
        ("detect", "hop_s is 0; it must be in (0, 2]", "--hop is 0; it must be in (0, 2]"),
        ("detect", "low is 2; use less", "--low is 2; use less"),
        (
            "detect",
            "max_length_s is 0; it must be at least min_length_s",
            "--max-length is 0; it must be at least --min-length",
        ),
        ("train", "label_smoothing is 2", "--smoothing is 2"),
        ("train", "size_px is 8", "--size is 8"),
        ("evaluate", "tious is (2,)", "--tiou is (2,)"),
        ("labels", "rate_hz is 0", "--rate-hz is 0"),
        # Names of files, and words of a sentence, stay as they are.
        ("detect", "the model is low; see min_length_s/x", "the model is low; see min_length_s/x"),
        ("evaluate", "hop_s is 0", "hop_s is 0"),
    ],
)
def test_errors_name_options_as_they_are_typed(command, message, told):
    assert with_option_names(message, [command, "match.mp4", "--quiet"]) == told


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_how(
    given: dict[str, str], expected: str
) -> None:
    # The library reads the variable when torch is loaded, so it must not be loaded before.
    script = """
import os, sys
from touchline.tools.cli import main
sys.argv = ["touchline", "--version"]
try:
    main()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT", ""), "torch" in sys.modules)
"""
    names = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{expected} False"

"""What long work tells where no bar can be drawn, and what never reaches a terminal."""

import io
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from touchline.pipeline.training.result import Progress
from touchline.tools import console
from touchline.tools.console import LogLines


def test_logs_get_a_line_now_and_then_and_short_runs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("touchline.tools.console.time.monotonic", lambda: clock[0])
    log = LogLines(quiet=False)
    log.begin("[final].mp4")
    for now_s, done in ((59.0, 100.0), (90.0, 150.0), (140.0, 200.0), (180.0, 300.0)):
        clock[0] = now_s
        log.tell(done, 600.0)
    quiet = LogLines(quiet=True)
    quiet.begin("final.mp4")
    clock[0] = 900.0
    quiet.tell(1.0, 2.0)
    # 150 of 600 took 90 s: 270 s are left; 300 of 600 took 180 s.
    assert capsys.readouterr().err.splitlines() == [
        "[final].mp4: 25%, 0:04:30 left",
        "[final].mp4: 50%, 0:03:00 left",
    ]


def test_training_tells_a_log_how_far_each_phase_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("touchline.tools.console.time.monotonic", lambda: clock[0])
    with console.phase_bars(quiet=False) as on_progress:
        for now_s, phase, done in (
            (0.0, "training", 0), (70.0, "training", 1), (80.0, "testing", 0),
            (300.0, "training", 1), (400.0, "training", 2), (500.0, "testing", 0),
            (570.0, "testing", 1), (600.0, "testing", 0), (700.0, "testing", 2),
        ):  # fmt: skip
            clock[0] = now_s
            on_progress(Progress(phase, done, 4))
    assert capsys.readouterr().err.splitlines() == [
        "training: 25%, 0:03:30 left",
        # A quarter took 100 s since the testing between.
        "training: 50%, 0:03:20 left",
        "testing: 25%, 0:03:30 left",
        "testing: 50%, 0:01:40 left",
    ]


def test_no_escape_sequence_of_a_name_reaches_the_terminal() -> None:
    hostile = "\x1b[31mred\x07\x9b2J\u202e\ud800é\u00a0\u200d"
    table = Table(hostile)
    table.add_row(Text(hostile))
    for printed in (hostile, Text(hostile, "bold"), table):
        screen = io.StringIO()
        console.PlainConsole(file=screen, force_terminal=True, width=80).print(printed)
        shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
        assert "red" in shown
        assert "é\u00a0\u200d" in shown  # spaces and joiners are text
        assert not set("\x1b\x07\x9b\u202e\ud800") & set(shown)
        assert "\x1b[31m" not in screen.getvalue()


def test_every_command_prints_on_such_a_console() -> None:
    assert isinstance(console.out, console.PlainConsole)
    assert isinstance(console.err, console.PlainConsole)
    tools = Path(console.__file__).parent
    makers = [p.name for p in tools.rglob("*.py") if re.search(r"\bConsole\(", p.read_text())]
    assert makers == []

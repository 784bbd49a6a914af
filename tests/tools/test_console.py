"""What long work tells where no bar can be drawn."""

import pytest

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

"""The bench of decoders: a row for each way, an error where a decoder cannot be used."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from footage_made import write_video
from typer.testing import CliRunner

from touchline.models.errors import FootageError
from touchline.pipeline.benchmarks.decode import (
    IN_WORKER,
    PLAIN,
    DecodeSpeed,
    bench_decode,
    make_footage,
)
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage import isolation
from touchline.tools.bench.command import bench_app

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system"),
]


def test_every_way_has_a_row_and_plain_decoding_is_the_measure(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", indices=range(100))
    rows = bench_decode(path, rounds=1, decoders=("pyav",))
    assert [(row.name, row.rate_hz) for row in rows] == [
        (PLAIN, None),
        *((name, rate) for rate in (25.0, 8.0, 3.0) for name in ("pyav", IN_WORKER)),
    ]
    assert (rows[0].ratio, rows[0].cpu_ratio) == (1.0, 1.0)
    for row in rows:
        assert row.error == ""
        assert row.frames_per_s == pytest.approx(100 / row.seconds)
        assert row.ratio == pytest.approx(row.seconds / rows[0].seconds)
        assert 20e6 < row.peak_bytes < 2e9


def test_a_decoder_that_cannot_be_used_has_its_reason_in_its_row(tmp_path: Path):
    if find_spec("torchcodec") is not None:
        pytest.skip("torchcodec is installed")
    path = write_video(tmp_path / "a.mp4")
    plain, *others = bench_decode(path, rounds=1, decoders=("torchcodec",))
    assert plain.error == ""
    assert all("the decoder torchcodec cannot be used here" in row.error for row in others)


def test_what_cannot_be_measured_is_refused_before_anything_runs(tmp_path: Path):
    with pytest.raises(FootageError, match="a directory"):
        bench_decode(tmp_path, rounds=1)
    with pytest.raises(ValueError, match="decoder is 'vlc'; it must be one of pyav"):
        bench_decode(tmp_path, rounds=1, decoders=("vlc",))


def test_footage_is_made_where_there_is_none(tmp_path: Path):
    health = probe_footage(make_footage(tmp_path / "a.mp4", seconds=0.4), depth="packets")
    assert (health.width, health.height, health.actual_frames) == (1920, 1080, 12)


def test_the_command_fits_eighty_columns_and_gives_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        DecodeSpeed(PLAIN, None, 1.0, 450.0, 1.0, 2.0, 1.0, 104_000_000),
        DecodeSpeed(IN_WORKER, 25.0, 2.0, 225.0, 2.0, 3.0, 1.5, 123_000_000),
        DecodeSpeed("torchcodec", 25.0, error="the decoder torchcodec cannot be used here"),
    ]
    monkeypatch.setattr(
        "touchline.pipeline.benchmarks.decode.bench_decode", lambda path, rounds, decoders: rows
    )
    how = ["decode", str(tmp_path / "a.mp4")]
    shown = CliRunner().invoke(bench_app, how, env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert "pyav in its worker    25 Hz       225  2.00      1.50  123 MB" in shown.stdout
    assert "torchcodec, 25 Hz: the decoder torchcodec cannot be used here" in shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= 80
    document = json.loads(CliRunner().invoke(bench_app, [*how, "--json"]).stdout)
    assert [row["rate_hz"] for row in document["rows"]] == [None, 25, 25]
    assert document["footage"] == "a.mp4"

"""touchline detect on live streams: JSON lines, Ctrl+C, webhook, clips, what is refused."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import measure_day
import pytest
from long_streams import write_long
from streams import RATE, feed, flashes, grow, seconds_of, tcp_server, write_stream
from tiny import brightness_model
from typer.testing import CliRunner

from touchline.pipeline.live.results import write_live
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.tools.cli import app


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """24 seconds with three flashes: the bytes of each second."""
    return seconds_of(write_stream(tmp_path_factory.mktemp("live") / "stream.ts", flashes(24)))


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())


def detect(*arguments):
    command = ["detect", "--model", "bright", "--hop", "0.25", *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in command])


@contextmanager
def standard_input(parts):
    """The parts come on descriptor 0, as if another program sent them."""
    near, far = os.pipe()
    before = os.dup(0)
    os.dup2(near, 0)
    os.close(near)
    thread = feed(far, parts, 0.02)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        thread.join(60)


def rows_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def the_result(out):
    [folder] = out.iterdir()
    return read_events_json(folder / "events.json")


def test_events_are_json_lines_and_the_results_are_written_at_the_end(parts, tmp_path):
    with standard_input(parts):
        done = detect("-", "--live", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    rows = rows_of(done)
    assert [round(row["peak_s"]) for row in rows] == [5, 13, 21]
    assert [row["label"] for row in rows] == ["bright"] * 3
    result = the_result(tmp_path / "out")
    assert [round(e.score, 6) for e in result.accepted] == [row["score"] for row in rows]
    [folder] = (tmp_path / "out").iterdir()
    assert {f.name for f in folder.iterdir()} >= {"events.csv", "report.html", "scores.npz"}
    assert "each event is printed about" in done.stderr


def test_ctrl_c_writes_the_results(parts, tmp_path):
    path = tmp_path / "growing.ts"
    grow(path, parts[:16], 0.02)

    def interrupt():
        out = tmp_path / "out"
        until = time.monotonic() + 120
        # The folder of the run is there before its stream is opened.
        while time.monotonic() < until and not (out.exists() and any(out.iterdir())):
            time.sleep(0.1)
        time.sleep(8)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    before = signal.getsignal(signal.SIGINT)
    began = time.monotonic()
    done = detect(path, "--live", "--wait", "600", "-o", tmp_path / "out")
    assert time.monotonic() - began < 300
    assert done.exit_code == 0, done.stderr
    assert signal.getsignal(signal.SIGINT) is before
    [folder] = (tmp_path / "out").iterdir()
    assert folder.name.startswith("growing-")
    assert len(read_events_json(folder / "events.json").accepted) == len(rows_of(done))


def test_each_event_is_posted_and_tried_again(parts, tmp_path):
    asked, bodies = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(body)
            if len(asked) > 1:
                bodies.append(json.loads(body))
            self.send_response(503 if len(asked) == 1 else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/events"
        with standard_input(parts):
            done = detect("-", "--live", "--post", url, "-o", tmp_path / "out", "-q")
    finally:
        server.shutdown()
        server.server_close()
    assert done.exit_code == 0, done.stderr
    assert bodies == rows_of(done)
    assert len(asked) == len(bodies) + 1


def test_a_web_server_that_is_not_there_stops_nothing(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("touchline.pipeline.live.webhook.PAUSES_S", (0.1,))
    with tcp_server() as address:
        url = address.replace("tcp://", "http://")
    with standard_input(parts):
        done = detect("-", "--live", "--post", url, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert len(rows_of(done)) == 3
    assert done.stderr.count("was not posted") == 3


def test_each_event_gets_its_clip_while_the_stream_goes_on(parts, tmp_path, monkeypatch):
    # A pipe is read ahead of the network, but what is kept goes with the network.
    monkeypatch.setattr("touchline.pipeline.live.clips.KEPT_S", 12.0)
    with standard_input(parts):
        done = detect("-", "--live", "--clips", tmp_path / "clips", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    clips = sorted((tmp_path / "clips").iterdir())
    assert len(clips) == 3
    assert "no clip" not in done.stderr
    for clip in clips:
        with av.open(str(clip)) as container:
            frames = [
                frame.to_ndarray(format="gray8").mean() for frame in container.decode(video=0)
            ]
        # Two bright seconds, two seconds before and after, from a key frame to a key frame.
        bright = [k for k, level in enumerate(frames) if level > 128]
        assert len(bright) == 2 * RATE
        assert RATE <= bright[0] <= 4 * RATE
        assert len(frames) - bright[-1] > RATE


def test_text_on_standard_input_is_refused(tmp_path):
    with standard_input([b"this is not a video\n" * 2000]):
        done = detect("-", "--live", "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert "not a stream with video" in str(done.exception)
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["udp://127.0.0.1:9", "udp://127.0.0.1:10"], "a live run follows one stream"),
        (["udp://127.0.0.1:9", "--json"], "--json is not for live streams"),
        (["udp://127.0.0.1:9", "--again"], "--again is not for live streams"),
        (["udp://127.0.0.1:9", "--decoder", "opencv"], "--decoder is not for live streams"),
        (["udp://127.0.0.1:9", "--post", "ftp://there"], "it must be an address with http"),
        (["match.mp4", "--post", "http://there"], "--post is for live streams only"),
        (["gopher://there", "--live"], "cannot be read live"),
        (["nothing.ts", "--live"], "no such file"),
        (["udp://127.0.0.1:9", "--wait", "0"], "wait_s is 0"),
    ],
)
def test_what_a_live_run_cannot_do_is_said(arguments, said, tmp_path):
    done = detect(*arguments, "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert said in str(done.exception)


def test_silence_at_an_address_is_an_error_in_time(tmp_path):
    began = time.monotonic()
    done = detect("udp://127.0.0.1:0", "--wait", "1", "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert "nothing came" in str(done.exception) or "cannot" in str(done.exception)
    assert time.monotonic() - began < 120


def test_a_password_stays_secret(tmp_path):
    with tcp_server() as address:
        secret = address.replace("tcp://", "rtsp://me:hunter2@") + "/camera"
    done = detect(secret, "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert "nobody listens" in str(done.exception)
    assert "hunter2" not in str(done.exception) + done.stderr


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    """Two hours, two pictures a second, one event in each minute."""
    return write_long(tmp_path_factory.mktemp("long") / "long.ts", 2)


@contextmanager
def command(footage, out):
    """The command in a process group of its own; standard input stays open behind the footage."""
    near, far = os.pipe()
    process = subprocess.Popen(
        [sys.executable, measure_day.__file__, "detect", "-", "--live", "--model", "bright",
         "--hop", "1", "--device", "cpu", "--engine", "torch", "-o", str(out)],
        stdin=near, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(near)

    def send():
        with suppress(OSError), os.fdopen(far, "wb") as file:
            file.write(footage)
            file.flush()
            process.wait()

    threading.Thread(target=send, daemon=True).start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_signal_to_the_whole_group_ends_the_run_with_its_results(hours, tmp_path):
    """As timeout(1) and systemd do it: the decoder gets the signal, too."""
    with command(hours.read_bytes(), tmp_path / "out") as process:
        first = json.loads(process.stdout.readline())
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stdout.read().splitlines()
        said = process.stderr.read().decode()
        assert process.wait() == 0, said
    assert "stopped by SIGTERM" in said
    assert "error" not in said
    result = the_result(tmp_path / "out")
    assert result.accepted[0].peak_s == pytest.approx(first["peak_s"], abs=1e-5)
    assert len(result.accepted) == 1 + len(rest)


def test_whoever_reads_the_events_may_end_before_the_stream(hours, tmp_path):
    with command(hours.read_bytes()[:1_000_000], tmp_path / "out") as process:
        process.stdout.readline()
        process.stdout.close()
        said = ""
        while "takes no more events" not in said and (line := process.stderr.readline()):
            said += line.decode()
        os.killpg(process.pid, signal.SIGINT)
        said += process.stderr.read().decode()
        assert process.wait() == 1, said
    assert "takes no more events (Broken pipe)" in said
    assert len(the_result(tmp_path / "out").accepted) > 1


def test_whoever_reads_the_messages_may_end_before_the_stream(hours, tmp_path):
    with command(hours.read_bytes()[:1_000_000], tmp_path / "out") as process:
        process.stderr.readline()
        process.stderr.close()
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 0
    assert len(the_result(tmp_path / "out").accepted) >= 1


def test_a_signal_while_results_are_written_costs_nothing(parts, tmp_path, monkeypatch):
    def write(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return write_live(*arguments, **options)

    monkeypatch.setattr("touchline.pipeline.live.results.write_live", write)
    before = signal.getsignal(signal.SIGTERM)
    with standard_input(parts):
        done = detect("-", "--live", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(the_result(tmp_path / "out").accepted) == 3


def test_why_a_stream_ended_is_said(parts, tmp_path):
    path = tmp_path / "grown.ts"
    path.write_bytes(b"".join(parts))
    done = detect(path, "--live", "--wait", "1", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "the stream ended (the file has not grown for 1 s)" in done.stderr


def test_results_that_cannot_be_written_go_elsewhere(parts, tmp_path, monkeypatch):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"

    def write(result, folder, *arguments, **options):
        if out in folder.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "scores.npz"))
        return write_live(result, folder, *arguments, **options)

    monkeypatch.setattr("touchline.pipeline.live.results.write_live", write)
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    with standard_input(parts):
        done = detect("-", "--live", "-o", out)
    assert done.exit_code == 1
    assert "scores.npz: No space left on device. The results are written to" in done.stderr
    assert len(the_result(elsewhere).accepted) == 3


def test_nothing_in_standard_input_is_an_error(tmp_path):
    with standard_input([]):
        done = detect("-", "--live", "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert "nothing came (standard input was closed)" in str(done.exception)
    assert not any((tmp_path / "out").iterdir())

"""A live run gives the events of the offline run on the same footage, whatever brings it."""

import socket
import sys
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction

import av
import pytest
from av.packet import Packet
from loopback import send_honestly, serve
from streams import (
    RATE,
    flashes,
    free_port,
    grow,
    seconds_of,
    tcp_server,
    udp_sender,
    write_stream,
)
from tiny import brightness_model

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.detection.detect import detect, make_scorer
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.footage.packet_scan import MAX_READ_ERRORS
from touchline.pipeline.live import frames, reader
from touchline.pipeline.live.detect import LiveRun
from touchline.pipeline.live.frames import Dropped, _Decoder
from touchline.pipeline.live.options import LiveOptions
from touchline.pipeline.live.reader import Waiting
from touchline.pipeline.live.source import _Growing, live_source

OPTIONS = DetectOptions(hop_s=0.25, device="cpu", batch_size=1, mode="windows")


@pytest.fixture(scope="session")
def stream_file(tmp_path_factory):
    """40 seconds with five flashes."""
    return write_stream(tmp_path_factory.mktemp("live") / "stream.ts", flashes(40))


@pytest.fixture(scope="session")
def offline(stream_file):
    return detect(stream_file, brightness_model(), OPTIONS)


class Followed:
    """A live run and all that it said."""

    def __init__(self, address, *, options=OPTIONS, live=None):
        self.live = live or LiveOptions(wait_s=2.0)
        self.events, self.told = [], []
        source = live_source(str(address), wait_s=self.live.wait_s, asked=True)
        self.run = LiveRun(
            source,
            make_scorer(brightness_model(), options),
            options,
            self.live,
            on_event=self.on_event,
            tell=self.told.append,
        )

    def on_event(self, event):
        self.events.append(event)

    def to_end(self):
        self.result = self.run.run()
        return self


def is_same(live, offline):
    assert live.result.accepted == offline.accepted
    assert live.result.candidates == offline.candidates
    assert (live.result.track.probs == offline.track.probs).all()
    assert live.result.health.duration_s == offline.health.duration_s
    assert live.result.health.num_frames == offline.health.num_frames
    assert live.result.health.damaged_s == ()
    assert sorted(live.events, key=lambda e: e.start_s) == list(offline.accepted)


def test_there_is_something_to_find(offline):
    assert [round(event.peak_s) for event in offline.accepted] == [5, 13, 21, 29, 37]


@pytest.mark.parametrize("isolation", [True, False])
def test_a_complete_file(isolation, stream_file, offline):
    live = Followed(stream_file, options=replace(OPTIONS, isolation=isolation))
    is_same(live.to_end(), offline)


def test_a_growing_file(stream_file, offline, tmp_path):
    path = tmp_path / "growing.ts"
    grow(path, seconds_of(stream_file), 0.1)
    live = Followed(path).to_end()
    is_same(live, offline)


@pytest.mark.parametrize("mode", ["windows", "shared"])
def test_a_stream_over_tcp(mode, stream_file):
    options = replace(OPTIONS, mode=mode)
    offline = detect(stream_file, brightness_model(), options)

    def send(connection):
        for part in seconds_of(stream_file):
            connection.sendall(part)
            time.sleep(0.05)

    with tcp_server(send) as address:
        is_same(Followed(address, options=options).to_end(), offline)


def test_a_busy_reader_does_not_take_a_growing_file_for_complete(tmp_path):
    """It read long ago; now the file has nothing new for a moment."""
    path = tmp_path / "growing.ts"
    path.write_bytes(b"first")
    with path.open("rb", buffering=0) as file:
        growing = _Growing(path, file, 2.0, lambda: True)
        assert growing.read(5) == b"first"
        time.sleep(2.1)
        grow(path, [b"", b"second"], 0.2)
        assert growing.read(6) == b"second"
        assert growing.read(1) == b""


def test_unreadable_places_far_from_each_other_end_no_stream(stream_file, monkeypatch):
    """A day over a bad network has many. Only many in a row are the end."""
    places = iter(range(10 * MAX_READ_ERRORS))

    def packets_of(container, stream):
        for packet in open_packets_of(container, stream):
            yield packet
            if next(places, None) is not None:
                raise av.error.InvalidDataError(1, "unreadable")

    open_packets_of = reader.packets_of
    monkeypatch.setattr(reader, "packets_of", packets_of)
    source = live_source(str(stream_file), wait_s=0.1, asked=True)
    reading = reader.Reader(source, None, tell=lambda _: None)
    reading.start()
    [packets] = [list(packets) for _, packets in reading.connections()]
    assert len(packets) == 40 * RATE


def test_megabytes_of_rubbish_in_the_middle_cost_only_themselves(stream_file, offline, tmp_path):
    parts = seconds_of(stream_file)
    path = tmp_path / "rubbish.ts"
    path.write_bytes(b"".join([*parts[:24], bytes(20_000_000), *parts[24:]]))
    live = Followed(path).to_end()
    assert peaks(live.result) == peaks(offline)
    assert live.result.health.duration_s == pytest.approx(40, abs=0.2)


def test_nobody_listens():
    with tcp_server() as address:
        pass
    began = time.monotonic()
    with pytest.raises(FootageError, match="nobody listens at this address"):
        Followed(address).to_end()
    assert time.monotonic() - began < 60


udp = pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/udp says who receives")


def peaks(result):
    return [round(event.peak_s) for event in result.accepted]


def sent(parts, pause_s=0.05):
    def send(connection):
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)

    return send


@udp
def test_a_stream_over_udp(stream_file, offline):
    parts = seconds_of(stream_file)
    with udp_sender(parts, [0.1] * len(parts), port=free_port(socket.SOCK_DGRAM)) as address:
        is_same(Followed(address, live=LiveOptions(wait_s=5)).to_end(), offline)


@udp
def test_a_silence_over_udp_shifts_no_time(stream_file):
    """Seconds 16 to 26 are never sent: the event of 21 s is lost, the others keep their times."""
    parts = seconds_of(stream_file)
    parts = parts[:16] + parts[26:]
    pauses_s = [0.1] * 16 + [3.0] + [0.1] * 13
    with udp_sender(parts, pauses_s, port=free_port(socket.SOCK_DGRAM)) as address:
        live = Followed(address, live=LiveOptions(wait_s=10)).to_end()
    assert peaks(live.result) == [5, 13, 29, 37]
    assert [round(e.peak_s) for e in live.events] == [5, 13, 29, 37]
    [(start_s, end_s)] = live.result.health.gaps_s
    assert (start_s, end_s) == (pytest.approx(16, abs=0.2), pytest.approx(26, abs=0.2))
    assert "no pictures from 15.9 to 26.0 s" in live.told


def test_a_new_connection_on_the_same_clock_shifts_no_time(stream_file, offline):
    parts = seconds_of(stream_file)
    with tcp_server(sent(parts[:16]), sent(parts[26:])) as address:
        live = Followed(address).to_end()
    assert peaks(live.result) == [5, 13, 29, 37]
    assert set(live.result.accepted) <= set(offline.accepted)
    [(start_s, end_s)] = live.result.health.damaged_s
    assert (start_s, end_s) == (pytest.approx(16, abs=0.2), pytest.approx(26, abs=0.2))
    assert any("the connection broke at 15.9 s" in text for text in live.told)
    assert live.run.error is None


def test_a_playlist_over_http(stream_file, offline, tmp_path):
    """HLS: the segments are fetched as the playlist names them, and its end ends the run."""
    names = [f"{k}.ts" for k in range(10)]
    parts = seconds_of(stream_file)
    content = {n: b"".join(parts[4 * k : 4 * k + 4]) for k, n in enumerate(names)}
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:4"]
    lines += [line for name in names for line in ("#EXTINF:4.0,", name)]
    content["live.m3u8"] = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()

    def answer(handler, _):
        send_honestly(handler, content[handler.path.strip("/")])

    with serve(answer) as server:
        live = Followed(f"{server.url}/live.m3u8").to_end()
    is_same(live, offline)
    assert not any("broke" in text or "clock" in text for text in live.told)


def test_a_playlist_opens_no_file_of_this_machine(stream_file):
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:40", "#EXTINF:40.0,", f"file://{stream_file}"]
    playlist = "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()
    with (
        serve(lambda handler, _: send_honestly(handler, playlist)) as server,
        pytest.raises(FootageError),
    ):
        Followed(f"{server.url}/live.m3u8").to_end()


def test_a_clock_that_starts_anew_goes_on_by_the_wall_clock(stream_file):
    parts = seconds_of(stream_file)
    with tcp_server(sent(parts[:24]), sent(parts[:16])) as address:
        live = Followed(address).to_end()
    assert peaks(live.result)[:3] == [5, 13, 21]
    fourth, fifth = live.result.accepted[3:]
    # A busy machine takes its time to connect again, and that time has passed.
    assert 24 + 5 - 0.5 < fourth.peak_s < 24 + 5 + 60
    assert fifth.peak_s - fourth.peak_s == pytest.approx(8, abs=0.3)
    assert any("starts anew after the break" in text for text in live.told)


def later(path, by_s, folder):
    """The same stream, its clock set forward."""
    moved = folder / "later.ts"
    with av.open(str(path)) as source, av.open(str(moved), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                ticks = round(by_s / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts + ticks,
                    packet.dts + ticks,
                    stream,
                )
                out.mux(packet)
    return moved


@pytest.mark.parametrize("first", ["now", "hours later"])
def test_a_clock_that_jumps_by_hours_goes_on_by_the_wall_clock(first, stream_file, tmp_path):
    """In one connection, back or ahead: the sender was set right."""
    parts = {
        "now": seconds_of(stream_file)[:16],
        "hours later": seconds_of(later(stream_file, 20_000, tmp_path))[:16],
    }
    both = parts.pop(first) + parts.popitem()[1]
    with tcp_server(sent(both)) as address:
        live = Followed(address).to_end()
    assert peaks(live.result)[:2] == [5, 13]
    third, fourth = live.result.accepted[2:]
    assert 16 + 5 - 1 < third.peak_s < 16 + 5 + 60
    assert fourth.peak_s - third.peak_s == pytest.approx(8, abs=0.3)
    assert any("the clock of the stream jumps" in text for text in live.told)


def test_a_run_that_is_stopped_has_the_results_so_far(stream_file, offline, tmp_path):
    path = tmp_path / "growing.ts"
    path.write_bytes(b"".join(seconds_of(stream_file)[:24]))
    live = Followed(path, live=LiveOptions(wait_s=600))
    live.on_event = live.run._on_event = lambda event: (live.events.append(event), live.run.stop())
    live.to_end()
    assert live.result.accepted[0] == offline.accepted[0]
    assert live.result.health.duration_s < 24.1


class FarBehind:
    """A reader whose stream is 12 seconds ahead when the sample of 8.5 s comes, once."""

    def __init__(self):
        self.source = live_source("tcp://there:1", wait_s=1, asked=True)
        self.waiting = Waiting()
        self.asked = 0

    def live_edge_s(self):
        self.asked += 1
        return 20.75 if self.asked == 35 else 0.0


def test_a_network_too_slow_for_the_stream_leaves_out_whole_seconds():
    log, told = DecodeLog(), deque()
    decoder = _Decoder(FarBehind(), Wanted(Instants(None)), log, told)
    samples = [(None, k / 4, k / 4, False) for k in range(100)]
    seen = list(decoder._keeping_up(iter(samples)))
    # The sample of 8.5 s is too late; the first one of the seconds left out stands for them.
    left = [sample_s for _, _, sample_s, _ in seen]
    assert left == [k / 4 for k in range(37)] + [k / 4 for k in range(72, 100)]
    assert [sample_s for _, _, sample_s, is_damaged in seen if is_damaged] == [9.0]
    assert list(told) == [Dropped(9.0, 18.0)]
    assert log.damaged_s == [(9.0, 18.0)]


def test_what_is_skipped_ends_where_decoding_can_begin():
    waiting = Waiting()
    for k in range(40):
        packet = Packet(bytes(10))
        waiting.put(packet, num_bytes=10, time_s=Fraction(k) if k % 8 == 0 else None)
        packet.pts = k
    waiting.skip_to(Fraction(30))
    assert waiting.get().pts == 24
    waiting.skip_to(Fraction(24))
    assert waiting.get().pts == 25


@pytest.mark.slow
def test_a_slow_network_loses_whole_seconds_of_a_real_stream(stream_file, monkeypatch):
    monkeypatch.setattr(frames, "MAX_LAG_S", 4.0)
    options = replace(OPTIONS, isolation=False)
    with tcp_server(sent(seconds_of(stream_file), 1.0)) as address:
        live = Followed(address, options=options)
        score_parts = live.run.scorer.score_parts

        def slowly(chunks, **rest):
            def delayed():
                for chunk in chunks:
                    time.sleep(2.0 if 8 < chunk.sample_s[0] < 14 else 0.0)
                    yield chunk

            return score_parts(delayed(), **rest)

        monkeypatch.setattr(live.run.scorer, "score_parts", slowly)
        live.to_end()
    assert live.run.dropped_s >= 1
    assert live.run.dropped_s == int(live.run.dropped_s)
    assert any("too slow for the stream" in text for text in live.told)
    spans = live.result.health.damaged_s
    assert sum(end - start for start, end in spans) >= live.run.dropped_s - 1e-6
    assert 5 in peaks(live.result)
    # What is left of a flash keeps its place: two bright seconds in eight, from the fourth on.
    assert all(3.5 < event.peak_s % 8 < 6.5 for event in live.result.accepted)

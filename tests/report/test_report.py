"""The report as a file: complete in itself, safe against what names hold, small enough."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from drawn_footage import frame_number, write_footage
from footage_made import read_index, write_video
from PIL import Image

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.reels.thumbnails import make_thumbnails
from touchline.pipeline.report.match_page import kind_of, score_curves, write_report
from touchline.pipeline.report.run_page import write_index
from touchline.pipeline.report.truth import Truth
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth, ScoreTrack

EVIL = "</script><script>alert(1)</script>\"'&\u2028"


class Page(HTMLParser):
    """What a browser would find: tags, scripts, styles, the policy."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in self.inside:
            self.inside[self.open][-1] += data

    @property
    def data(self) -> dict[str, object]:
        return dict(json.loads(self.inside["script"][0]))


def track(labels: tuple[str, ...], probs: list[list[float]], hop_s: float = 1.0) -> ScoreTrack:
    start_s = np.arange(len(probs)) * hop_s
    return ScoreTrack(
        labels, start_s, start_s + hop_s, np.array(probs, np.float32), np.zeros(len(probs), bool)
    )


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_footage(tmp_path_factory.mktemp("footage") / "match.mp4", seconds=12)


def test_the_page_is_complete_in_itself_and_its_policy_allows_only_its_own_script(
    footage: Path, tmp_path: Path
) -> None:
    event = Event("goal", 2.0, 4.0, 3.0, 0.9)
    path = write_report(
        MatchResult(footage, (event,), (event,), probe_footage(footage)), tmp_path / "match"
    )
    text = path.read_text()
    page = Page(text)
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert [a.get("src") for tag, a in page.tags if tag in ("script", "img", "video")] == [None] * 3
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") is not None)
    _, script = page.inside["script"]
    (style,) = page.inside["style"]
    for kind, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in (policy or "")
    assert "default-src 'none'" in (policy or "")
    assert not any(name.startswith("on") for _, a in page.tags for name in a)


def test_names_from_files_labels_and_options_are_only_text(tmp_path: Path) -> None:
    event = Event(EVIL, 2.0, 4.0, 3.0, 0.9)
    result = MatchResult(
        tmp_path / "<img src=x>&\n.mp4",
        (event,),
        (event,),
        options=AppliedOptions(decoder=EVIL, thresholds={EVIL: 0.5, "b": 0.6}),
        model=ModelSummary(architecture=EVIL, labels=(EVIL,)),
    )
    text = write_report(result, tmp_path / "out", truth=Truth([event], {EVIL: EVIL})).read_text()
    page = Page(text)
    assert len(page.inside["script"]) == 2
    assert "img" not in {tag for tag, _ in page.tags}
    assert "alert(1)" not in page.inside["script"][1]
    assert page.data["labels"] == [EVIL.replace("\u2028", "").strip()]


def test_missing_footage_costs_the_pictures_and_not_the_report(tmp_path: Path) -> None:
    event = Event("goal", 2.0, 4.0, 3.0, 0.9)
    path = write_report(MatchResult(tmp_path / "gone.mp4", (event,), (event,)), tmp_path / "out")
    (row,) = Page(path.read_text()).data["events"]  # type: ignore[misc]
    assert row["picture"] is None
    assert row["start"] == 2.0


def test_what_was_not_looked_for_is_not_said_to_be_sound(footage: Path, tmp_path: Path) -> None:
    for depth, told in (("headers", "not checked"), ("frames", "no damage found")):
        result = MatchResult(footage, health=probe_footage(footage, depth=depth))
        text = write_report(result, tmp_path / depth).read_text()
        assert told in text


@pytest.mark.parametrize(
    ("name", "container", "kind"),
    [
        ("DJI_0001.MP4", "mov,mp4,m4a,3gp,3g2,mj2", "hevc in mp4"),
        ("match", "mov,mp4,m4a,3gp,3g2,mj2", "hevc in mov"),
        ("match.mkv", "matroska,webm", "hevc in matroska"),
    ],
)
def test_a_container_of_several_names_has_that_of_the_file(
    name: str, container: str, kind: str
) -> None:
    health = FootageHealth(container, "hevc", 64, 48, "25/1", False, 4.0, 0.0)
    assert kind_of(Path(name), health) == kind


def test_footage_is_named_relative_to_the_page(footage: Path, tmp_path: Path) -> None:
    odd = tmp_path / "in put" / "100% #1?.mp4"
    odd.parent.mkdir()
    odd.write_bytes(footage.read_bytes())
    page = Page(write_report(MatchResult(odd), tmp_path / "out" / "match").read_text())
    assert page.data["video"]["src"] == "../../in%20put/100%25%20%231%3F.mp4"  # type: ignore[index]


@pytest.mark.slow
def test_thousands_of_candidates_and_noisy_pictures_stay_under_five_megabytes(
    tmp_path: Path,
) -> None:
    footage = write_footage(tmp_path / "m.mp4", seconds=8, width=320, height=192, beep_every_s=None)
    rng = np.random.default_rng(0)
    events = tuple(
        Event(f"class {k % 17}", t, t + 1, t + 0.5, float(s))
        for k, (t, s) in enumerate(
            zip(rng.uniform(0, 7, 9000), rng.uniform(0, 1, 9000), strict=True)
        )
    )
    probs = np.full((11000, 18), 1 / 18).tolist()
    labels = ("background", *(f"class {k}" for k in range(17)))
    result = MatchResult(
        footage,
        events,
        tuple(e for e in events if e.score > 0.9),
        probe_footage(footage),
        track(labels, probs),
    )
    path = write_report(result, tmp_path / "out")
    assert path.stat().st_size < 5_000_000
    data = Page(path.read_text()).data
    kept = data["events"]
    assert len(kept) == 2000  # type: ignore[arg-type]
    assert data["numLeftOut"] == 7000
    assert sum(row["accepted"] for row in kept) == len(result.accepted)  # type: ignore[attr-defined]


def test_a_model_of_four_hundred_classes_gets_the_lanes_that_a_page_can_show(
    tmp_path: Path,
) -> None:
    names = [f"class {k:03d} {'x' * 60}" for k in range(400)]
    probs = np.full((4000, 401), 1 / 401).tolist()
    events = tuple(
        Event(name, float(k), k + 1.0, k + 0.5, k / 1000 + 0.01) for k, name in enumerate(names)
    )
    sure = Event(names[0], 700.0, 701.0, 700.5, 0.6)
    result = MatchResult(
        tmp_path / "gone.mp4",
        (*events, sure),
        (sure,),
        track=track(("background", *names), probs),
        options=AppliedOptions(thresholds=dict.fromkeys(names, 0.5)),
    )
    path = write_report(result, tmp_path / "out", truth=Truth([Event(names[1], 1.0, 2.0, 1.5)]))
    assert path.stat().st_size < 500_000
    data = Page(path.read_text()).data
    # One accepted, one labelled, and the 58 surest of the rest: 342 to 399.
    assert data["labels"] == [*names[:2], *names[342:]]
    assert data["numLeftOut"] == 340
    assert re.findall("<th[^>]*>(thresholds[^<]*)</th>", path.read_text()) == ["thresholds"]


def test_curves_keep_the_highest_score_of_every_stretch() -> None:
    probs = [[0.2, 0.8], [0.9, 0.1], [1.0, 0.0], [0.0, 1.0]]
    drawn = score_curves(track(("background", "goal"), probs), ["card", "goal"])
    assert drawn["stepS"] == 1.0
    none, goal = (list(base64.b64decode(v)) for v in drawn["values"])
    assert none == [0, 0, 0, 0]
    assert goal == [204, 26, 0, 255]


def test_long_matches_have_no_more_points_than_can_be_drawn() -> None:
    probs = [[0.5, 0.5]] * 7000
    probs[6543] = [0.0, 1.0]
    drawn = score_curves(track(("background", "goal"), probs), ["goal"])
    levels = base64.b64decode(drawn["values"][0])
    assert len(levels) == 3000
    # Window 6543 has its middle at 6543.5 s of 7000: point 2804.
    assert levels.index(255) == 2804
    assert drawn["stepS"] == pytest.approx(7000 / 3000)


def test_thumbnails_show_the_frame_at_each_time(footage: Path) -> None:
    times = [3.02, 11.99, 0.0, 99.0]
    uris = make_thumbnails(footage, times, width_px=160, max_bytes=10**6)
    numbers = []
    for uri in uris:
        head, content = (uri or "").split(",")
        assert head == "data:image/jpeg;base64"
        path = footage.with_suffix(".jpg")
        path.write_bytes(base64.b64decode(content))
        with Image.open(path) as image:
            assert image.size == (160, 96)
            numbers.append(frame_number(np.asarray(image)))
    # 3.02 s shows frame 75, which began at 3.00; past the end the last frame stays.
    assert numbers == [75, 299, 0, 299]


def test_the_pictures_are_of_the_stream_that_the_events_were_found_in(tmp_path: Path) -> None:
    # Stream s shows the numbers 1000 * s + k, as black and white cells.
    match = write_video(tmp_path / "match.mp4", indices=range(50), streams=2, default_stream=0)
    goal = Event("goal", 1.0, 2.0, 1.5, 0.9)
    shown = []
    for stream in (0, 1):
        health = probe_footage(match, stream=stream)
        result = MatchResult(match, (goal,), (goal,), health)
        page = Page(write_report(result, tmp_path / f"{stream}", proxy=True).read_text())
        (row,) = page.data["events"]
        with Image.open(io.BytesIO(base64.b64decode(row["picture"].split(",")[1]))) as image:
            shown.append(read_index(np.asarray(image.convert("RGB")).transpose(2, 0, 1)))
        copied = next(decode(tmp_path / f"{stream}" / "proxy.mp4", rate_hz=1, size_px=96))
        shown.append(read_index(copied.pixels[0]))
    assert shown == [37, 0, 1037, 1000]
    # Without that stream the file is another one, which has no pictures of these events.
    other = write_video(tmp_path / "other.mp4", indices=range(50))
    page = Page(write_report(replace(result, path=other), tmp_path / "other").read_text())
    (row,) = page.data["events"]
    assert row["picture"] is None


def test_thumbnails_stop_when_their_room_is_full(footage: Path) -> None:
    uris = make_thumbnails(footage, [1.0, 2.0, 3.0], width_px=160, max_bytes=1)
    assert [uri is not None for uri in uris] == [True, False, False]


def test_the_run_page_links_every_report_and_tells_every_error(tmp_path: Path) -> None:
    goal = Event("goal", 2.0, 4.0, 3.0, 0.9)
    good = MatchResult(tmp_path / "a.mp4", (goal,), (goal,))
    bad = MatchResult(tmp_path / "b.mp4", error="no such <file>")
    out = tmp_path / "out"
    page = Page(write_index([good, bad], out, folders=[out / "a #1", out / "b"]).read_text())
    assert [a["href"] for tag, a in page.tags if tag == "a"] == ["./a%20%231/report.html"]
    assert "no such &lt;file&gt;" in (out / "index.html").read_text()


def test_the_match_clock_reaches_the_page(tmp_path: Path) -> None:
    path = write_report(
        MatchResult(tmp_path / "a.mp4"), tmp_path / "out", clock=MatchClock({1: 60.0, 2: 3900.0})
    )
    assert Page(path.read_text()).data["periods"] == [
        {"name": "1H", "kickoff": 60.0, "base": 0, "length": 2700},
        {"name": "2H", "kickoff": 3900.0, "base": 2700, "length": 2700},
    ]

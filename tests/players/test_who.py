"""Who an event is about: votes of shirt numbers, teams by colour, and nobody where unsure."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drawn_faces import draw_portrait
from drawn_match import Scene, write_lineup, write_scenes
from drawn_players import TEAMS, looks, write_picture

from touchline.models.checkpoint import save_checkpoint
from touchline.models.errors import LabelsError, WeightsError
from touchline.models.training_record import PhotoRules
from touchline.models.weights.installed import (
    DIGIT_RECOGNISER,
    FACE_DETECTOR,
    TEXT_DETECTOR,
    verified_file,
)
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.players.faces import Face
from touchline.pipeline.players.lineup import Lineup, read_lineup
from touchline.pipeline.players.name import Naming, face_finder, name_players
from touchline.pipeline.players.numbers import (
    NumberReader,
    ShirtNumber,
    colour_around,
    text_boxes,
)
from touchline.pipeline.players.options import PlayersOptions, WhoOptions
from touchline.pipeline.players.train import train_players
from touchline.pipeline.players.who import (
    FaceWitness,
    decide,
    known_players,
    name_events,
    names_apart,
    team_of,
    with_player,
)
from touchline.pipeline.types import Event
from touchline.tools import console

COLOURS = {"Reds": TEAMS["red"], "Blues": TEAMS["blue"]}
LINEUP = Lineup({("Reds", "9"): "Anna", ("Reds", "7"): "Berta", ("Blues", "9"): "Cora"}, COLOURS)
OPTIONS = WhoOptions()


def lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    L, a, b = cv2.cvtColor(np.array([[rgb]], np.float32) / 255, cv2.COLOR_RGB2Lab)[0, 0]
    return float(L), float(a), float(b)


def shirt(
    number: str, team: str = "Reds", *, score: float = 0.95, height: int = 60, x: int = 0
) -> ShirtNumber:
    return ShirtNumber(number, score, height, lab(COLOURS[team]), (x, 50, x + 60, 50 + height))


def moving(number: str, pictures: int, team: str = "Reds", **how: int) -> list[list[ShirtNumber]]:
    return [[shirt(number, team, x=20 * k, **how)] for k in range(pictures)]


def test_a_number_read_often_on_a_shirt_of_the_team_is_the_player():
    who = decide(moving("9", 5), LINEUP, OPTIONS)
    assert (who.team, who.number, who.name) == ("Reds", "9", "Anna")
    assert who.score == 1.0
    assert who.pictures == 5


def test_the_colour_of_the_shirt_tells_two_players_of_one_number_apart():
    assert decide(moving("9", 5, "Blues"), LINEUP, OPTIONS).name == "Cora"


def test_nobody_is_named_from_too_few_pictures():
    who = decide(moving("9", 2), LINEUP, OPTIONS)
    assert who.name is None
    assert who.why == "Reds 9 was read in 2 pictures only"


def test_nobody_is_named_if_two_players_share_the_evidence():
    who = decide([*moving("9", 5), *moving("7", 5)], LINEUP, OPTIONS)
    assert who.name is None
    assert "several players" in who.why


def test_the_player_that_is_shown_large_wins():
    small = [[*a, *b] for a, b in zip(moving("7", 5), moving("9", 5, height=20), strict=True)]
    assert decide(small, LINEUP, OPTIONS).name == "Berta"


def test_numbers_that_are_not_in_the_line_up_or_not_sure_name_nobody():
    assert decide(moving("8", 5), LINEUP, OPTIONS).name is None
    doubtful = [[shirt("9", score=0.5, x=20 * k)] for k in range(5)]
    assert decide(doubtful, LINEUP, OPTIONS).why == "no number was read"


def test_a_number_that_never_moves_is_a_graphic():
    assert decide([[shirt("9")] for _ in range(6)], LINEUP, OPTIONS).name is None


@pytest.mark.parametrize(
    ("rgb", "team"),
    [
        (TEAMS["red"], "Reds"),
        ((130, 20, 30), "Reds"),  # in the shade
        (TEAMS["blue"], "Blues"),
        ((235, 235, 40), None),  # the referee
        ((115, 45, 115), None),  # between both
        ((50, 120, 45), None),  # grass
    ],
)
def test_a_team_is_known_by_its_colour_or_not_at_all(rgb, team):
    assert team_of(lab(rgb), COLOURS) == team


def test_an_event_that_names_its_player_keeps_it(tmp_path):
    event = Event("goal", 1, 1, 1, attributes=(("player", "Dora"),))
    ((kept, who),) = name_events(tmp_path / "no.mp4", [event], LINEUP, lambda _: [], OPTIONS)
    assert kept == event
    assert who.why == "the event names a player already"


def test_the_event_gets_team_player_jersey_and_score_beside_what_it_has():
    event = Event("goal", 1, 1, 1, attributes=(("note", "header"),))
    named = with_player(event, decide(moving("9", 5), LINEUP, OPTIONS))
    assert dict(named.attributes) == {
        "note": "header",
        "team": "Reds",
        "player": "Anna",
        "jersey": "9",
        "player_score": "1.00",
        "player_by": "number",
    }


def test_the_colour_around_a_number_is_that_of_the_shirt_or_none():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:] = TEAMS["red"]
    picture[40:60, 40:60] = 255
    as_lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    assert colour_around(as_lab, (40, 40, 60, 60)) == pytest.approx(lab(TEAMS["red"]), abs=0.5)
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.float32) / 255
    assert colour_around(cv2.cvtColor(noise, cv2.COLOR_RGB2Lab), (40, 40, 60, 60)) is None


def test_text_boxes_grow_around_sure_islands_only():
    probs = np.zeros((64, 64), np.float32)
    probs[20:30, 20:40] = 0.9
    probs[50:60, 5:20] = 0.4  # an island, but not sure
    ((x0, y0, x1, y1),) = text_boxes(probs, 128, 128)
    assert (x0, y0) < (40, 40)
    assert x1 > 80
    assert y1 > 60


GOOD = "team,number,name,colour\nReds,9,Anna,red\nReds,07,Berta,\nBlues,9,Cora,#1e3cbe\n"


def test_a_line_up_is_read_with_the_colour_in_one_row_of_a_team(tmp_path):
    path = tmp_path / "teams.csv"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    lineup = read_lineup(path)
    assert lineup.players[("Reds", "7")] == "Berta"
    assert lineup.colours == {"Reds": (255, 0, 0), "Blues": (30, 60, 190)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty file"),
        ("team,number,name\nReds,9,Anna\n", "no column 'colour'"),
        ("team,number,name,colour\n", "holds no player"),
        ("team,number,name,colour\nReds,9,Anna,\n", "team 'Reds' has no colour"),
        ("team,number,name,colour\nReds,nine,Anna,red\n", "line 2: number is 'nine'"),
        ("team,number,name,colour\nReds,100,Anna,red\n", "line 2: number is '100'"),
        ("team,number,name,colour\nReds,9,Anna,reddish\n", "line 2: colour is 'reddish'"),
        ("team,number,name,colour\nReds,9,Anna,red\nReds,9,B,\n", "line 3: Reds has number 9"),
        ("team,number,name,colour\nReds,9,Anna,red\nReds,8,B,blue\n", "line 3: Reds has two"),
        ("team,number,name,colour\n,9,Anna,red\n", "line 2 has no team"),
    ],
)
def test_a_line_up_that_cannot_be_used_names_the_line(tmp_path, text, says):
    path = tmp_path / "teams.csv"
    path.write_text(text)
    with pytest.raises(LabelsError, match=says):
        read_lineup(path)


@pytest.fixture(scope="module")
def reader() -> NumberReader:
    pytest.importorskip("onnxruntime")
    try:
        files = [verified_file(file)[0] for file in (TEXT_DETECTOR, DIGIT_RECOGNISER)]
    except WeightsError as error:
        pytest.skip(str(error))
    return NumberReader(*files, threads=1)


def events_at(times: list[float]) -> list[Event]:
    return [Event("goal", t, t, t) for t in times]


@pytest.mark.slow
def test_the_player_of_a_rendered_close_up_is_named_and_nobody_where_no_number_shows(
    reader, tmp_path
):
    people = looks(6, seed=2)
    scenes = [Scene(people[0]), Scene(None), Scene(people[1], number=False)]
    times = write_scenes(tmp_path / "match.mp4", scenes)
    lineup = read_lineup(write_lineup(tmp_path / "teams.csv", people))
    options = WhoOptions(after_s=7, rate_hz=1)
    named = name_events(tmp_path / "match.mp4", events_at(times), lineup, reader.numbers, options)
    assert [who.name for _, who in named] == [people[0].name, None, None]


def test_the_command_writes_events_with_their_players_and_keeps_its_inputs(
    run, reader, tmp_path, capsys
):
    people = looks(4, seed=2)
    footage = tmp_path / "match.mp4"
    (time_s,) = write_scenes(footage, [Scene(people[0])])
    labels = tmp_path / "labels.csv"
    labels.write_text(f"video,label,start_s,end_s,group\nmatch.mp4,goal,{time_s},{time_s},A\n")
    lineup = write_lineup(tmp_path / "teams.csv", people)
    out = tmp_path / "named.json"
    words = ("name", footage, labels, "--lineup", lineup, "--json", "-o", out)
    assert run(*words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["player"] == people[0].name
    (event,) = read_events_json(out).accepted
    assert dict(event.attributes)["jersey"] == str(people[0].number)
    assert run(*words[:-1], labels) == 1
    assert labels.read_text().startswith("video,label")


def test_the_command_says_what_is_missing(run, tmp_path, capsys):
    lineup = tmp_path / "teams.csv"
    lineup.write_text(GOOD)
    assert run("name", tmp_path / "match.mp4", "--lineup", lineup) == 1
    assert "takes the footage and its events" in capsys.readouterr().err
    assert run("name", lineup, "-o", tmp_path / "x.json") == 1
    assert "--lineup" in capsys.readouterr().err


def test_drawn_line_ups_are_read(tmp_path: Path):
    lineup = read_lineup(write_lineup(tmp_path / "teams.csv", looks(4)))
    assert len(lineup.players) == 4


KNOWN = {"Anna": ("Reds", "9"), "Cora": ("Blues", "9")}


def faces_of(name: str | None, pictures: int, *, height: int = 80) -> list[Naming]:
    face = Face((0, 0, height * 3 // 4, height), 0.9)
    return [Naming(name, 0.9, face=face) for _ in range(pictures)]


def test_a_face_confirms_the_number():
    who = decide(moving("9", 5), LINEUP, OPTIONS, faces_of("Anna", 4), KNOWN)
    assert (who.name, who.by, who.pictures) == ("Anna", "number and face", 5)


def test_a_face_alone_names_nobody_and_the_reason_says_whose_it_may_be():
    who = decide([], LINEUP, OPTIONS, faces_of("Cora", 4), KNOWN)
    assert who.name is None
    assert who.why == "no number was read; the face may be that of Cora"


def test_a_face_helps_a_number_that_was_read_too_seldom_and_none_of_another_player():
    seldom = moving("9", 2)
    same = decide(seldom, LINEUP, OPTIONS, faces_of("Anna", 4), KNOWN)
    assert (same.name, same.by, same.pictures) == ("Anna", "number and face", 4)
    other = decide(seldom, LINEUP, OPTIONS, faces_of("Cora", 4), KNOWN)
    assert other.name is None
    assert other.why == "the number is that of Anna, but the face that of Cora"


def test_nobody_is_named_where_number_and_face_disagree():
    who = decide(moving("9", 5), LINEUP, OPTIONS, faces_of("Cora", 4), KNOWN)
    assert who.name is None
    assert who.why == "the number is that of Anna, but the face that of Cora"


def test_a_face_does_not_speak_against_a_player_whose_face_is_not_known():
    who = decide(moving("7", 5), LINEUP, OPTIONS, faces_of("Cora", 4), KNOWN)
    assert (who.name, who.by) == ("Berta", "number")


def test_few_faces_divided_faces_and_unknown_faces_change_nothing():
    divided = [*faces_of("Anna", 4), *faces_of("Cora", 4)]
    for faces in (faces_of("Cora", 2), divided, faces_of(None, 9), faces_of("Dora", 9)):
        assert decide(moving("9", 5), LINEUP, OPTIONS, faces, KNOWN).by == "number"
        nobody = decide([], LINEUP, OPTIONS, faces, KNOWN)
        assert nobody.name is None
        assert nobody.why.startswith("no number was read; ")


def test_the_face_that_is_shown_large_wins():
    faces = [*faces_of("Anna", 4, height=40), *faces_of("Cora", 4, height=120)]
    assert decide([], LINEUP, OPTIONS, faces, KNOWN).why.endswith("that of Cora")


def test_a_name_that_the_line_up_has_twice_is_no_known_face():
    twice = Lineup({("Reds", "9"): "Anna", ("Blues", "9"): "Anna", ("Reds", "7"): "B"}, COLOURS)
    assert known_players(("background", "Anna", "B", "C"), twice) == {"B": ("Reds", "7")}


def test_few_of_many_faces_name_nobody_and_the_score_is_the_share_of_all_faces():
    seldom = moving("9", 2)
    few = [*faces_of("Anna", 3), *faces_of(None, 21)]
    assert decide(seldom, LINEUP, OPTIONS, few, KNOWN).why == (
        "Reds 9 was read in 2 pictures only; Reds 9 has 11% of the faces only"
    )
    # A name that only the model knows is none of the line-up either.
    many = [*faces_of("Anna", 12), *faces_of(None, 2), *faces_of("Dora", 2)]
    who = decide(seldom, LINEUP, OPTIONS, many, KNOWN)
    assert (who.name, who.pictures) == ("Anna", 12)
    assert who.score == pytest.approx(12 * 0.9 / (12 * 0.9 + 4))
    # Faces that were too small or too soft to be asked about say nothing.
    refused = [Naming(None, None, "face too small", Face((0, 0, 20, 26), 0.9))] * 21
    assert decide(seldom, LINEUP, OPTIONS, [*faces_of("Anna", 3), *refused], KNOWN).score == 1.0


BJORN = unicodedata.normalize("NFC", "Björn Ek")
ACCENTS = Lineup({("Reds", "9"): "Anna Berg", ("Reds", "7"): BJORN, ("Blues", "9"): "C"}, COLOURS)


def test_names_match_however_accents_case_and_spaces_are_written():
    decomposed = unicodedata.normalize("NFD", BJORN)
    assert decomposed != BJORN
    labels = ("background", "anna  BERG", decomposed, "Dora")
    known = known_players(labels, ACCENTS)
    assert known == {"anna  BERG": ("Reds", "9"), decomposed: ("Reds", "7")}
    assert names_apart(labels, ACCENTS) == (["Dora"], ["C"])
    # So a face that disagrees stops the number, and one that agrees confirms it.
    against = decide(moving("9", 5), ACCENTS, OPTIONS, faces_of(decomposed, 4), known)
    assert against.why == f"the number is that of Anna Berg, but the face that of {BJORN}"
    same = decide(moving("7", 5), ACCENTS, OPTIONS, faces_of(decomposed, 4), known)
    assert (same.name, same.by) == (BJORN, "number and face")


def test_the_class_of_strangers_is_no_player():
    lineup = Lineup({("Reds", "9"): "Background"}, COLOURS)
    assert known_players(("background", "Anna"), lineup) == {}
    assert names_apart(("background", "Anna"), lineup) == (["Anna"], ["Background"])


def nothing_in(picture: np.ndarray) -> list[object]:
    return []


@pytest.mark.parametrize("faces", [False, True])
def test_the_command_tells_how_far_it_is_and_which_names_do_not_match(
    run, trained, tmp_path, monkeypatch, capsys, faces
):
    # Neither networks nor pictures are needed for that.
    name, numbers = "touchline.pipeline.players.name", "touchline.pipeline.players.numbers"
    monkeypatch.setattr(
        "touchline.models.weights.installed.verified_file", lambda file: (tmp_path, "")
    )
    monkeypatch.setattr(
        f"{numbers}.NumberReader", lambda *files: SimpleNamespace(numbers=nothing_in)
    )
    monkeypatch.setattr(f"{name}.face_finder", lambda model: nothing_in)
    monkeypatch.setattr(console.LogLines, "EVERY_S", 0.0)
    footage, labels = tmp_path / "match.mp4", tmp_path / "labels.csv"
    times = write_scenes(footage, [Scene(None)] * 2, height=112)
    rows = [f"match.mp4,goal,{t},{t},A\n" for t in times]
    labels.write_text("video,label,start_s,end_s,group\n" + "".join(rows))
    lineup = tmp_path / "teams.csv"
    lineup.write_text(
        GOOD + "Blues,8,PLAYER  01,\n" + "".join(f"Blues,{k},P{k},\n" for k in "1234")
    )
    model = tmp_path / "players.safetensors"
    record = replace(trained.model.record, photos=PhotoRules(32, 30.0, "face"))
    save_checkpoint(model, replace(trained.model, record=record))
    words = ["name", footage, labels, "--lineup", lineup, "--after", "1"]
    assert run(*words, *(["--model", model] if faces else [])) == 0
    err = capsys.readouterr().err
    what = "shirt numbers and faces" if faces else "shirt numbers"
    assert f"{what}: 50%, " in err
    warned = (
        f"not in {lineup}, so their faces do not count: player 02, player 03, player 04\n",
        f"not in {model}, so named by numbers alone: Anna, Berta, Cora, P1, P2, and 2 more\n",
    )
    assert [text in err for text in warned] == [faces, faces]


def test_a_model_of_whole_photos_or_of_other_players_is_no_witness(run, trained, tmp_path, capsys):
    footage, labels = tmp_path / "match.mp4", tmp_path / "labels.csv"
    people = looks(4, seed=3)
    (time_s,) = write_scenes(footage, [Scene(people[0])], height=112)
    labels.write_text(f"video,label,start_s,end_s,group\nmatch.mp4,goal,{time_s},{time_s},A\n")
    lineup = write_lineup(tmp_path / "teams.csv", people)
    model = tmp_path / "players.safetensors"
    save_checkpoint(model, trained.model)
    words = ("name", footage, labels, "--lineup", lineup, "--model", model)
    assert run(*words) == 1
    assert "learnt whole photos" in " ".join(capsys.readouterr().err.split())
    record = replace(trained.model.record, photos=PhotoRules(32, 30.0, "face"))
    save_checkpoint(model, replace(trained.model, record=record))
    lineup.write_text(GOOD)
    try:
        verified_file(FACE_DETECTOR)
    except WeightsError as error:
        says = str(error)
    else:
        says = f"knows no player of {lineup}"
    assert run(*words) == 1
    assert "".join(says.split()) in "".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_players_of_rendered_close_ups_are_recognised_by_their_faces(tmp_path):
    try:
        verified_file(FACE_DETECTOR)
    except WeightsError as error:
        pytest.skip(str(error))
    people = looks(6, seed=3)
    folder = tmp_path / "photos"
    for p, look in enumerate(people[:4]):
        for k in range(8):
            picture = draw_portrait(look, np.random.default_rng([p, k]), size_px=384)
            write_picture(folder / look.name / f"{k}.jpg", picture)
    model = train_players(folder, PlayersOptions(max_strangers=1.0), device="cpu").model
    scenes = [
        Scene(people[0], draw=draw_portrait),
        Scene(None),
        Scene(people[2], draw=draw_portrait),
    ]
    times = write_scenes(tmp_path / "match.mp4", scenes)
    lineup = read_lineup(write_lineup(tmp_path / "teams.csv", people))
    find_faces = face_finder(model)
    witness = FaceWitness(
        lambda picture: name_players(model, [picture], find_faces=find_faces)[0],
        known_players(model.labels, lineup),
    )
    named = name_events(
        tmp_path / "match.mp4",
        events_at(times),
        lineup,
        lambda _: [],
        WhoOptions(after_s=7, rate_hz=2),
        witness=witness,
    )
    may_be = "no number was read; the face may be that of {}"
    assert [who.why for _, who in named] == [
        may_be.format(people[0].name),
        "no number was read; no face of the line-up was recognised",
        may_be.format(people[2].name),
    ]

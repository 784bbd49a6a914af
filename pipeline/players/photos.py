"""Photos: read from files, refused by size and sharpness, found in a folder per player."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from touchline.models.backbone import ClipSpec
from touchline.models.classes import BACKGROUND
from touchline.models.errors import PhotoError
from touchline.models.training_record import PhotoRules
from touchline.pipeline.clips.leakage import difference_hash, near_duplicates
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.players.faces import Face, FindFaces, cut_out
from touchline.pipeline.players.options import UNKNOWN
from touchline.pipeline.types import Example, UInt8

COMPARED_PX = 128
"""Sharpness is measured with the shorter side scaled down to this many pixels."""

_SHOWN = 3


def read_photo(path: str | os.PathLike[str]) -> UInt8:
    """Read a picture file: (3, H, W) RGB, upright.

    Args:
        path: A file in a format that Pillow reads, such as JPEG, PNG or WebP. Of several pictures
            in a file, the first is taken.

    Raises:
        PhotoError: The file is missing, is no picture, is cut short, or is too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder. Name the photos in it." if path.is_dir() else "no such file."
        raise PhotoError(path, what)
    if path.stat().st_size == 0:
        raise PhotoError(path, "an empty file. Copy it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # about metadata that is not used
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise PhotoError(path, "not a picture. Use JPEG, PNG or WebP.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PhotoError(path, "too many pixels. Make the photo smaller.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotoError(path, f"a damaged picture ({error}). Copy it again.") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def sharpness(pixels: UInt8, *, relative: bool = False) -> float:
    """Return the variance of the Laplacian of a picture (3, H, W) RGB (Pech-Pacheco et al. 2000).

    The picture is grey, and scaled down until its shorter side has 128 pixels. A small picture that
    was made larger is soft; one that was made smaller is not.

    Args:
        pixels: The picture.
        relative: Divide by a thousandth of the variance of the grey picture. Then faces in soft
            light are no softer than those in hard light.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    H, W = grey.shape
    scale = COMPARED_PX / min(H, W)
    if scale < 1:
        size = (max(1, round(W * scale)), max(1, round(H * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    found = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    return found if not relative else found / max(float(grey.var()), 1.0) * 1000


@dataclass(frozen=True)
class Look:
    """What the network sees of a picture.

    Attributes:
        pixels: (3, H, W) RGB: the square around a face, or the whole picture.
        face: The face; None for a whole picture.
        refusal: Why it is not good enough to be named; None if it is.
    """

    pixels: UInt8
    face: Face | None
    refusal: str | None


def look_at(pixels: UInt8, rules: PhotoRules, find_faces: FindFaces | None) -> Look:
    """Return what the network sees of a picture: its largest face, or all of it.

    Args:
        pixels: (3, H, W) RGB.
        rules: What is looked at, and the least size and sharpness.
        find_faces: Finds faces; None is enough for whole pictures.

    Raises:
        ValueError: The rules say that faces are looked at, and nothing finds them.
    """
    if rules.crop == "none":
        return Look(pixels, None, refusal(pixels, pixels.shape[:0:-1], rules))
    if find_faces is None:
        raise ValueError("faces are looked at, but find_faces is None. Pass what finds them")
    faces = find_faces(pixels)
    if not faces:
        return Look(pixels, None, "no face found")
    around = cut_out(pixels, faces[0])
    why = refusal(around, faces[0].size, rules)
    return Look(around, faces[0], why and f"face {why}")


def refusal(pixels: UInt8, size: tuple[int, ...], rules: PhotoRules) -> str | None:
    """Return why a picture is not good enough to be named; None if it is.

    Args:
        pixels: (3, H, W) RGB.
        size: Width and height that count, in pixels: of the picture, or of the face in it.
        rules: The least size and sharpness.
    """
    W, H = size
    if min(W, H) < rules.min_size_px:
        return f"too small: {W} x {H} px, at least {rules.min_size_px} px are needed"
    found = sharpness(pixels, relative=rules.crop == "face")
    if found < rules.min_sharpness:
        return f"too soft: sharpness {found:.0f}, at least {rules.min_sharpness:.0f} is needed"
    return None


def photo_clip(pixels: UInt8, example: Example, spec: ClipSpec) -> LabelledClip:
    """Return a photo as a clip of one frame, the whole picture padded or cropped to a square.

    Args:
        pixels: (3, H, W) RGB.
        example: Its label.
        spec: The network's input.
    """
    return LabelledClip(example, squared(pixels[None], spec), 0, 0, 0, 1)


def player_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each player: every folder in `folder` is a player.

    Raises:
        PhotoError: There are no such folders, only one player, a player without files, or a file
            that is in no player's folder.
    """
    if not folder.is_dir():
        what = "a file." if folder.exists() else "no such folder."
        raise PhotoError(folder, f"{what} Name the folder that holds a folder of photos per player")
    entries = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    players = [one for one in entries if one.is_dir()]
    if not entries:
        raise PhotoError(folder, "an empty folder. Put a folder of photos per player into it.")
    if loose := [one for one in entries if not one.is_dir()]:
        raise PhotoError(
            loose[0], "lies beside the folders of the players. Move it into the folder of a player."
        )
    files = {player.name: _files_in(player) for player in players}
    for player in players:
        if not files[player.name]:
            raise PhotoError(player, "holds no file. Put photos of the player into it.")
        if player.name == BACKGROUND:
            raise PhotoError(player, f"is a reserved name. Call it {UNKNOWN}, or by a player.")
    if len(players) < 2 or set(files) == {UNKNOWN}:
        raise PhotoError(
            folder,
            f"holds one folder, {players[0].name}. Two players are needed to tell one from the "
            "other. Add a folder of another player",
        )
    return files


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        one
        for one in folder.rglob("*")
        if one.is_file() and not any(part.startswith(".") for part in one.relative_to(folder).parts)
    )


@dataclass(frozen=True)
class PlayerPhotos:
    """The photos of all players that are good enough to learn from.

    Attributes:
        clips: The photos, each as a clip of one frame. The `group` of an example is its set of
            look-alikes: photos of one subfolder, and photos that show almost the same picture.
        left_out: One message per photo that has no face, or is too small or too soft.
        problems: One message per file that is no picture.
        doubtful: One message per pair of look-alikes in the folders of two players.
    """

    clips: tuple[LabelledClip, ...]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]
    doubtful: tuple[str, ...]


def load_players(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    spec: ClipSpec,
    rules: PhotoRules,
    *,
    find_faces: FindFaces | None = None,
    max_bad: int = 0,
    on_photo: Callable[[int, int], None] = lambda done, total: None,
) -> PlayerPhotos:
    """Read the photos of all players, leave out bad ones, and find look-alikes.

    Args:
        folder: The folder of all players.
        files: From `player_files`.
        spec: The network's input.
        rules: What is looked at, and the least size and sharpness.
        find_faces: Finds faces; needed if `rules` say that faces are looked at.
        max_bad: How many files that are no pictures may be skipped.
        on_photo: Called with the number of photos that are done, and of all.

    Raises:
        PhotoError: More than `max_bad` files are no pictures, or a player has photos of fewer than
            two different moments left.
        ValueError: The rules say that faces are looked at, and `find_faces` is None.
    """
    pairs = [(player, path) for player, paths in files.items() for path in paths]
    clips: dict[Path, LabelledClip] = {}
    hashes: dict[Path, list[int]] = {}
    left_out: list[PhotoError] = []
    problems: list[PhotoError] = []
    for done, (player, path) in enumerate(pairs):
        on_photo(done, len(pairs))
        try:
            pixels = read_photo(path)
        except PhotoError as error:
            problems.append(error)
            continue
        look = look_at(pixels, rules, find_faces)
        if look.refusal:
            left_out.append(PhotoError(path, look.refusal))
            continue
        label = BACKGROUND if player == UNKNOWN else player
        example = Example(path, label, str(path), source=str(path))
        clips[path] = photo_clip(look.pixels, example, spec)
        hashes[path] = [difference_hash(pixels)]
    if len(problems) > max_bad:
        _refuse_bad(folder, problems)
    groups, doubtful = _look_alikes(folder, hashes)
    grouped = tuple(
        replace(clip, example=replace(clip.example, group=groups[path]))
        for path, clip in clips.items()
    )
    _check_enough(folder, files, grouped, left_out)
    messages = [tuple(map(str, errors)) for errors in (left_out, problems)]
    return PlayerPhotos(grouped, messages[0], messages[1], tuple(doubtful))


def _refuse_bad(folder: Path, problems: Sequence[PhotoError]) -> None:
    if len(problems) == 1:
        raise PhotoError(problems[0].path, f"{problems[0].message} Or skip it with --max-bad 1")
    shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
    raise PhotoError(
        folder,
        f"{len(problems)} files cannot be used: {shown} Remove them, or skip them with "
        f"--max-bad {len(problems)}",
    )


def _look_alikes(
    folder: Path, hashes: Mapping[Path, list[int]]
) -> tuple[dict[Path, str], list[str]]:
    """The set of look-alikes of each photo, and pairs of look-alikes of two players."""
    sets: dict[Path, Path] = {path: path for path in hashes}

    def root(path: Path) -> Path:
        while sets[path] != path:
            path = sets[path]
        return path

    def player(path: Path) -> str:
        return path.relative_to(folder).parts[0]

    shoots: dict[Path, Path] = {}
    for path in hashes:
        if len(path.relative_to(folder).parts) > 2:
            first = shoots.setdefault(path.parent, path)
            sets[root(path)] = root(first)
    doubtful = []
    for pair in near_duplicates(hashes, {path: str(path) for path in hashes}):
        sets[root(pair.first)] = root(pair.second)
        if player(pair.first) != player(pair.second):
            doubtful.append(
                f"{pair.first} and {pair.second} show almost the same picture. "
                "Is one of them in the wrong folder?"
            )
    return {path: str(root(path)) for path in hashes}, doubtful


def _check_enough(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    clips: Sequence[LabelledClip],
    left_out: Sequence[PhotoError],
) -> None:
    """Raise PhotoError if a player has fewer than two sets of look-alikes left."""
    for player in files:
        label = BACKGROUND if player == UNKNOWN else player
        own = [clip.example for clip in clips if clip.example.label == label]
        if len({example.group for example in own}) >= 2:
            continue
        given = len(files[player])
        of_player = [one for one in left_out if Path(one.path) in files[player]]
        why = f" Left out: {of_player[0]}" if of_player else ""
        raise PhotoError(
            folder / player,
            f"{len(own)} of {given} files can be used, and they are one set of look-alikes at "
            "most. Photos of at least two different moments are needed, to test on one what was "
            f"learnt from the other. Add photos.{why}",
        )

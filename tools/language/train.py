"""`touchline language train`: fine-tune a pretrained language model on texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.language.options import LanguageOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.language.measure import TextFigures
    from touchline.pipeline.language.train import LanguageRun, TrainedLanguage

DEFAULTS = LanguageOptions()
MOST_SHOWN = 5


def train_command(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Files or folders: plain text, SRT, WebVTT, or JSON lines with `text` and, if "
            "there are several matches in a file, `match`.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the model to.")] = Path(
        "lm"
    ),
    weights: Annotated[
        str,
        typer.Option(
            help="The model to start from: smollm2-135m, or a path (a folder that transformers "
            "wrote, or a GGUF file)."
        ),
    ] = DEFAULTS.weights,
    freeze: Annotated[
        str,
        typer.Option(
            help="How many of the first blocks stay frozen, with the embeddings. auto: all but the "
            "last 6. none: train everything."
        ),
    ] = DEFAULTS.freeze,
    lora: Annotated[
        int | None,
        typer.Option(
            help="Freeze all layers and train low-rank additions of this rank (LoRA), for example "
            "16. With --freeze: only in the later blocks.",
            show_default=False,
        ),
    ] = DEFAULTS.lora,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Start from random weights, to compare.")
    ] = DEFAULTS.scratch,
    val: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text to measure on, not to learn from: a file or folder. May be repeated.",
            show_default=False,
        ),
    ] = None,
    val_share: Annotated[
        float,
        typer.Option(help="Without --val: share of the text to hold out, in whole documents."),
    ] = DEFAULTS.val_share,
    val_tokens: Annotated[
        int,
        typer.Option(
            help="Measure on at most this many tokens, from the start of each held-out document."
        ),
    ] = DEFAULTS.val_tokens,
    epochs: Annotated[int, typer.Option(help="Passes over the text.")] = DEFAULTS.epochs,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help="Stop training after this many seconds. Reading and measuring come on top.",
            show_default=False,
        ),
    ] = DEFAULTS.max_seconds,
    context: Annotated[
        int, typer.Option(help="Tokens that the network sees at once.")
    ] = DEFAULTS.context,
    batch_size: Annotated[
        int, typer.Option(help="Pieces of --context tokens in a step.")
    ] = DEFAULTS.batch_size,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate. Without: 0.0003; 0.0001 with --freeze none, 0.001 with "
            "--lora or --scratch.",
            show_default=False,
        ),
    ] = DEFAULTS.lr,
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bf16. auto: bf16 where it is faster.")
    ] = DEFAULTS.precision,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = DEFAULTS.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the unfinished run in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the model in the output folder.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but warnings.")
    ] = False,
) -> None:
    """Learn how texts speak: a pretrained language model, whose last blocks are trained.

    Whole documents are held out, and it is measured on them before and after.
    """
    from touchline.pipeline.language.snapshot import SNAPSHOT_FILE
    from touchline.pipeline.language.train import METRICS_FILE, train_language

    options = LanguageOptions(
        weights=weights,
        freeze=freeze,
        lora=lora,
        scratch=scratch,
        val_share=val_share,
        val_tokens=val_tokens,
        epochs=epochs,
        max_seconds=max_seconds,
        context=context,
        batch_size=batch_size,
        lr=lr,
        precision=precision,
        seed=seed,
    )
    if resume and not (out / SNAPSHOT_FILE).exists():
        console.warn(f"{out} holds no unfinished run, so --resume starts a new one")
    is_silent = quiet or json_
    with console.phase_bars(quiet=is_silent) as on_progress:
        try:
            trained = train_language(
                texts,
                out,
                options,
                val=val or (),
                device=device,
                resume=resume,
                overwrite=overwrite,
                on_start=lambda run: _introduce(run, silent=is_silent),
                on_progress=on_progress,
            )
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
            if (out / SNAPSHOT_FILE).exists():
                console.warn(
                    "repeat the command with --resume to continue. The last two minutes may be lost"
                )
            raise
    if json_:
        print((out / METRICS_FILE).read_text(encoding="utf-8"), end="")
    elif not quiet:
        _conclude(trained)
    if trained.after.bits_per_byte >= trained.before.bits_per_byte:
        console.warn(
            "the model predicts the held-out text no better than before. Use more text or fewer "
            "--epochs, or freeze more"
        )


def _introduce(run: LanguageRun, *, silent: bool) -> None:
    from rich.table import Table

    from touchline.models.spelling import counted

    messages = run.texts.left_out
    for message in messages[:MOST_SHOWN]:
        console.warn(message)
    if len(messages) > MOST_SHOWN:
        console.warn(f"{len(messages) - MOST_SHOWN} more documents are left out")
    if silent:
        return
    console.say(f"starting from {run.model.name}")
    table = Table(box=None, title="parts", title_justify="left")
    table.add_column("part")
    table.add_column("")
    table.add_column("parameters", justify="right")
    table.add_column("trained", justify="right")
    for part in run.parts:
        table.add_row(part.name, part.state, f"{part.parameters:,}", f"{part.trained:,}")
    console.out.print(table)
    stream, held = run.texts.stream, run.texts.measured
    num_bytes = sum(text.num_bytes for text in held)
    console.say(
        f"learning from {counted(len(run.texts.train), 'document')} ({len(stream):,} tokens, "
        f"{stream.num_bytes:,} bytes)"
    )
    console.say(
        f"measuring on {counted(len(run.texts.held_out), 'other document')} "
        f"({sum(len(text.tokens) for text in held):,} tokens, {num_bytes:,} bytes)"
    )


def _conclude(trained: TrainedLanguage) -> None:
    from rich.table import Table

    from touchline.models.spelling import counted

    table = Table(box=None, title="held-out text", title_justify="left")
    table.add_column("")
    table.add_column("perplexity", justify="right")
    table.add_column("bits per byte", justify="right")
    rows: list[tuple[str, TextFigures]] = [("before training", trained.before)]
    rows += [(f"after pass {row.epoch}", row.held_out) for row in trained.history]
    rows.append(("after training", trained.after))
    for name, figures in rows:
        table.add_row(name, f"{figures.perplexity:,.1f}", f"{figures.bits_per_byte:.3f}")
    console.out.print(table)
    console.say(
        f"{counted(trained.num_steps, 'step')}, {trained.num_seen:,} tokens, "
        f"{trained.seconds:.0f} s; wrote {trained.folder}"
    )
    console.say(f"talk to it: touchline chat {trained.folder}")

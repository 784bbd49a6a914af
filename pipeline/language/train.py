"""Train a language model on texts: from pretrained weights, with most of it frozen."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TextError, WeightsError
from touchline.models.inference import pick_device, pick_dtype
from touchline.pipeline.language.documents import Document, read_documents, split_documents
from touchline.pipeline.language.measure import TextFigures, measure
from touchline.pipeline.language.options import LanguageOptions
from touchline.pipeline.language.parts import (
    Part,
    add_lora,
    blocks_of,
    freeze_first,
    num_frozen_blocks,
    parts_of,
)
from touchline.pipeline.language.pretrained import (
    MODEL_FILE,
    NOT_FINITE,
    LanguageModel,
    load_pretrained,
    longest_context,
    random_like,
    save_model,
)
from touchline.pipeline.language.snapshot import (
    SNAPSHOT_FILE,
    EpochRow,
    RunState,
    restore_snapshot,
    save_snapshot,
)
from touchline.pipeline.language.tokens import (
    HeldOutText,
    Tokens,
    TokenStream,
    held_out_texts,
    write_tokens,
)
from touchline.pipeline.training.optimize import schedule
from touchline.pipeline.training.result import Progress
from touchline.pipeline.types import Int64

METRICS_FILE, TOKENS_FILE = "metrics.json", "tokens.bin"

LEAST_HELD_OUT = 32
"""The fewest tokens of held-out text."""

WARMUP, WEIGHT_DECAY, GRADIENT_NORM = 0.05, 0.01, 1.0
SNAPSHOT_EVERY_S = 120.0


@dataclass(frozen=True)
class Texts:
    """The texts of a run.

    Attributes:
        train: The documents that are learnt from.
        held_out: The documents that are held out.
        stream: The tokens of `train`.
        measured: The beginnings of the documents of `held_out`.
        left_out: A message for each document that repeats another.
    """

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    stream: TokenStream
    measured: tuple[HeldOutText, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class TrainedLanguage:
    """A language model after training; it is saved in `folder`.

    Attributes:
        folder: Where it is, as transformers saves it.
        before: The figures on held-out text before training.
        after: The same after training.
        history: A row for each pass over the text that was finished, except for the last one.
        parts: What was frozen and what was trained.
        num_steps: How many steps it took.
        num_seen: How many tokens of the text were seen; those of a second pass count again.
        seconds: How long the steps took.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import LanguageOptions, train_language
        >>> options = LanguageOptions(weights="tiny-language", epochs=1)
        >>> trained = train_language([Path("matches")], Path("lm"), options)
        >>> trained.after.perplexity < trained.before.perplexity
        True
    """

    folder: Path
    before: TextFigures
    after: TextFigures
    history: tuple[EpochRow, ...]
    parts: tuple[Part, ...]
    num_steps: int
    num_seen: int
    seconds: float


@dataclass(frozen=True)
class LanguageRun:
    """A run before it begins: what learns, from what.

    Attributes:
        model: The model; with LoRA, its network is already extended.
        texts: The texts.
        options: As given.
        device: Where it computes.
        dtype: What it computes in.
    """

    model: LanguageModel
    texts: Texts
    options: LanguageOptions
    device: torch.device
    dtype: torch.dtype

    @property
    def parts(self) -> list[Part]:
        """The table of what is frozen and what is trained."""
        return parts_of(self.model.network)


def train_language(
    texts: Sequence[Path],
    out: Path,
    options: LanguageOptions | None = None,
    *,
    val: Sequence[Path] = (),
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    on_start: Callable[[LanguageRun], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainedLanguage:
    """Fine-tune a language model on texts, and measure it on held-out documents before and after.

    While it runs, `out` holds the tokens of the text and a snapshot, which replaces itself every
    two minutes.

    Args:
        texts: Files or folders: plain text, SRT, WebVTT, or JSON lines with `text`, and perhaps
            `match`. A file is a document, and so are the rows with one `match`.
        out: The folder to write the model to.
        options: How to train.
        val: Texts to measure on. Without any, a share of the documents is held out.
        device: auto, cpu, cuda, cuda:1 or mps.
        resume: Whether to continue the unfinished run in `out`.
        overwrite: Whether a model in `out` may be replaced.
        on_start: Called with the run before it begins.
        on_progress: Called with news of each phase.
        clock: What `max_seconds` counts; `time.process_time` counts processor time.

    Raises:
        TextError: A text cannot be read, or is too short.
        WeightsError: The pretrained weights cannot be had or used.
        CheckpointError: The snapshot cannot be used or written.
        ValueError: An option does not fit the model, or training diverged.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import LanguageOptions, train_language
        >>> options = LanguageOptions(weights="tiny-language", freeze="1", epochs=1)
        >>> trained = train_language([Path("matches")], Path("lm"), options)
        >>> [part.state for part in trained.parts]
        ['frozen', 'frozen', 'trained', 'trained']
    """
    options = options or LanguageOptions()
    _check_folder(out, resume=resume, overwrite=overwrite)
    train, held_out, left_out = _documents(texts, val, options)
    place = pick_device(device)
    model = load_pretrained(options.weights)
    if options.scratch:
        model = random_like(model, seed=options.seed)
    if options.context > longest_context(model.network):
        raise ValueError(
            f"context is {options.context}, but the model sees at most "
            f"{longest_context(model.network)} tokens at once"
        )
    out.mkdir(parents=True, exist_ok=True)
    stream = out / TOKENS_FILE
    try:
        prepared = Texts(
            tuple(train),
            tuple(held_out),
            write_tokens(train, model.tokenizer, stream),
            tuple(held_out_texts(held_out, model.tokenizer, max_tokens=options.val_tokens)),
            tuple(left_out),
        )
        _check_lengths(prepared, options)
        network = _with_frozen_parts(model.network, options).to(place)
        run = LanguageRun(
            LanguageModel(network, model.tokenizer, model.name, model.digest),
            prepared,
            options,
            place,
            pick_dtype(options.precision, place),
        )
        on_start(run)
        return _Training(run, out, on_progress, clock).run(resume=resume)
    finally:
        stream.unlink(missing_ok=True)


def _check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    unfinished = (out / SNAPSHOT_FILE).exists()
    if unfinished and not resume and not overwrite:
        raise ValueError(
            f"{out} holds an unfinished run. Continue it with --resume, or begin anew with "
            "--overwrite"
        )
    if (out / MODEL_FILE).exists() and not overwrite and not (unfinished and resume):
        raise ValueError(
            f"{out} holds a model already. Name another folder, or replace the model with "
            "--overwrite"
        )


def _documents(
    texts: Sequence[Path], val: Sequence[Path], options: LanguageOptions
) -> tuple[list[Document], list[Document], list[str]]:
    """What to learn from, what to hold out, and what is left out, as messages."""
    found, left_out = read_documents(texts)
    if not val:
        train, held_out = split_documents(found, val_share=options.val_share, seed=options.seed)
        return train, held_out, left_out
    held_out, more = read_documents(val)
    digests = {document.digest for document in held_out}
    train = [document for document in found if document.digest not in digests]
    if not train:
        raise TextError(val[0], "all text to learn from is in --val, too. Add other texts")
    left_out += more
    left_out += [
        f"{document.name} is not learnt from: it is in --val, too"
        for document in found
        if document.digest in digests
    ]
    return train, held_out, left_out


def _check_lengths(texts: Texts, options: LanguageOptions) -> None:
    num_tokens = len(texts.stream)
    if num_tokens <= options.context:
        raise TextError(
            texts.train[0].path,
            f"the text to learn from has {num_tokens} tokens, but {options.context + 1} are needed "
            "at least. Add texts, or use a shorter --context",
        )
    measured = sum(len(text.tokens) for text in texts.measured)
    if measured < LEAST_HELD_OUT:
        raise TextError(
            texts.held_out[0].path,
            f"the held-out text has {measured} tokens, too few to measure anything "
            f"({LEAST_HELD_OUT}). Add texts, hold out a larger --val-share, or raise --val-tokens",
        )


def _with_frozen_parts(network: Any, options: LanguageOptions) -> Any:
    """The network with what is frozen frozen; extended by LoRA where that is asked for."""
    frozen = num_frozen_blocks(options, len(blocks_of(network)))
    if options.lora is not None:
        return add_lora(network, options.lora, first_block=frozen or 0, seed=options.seed)
    freeze_first(network, frozen)
    return network


class _Training:
    """A run while it goes on."""

    def __init__(
        self,
        run: LanguageRun,
        out: Path,
        on_progress: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self._run, self._out, self._on_progress, self._clock = run, out, on_progress, clock
        self._network = run.model.network
        self._options = run.options
        self._tokens = run.texts.stream.tokens()
        self._num_windows = (len(self._tokens) - 1) // run.options.context
        self._steps_per_epoch = math.ceil(self._num_windows / run.options.batch_size)
        self._num_steps = self._steps_per_epoch * run.options.epochs
        self._parts = run.parts
        trained = [p for p in self._network.parameters() if p.requires_grad]
        decays = [p for p in trained if p.ndim > 1]
        rest = [p for p in trained if p.ndim <= 1]
        self._trained = trained
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decays, "weight_decay": WEIGHT_DECAY},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=run.options.peak_lr,
            betas=(0.9, 0.95),
        )
        self._order: tuple[int, Int64] = (-1, np.zeros(0, np.int64))

    def run(self, *, resume: bool) -> TrainedLanguage:
        """Train, measure and save."""
        snapshot = self._out / SNAPSHOT_FILE
        identity = self._identity()
        if resume and snapshot.exists():
            state = restore_snapshot(snapshot, self._network, self._optimizer, run=identity)
        else:
            state = RunState(before=self._measure("measuring before"))
            if not math.isfinite(state.before.bits_per_byte):
                raise WeightsError(self._run.model.name, NOT_FINITE)
            # A run that is killed in its first minutes must not measure again.
            save_snapshot(snapshot, self._network, self._optimizer, state, run=identity)
        kept = time.monotonic()
        began = self._clock() - state.elapsed_s
        self._network.train()
        while state.step < self._num_steps and self._done(state) < 1:
            state.losses.append(self._step(state))
            state.step += 1
            state.elapsed_s = self._clock() - began
            self._on_progress(
                Progress(
                    "training", self._done(state), 1, f"loss {np.mean(state.losses[-20:]):.2f}"
                )
            )
            if state.step % self._steps_per_epoch == 0 and state.step < self._num_steps:
                self._end_epoch(state)
                began = self._clock() - state.elapsed_s
            if time.monotonic() - kept >= SNAPSHOT_EVERY_S:
                save_snapshot(snapshot, self._network, self._optimizer, state, run=identity)
                kept = time.monotonic()
        return self._finish(state)

    def _identity(self) -> dict[str, Any]:
        return asdict(self._options) | {
            "set of weights": self._run.model.digest[:16],
            "text": self._run.texts.stream.digest[:16],
            "held-out text": hashlib.sha256(
                b"".join(text.tokens.tobytes() for text in self._run.texts.measured)
            ).hexdigest()[:16],
            "precision": str(self._run.dtype),
        }

    def _done(self, state: RunState) -> float:
        """How much of the training is over, by steps or by time."""
        limit = self._options.max_seconds
        spent = state.elapsed_s / limit if limit else 0.0
        return min(1.0, max(state.step / self._num_steps, spent))

    def _step(self, state: RunState) -> float:
        rate = self._options.peak_lr * schedule(self._done(state), WARMUP)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Dropout depends on the step alone, so that a run can go on anywhere.
        torch.manual_seed((self._options.seed << 32) + state.step)
        windows = torch.from_numpy(self._windows(state.step)).to(self._run.device)  # (B, T + 1)
        dtype = self._run.dtype
        with torch.autocast(self._run.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = self._network(input_ids=windows[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._trained, GRADIENT_NORM)
        if not bool(torch.isfinite(norm)):
            raise ValueError(
                f"lr is {self._options.peak_lr:g}: training diverged in step {state.step + 1}. "
                "Use a lower one"
            )
        self._optimizer.step()
        return float(loss.detach())

    def _windows(self, step: int) -> Int64:
        """The tokens of a step: (B, context + 1)."""
        epoch, k = divmod(step, self._steps_per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._options.seed, epoch])
            self._order = (epoch, rng.permutation(self._num_windows))
        size, context = self._options.batch_size, self._options.context
        chosen = self._order[1][k * size : (k + 1) * size]
        return np.stack([_window(self._tokens, int(at) * context, context + 1) for at in chosen])

    def _end_epoch(self, state: RunState) -> None:
        epoch = state.step // self._steps_per_epoch
        held_out = self._measure(f"measuring after pass {epoch}")
        state.history.append(EpochRow(epoch, float(np.mean(state.losses)), held_out))
        state.losses.clear()

    def _measure(self, phase: str) -> TextFigures:
        run = self._run
        return measure(
            self._network,
            run.texts.measured,
            separator=run.texts.stream.separator,
            context=self._options.context,
            device=run.device,
            dtype=run.dtype,
            on_done=lambda done, total: self._on_progress(Progress(phase, done, total)),
        )

    def _finish(self, state: RunState) -> TrainedLanguage:
        if self._options.lora is not None:
            self._network = self._network.merge_and_unload()
        after = self._measure("measuring after")
        trained = TrainedLanguage(
            self._out,
            state.before,
            after,
            tuple(state.history),
            tuple(self._parts),
            state.step,
            min(state.step * self._options.batch_size, self._options.epochs * self._num_windows)
            * self._options.context,
            state.elapsed_s,
        )
        metrics = json.dumps(metrics_of(self._run, trained), indent=1) + "\n"
        save_model(self._network.cpu(), self._run.model.tokenizer, self._out)
        write_atomic(self._out / METRICS_FILE, metrics)
        (self._out / SNAPSHOT_FILE).unlink(missing_ok=True)
        return trained


def _window(tokens: Tokens, start: int, length: int) -> Int64:
    return tokens[start : start + length].astype(np.int64)


def metrics_of(run: LanguageRun, trained: TrainedLanguage) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        run: The run.
        trained: What came of it.
    """
    return {
        "weights": run.model.name,
        "weights_sha256": run.model.digest,
        "before": asdict(trained.before),
        "after": asdict(trained.after),
        "history": [asdict(row) for row in trained.history],
        "parts": [asdict(part) | {"state": part.state} for part in trained.parts],
        "train": {
            "documents": [document.name for document in run.texts.train],
            "num_bytes": run.texts.stream.num_bytes,
            "num_tokens": len(run.texts.stream),
        },
        "held_out": {"documents": [document.name for document in run.texts.held_out]},
        "left_out": list(run.texts.left_out),
        "num_steps": trained.num_steps,
        "num_tokens_seen": trained.num_seen,
        "seconds": round(trained.seconds, 1),
        "device": str(run.device),
        "precision": str(run.dtype).removeprefix("torch."),
        "options": asdict(run.options),
    }

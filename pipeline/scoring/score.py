"""Turn footage into class probabilities over time: sliding windows in one decoding pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, file_digest
from touchline.models.engines.compiled import compile_trunk
from touchline.models.engines.engine import ENGINES, Trunk, open_trunk
from touchline.models.engines.int8 import INT8_ENGINE, read_facts
from touchline.models.engines.memory import batch_that_fits, is_out_of_memory
from touchline.models.engines.trial import Trial, try_engines
from touchline.models.inference import fast_copy, pick_device, pick_dtype
from touchline.pipeline.clips.windows import Sampled, batched, frames_of, hop_samples, slide
from touchline.pipeline.scoring.mode import choose_mode, runs_on
from touchline.pipeline.types import Float32, Frames, ScoreTrack, UInt8

MODES = ("auto", "windows", "shared")

PIECE_FRAMES = 64
"""A trunk over space and time runs over pieces of this many frames, whatever the batch size.

What it sees at the ends of a piece is part of the scores, so that the pieces must not change.
"""

CPU_PIXELS = 2 * 8 * 224**2
"""On a CPU, windows go through a trunk over space and time in groups of at most these pixels.

The C library takes blocks above 32 MiB from the system each time, which clears them first. The
largest layer of two I3D windows is just below that.
"""

T = TypeVar("T")


class Scorer:
    """Score footage with one model on one device. It prepares the network once for many files.

    Args:
        model: The trained model.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "float32" or "bf16".
        batch_size: Windows that go through the network at once. None: what the memory of the
            device holds, see `batch_that_fits`.
        mode: "windows" runs the network on every window (exact). "shared" runs the trunk once over
            the whole footage and slides the head. "auto" shares where both give the same, and
            where training found that both agree (see `choose_mode`).
        hop_s: Seconds between windows, by which "auto" chooses; None: a quarter of the window.
        engine: What the trunk runs on: "torch", or on a CPU another one of ENGINES. "auto" takes
            the fastest one by a trial.
        int8: A trunk in int8 for an engine other than PyTorch, from `make_int8`. "auto" then is
            ONNX Runtime, and never takes int8 by itself.
        compiled: Run the trunk through torch.compile, on PyTorch. If that fails here, it runs
            without, and `warm_up` says why.
        worth: Asked if "auto" finds no earlier trial: whether to try the engines now, which takes
            about ten seconds. Without a trial it takes PyTorch.

    Attributes:
        shared: Whether the trunk runs once over the footage.
        why: Why "auto" chose this; empty without a choice.
        engine: The name of the engine in use.
        trial: How fast each engine is here; None if there was no choice.
        int8: SHA-256 of the trunk in int8; None without one.
        compiled: Whether the trunk is compiled.
        warm_up: What compiling took, or why it failed; empty if nothing was to be compiled.

    Raises:
        ValueError: An argument is out of range, the trunk cannot be shared, or the engine is not
            installed or cannot run this trunk, or `int8` is not this trunk.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = 8,
        mode: str = "auto",
        hop_s: float | None = None,
        engine: str = "torch",
        int8: Path | None = None,
        compiled: bool = False,
        worth: Callable[[], bool] = lambda: True,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if compiled and (int8 is not None or engine not in ("auto", "torch")):
            raise ValueError("only PyTorch compiles. Use the engine torch, without int8")
        if engine == "auto" and (int8 is not None or compiled):
            engine = "torch" if compiled else INT8_ENGINE
        self.model = model
        self.device = pick_device(device)
        self.dtype = pick_dtype(precision, self.device)
        self.backbone = fast_copy(model.backbone, self.device, self.dtype)
        if batch_size is None:
            batch_size = batch_that_fits(self.backbone, self.device, self.dtype)
        self.batch_size = batch_size
        self._trunk: Trunk = self.backbone.features
        # Windows, or frames, that memory holds at once; None: as many as come.
        self._at_once: int | None = None
        exact = model.backbone.framewise
        runtime = runs_on(engine, int8=int8 is not None, compiled=compiled)
        chosen = choose_mode(model, mode, hop_s=hop_s, engine=runtime)
        self.shared, self.why = chosen.shared, chosen.why
        if self.device.type == "cpu" and not exact and not self.shared:
            spec = model.spec
            self._at_once = max(1, CPU_PIXELS // (spec.num_frames * spec.size_px**2))
        self.stride = self._frames_per_feature() if self.shared else 1
        # A framewise trunk needs no frames around a piece. Other trunks look beyond the piece's
        # ends: half a window on each side keeps the error small.
        self.margin = 0 if exact else _round_up(model.spec.num_frames // 2, self.stride)
        # Pieces are long because their margins are computed twice.
        self.piece_frames = _round_up(8 * batch_size if exact else PIECE_FRAMES, self.stride)
        self.trial: Trial | None = None
        self.engine = self._pick_engine(engine, precision, worth, int8=int8 is not None)
        self.int8: str | None = None
        if int8 is not None:
            read_facts(int8, model.backbone)
            self.int8, self.dtype = file_digest(int8), torch.float32
        if self.engine != "torch":
            self._trunk = open_trunk(self.engine, model.backbone, int8)
        self.compiled, self.warm_up = False, ""
        if compiled:
            self._compile()

    def _pick_engine(
        self, engine: str, precision: str, worth: Callable[[], bool], *, int8: bool
    ) -> str:
        """Name the engine; ValueError if the one that was asked for does not fit."""
        slides = self.shared and not self.model.backbone.framewise
        reasons = {
            f"on the CPU, not on {self.device}": self.device.type != "cpu",
            "in float32": precision == "bf16",
            "windows of a trunk over space and time. Use mode 'windows'": slides,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if engine == "torch" and int8:
            raise ValueError("PyTorch does not run int8 here. Use the engine onnxruntime")
        if engine not in ("auto", "torch") and reason is not None:
            raise ValueError(f"the engine {engine} runs {reason}")
        if engine != "auto":
            return engine
        if reason is None:
            with torch.inference_mode():
                self.trial = try_engines(self.model.backbone, self._trunk, worth)
        return "torch" if self.trial is None else self.trial.fastest

    def _compile(self) -> None:
        """Compile the trunk; if that fails, go on without."""
        if self.shared and not self.model.backbone.framewise:
            raise ValueError(
                "a compiled network runs windows of a trunk over space and time. Use mode 'windows'"
            )
        try:
            with torch.inference_mode():
                self._trunk, self.warm_up = compile_trunk(
                    self.backbone, self.device, self.dtype, self.batch_size
                )
        except ValueError as error:
            self.warm_up = f"{error}. It runs without."
        else:
            self.compiled = True

    def score(
        self,
        frames: Iterable[Frames],
        *,
        hop_s: float | None = None,
        on_window: Callable[[float], None] | None = None,
    ) -> ScoreTrack:
        """Score the frames of one file.

        Args:
            frames: Frames at the model's rate and size, in chunks (see `decode`).
            hop_s: Seconds between windows; None: a quarter of the window.
            on_window: Called with the end of the last window scored, in seconds.
        """
        return joined(self.score_parts(frames, hop_s=hop_s), self.model.labels, on_window)

    @property
    def windows_per_part(self) -> int:
        """How many windows each part of `score_parts` has; the last one may have fewer."""
        return self.batch_size * (4 if self.shared else 1)

    def first_frame(self, after: int, *, hop_s: float | None = None) -> int:
        """Return from which frame on `score_parts` needs the frames, at the latest.

        Args:
            after: How many windows are left out.
            hop_s: Seconds between windows; None: a quarter of the window.
        """
        # The last window ends with the footage, so it may begin before the next whole hop.
        frame = hop_samples(self.model.spec, hop_s) * max(0, after - 1)
        if not self.shared:
            return frame
        return max(0, frame // self.piece_frames * self.piece_frames - self.margin)

    def score_parts(
        self,
        frames: Iterable[Frames],
        *,
        hop_s: float | None = None,
        after: int = 0,
        first: int = 0,
    ) -> Iterator[ScoreTrack]:
        """Score the frames of one file as they come: each batch of windows is a part of the track.

        Args:
            frames: Frames at the model's rate and size, in chunks (see `decode`).
            hop_s: Seconds between windows; None: a quarter of the window.
            after: Leave out this many windows, which an earlier run has scored. On a CPU the others
                get the same scores, bit for bit, if it is a whole number of parts.
            first: How many frames of the file come before `frames`; at most `first_frame`.
        """
        hop = hop_samples(self.model.spec, hop_s)
        track = frames_of(frames, self.model.spec)
        if not self.shared:
            begin = _round_up(first, hop)
            windows = islice(track, begin - first, None)
            return self._parts(self._windows(windows, hop, after - begin // hop))
        # Pieces begin where they begin in the whole file.
        begin = _round_up(first + self.margin, self.piece_frames) if first else 0
        before = min(self.margin, begin)
        items = begin // self.stride
        step = max(1, hop // self.stride)
        features = self.feature_track(
            islice(track, begin - before - first, None),
            before=before,
            skip=step * max(0, after - 1) - items,
        )
        late = _round_up(items, step)
        return self._parts(
            self._shared(islice(features, late - items, None), hop, after - late // step)
        )

    def score_features(
        self,
        features: Iterable[Sampled[Tensor]],
        *,
        hop_s: float | None = None,
        on_window: Callable[[float], None] | None = None,
    ) -> ScoreTrack:
        """Score features that the trunk computed earlier; as `score` with mode "shared".

        Args:
            features: What `feature_track` gave for the frames of one file.
            hop_s: Seconds between windows; None: a quarter of the window.
            on_window: Called with the end of the last window scored, in seconds.

        Raises:
            ValueError: The trunk cannot be shared, or the hop does not fit its features.
        """
        if not self.shared:
            raise ValueError("features of whole footage need mode 'shared', or a framewise trunk")
        hop = hop_samples(self.model.spec, hop_s)
        parts = self._parts(self._shared(iter(features), hop))
        return joined(parts, self.model.labels, on_window)

    def _parts(
        self, windows: Iterable[tuple[list[tuple[float, float, bool]], Tensor]]
    ) -> Iterator[ScoreTrack]:
        # A GPU works on the next batches while the scores of this one are copied and used.
        ahead = 2 if self.device.type == "cuda" else 0
        pending: deque[tuple[list[tuple[float, float, bool]], Callable[[], Float32]]] = deque()
        for times, logits in windows:
            pending.append((times, _copied(self.model.probs(logits))))
            if len(pending) > ahead:
                yield self._part(*pending.popleft())
        while pending:
            yield self._part(*pending.popleft())

    def _part(
        self, times: list[tuple[float, float, bool]], probs: Callable[[], Float32]
    ) -> ScoreTrack:
        start_s, end_s, damaged = zip(*times, strict=True)
        return ScoreTrack(
            labels=self.model.labels,
            start_s=np.array(start_s, dtype=np.float64),
            end_s=np.array(end_s, dtype=np.float64),
            probs=probs(),
            damaged=np.array(damaged, dtype=np.bool_),
        )

    def logits(self, clips: UInt8) -> Tensor:
        """Windows (B, T, 3, S, S) uint8 -> logits (B, K) float32, on the scorer's device."""
        return self._head(self.features(clips))

    def _windows(
        self, track: Iterator[Sampled[UInt8]], hop: int, after: int
    ) -> Iterator[tuple[list[tuple[float, float, bool]], Tensor]]:
        """Every window through the whole network."""
        spec = self.model.spec
        windows = islice(slide(track, length=spec.num_frames, hop=hop), after, None)
        for batch in batched(windows, self.batch_size):
            clips = np.stack([np.stack([w.item for w in window]) for window, _ in batch])
            features = self.features(clips)
            yield _times(batch), self._head(features)

    def _frames_per_feature(self) -> int:
        """Frames per feature; ValueError if features cannot be shared."""
        model, spec = self.model, self.model.spec
        if not model.backbone.slides_in_time:
            raise ValueError(
                f"mode 'shared' needs a trunk that is convolutional in time. The trunk of "
                f"{model.architecture} is not. Use mode 'windows'."
            )
        clip = np.zeros((1, spec.num_frames, 3, spec.size_px, spec.size_px), np.uint8)
        num_features = self.features(clip).shape[2]
        if spec.num_frames % num_features:
            raise ValueError(
                f"mode 'shared' needs num_frames to be a multiple of {num_features}, the number "
                f"of features; it is {spec.num_frames}. Use mode 'windows'."
            )
        return spec.num_frames // num_features

    def _shared(
        self, features: Iterator[Sampled[Tensor]], hop: int, after: int = 0
    ) -> Iterator[tuple[list[tuple[float, float, bool]], Tensor]]:
        """Slide the head over the features of the footage."""
        spec, stride = self.model.spec, self.stride
        if hop % stride:
            raise ValueError(
                f"mode 'shared' needs a hop of whole features, {stride / spec.rate_hz:g} s each; "
                f"it is {hop / spec.rate_hz:g} s. Change the hop or use mode 'windows'."
            )
        windows = slide(features, length=spec.num_frames // stride, hop=hop // stride)
        for batch in batched(islice(windows, after, None), self.windows_per_part):
            stacked = torch.stack(
                [torch.stack([w.item for w in window], dim=-1) for window, _ in batch]
            )  # (B, D, T')
            yield _times(batch), self._head(stacked)

    def feature_track(
        self, track: Iterator[Sampled[UInt8]], *, before: int = 0, skip: int = 0
    ) -> Iterator[Sampled[Tensor]]:
        """Yield one item (D,) per feature of the trunk, from its first frame to its last.

        Args:
            track: The frames of one file, from `frames_of`.
            before: How many frames of the track are only the neighbours of what follows.
            skip: The first features that are not needed. Those of pieces without any other stay
                empty, and the trunk does not run for them.
        """
        length, margin = self.piece_frames, self.margin
        done = 0
        pieces = overlapping_pieces(track, length=length, margin=margin, before=before)
        for piece, first, last in pieces:
            short = -len(piece) % self.stride
            piece = piece + piece[-1:] * short
            done += -(-(last - first) // self.stride)
            if done <= skip:
                features = torch.empty(0, len(piece) // self.stride)
            else:
                features = self.features(np.stack([s.item for s in piece])[None])[0]  # (D, T')
            for start in range(first, last, self.stride):
                frames = piece[start : start + self.stride]
                yield Sampled(
                    features[:, start // self.stride],
                    start_s=frames[0].start_s,
                    end_s=frames[-1].end_s,
                    damaged=any(s.damaged for s in frames),
                )

    @torch.inference_mode()
    def features(self, clips: UInt8) -> Tensor:
        """Windows (B, T, 3, S, S) uint8 -> features (B, D, T') float32, on the scorer's device.

        They are computed in parts where memory is short.
        """
        pictures = torch.from_numpy(clips)
        if self.device.type == "cuda":
            pictures = pictures.pin_memory()
        # A trunk of single frames may be given some of the frames, others only whole windows.
        split, joined = (1, 2) if self.backbone.framewise else (0, 0)
        while True:
            parts = torch.split(pictures, self._at_once or pictures.shape[split], dim=split)
            try:
                return torch.cat([self._features_of(part) for part in parts], dim=joined)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (largest := parts[0].shape[split]) == 1:
                    raise
                self._at_once = largest // 2
            # Here the error, and the tensors that it holds, are gone.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _features_of(self, pictures: Tensor) -> Tensor:
        x = pictures.to(self.device, non_blocking=True).transpose(1, 2)
        x = normalise(x, self.model.spec).to(self.dtype)
        if not self.backbone.framewise:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return self._trunk(x)

    @torch.inference_mode()
    def _head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.backbone.head(features)
        return logits


def score_footage(
    model: TrainedModel,
    frames: Iterable[Frames],
    *,
    hop_s: float | None = None,
    mode: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 8,
    engine: str = "torch",
) -> ScoreTrack:
    """Score the frames of one file. For many files, make one `Scorer`.

    Args:
        model: The trained model.
        frames: Frames at the model's rate and size, in chunks (see `decode`).
        hop_s: Seconds between windows; None: a quarter of the window.
        mode: "windows" runs the network on every window (exact). "shared" runs the trunk once over
            the whole footage and slides the head; windows then see their surroundings instead of
            zero padding, so the scores differ slightly. "auto" shares where the trunk sees single
            frames and both give the same, and where training found that both agree.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "float32" or "bf16".
        batch_size: Windows that go through the network at once.
        engine: What the trunk runs on, one of ENGINES; "auto" takes the fastest one by a trial.

    Raises:
        ValueError: An argument is out of range, the trunk cannot be shared, or the engine is not
            installed or cannot run this trunk.

    Example:
        >>> from touchline.pipeline import decode, load_model, score_footage
        >>> model = load_model("model.safetensors")
        >>> frames = decode("match.mp4", rate_hz=model.spec.rate_hz, size_px=model.spec.size_px)
        >>> track = score_footage(model, frames, hop_s=0.5)
        >>> track.labels, track.probs.shape
        (('background', 'bright'), (23, 2))
    """
    scorer = Scorer(
        model,
        device=device,
        precision=precision,
        batch_size=batch_size,
        mode=mode,
        hop_s=hop_s,
        engine=engine,
    )
    return scorer.score(frames, hop_s=hop_s)


def joined(
    parts: Iterable[ScoreTrack],
    labels: tuple[str, ...],
    on_window: Callable[[float], None] | None = None,
) -> ScoreTrack:
    """Join the parts of a track, in time order.

    Args:
        parts: The parts.
        labels: The classes of the track, `background` first.
        on_window: Called with the end of each part, in seconds.
    """
    empty = np.zeros(0)
    start_s, end_s, damaged = [empty], [empty], [np.zeros(0, np.bool_)]
    probs = [np.zeros((0, len(labels)), np.float32)]
    for part in parts:
        start_s.append(part.start_s)
        end_s.append(part.end_s)
        probs.append(part.probs)
        damaged.append(part.damaged)
        if on_window is not None:
            on_window(float(part.end_s[-1]))
    return ScoreTrack(
        labels=labels,
        start_s=np.concatenate(start_s),
        end_s=np.concatenate(end_s),
        probs=np.concatenate(probs),
        damaged=np.concatenate(damaged),
    )


def overlapping_pieces(
    track: Iterable[Sampled[T]], *, length: int, margin: int, before: int = 0
) -> Iterator[tuple[list[Sampled[T]], int, int]]:
    """Cut a track into pieces with neighbours on each side.

    Args:
        track: The items.
        length: Items per piece; the last piece may be shorter.
        margin: Neighbours on each side, fewer at the ends.
        before: How many items of the track are only neighbours of the first piece.

    Yields:
        (items, first, last): items[first:last] are the piece, the others its neighbours.
    """
    held: list[Sampled[T]] = []
    for item in track:
        held.append(item)
        if len(held) == before + length + margin:
            yield held, before, before + length
            # The next piece begins with the items after this one; keep their neighbours.
            before_next = min(margin, before + length)
            held = held[before + length - before_next :]
            before = before_next
    if len(held) > before:
        yield held, before, len(held)


def _copied(values: Tensor) -> Callable[[], Float32]:
    """Begin to copy values to the host; the result waits for this copy, not for later work."""
    if values.device.type != "cuda":
        return values.cpu().numpy
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(values.device))

    def wait() -> Float32:
        copied.synchronize()
        return host.numpy()

    return wait


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _times(batch: list[tuple[list[Sampled[T]], int]]) -> list[tuple[float, float, bool]]:
    """(start_s, end_s, damaged) of each window; padding adds no time."""
    return [
        (window[0].start_s, window[real - 1].end_s, any(w.damaged for w in window))
        for window, real in batch
    ]

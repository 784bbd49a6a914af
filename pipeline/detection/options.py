"""Options of `detect`: plain values, quick to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from touchline.pipeline.scoring.options import EventOptions, OperatingPoint


@dataclass(frozen=True)
class DetectOptions:
    """How to find events in footage.

    `isolation` and `decode_workers` do not change the result of sound footage. Damage is always
    marked, but how many good frames next to it are marked too depends on how many frames are
    decoded at once, and so on `decode_workers` and on the machine's cores.

    Attributes:
        hop_s: Seconds between windows. None: a quarter of the window.
        threshold: One threshold for every class. None: the model's calibrated thresholds, and
            `point.threshold` for classes that have none.
        point: How runs of high scores become events. Its threshold is the default threshold.
        events: How scores are smoothed and overlapping events dropped.
        floor: Candidates with a lower score are not kept, in (0, 1].
        decoder: The library that decodes the footage, one of `decode`'s names.
        device: "auto" (the first GPU, else the CPU), or a name that torch knows.
        precision: "auto", "float32" or "bf16".
        batch_size: Windows that run through the network together. None: what memory holds, at most
            8 on a CPU and 32 on a GPU.
        mode: "windows", "shared" or "auto", see `Scorer`.
        engine: What the trunk runs on: "torch", "onnxruntime", "openvino", or "auto" (on a CPU the
            fastest one that is installed, by a trial that is kept). It changes scores by less than
            one in a thousand.
        int8: A trunk in int8, from `touchline models export --to int8`, for the engine onnxruntime
            or openvino. None: no int8.
        compiled: Run the trunk through torch.compile, which takes a minute or so at the start.
        stream: Index of the video stream in the container. None: the default stream, else the
            largest.
        isolation: Decode in separate processes. Only POSIX systems have them; others ignore this.
        features: Folder that keeps the features of whole matches, such as that of a studio
            project: what is there is not computed again. Scores then differ in the third decimal,
            and frames are not counted. None keeps none.
        decode_workers: Processes that decode one file. None: several for long footage on a
            machine with enough cores.

    Example:
        >>> from touchline.pipeline import DetectOptions, EventOptions
        >>> options = DetectOptions(threshold=0.7, events=EventOptions(spots=True))
        >>> (options.threshold, options.floor, options.events.spots)
        (0.7, 0.01, True)
    """

    hop_s: float | None = None
    threshold: float | None = None
    point: OperatingPoint = field(default_factory=OperatingPoint)
    events: EventOptions = field(default_factory=EventOptions)
    floor: float = 0.01
    decoder: str = "pyav"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    mode: str = "auto"
    engine: str = "auto"
    int8: Path | None = None
    compiled: bool = False
    stream: int | None = None
    isolation: bool = True
    features: Path | None = None
    decode_workers: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must be in (0, 1]")
        if not 0 < self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it must be in (0, 1]")
        if self.decode_workers is not None and self.decode_workers < 1:
            raise ValueError(f"decode_workers is {self.decode_workers}; it must be 1 or more")
        if self.int8 is not None and self.features is not None:
            raise ValueError("features are not kept in int8. Leave out int8 or features.")

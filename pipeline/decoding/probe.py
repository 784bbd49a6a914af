"""Compare what the headers of a file declare with what is really in it."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.codeccontext import AudioCodecContext

from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.pyav import AvPicture, pyav_frames
from touchline.pipeline.decoding.to_rgb import HLG, PQ, Orientation, orientation
from touchline.pipeline.footage import matroska
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.footage.open import OpenFootage, open_footage
from touchline.pipeline.footage.packet_scan import (
    EVEN_WITHIN_S,
    index_leads_astray,
    is_even,
    scan_packets,
)
from touchline.pipeline.types import Float64, FootageHealth

# Frame rates in use. A measured rate is taken for the nearest one that fits the timestamps.
USUAL_RATES = (
    *(Fraction(rate) for rate in (24, 25, 30, 50, 60, 100, 120)),
    *(Fraction(rate * 1000, 1001) for rate in (24, 30, 60, 120)),
)

# A declared rate that differs by more than this factor is wrong.
OTHER_RATE = Fraction(11, 10)

# DV and some broken headers declare thousands of frames per second.
MIN_RATE, MAX_RATE = Fraction(1, 3600), 1000

# Where the worker finds `probe_footage` without isolation.
PROBE_TASK = "touchline.pipeline.decoding.probe:probe_here"


def probe_footage(
    path: str | os.PathLike[str],
    *,
    depth: str = "headers",
    stream: int | None = None,
    isolation: bool = AVAILABLE,
) -> FootageHealth:
    """Report the health of a file: what it declares, and what is really in it.

    Args:
        path: A file, or an address as text (https://, s3://, gs://).
        depth: "headers" reads only the headers. "packets" reads all packets, for the true
            duration, frame rate and number of frames. "frames" also decodes, to find damage.
        stream: Index of the video stream in the container; None: the default one, else the largest.
        isolation: Read in a process of its own, so that a crash costs only this file.

    Raises:
        FootageError: The file cannot be read as video.
        ValueError: An option has an impossible value.

    Example:
        >>> from touchline.pipeline import probe_footage
        >>> health = probe_footage("match.mp4", depth="frames")
        >>> health.verdict, health.duration_s, health.actual_frames, health.frame_rate
        ('ok', 12.0, 192, '16/1')
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth is {depth!r}; it must be one of {', '.join(DEPTHS)}")
    path = footage_path(path)
    if not isolation:
        return next(probe_here(DecodeLog(), path=str(path), depth=depth, stream=stream))
    arguments = {"path": str(path.absolute()), "depth": depth, "stream": stream}
    (health,) = run_isolated(PROBE_TASK, arguments, path=path)
    if not isinstance(health, FootageHealth):
        raise TypeError(f"the worker gave {type(health).__name__}")
    return health


def probe_here(
    log: DecodeLog, *, path: str, depth: str, stream: int | None
) -> Iterator[FootageHealth]:
    """Yield one FootageHealth, made in this process.

    Args:
        log: Shows the caller that reading makes progress.
        path: The file or address.
        depth: A name in DEPTHS.
        stream: Index of the video stream in the container; None chooses one.
    """
    yield DEPTHS[depth](footage_path(path), stream, log)


def health_after(health: FootageHealth, log: DecodeLog) -> FootageHealth:
    """Return the health with what decoding to the end of the file has found."""
    return replace(
        health,
        damaged_s=tuple(log.damaged_s),
        gaps_s=tuple(log.gaps_s),
        warnings=tuple(dict.fromkeys((*health.warnings, *log.warnings))),
        actual_duration_s=log.end_s,
        actual_frames=log.num_frames,
    )


def rate_is_wrong(health: FootageHealth) -> bool:
    """Tell whether as many frames as were found cannot follow at the declared constant rate."""
    shown_s = (health.actual_duration_s or 0.0) - health.first_frame_s
    if health.variable_rate or not health.frame_rate or not health.actual_frames or shown_s <= 0:
        return False
    return _far_apart(Fraction(health.frame_rate), health.actual_frames / Fraction(shown_s))


def _far_apart(declared: Fraction, rate: Fraction) -> bool:
    """Whether a declared rate is possible and the true one another."""
    near = 1 / OTHER_RATE < rate / declared < OTHER_RATE
    return not near and MIN_RATE <= declared <= MAX_RATE


def _headers(path: Path, stream: int | None, log: DecodeLog) -> FootageHealth:
    health = _declarations(path, stream)
    if health.duration_s > 0 or isinstance(path, Address):
        return health
    # A recorded live stream does not say how long it is, so all packets are read. Not so at an
    # address, where that means downloading everything.
    return _packets(path, stream, log)


def _declarations(path: Path, stream: int | None) -> FootageHealth:
    footage = open_footage(path, stream=stream)
    with footage.container:
        return declared_health(footage)


def _packets(path: Path, stream: int | None, log: DecodeLog) -> FootageHealth:
    footage = open_footage(path, stream=stream)
    with footage.container:
        health = declared_health(footage)
        scan = scan_packets(footage, log)
    end_s = scan.time_s(-1) + footage.interval_s if len(scan) else Fraction(0)
    log.num_frames, log.end_s = len(scan), float(end_s)
    if scan.num_corrupt:
        log.warn(f"the container marks {scan.num_corrupt} packets as damaged.")
    if scan.read_error:
        log.warn(f"an unreadable place in the file ({scan.read_error}).")
    health = _timed(health_after(health, log))
    if len(scan) < 3:
        return health
    return _with_rate(health, scan.times_s(), scan.time_s(-1) - scan.time_s(0))


def _frames(path: Path, stream: int | None, log: DecodeLog) -> FootageHealth:
    health = _declarations(path, stream)
    times, first_s, last_s = array("d"), Fraction(0), Fraction(0)
    wanted = Wanted(Instants(rate_hz=None), stream=stream)
    for shown in pyav_frames(path, wanted, log):
        if not times and isinstance(shown.picture, AvPicture):
            frame = shown.picture.frame
            health = replace(
                health,
                turned=orientation(frame) != Orientation(),
                sideways=orientation(frame).exchanged,
                interlaced=frame.interlaced_frame,
                dynamic_range=_dynamic_range(frame.color_trc),
                pixel_format=frame.format.name,
            )
            first_s = shown.time_s
        times.append(float(shown.time_s))
        last_s = shown.time_s
    health = _timed(health_after(health, log))
    if len(times) >= 3:
        health = _with_rate(health, np.array(times), last_s - first_s)
    return _with_index(_with_empty(health), path, stream)


def _with_empty(health: FootageHealth) -> FootageHealth:
    """The health; AVI declares a frame for each moment in which the recorder had none, too."""
    found, declared = health.actual_frames or 0, health.num_frames
    ends_early = any(warning.startswith("ends early") for warning in health.warnings)
    if health.container != "avi" or ends_early or found >= declared * 0.95:
        return health
    said = (
        f"{declared - found} of its {declared} declared frames are empty. The frame before each "
        "stays on the screen."
    )
    return replace(health, warnings=(*health.warnings, said))


def _with_index(health: FootageHealth, path: Path, stream: int | None) -> FootageHealth:
    """The health; a Matroska index that leads to wrong places makes seeking slow."""
    if not health.container.startswith("matroska") or isinstance(path, Address):
        return health
    footage = open_footage(path, stream=stream)
    with footage.container:
        if index_leads_astray(footage):
            said = "its index (cues) names wrong places. Seeking takes longer; times are right."
            return replace(health, warnings=(*health.warnings, said))
    return health


def _timed(health: FootageHealth) -> FootageHealth:
    """The health; if no duration is declared, with the one that was found."""
    if health.duration_s > 0 or health.actual_duration_s is None:
        return health
    return replace(health, duration_s=health.actual_duration_s)


# How much of a file is read.
DEPTHS = {"headers": _headers, "packets": _packets, "frames": _frames}


def declared_health(footage: OpenFootage) -> FootageHealth:
    """Return what the headers of an open file declare."""
    container, stream = footage.container, footage.stream
    context, rate = stream.codec_context, stream.average_rate
    # Field orders of ITU-T H.264: 0 is unknown, 1 progressive.
    interlaced = context.field_order > 1
    return FootageHealth(
        container=container.format.name,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        frame_rate=None if not rate else f"{rate.numerator}/{rate.denominator}",
        variable_rate=bool(
            rate and stream.base_rate and abs(stream.base_rate / rate - 1) > Fraction(1, 100)
        ),
        duration_s=float(footage.declared_s or 0),
        start_s=float(footage.origin_s),
        first_frame_s=float(footage.first_frame_s),
        pictures_end_s=None if footage.declared_end_s is None else float(footage.declared_end_s),
        size_bytes=container.size if container.size > 0 else None,
        start_timecode=_timecode(stream.metadata) or _timecode(container.metadata),
        num_frames=stream.frames,
        warnings=(*footage.warnings, *_cut_short(footage.path)),
        stream_index=stream.index,
        pixel_format=context.pix_fmt or "",
        pixel_aspect=_ratio(footage.pixel_aspect),
        interlaced=interlaced,
        dynamic_range=_dynamic_range(context.color_trc),
        sound=_sound(footage),
        turned=footage.turned,
        sideways=footage.sideways,
    )


def _cut_short(path: Path) -> Iterator[str]:
    if isinstance(path, Address):
        # Following the elements would read all of it.
        return
    with path.open("rb") as file:
        if matroska.is_cut_short(file, file.seek(0, os.SEEK_END)):
            yield (
                "cut short: the recording or the copy of it was not finished. What follows is "
                "missing."
            )


def _sound(footage: OpenFootage) -> str:
    """The tracks of sound, in a few words for each kind."""
    tracks = Counter(_track(stream.codec_context) for stream in footage.container.streams.audio)
    return "; ".join(
        kind if number == 1 else f"{number} tracks of {kind}" for kind, number in tracks.items()
    )


def _track(context: AudioCodecContext | None) -> str:
    if context is None or context.layout is None:
        return "a codec that cannot be decoded"
    # MXF and some cameras do not say where the loudspeaker stands.
    layout = "mono" if context.layout.nb_channels == 1 else context.layout.name
    return f"{context.codec.canonical_name} {context.sample_rate} Hz {layout}"


def _timecode(metadata: Mapping[str, str]) -> str | None:
    """The start timecode. MOV writes `timecode`, Matroska tags are in capitals."""
    return next((text for name, text in metadata.items() if name.lower() == "timecode"), None)


def _ratio(ratio: Fraction) -> str:
    return f"{ratio.numerator}/{ratio.denominator}"


def _dynamic_range(transfer: int) -> str:
    return {PQ: "HDR10", HLG: "HLG"}.get(transfer, "SDR")


def _with_rate(health: FootageHealth, times_s: Float64, span_s: Fraction) -> FootageHealth:
    """The health with the rate measured from times (N,) that span `span_s` seconds."""
    if span_s <= 0:
        return health
    if not is_even(times_s):
        return replace(health, frame_rate=None, variable_rate=True)
    measured = (len(times_s) - 1) / span_s
    declared = [Fraction(health.frame_rate)] if health.frame_rate else []
    by_nearness = sorted(USUAL_RATES, key=lambda usual: abs(usual - measured))
    meant = (
        r for r in (*declared, *by_nearness) if abs(measured / r - 1) <= EVEN_WITHIN_S / span_s
    )
    rate = next(meant, measured).limit_denominator(1001)
    health = replace(health, frame_rate=_ratio(rate), variable_rate=False)
    for said in declared:
        if _far_apart(said, rate):
            warning = f"declares {float(said):g} frames/s, but has {float(rate):g}."
            health = replace(health, warnings=(*health.warnings, warning))
    return health

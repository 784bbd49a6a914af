"""Open footage safely: refuse files that are no video, and choose one video stream.

Files and addresses that are named inside a file (playlists) are never opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.footage import mp4_boxes, sniff
from touchline.pipeline.footage.address import BUFFER_BYTES, Address, footage_path, open_bytes

StreamT = TypeVar("StreamT", bound=Stream)

# FFmpeg's demuxers for footage. Left out on purpose: those that read other files or open
# connections (hls, dash, concat, sdp, image2, ...), and those for sound or text only.
DEMUXERS = (
    "mov", "matroska", "mpegts", "mpeg", "avi", "asf", "flv", "gif", "mxf", "ogg", "nut", "ivf",
    "dv", "wtv", "rm", "3gp", "h264", "hevc", "m4v", "mpegvideo", "vc1", "obu", "yuv4mpegpipe",
    "mjpeg", "h263", "h261", "dirac", "gxf", "lxf", "dhav", "nuv", "swf", "amv", "kux", "live_flv",
)  # fmt: skip

# 23 days at 25 frames a second.
MAX_FRAMES = 50_000_000

# Recordings start near their clock's zero. Pieces of longer ones and broadcasts start anywhere.
FAR_START_S = 3600

# Pictures with a shorter side than this show no match, and no match is that wide or high.
SMALL_PX = 32
LONG_SIDES = 4

# Every stream has started within this many packets.
FIRST_PACKETS = 200

# Raw streams: they hold no timestamps.
_RAW_FORMATS = {"h264", "hevc", "m4v", "mpegvideo", "vc1", "mjpeg", "h263", "h261", "dirac", "obu"}


class SupportsRead(Protocol):
    """Where bytes can be read, one after the other."""

    def read(self, num_bytes: int, /) -> bytes:
        """Read at most this many bytes; none is the end."""


@dataclass(frozen=True)
class OpenFootage:
    """An open container and the video stream to use. The caller closes the container.

    Attributes:
        path: The file or address.
        container: PyAV's container.
        stream: The video stream to use.
        origin_s: The container's start time in seconds. Every reported time is relative to it.
        time_base: Seconds per tick of the stream's timestamps.
        interval_s: The usual time between frames, in seconds.
        stamped: Whether the container gives every frame a presentation time.
        is_raw: Whether the stream holds no times at all.
        turned: Whether players turn or mirror the picture, as far as an MP4 file declares it.
        sideways: Whether that is by a quarter.
        pixel_aspect: Width of a pixel divided by its height.
        declared_s: How long the file is according to the headers; None if they do not say.
        declared_end_s: When the video ends according to the headers; None if they do not say.
        edits: The track's edit list, empty if there is none.
        warnings: Sentences for the user, such as which of several streams was chosen.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    origin_s: Fraction
    time_base: Fraction
    interval_s: Fraction
    stamped: bool
    is_raw: bool
    turned: bool
    sideways: bool
    pixel_aspect: Fraction
    declared_s: Fraction | None
    declared_end_s: Fraction | None
    edits: tuple[mp4_boxes.Edit, ...]
    warnings: tuple[str, ...]

    def seconds(self, ticks: int) -> Fraction:
        """Convert a timestamp of the stream to seconds from the container's start, exactly."""
        # Written out: this runs for every frame, and Fraction's own arithmetic is slow.
        base, origin = self.time_base, self.origin_s
        return Fraction(
            ticks * base.numerator * origin.denominator - origin.numerator * base.denominator,
            base.denominator * origin.denominator,
        )

    @property
    def keeps_gaps(self) -> bool:
        """Whether timestamps are places on a timeline. Streams instead record a running clock."""
        return self.container.format.name.split(",")[0] in ("mov", "matroska")

    @property
    def first_frame_s(self) -> Fraction:
        """When the headers say the first frame is shown, in seconds from the container's start."""
        start = self.stream.start_time
        return Fraction(0) if start is None else max(Fraction(0), self.seconds(start))


def open_footage(
    path: str | os.PathLike[str], *, stream: int | None = None, hwaccel: HWAccel | None = None
) -> OpenFootage:
    """Open a file or an address and choose its video stream.

    Args:
        path: The footage.
        stream: Index of the video stream in the container, as `touchline probe` prints it. None:
            the stream marked as default, else the largest.
        hwaccel: Decode on a GPU; None: on the CPU.

    Raises:
        FootageError: The file is not a video that can be decoded; the message says why.
        ValueError: There is no video stream of this index, or the GPU cannot be used.
    """
    path = footage_path(path)
    boxes = _refuse_or_read_boxes(path)
    container = open_container(path, hwaccel=hwaccel)
    try:
        return _choose(path, container, stream, boxes)
    except BaseException:
        container.close()
        raise


def open_stream(
    path: Path,
    source: str | SupportsRead,
    *,
    stream: int | None,
    timeout_s: tuple[float, float],
    formats: Sequence[str],
    options: Mapping[str, str],
) -> OpenFootage:
    """Open footage that is still going on, which can be read only once.

    Args:
        path: How errors and results name the footage.
        source: The address for FFmpeg, or an object to read bytes from.
        stream: Index of the video stream in the container; None chooses one.
        timeout_s: The longest silence while the stream is opened, and later, in seconds.
        formats: FFmpeg's demuxers that may open it.
        options: FFmpeg's options, `protocol_whitelist` among them.

    Raises:
        FootageError: Nothing comes, or it is no video that can be decoded.
        ValueError: There is no video stream of this index.
    """
    try:
        container = av.open(
            source,
            "r",
            buffer_size=BUFFER_BYTES,
            metadata_errors="replace",
            container_options={
                "format_whitelist": ",".join(formats),
                "max_streams": "100",
                **options,
            },
            options={"max_pixels": str(sniff.MAX_PIXELS)},
            timeout=timeout_s,
        )
    except av.error.ExitError:
        raise FootageError(
            path, f"nothing came for {timeout_s[0]:g} s. Start the sender, then try again."
        ) from None
    except av.error.ConnectionRefusedError:
        raise FootageError(
            path, "nobody listens at this address. Check host and port, and start the sender."
        ) from None
    except av.error.ProtocolNotFoundError:
        raise FootageError(
            path,
            "the installed FFmpeg libraries (PyAV) cannot read this kind of address. "
            "Relay the stream as udp:// or tcp://, or pipe it to standard input.",
        ) from None
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise FootageError(
            path, f"not a stream with video that can be read ({reason(error)})."
        ) from None
    try:
        return _choose(path, container, stream, None)
    except BaseException:
        container.close()
        raise


def first_frame_s(path: Path, stream: int | None) -> Fraction:
    """Return when the first frame is shown; see `OpenFootage`. A local file is asked once.

    Args:
        path: The file or address.
        stream: Index of the video stream in the container; None chooses one.

    Raises:
        FootageError: The file is not a video that can be decoded.
    """
    if isinstance(path, Address):
        return _first_frame_s(path, None, stream)
    return _first_frame_s(path, version_of(path), stream)


def version_of(path: Path) -> tuple[int, int] | None:
    """Return what changes when a local file does; None if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _first_frame_s(path: Path, version: tuple[int, int] | None, stream: int | None) -> Fraction:
    footage = open_footage(path, stream=stream)
    with footage.container:
        return footage.first_frame_s


def packets_of(container: InputContainer, stream: StreamT) -> Iterator[Packet[StreamT]]:
    """Read the packets of a stream, without the empty ones that flush the decoder."""
    # PyAV raises IndexError at the end of a file in which another stream began midway.
    with suppress(IndexError):
        for packet in container.demux(stream):
            if packet.size:
                yield cast("Packet[StreamT]", packet)


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams, without cover pictures, thumbnails and still pictures."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return [s for s in container.streams.video if not s.disposition & still]


def container_start_s(path: Path, container: InputContainer) -> Fraction:
    """Return the container's start time in seconds, exactly if one of its streams gives it."""
    microseconds: int | None = container.start_time
    if microseconds is None:
        return _first_stamp_s(path)
    rounded = Fraction(microseconds, 1_000_000)
    for stream in container.streams:
        if stream.start_time is not None and stream.time_base is not None:
            start = stream.start_time * stream.time_base
            if abs(start - rounded) <= Fraction(1, 1_000_000):
                return start
    return rounded


def reason(error: BaseException) -> str:
    """Return the first line of a library's error message, without the file name."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


@dataclass(frozen=True)
class _Boxes:
    """What the boxes of an MP4 file say; nothing for other formats."""

    tracks: tuple[mp4_boxes.VideoTrack, ...] = ()
    warnings: tuple[str, ...] = ()


def _refuse_or_read_boxes(path: Path) -> _Boxes:
    place = None if isinstance(path, Address) else sniff.refuse_place(path)
    if place is not None:
        raise FootageError(path, place)
    try:
        with open_bytes(path) as file:
            size = file.seek(0, os.SEEK_END)
            content = sniff.refuse_content(file, size)
            if content is not None:
                raise FootageError(path, content)
            boxes = list(mp4_boxes.read_boxes(file, 0, size))
            moov = next((box for box in boxes if box.kind == b"moov"), None)
            tracks = [] if moov is None else mp4_boxes.video_tracks(file, moov)
            joined = sniff.second_flv(file, size)
    except OSError as error:
        raise FootageError(path, f"cannot be read ({error.strerror})") from None
    for track in tracks:
        if track.fourcc in (b"encv", b"drmi"):
            raise FootageError(path, "encrypted (DRM). Give a copy without copy protection.")
        if track.num_samples > MAX_FRAMES:
            raise FootageError(
                path,
                f"declares {track.num_samples} frames, which is impossible. "
                "The index is damaged: copy or download the file again.",
            )
    return _Boxes(tuple(tracks), tuple(_box_warnings(boxes, size, joined=joined)))


def _box_warnings(boxes: list[mp4_boxes.Box], size: int, *, joined: bool) -> Iterator[str]:
    kinds = [box.kind for box in boxes]
    if joined or (kinds.count(b"moov") > 1 and kinds.count(b"ftyp") > 1):
        yield (
            "a second recording follows in the same file. Players and Touchline show only the "
            "first. Split the file to use the second."
        )
    # Without fragments the headers declare how long the file should be.
    if b"moof" in kinds and boxes[-1].end > size:
        yield "cut short: its last fragment is incomplete. What follows is missing."


def open_container(
    path: Path, source: SupportsRead | None = None, *, hwaccel: HWAccel | None = None
) -> InputContainer:
    """Open a file or an address as a container; `open_footage` also chooses the video stream.

    Args:
        path: The footage.
        source: What to read in its place; None reads the footage itself.
        hwaccel: Decode on a GPU; None: on the CPU.

    Raises:
        FootageError: The file is in no format that can be read.
        ValueError: The GPU cannot be used.
    """
    if source is None and isinstance(path, Address):
        source = open_bytes(path)
    try:
        return av.open(
            # With the protocol written out, FFmpeg takes no name for an address ("http:x.mp4").
            f"file:{path}" if source is None else source,
            "r",
            buffer_size=BUFFER_BYTES,
            metadata_errors="replace",
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(DEMUXERS),
                "max_streams": "100",
            },
            options={"max_pixels": str(sniff.MAX_PIXELS)},
            hwaccel=hwaccel,
        )
    except av.error.MemoryError:
        raise FootageError(
            path,
            "its headers ask for more memory than this machine has. "
            "The file is damaged: copy or download it again.",
        ) from None
    except (av.error.PermissionError, RuntimeError, NotImplementedError) as error:
        if hwaccel is None:
            raise FootageError(path, f"cannot be opened ({reason(error)})") from None
        raise ValueError(
            f"the decoder pyav-cuda cannot be used here ({reason(error)}). Use the decoder pyav."
        ) from None
    except av.error.EOFError:
        raise FootageError(
            path, "ends before its first frame. Check that the copy or download is complete."
        ) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FootageError(
            path,
            f"not a video format that can be read ({reason(error)}). "
            "Check that the file is complete.",
        ) from None


def _choose(
    path: Path,
    container: InputContainer,
    wanted: int | None,
    boxes: _Boxes | None,
) -> OpenFootage:
    """Choose the video stream. Without boxes the footage cannot be read a second time."""
    tracks = boxes.tracks if boxes else ()
    videos = moving_streams(container)
    if not videos:
        raise FootageError(path, _no_video(container))
    if wanted is None:
        stream = max(videos, key=_preference)
    else:
        stream = next((s for s in videos if s.index == wanted), None) or _unknown(wanted, videos)
    if stream.codec_context is None:
        raise FootageError(
            path,
            f"no decoder for its codec ({_codec(path, container, tracks) if boxes else 'unnamed'})."
            " Convert it to H.264.",
        )
    too_large = sniff.refuse_size(stream.codec_context.width, stream.codec_context.height)
    if too_large is not None:
        raise FootageError(path, too_large)
    is_raw = container.format.name in _RAW_FORMATS
    start: int | None = container.start_time
    is_known = boxes is not None or start is not None
    origin_s = container_start_s(path, container) if is_known and not is_raw else Fraction(0)
    track = tracks[videos.index(stream)] if len(tracks) == len(videos) else None
    warnings = [
        *(boxes.warnings if boxes else ()),
        *_choice_warnings(container, videos, stream, wanted),
        *_size_warnings(stream, track),
    ]
    if origin_s > FAR_START_S:
        warnings.append(
            f"its clock starts at {float(origin_s):.3f} s. Touchline counts times from there."
        )
    return OpenFootage(
        path=path,
        container=container,
        stream=stream,
        origin_s=origin_s,
        time_base=stream.time_base or Fraction(1, 1000),
        interval_s=_interval_s(stream),
        stamped=not is_raw and container.format.name != "avi",
        is_raw=is_raw,
        turned=track is not None and track.turned,
        sideways=track is not None and track.sideways,
        pixel_aspect=_pixel_aspect(stream, track),
        declared_s=_declared_s(container, stream, origin_s),
        declared_end_s=_declared_end_s(container, stream, origin_s),
        edits=() if track is None else track.edits,
        warnings=tuple(warnings),
    )


def _preference(stream: VideoStream) -> tuple[bool, bool, int, int]:
    context = stream.codec_context
    area = 0 if context is None else context.width * context.height
    default = bool(stream.disposition & Disposition.default)
    return context is not None, default, area, -stream.index


def _unknown(wanted: int, videos: list[VideoStream]) -> VideoStream:
    known = ", ".join(str(s.index) for s in videos)
    raise ValueError(f"stream is {wanted}; the video streams of this file are {known}")


def _no_video(container: InputContainer) -> str:
    if container.streams.video:
        return "only a cover picture and sound. Give the video that they belong to."
    if container.streams.audio:
        return "only sound, no video stream. Give the video of the match."
    return "no video stream. Perhaps the recording stopped before its first frame."


def _codec(path: Path, container: InputContainer, tracks: Sequence[mp4_boxes.VideoTrack]) -> str:
    if tracks:
        return tracks[0].fourcc.decode("ascii", "replace")
    with open_bytes(path) as file:
        return sniff.codec_name(file.read(sniff.HEAD_BYTES), container.format.name)


def _interval_s(stream: VideoStream) -> Fraction:
    rate = stream.guessed_rate or stream.average_rate
    # DV and some broken headers declare thousands of frames per second, or one in months.
    return 1 / rate if rate and Fraction(1, 3600) <= rate <= 1000 else Fraction(1, 25)


def _choice_warnings(
    container: InputContainer, videos: list[VideoStream], stream: VideoStream, wanted: int | None
) -> list[str]:
    warnings = []
    if len(videos) > 1 and wanted is None:
        listed = ", ".join(
            f"{s.index} ({s.codec_context.width}x{s.codec_context.height})"
            for s in videos
            if s.codec_context is not None
        )
        warnings.append(
            f"several video streams: {listed}. Stream {stream.index} is used; "
            "choose another with --stream."
        )
    if container.format.name in _RAW_FORMATS:
        rate = 1 / _interval_s(stream)
        warnings.append(f"a raw stream without timestamps. {float(rate):g} frames/s are assumed.")
    return warnings


def _is_misdeclared(track: mp4_boxes.VideoTrack | None) -> bool:
    """Whether the index of an MP4 file declares impossible pictures."""
    return track is not None and sniff.refuse_size(track.width, track.height) is not None


def _pixel_aspect(stream: VideoStream, track: mp4_boxes.VideoTrack | None) -> Fraction:
    """The container's word counts before the codec's, unless it comes from an impossible size."""
    context = stream.codec_context
    source = context if _is_misdeclared(track) else stream
    return Fraction(source.sample_aspect_ratio or 1) or Fraction(1)


def _size_warnings(stream: VideoStream, track: mp4_boxes.VideoTrack | None) -> Iterator[str]:
    W, H = stream.codec_context.width, stream.codec_context.height
    if track is not None and _is_misdeclared(track):
        yield f"its index declares pictures of {track.width}x{track.height}, but they are {W}x{H}."
    if not W or not H:
        return
    if min(W, H) < SMALL_PX:
        yield f"very small pictures, {W}x{H}. Is this a thumbnail of the footage?"
    if max(W, H) > LONG_SIDES * min(W, H):
        yield f"unusually long pictures, {W}x{H}. Check that this is the footage."


def _first_stamp_s(path: Path) -> Fraction:
    """The earliest timestamp among the first packets, for containers without a start time."""
    stamps = []
    with open_container(path) as container:
        try:
            for packet in islice(container.demux(), FIRST_PACKETS):
                if packet.pts is not None and packet.size:
                    stamps.append(packet.pts * packet.time_base)
        except (av.error.FFmpegError, OSError, IndexError):
            pass
    return min(stamps, default=Fraction(0))


def _declared_s(
    container: InputContainer, stream: VideoStream, origin_s: Fraction
) -> Fraction | None:
    if container.duration is None:
        return None
    length_s = Fraction(container.duration, 1_000_000)
    # Some writers put the length there, some the last timestamp. The smaller one is safe.
    ends = stream.duration is None or _is_fragmented(container, stream)
    return length_s - origin_s if ends and 0 < origin_s < length_s else length_s


def _is_fragmented(container: InputContainer, stream: VideoStream) -> bool:
    """MP4 in fragments: FFmpeg then takes the end of the last one for the duration."""
    return container.format.name.startswith("mov") and not stream.frames


def _declared_end_s(
    container: InputContainer, stream: VideoStream, origin_s: Fraction
) -> Fraction | None:
    if stream.duration is None or stream.time_base is None:
        return _declared_s(container, stream, origin_s)
    if _is_fragmented(container, stream):
        return stream.duration * stream.time_base - origin_s
    start_s = origin_s if stream.start_time is None else stream.start_time * stream.time_base
    return start_s + stream.duration * stream.time_base - origin_s

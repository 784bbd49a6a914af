"""Make the sound track of a reel: encoded as AAC, exact to the sample, or copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import open_footage
from touchline.pipeline.footage.packet_scan import clock_parts, packets_past_errors
from touchline.pipeline.reels.coded_video import CodedVideo, decodable
from touchline.pipeline.reels.encode import Placed
from touchline.pipeline.types import Float32

BLOCK_SAMPLES = 1024

# Start decoding this much earlier: the first packets of AAC and Opus decode inexactly.
RUN_UP_S = Fraction(1, 4)


@dataclass(frozen=True)
class SoundPiece:
    """A piece of the footage's sound.

    Attributes:
        start_s: Its start in the footage, in seconds.
        num_samples: Its length in samples of the output.
        fade_in: How many of its samples overlap the end of the piece before.
    """

    start_s: Fraction
    num_samples: int
    fade_in: int = 0


@dataclass(frozen=True)
class SoundFormat:
    """Sample rate and channel layout ("mono" or "stereo") of the output."""

    rate_hz: int
    layout: str

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.layout == "mono" else 2


AAC_BIT_RATE = 160_000

AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)


def open_sound(video: CodedVideo) -> tuple[InputContainer, list[AudioStream]] | None:
    """Open the file again, and choose its sound; None if it has none that can be decoded.

    Several streams are the channels of one sound, left before right.
    """
    footage = open_footage(video.path, stream=video.stream.index)
    tracks = _tracks(footage.container, footage.stream)
    if not tracks:
        footage.container.close()
        return None
    return footage.container, tracks


def _tracks(container: InputContainer, picture: VideoStream) -> list[AudioStream]:
    """The sound of the picture's programme, or else the default one, or else the first."""
    # A stream has no context if this FFmpeg cannot decode its codec.
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not known:
        return []
    best = container.streams.best("audio", related=picture)
    chosen = next((s for s in known if s is best), None) or max(known, key=_is_default)
    # Camcorders (XDCAM) record one mono track per channel.
    mono = [stream for stream in known if _is_mono_pcm(stream)]
    separate = container.format.name.split(",")[0] in ("mxf", "mov") and chosen in mono[:2]
    return mono[:2] if separate and len({s.rate for s in mono[:2]}) == 1 else [chosen]


def _is_default(stream: AudioStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _is_mono_pcm(stream: AudioStream) -> bool:
    context = stream.codec_context
    return context.name.startswith("pcm_") and context.layout.nb_channels == 1


def is_silenced(container: InputContainer) -> bool:
    """Whether the file has sound, but in codecs that this FFmpeg cannot decode."""
    audio = container.streams.audio
    return bool(audio) and all(stream.codec_context is None for stream in audio)


def sound_format(tracks: Sequence[AudioStream]) -> SoundFormat:
    """Keep the sample rate if AAC allows it, otherwise 48000 Hz; mono stays mono."""
    context = tracks[0].codec_context
    mono = len(tracks) == 1 and context.layout.nb_channels == 1
    rate = context.sample_rate
    return SoundFormat(rate if rate in AAC_RATES_HZ else 48000, "mono" if mono else "stereo")


def read_samples(video: CodedVideo, piece: SoundPiece, sound: SoundFormat) -> Iterator[Float32]:
    """The samples of a piece in blocks (C, n) float32, exactly `piece.num_samples` in total.

    Timestamps decide where a sample belongs. Gaps in the file become silence.

    Args:
        video: The footage.
        piece: The part of the sound to read.
        sound: Sample rate and channels of the blocks.
    """
    opened = open_sound(video)
    if opened is None:
        return
    container, tracks = opened
    container.close()
    layout = sound.layout if len(tracks) == 1 else "mono"
    one = SoundFormat(sound.rate_hz, layout)
    channels = [_in_equal_blocks(_track_samples(video, k, piece, one)) for k in range(len(tracks))]
    for blocks in zip(*channels, strict=True):
        yield np.concatenate(blocks)


def _in_equal_blocks(blocks: Iterable[Float32]) -> Iterator[Float32]:
    held: list[Float32] = []
    for block in blocks:
        held.append(block)
        if sum(one.shape[1] for one in held) < BLOCK_SAMPLES:
            continue
        joined = np.concatenate(held, axis=1)
        whole = joined.shape[1] // BLOCK_SAMPLES * BLOCK_SAMPLES
        for k in range(0, whole, BLOCK_SAMPLES):
            yield joined[:, k : k + BLOCK_SAMPLES]
        held = [joined[:, whole:]]
    if held and (rest := np.concatenate(held, axis=1)).shape[1]:
        yield rest


def _track_samples(
    video: CodedVideo, track: int, piece: SoundPiece, sound: SoundFormat
) -> Iterator[Float32]:
    first = round(piece.start_s * sound.rate_hz)
    written = 0
    for at, block in _timed_blocks(video, track, piece.start_s, sound):
        begin = at - first
        if begin + block.shape[1] <= written:
            continue
        if begin > written:
            silence = min(begin, piece.num_samples) - written
            yield np.zeros((sound.channels, silence), np.float32)
            written += silence
        block = block[:, written - begin : piece.num_samples - begin]
        if block.shape[1]:
            yield block
            written += block.shape[1]
        if written >= piece.num_samples:
            return
    if written < piece.num_samples:
        yield np.zeros((sound.channels, piece.num_samples - written), np.float32)


def _timed_blocks(
    video: CodedVideo, track: int, start_s: Fraction, sound: SoundFormat
) -> Iterator[tuple[int, Float32]]:
    """Decoded blocks from shortly before start_s, each with the index of its first sample.

    Timestamps may be rounded, in Matroska and FLV to milliseconds. So a block whose timestamp is
    that near to the end of the one before follows it at once.
    """
    known: tuple[str, str, int] | None = None
    following: int | None = None
    rounding = int(TIMESTAMP_ROUNDING_S * sound.rate_hz)
    for packet, shift_s in _packets_from(video, track, start_s - RUN_UP_S):
        for frame in decodable(packet.decode):
            if frame.pts is None:
                continue
            # Broadcasts change between stereo and 5.1.
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != known:
                known = kind
                resampler = AudioResampler(format="fltp", layout=sound.layout, rate=sound.rate_hz)
            time_s = frame.pts * (frame.time_base or packet.time_base) + shift_s
            for out in resampler.resample(frame):
                block: Float32 = out.to_ndarray().astype(np.float32, copy=False)  # (C, n)
                at = round(time_s * sound.rate_hz)
                if following is not None and abs(at - following) <= rounding:
                    at = following
                yield at, block
                following = at + block.shape[1]
                time_s += Fraction(block.shape[1], sound.rate_hz)


def _packets_from(
    video: CodedVideo, track: int, start_s: Fraction
) -> Iterator[tuple[Packet[AudioStream], Fraction]]:
    """Packets of a track from a time on or earlier, in order.

    With each comes what to add to its timestamps, in seconds, to get times in the footage.
    """
    if len(video.shifts_s) > 1:
        yield from _packets_of_parts(video, track)
        return
    shift_s = video.shifts_s[0] - video.clock_origin_s
    opened = open_sound(video)
    if opened is None:
        return
    container, tracks = opened
    with container:
        stream = tracks[track]
        time_base = stream.time_base or Fraction(1, 48000)
        ticks = int((max(Fraction(0), start_s) - shift_s) / time_base)
        # Some formats cannot seek: then the file is read from its beginning.
        with suppress(FFmpegError, OSError):
            container.seek(ticks, stream=stream, backward=True)
        for packet in packets_past_errors(container, stream, DecodeLog()):
            yield packet, shift_s


def _packets_of_parts(
    video: CodedVideo, track: int
) -> Iterator[tuple[Packet[AudioStream], Fraction]]:
    """All packets of a file whose clock restarts: sound moves by as much as the picture."""
    stamps: list[int | None] = []
    time_base = Fraction(1, 48000)
    for packet in _every_packet(video, track):
        stamps.append(packet.pts)
        time_base = packet.time_base or time_base
    parts = clock_parts(stamps, time_base)
    for packet, part in zip(_every_packet(video, track), parts, strict=True):
        shift_s = video.shifts_s[min(part, len(video.shifts_s) - 1)]
        yield packet, shift_s - video.clock_origin_s


def _every_packet(video: CodedVideo, track: int) -> Iterator[Packet[AudioStream]]:
    """All packets of a track, from the beginning of the file; none if there is no sound."""
    opened = open_sound(video)
    if opened is not None:
        container, tracks = opened
        with container:
            yield from packets_past_errors(container, tracks[track], DecodeLog())


def mix_pieces(
    pieces: Iterable[SoundPiece], video: CodedVideo, sound: SoundFormat
) -> Iterator[Float32]:
    """The pieces one after the other in blocks (C, n); overlaps are equal-power cross-fades.

    Args:
        pieces: The pieces in order.
        video: The footage.
        sound: Sample rate and channels of the blocks.
    """
    pieces = list(pieces)
    tail = np.zeros((sound.channels, 0), np.float32)
    for k, piece in enumerate(pieces):
        fade_out = pieces[k + 1].fade_in if k + 1 < len(pieces) else 0
        done, held = 0, []
        for block in read_samples(video, piece, sound):
            block = _faded_in(block, done, tail)
            keep = max(0, min(block.shape[1], piece.num_samples - fade_out - done))
            done += block.shape[1]
            if keep:
                yield block[:, :keep]
            if keep < block.shape[1]:
                held.append(block[:, keep:])
        tail = np.concatenate(held, axis=1) if held else tail[:, :0]


def _faded_in(block: Float32, done: int, tail: Float32) -> Float32:
    """A block that begins at sample `done` of its piece, mixed with the piece before."""
    length = tail.shape[1]
    overlap = min(block.shape[1], length - done)
    if overlap <= 0:
        return block
    angle = (np.arange(done, done + overlap, dtype=np.float32) + 0.5) / length * (np.pi / 2)
    mixed = block.copy()
    mixed[:, :overlap] = (
        np.sin(angle) * block[:, :overlap] + np.cos(angle) * tail[:, done : done + overlap]
    )
    return mixed


def encode_aac(
    blocks: Iterable[Float32], stream: AudioStream, sound: SoundFormat
) -> Iterator[Packet[AudioStream]]:
    """The AAC packets of blocks that follow each other without a gap.

    Args:
        blocks: Samples (C, n) float32.
        stream: The AAC stream of the output.
        sound: Sample rate and channels of the blocks.
    """
    position = 0
    for block in blocks:
        for k in range(0, block.shape[1], BLOCK_SAMPLES):
            part = np.ascontiguousarray(block[:, k : k + BLOCK_SAMPLES])
            frame = AudioFrame.from_ndarray(part, format="fltp", layout=sound.layout)
            frame.sample_rate = sound.rate_hz
            frame.time_base = Fraction(1, sound.rate_hz)
            frame.pts = position
            position += part.shape[1]
            yield from stream.encode(frame)
    yield from stream.encode(None)


def sound_packets(
    output: OutputContainer, video: CodedVideo, placed: Sequence[Placed], *, copy: bool
) -> Iterator[Packet[AudioStream]]:
    """The packets of the sound track; none if the footage has no sound.

    The stream is added to the output at once, before the first packet is asked for.

    Args:
        output: The file to write.
        video: The footage.
        placed: The spans shown, with their places in the output.
        copy: Copy the packets if MP4 allows the codec; otherwise encode AAC.
    """
    opened = open_sound(video)
    if opened is None:
        return iter(())
    container, tracks = opened
    with container:
        if copy and (target := _copied_stream(output, tracks)) is not None:
            return copy_sound(target, video, placed)
        sound = sound_format(tracks)
    target = output.add_stream("aac", rate=sound.rate_hz, layout=sound.layout)
    target.bit_rate = AAC_BIT_RATE
    pieces = sound_pieces(video, placed, sound)
    return encode_aac(mix_pieces(pieces, video, sound), target, sound)


def _copied_stream(output: OutputContainer, tracks: Sequence[AudioStream]) -> AudioStream | None:
    if len(tracks) > 1:
        return None
    try:
        return output.add_stream_from_template(tracks[0], opaque=True)
    except ValueError:
        return None


def sound_pieces(
    video: CodedVideo, placed: Sequence[Placed], sound: SoundFormat
) -> list[SoundPiece]:
    """The piece of sound under each span.

    Sample indices are computed on the output's timeline, so rounding errors do not add up.

    Args:
        video: The footage.
        placed: The spans shown, with their places in the output.
        sound: Sample rate of the output.
    """

    def sample(pts: int) -> int:
        return round(pts * video.time_base * sound.rate_hz)

    pieces = []
    for k, p in enumerate(placed):
        begin = sample(p.out_pts)
        overlap = sample(placed[k - 1].out_end) - begin if k else 0
        # The first sample's time in the footage, on the output's sample grid.
        moved_s = p.out_pts * video.time_base - video.seconds(p.span.first_pts)
        start_s = Fraction(begin, sound.rate_hz) - moved_s
        pieces.append(SoundPiece(start_s, sample(p.out_end) - begin, overlap))
    return pieces


def copy_sound(
    target: AudioStream, video: CodedVideo, placed: Sequence[Placed]
) -> Iterator[Packet[AudioStream]]:
    """The packets that begin under each span, moved by the same time as its frames.

    Args:
        target: The audio stream of the output.
        video: The footage.
        placed: The spans shown, with their places in the output.
    """
    last_dts: int | None = None
    for p in placed:
        first_s, end_s = video.seconds(p.span.first_pts), video.seconds(p.span.end_pts)
        moved_s = p.out_pts * video.time_base - first_s
        for packet, shift_s in _packets_from(video, 0, first_s):
            if packet.pts is None or (time_s := packet.pts * packet.time_base + shift_s) < first_s:
                continue
            if time_s >= end_s:
                break
            packet.pts = round((time_s + moved_s) / packet.time_base)
            packet.dts = packet.pts if last_dts is None else max(packet.pts, last_dts + 1)
            packet.pts = last_dts = packet.dts
            packet.stream, packet.time_base = target, packet.time_base
            yield packet

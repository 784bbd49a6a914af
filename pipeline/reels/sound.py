"""Make the sound track of a reel: encoded as AAC, exact to the sample, or copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from touchline.pipeline.footage.open import open_footage
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


def open_sound(path: Path) -> tuple[InputContainer, AudioStream] | None:
    """Open a file and its first audio stream that can be decoded; None if it has none."""
    container = open_footage(path).container
    # A stream has no context if this FFmpeg cannot decode its codec.
    audio = next((s for s in container.streams.audio if s.codec_context is not None), None)
    if audio is None:
        container.close()
        return None
    return container, audio


def is_silenced(container: InputContainer) -> bool:
    """Whether the file has sound, but in codecs that this FFmpeg cannot decode."""
    audio = container.streams.audio
    return bool(audio) and all(stream.codec_context is None for stream in audio)


def sound_format(stream: AudioStream) -> SoundFormat:
    """Keep the sample rate if AAC allows it, otherwise 48000 Hz; mono stays mono."""
    rate = stream.codec_context.sample_rate
    layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
    return SoundFormat(rate if rate in AAC_RATES_HZ else 48000, layout)


def read_samples(
    path: Path, origin_s: Fraction, piece: SoundPiece, sound: SoundFormat
) -> Iterator[Float32]:
    """The samples of a piece in blocks (C, n) float32, exactly `piece.num_samples` in total.

    Timestamps decide where a sample belongs. Gaps in the file become silence.

    Args:
        path: The footage file.
        origin_s: The container's start time in seconds.
        piece: The part of the sound to read.
        sound: Sample rate and channels of the blocks.
    """
    first = round(piece.start_s * sound.rate_hz)
    written = 0
    for at, block in _timed_blocks(path, origin_s, piece.start_s, sound):
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
    path: Path, origin_s: Fraction, start_s: Fraction, sound: SoundFormat
) -> Iterator[tuple[int, Float32]]:
    """Decoded blocks from shortly before start_s, each with the index of its first sample."""
    opened = open_sound(path)
    if opened is None:
        return
    container, stream = opened
    with container:
        time_base = stream.time_base or Fraction(1, sound.rate_hz)
        seek_s = max(Fraction(0), start_s - RUN_UP_S) + origin_s
        container.seek(int(seek_s / time_base), stream=stream, backward=True)
        resampler = AudioResampler(format="fltp", layout=sound.layout, rate=sound.rate_hz)
        for packet in container.demux(stream):
            for frame in decodable(packet.decode):
                if frame.pts is None:
                    continue
                time_s = frame.pts * (frame.time_base or time_base) - origin_s
                for out in resampler.resample(frame):
                    block: Float32 = out.to_ndarray().astype(np.float32, copy=False)  # (C, n)
                    yield round(time_s * sound.rate_hz), block
                    time_s += Fraction(block.shape[1], sound.rate_hz)


def mix_pieces(
    pieces: Iterable[SoundPiece], path: Path, origin_s: Fraction, sound: SoundFormat
) -> Iterator[Float32]:
    """The pieces one after the other in blocks (C, n); overlaps are equal-power cross-fades.

    Args:
        pieces: The pieces in order.
        path: The footage file.
        origin_s: The container's start time in seconds.
        sound: Sample rate and channels of the blocks.
    """
    pieces = list(pieces)
    tail = np.zeros((sound.channels, 0), np.float32)
    for k, piece in enumerate(pieces):
        fade_out = pieces[k + 1].fade_in if k + 1 < len(pieces) else 0
        done, held = 0, []
        for block in read_samples(path, origin_s, piece, sound):
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
    opened = open_sound(video.path)
    if opened is None:
        return iter(())
    container, stream = opened
    with container:
        if copy and (target := _copied_stream(output, stream)) is not None:
            return copy_sound(target, video, placed)
        sound = sound_format(stream)
    target = output.add_stream("aac", rate=sound.rate_hz, layout=sound.layout)
    target.bit_rate = AAC_BIT_RATE
    pieces = sound_pieces(video, placed, sound)
    return encode_aac(mix_pieces(pieces, video.path, video.origin_s, sound), target, sound)


def _copied_stream(output: OutputContainer, stream: AudioStream) -> AudioStream | None:
    try:
        return output.add_stream_from_template(stream, opaque=True)
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
        start_s = Fraction(begin, sound.rate_hz) - p.offset * video.time_base - video.origin_s
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
    opened = open_sound(video.path)
    if opened is None:
        return
    container, stream = opened
    time_base = stream.time_base or Fraction(1, 48000)
    last_dts: int | None = None
    with container:
        for p in placed:
            first_s, end_s = (t * video.time_base for t in (p.span.first_pts, p.span.end_pts))
            offset = round(p.offset * video.time_base / time_base)
            container.seek(int(first_s / time_base), stream=stream, backward=True)
            for packet in container.demux(stream):
                if packet.pts is None or packet.pts * time_base < first_s:
                    continue
                if packet.pts * time_base >= end_s:
                    break
                packet.pts += offset
                packet.dts = packet.pts if last_dts is None else max(packet.pts, last_dts + 1)
                packet.pts = last_dts = packet.dts
                packet.stream, packet.time_base = target, time_base
                yield packet

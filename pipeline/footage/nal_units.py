"""Split H.264 and HEVC streams into NAL units, and find H.264 parameter sets.

A stream separates its NAL units in one of two ways:

    MP4, Matroska       length unit length unit ...            `length_bytes` is 1 to 4
    transport streams   00 00 01 unit 00 00 01 unit ...        `length_bytes` is 0

Sources: ITU-T H.264 (7.3.1, annex B), ITU-T H.265 (7.3.1), ISO/IEC 14496-15 (5.3.3, 8.3.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

NAL_IDR, NAL_SEI, NAL_SPS, NAL_PPS = 5, 6, 7, 8
RECOVERY_POINT = 6
START_CODE = b"\x00\x00\x00\x01"

_SHORT_START_CODE = b"\x00\x00\x01"


def length_bytes(extradata: bytes | None, *, at: int = 4) -> int:
    """How many bytes hold the length of a NAL unit; 0 for streams with start codes.

    Args:
        extradata: The codec's header as the container holds it (avcC or hvcC).
        at: Where that header says it: byte 4 of avcC, byte 21 of hvcC.
    """
    header = extradata or b""
    return (header[at] & 3) + 1 if header[:1] == b"\x01" and len(header) > at else 0


def nal_units(packet: memoryview, prefix: int) -> Iterator[bytes]:
    """Each NAL unit, without its length or start code; stops at a length that makes no sense.

    Args:
        packet: One coded frame.
        prefix: The stream's `length_bytes`.
    """
    if prefix == 0:
        yield from _separated(bytes(packet))
        return
    k = 0
    while k + prefix < len(packet):
        length = int.from_bytes(packet[k : k + prefix], "big")
        if length == 0 or k + prefix + length > len(packet):
            return
        yield bytes(packet[k + prefix : k + prefix + length])
        k += prefix + length


def nal_headers(packet: memoryview, prefix: int) -> Iterator[bytes]:
    """The first two bytes of each NAL unit; stops at a length that makes no sense.

    Args:
        packet: One coded frame.
        prefix: The stream's `length_bytes`.
    """
    if prefix == 0:
        data = bytes(packet)
        k = data.find(_SHORT_START_CODE)
        while 0 <= k < len(data) - 4:
            yield data[k + 3 : k + 5]
            k = data.find(_SHORT_START_CODE, k + 3)
        return
    k = 0
    while k + prefix + 2 <= len(packet):
        length = int.from_bytes(packet[k : k + prefix], "big")
        yield bytes(packet[k + prefix : k + prefix + 2])
        if length == 0:
            return
        k += prefix + length


def begins_group(codec: str, headers: Iterable[bytes]) -> bool:
    """Tell whether decoding can start at a packet, as FFmpeg's parsers do.

    H.264: an IDR slice, or a message of a recovery point (ITU-T H.264, D.2.8). HEVC: a slice of an
    IRAP picture (ITU-T H.265, table 7-1).

    Args:
        codec: "h264" or "hevc".
        headers: The `nal_headers` of the packet.
    """
    if codec == "hevc":
        return any(16 <= header[0] >> 1 & 63 <= 23 for header in headers)
    return any(
        header[0] & 31 == NAL_IDR or (header[0] & 31 == NAL_SEI and header[1] == RECOVERY_POINT)
        for header in headers
    )


def parameter_sets(extradata: bytes) -> tuple[list[bytes], set[int]]:
    """H.264 sequence and picture parameter sets, and every number that identifies one."""
    sets = sets_among(_header_units(extradata))
    numbers = set()
    for unit in sets:
        # In a sequence parameter set the number follows profile, constraints and level.
        numbers.add(_first_exp_golomb(unit[4 if unit[0] & 31 == NAL_SPS else 1 :]))
    return sets, numbers


def sets_among(units: Iterable[bytes]) -> list[bytes]:
    """The H.264 sequence and picture parameter sets among NAL units."""
    return [unit for unit in units if unit[0] & 31 in (NAL_SPS, NAL_PPS)]


def _header_units(extradata: bytes) -> list[bytes]:
    """The NAL units of a header, which is an avcC record or has start codes."""
    if extradata[:1] == b"\x01" and len(extradata) > 6:
        return _avcc_units(extradata)
    return list(_separated(extradata))


def _separated(stream: bytes) -> Iterator[bytes]:
    """The units between start codes. Zero bytes at the end of a unit belong to the next code."""
    for unit in stream.split(_SHORT_START_CODE)[1:]:
        if unit := unit.rstrip(b"\0"):
            yield unit


def _avcc_units(raw: bytes) -> list[bytes]:
    """Parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    units, at = [], 5
    for mask in (0x1F, 0xFF):
        count = raw[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(raw[at : at + 2], "big")
            units.append(raw[at + 2 : at + 2 + size])
            at += 2 + size
    return units


def _first_exp_golomb(raw: bytes) -> int:
    """The unsigned Exp-Golomb code (H.264, 9.1) that `raw` begins with."""
    bits = "".join(f"{byte:08b}" for byte in raw[:9])
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1], 2) - 1

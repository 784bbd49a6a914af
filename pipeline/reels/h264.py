"""Split H.264 streams into NAL units and find their parameter sets (ITU-T H.264, annex B)."""

from __future__ import annotations

NAL_IDR, NAL_SPS, NAL_PPS = 5, 7, 8
START_CODE = b"\x00\x00\x00\x01"


def nal_units(raw: bytes) -> list[bytes]:
    """The NAL units of an Annex B stream or of an avcC record, without start codes or lengths."""
    if raw[:1] == b"\x01" and len(raw) > 6:
        return _avcc_units(raw)
    units = raw.replace(START_CODE, b"\x00\x00\x01").split(b"\x00\x00\x01")
    return [unit for unit in units if unit]


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


def length_prefixed(raw: bytes) -> list[bytes]:
    """NAL units that each follow their length in four bytes."""
    units, at = [], 0
    while at + 4 < len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        units.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return [unit for unit in units if unit]


def parameter_sets(raw: bytes) -> tuple[list[bytes], set[int]]:
    """Sequence and picture parameter sets, and every number they are known by."""
    sets = [unit for unit in nal_units(raw) if unit[0] & 31 in (NAL_SPS, NAL_PPS)]
    numbers = set()
    for unit in sets:
        # The number follows profile, constraints and level in a sequence parameter set.
        numbers.add(_first_exp_golomb(unit[4 if unit[0] & 31 == NAL_SPS else 1 :]))
    return sets, numbers


def _first_exp_golomb(raw: bytes) -> int:
    """The unsigned Exp-Golomb code (H.264, 9.1) that `raw` begins with."""
    bits = "".join(f"{byte:08b}" for byte in raw[:9])
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1], 2) - 1

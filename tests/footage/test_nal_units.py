"""One reader of H.264 units, for every way in which containers separate them."""

from __future__ import annotations

import pytest

from touchline.pipeline.footage.nal_units import (
    NAL_IDR,
    length_bytes,
    nal_headers,
    nal_units,
    parameter_sets,
)

SPS = bytes([0x67, 0x42, 0xC0, 0x1E, 0x95])
PPS = bytes([0x68, 0xCE, 0x3C, 0x80])
IDR = bytes([0x65, 0x88, 0x84, 0x21])


def header(prefix: int) -> bytes:
    """An avcC record (ISO/IEC 14496-15, 5.3.3.1) for lengths of `prefix` bytes."""
    sets = bytes([0xE1, 0, len(SPS)]) + SPS + bytes([1, 0, len(PPS)]) + PPS
    return bytes([1, 0x42, 0xC0, 0x1E, 0xFC | (prefix - 1)]) + sets


@pytest.mark.parametrize("prefix", [1, 2, 4])
def test_units_are_found_whatever_the_size_of_their_length(prefix: int) -> None:
    extradata = header(prefix)
    packet = b"".join(len(unit).to_bytes(prefix, "big") + unit for unit in (SPS, PPS, IDR))
    assert length_bytes(extradata) == prefix
    assert list(nal_units(memoryview(packet), prefix)) == [SPS, PPS, IDR]
    kinds = [unit[0] & 31 for unit in nal_headers(memoryview(packet), prefix)]
    assert kinds[-1] == NAL_IDR
    assert parameter_sets(extradata)[0] == [SPS, PPS]


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_units_are_found_between_start_codes(code: bytes) -> None:
    packet = b"".join(code + unit for unit in (SPS, PPS, IDR))
    assert length_bytes(packet) == 0
    assert list(nal_units(memoryview(packet), 0)) == [SPS, PPS, IDR]
    assert parameter_sets(packet)[0] == [SPS, PPS]

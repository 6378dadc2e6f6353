"""A gzip stream of segments that are compressed each by itself, so that what has not changed since the last page costs nothing.

Behind a full flush deflate begins at a byte and looks back at nothing (zlib.h, Z_FULL_FLUSH), so segments may be joined in any order. The
checksum of the whole follows from theirs, as in crc32_combine of zlib's crc32.c, which Python does not offer.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\x04\x03"
"""RFC 1952 2.3: deflate, no time, the fastest level, Unix. Equal pages give equal bytes."""
_WINDOW = -14  # 2^14 bytes, without zlib's own header
_POLYNOMIAL = 0xEDB88320


@dataclass(frozen=True, slots=True)
class Segment:
    """A compressed piece, and what it takes to put its checksum behind that of all before it."""

    packed: bytes
    length: int
    checksum: int
    shift: int
    """x^(8 * length) modulo the polynomial: what as many bytes do to the checksum of those before them."""


class Packer:
    """Compresses segments one after the other.

    Level 1: level 9 takes nine times as long for a quarter less. The window and memLevel take half of the memory of the usual ones (zlib.h,
    deflateInit2), for as many bytes in the same time.
    """

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(level=1, wbits=_WINDOW, memLevel=7)

    def pack(self, raw: bytes) -> Segment:
        """Compress one piece."""
        packed = self._deflate.compress(raw) + self._deflate.flush(zlib.Z_FULL_FLUSH)
        return Segment(packed, len(raw), zlib.crc32(raw), _shift(len(raw)))


def compress(body: bytes) -> bytes:
    """Compress all of it."""
    return joined((Packer().pack(body),))


def joined(segments: Iterable[Segment]) -> bytes:
    """Return the gzip stream that these are, whoever packed them."""
    parts, checksum, length = [_HEADER], 0, 0
    for segment in segments:
        parts.append(segment.packed)
        checksum = _times(segment.shift, checksum) ^ segment.checksum
        length += segment.length
    parts.append(b"\x03\0" + struct.pack("<II", checksum, length & 0xFFFFFFFF))  # the last block, which is empty
    return b"".join(parts)


def _times(one: int, other: int) -> int:
    """Multiply two polynomials over the two numbers 0 and 1, modulo that of the checksum; bit 31 is x^0."""
    product, bit = 0, 1 << 31
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = (other >> 1) ^ (_POLYNOMIAL if other & 1 else 0)
    return product


def _powers() -> list[int]:
    """Return x^8, x^16, x^32 and so on: what 1, 2, 4 bytes do."""
    powers = [1 << 23]
    for _ in range(31):
        powers.append(_times(powers[-1], powers[-1]))
    return powers


_POWERS = _powers()


def _shift(length: int) -> int:
    shift = 1 << 31
    for number, power in enumerate(_POWERS):
        if length >> number & 1:
            shift = _times(power, shift)
    return shift

"""Avatars: pictures that differ from person to person, as PNG files of a few hundred bytes."""

import struct
import zlib
from colorsys import hls_to_rgb
from hashlib import sha256

_SIDE = 64
"""Pixels; eight cells of eight pixels, which at one bit a pixel are a byte each."""

_PAPER = b"\xf4\xf4\xf0"


def avatar(seed: str) -> bytes:
    """A PNG of a pattern that is the same on its left and right side, chosen by `seed`."""
    digest = sha256(seed.encode()).digest()
    ink = bytes(round(255 * part) for part in hls_to_rgb(digest[0] / 256, 0.42, 0.55))
    rows = [_row(0), *(_row(bits) for bits in digest[1:7]), _row(0)]
    pixels = b"".join(b"\0" + row for row in rows for _ in range(_SIDE // len(rows)))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 1, 3, 0, 0, 0)  # one bit a pixel, from a palette
    chunks = ((b"IHDR", header), (b"PLTE", _PAPER + ink), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _row(bits: int) -> bytes:
    """Eight cells: an empty one, three by the lowest bits, and their mirror image."""
    left = [0, *(0xFF * (bits >> shift & 1) for shift in range(3))]
    return bytes(left + left[::-1])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

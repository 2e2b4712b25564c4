"""Avatars: generated PNG files of under 200 bytes, different for each person."""

import struct
import zlib
from colorsys import hls_to_rgb
from hashlib import sha256

_SIZE = 64
"""Width and height in pixels. A row has eight cells of eight pixels; with one bit per pixel, a cell is one byte."""

_BACKGROUND = b"\xf4\xf4\xf0"


def avatar(seed: str) -> bytes:
    """Return a PNG with a symmetric pattern that depends on `seed`."""
    digest = sha256(seed.encode()).digest()
    foreground = bytes(round(255 * channel) for channel in hls_to_rgb(digest[0] / 256, 0.42, 0.55))
    rows = [_row(0), *(_row(bits) for bits in digest[1:7]), _row(0)]
    pixels = b"".join(b"\0" + row for row in rows for _ in range(_SIZE // len(rows)))
    header = struct.pack(">IIBBBBB", _SIZE, _SIZE, 1, 3, 0, 0, 0)  # one bit per pixel, with a palette
    chunks = ((b"IHDR", header), (b"PLTE", _BACKGROUND + foreground), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _row(bits: int) -> bytes:
    """Return eight cells: an empty one, three from the lowest bits, and these four mirrored."""
    left = [0, *(0xFF * (bits >> shift & 1) for shift in range(3))]
    return bytes(left + left[::-1])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""A JPEG to a small square: decoded at the smallest scale that is enough, once it is known what that costs.

    bytes ─► segments: frame, first scan, EXIF ─► scale ─► bounds ─► decoder ─► area average ─► upright

The cost is not a matter of pixels alone. Of one scan libjpeg keeps a few rows, and the reduced picture: 400
megapixels take 80 MB. Of several, which a progressive JPEG has, it keeps every coefficient, in two bytes:
400 megapixels take 1.2 GB, and twice that where colours are not subsampled.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from .average import average_square
from .orientation import orientation_of, upright
from .refused import CUT_OFF, MAX_PARTS, MAX_PIXELS, too_large, unreadable

MAX_MEMORY = 400_000_000  # bytes, of a JPEG of more than MAX_PIXELS
MAX_SCANS = 100  # each goes over all pixels, and real ones have 20 at most
_PER_COEFFICIENT = 2  # bytes
_PER_DECODED = (
    32  # bytes a pixel at the scale of decoding: four inks, as light, and in float32 for the average
)

_SCAN, _END, _EXIF = 0xDA, b"\xff\xd9", 0xE1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)  # which cannot be decoded at a smaller scale
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA))  # which decoders pass over, and no camera writes here


@dataclass(frozen=True)
class _Header:
    frame: int  # its marker
    components: int
    samples: float  # of all components, for each pixel
    several_scans: bool
    end: int  # of the first scan's header
    orientation: int


def read_jpeg(source: bytes, size: int) -> np.ndarray:
    """The central square, uint8 [size, size, 3]. Raises as `read_image`, and what the decoder raises."""
    header = _read_header(source)
    height, width = map(int, simplejpeg.decode_jpeg_header(source)[:2])
    side = min(width, height)
    eighths = next((n for n in (1, 2, 4) if side * n >= 2 * size * 8), 8)
    if width * height > MAX_PIXELS:
        _check_cost(header, width, height, eighths, len(source))
    most_scans = MAX_SCANS if width * height <= MAX_PIXELS else MAX_SCANS // 4
    if header.several_scans and source.count(bytes([0xFF, _SCAN]), header.end) > most_scans:
        raise unreadable(f"is a JPEG of more than {most_scans} scans")
    if source.rfind(_END, header.end) < 0:
        raise unreadable(CUT_OFF)
    pixels = simplejpeg.decode_jpeg(
        source,
        "CMYK" if header.components == 4 else "RGB",
        min_height=-(-height * eighths // 8),
        min_width=-(-width * eighths // 8),
    )
    if pixels.shape[2] == 4:  # Adobe's inks are stored inverted: as light
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    return upright(average_square(pixels, (width, height), (eighths, 8), size), header.orientation)


def _check_cost(header: _Header, width: int, height: int, eighths: int, size: int) -> None:
    """Raise an ImageError where a JPEG of `size` bytes takes more than MAX_MEMORY, or has too few of them."""
    per_pixel = _PER_DECODED * (eighths / 8) ** 2
    if header.several_scans:
        per_pixel += _PER_COEFFICIENT * header.samples
    most = max(MAX_PIXELS, 0 if header.frame in _LOSSLESS else MAX_MEMORY / per_pixel)
    if width * height > most:
        kind = "a progressive JPEG" if header.several_scans else "a JPEG"
        raise too_large(
            f"has {width:,} × {height:,} pixels; {kind} like it is decoded up to {most / 1e6:,.0f} megapixels"
        )
    blocks = width * height * header.samples / 64
    if 8 * size < blocks:  # a bit for each is less than there can be of any photograph
        raise unreadable(CUT_OFF)


def _read_header(source: bytes) -> _Header:
    frame, shares, orientation = 0, [], 1
    for marker, start, end in _segments(source):
        if marker in _FRAMES:
            frame, shares = marker, [(each >> 4) * (each & 15) for each in source[start + 7 : end : 3]]
        elif marker == _EXIF and source.startswith(b"Exif\0\0", start):
            orientation = orientation_of(source[start:end])
        elif marker == _SCAN and any(shares):
            several = frame in _PROGRESSIVE or source[start] < len(shares)
            return _Header(frame, len(shares), sum(shares) / max(shares), several, end, orientation)
    raise unreadable("is damaged: a JPEG of no frame before its first scan")


def _segments(source: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment's content, up to the first scan's header."""
    position = 2
    for _ in range(MAX_PARTS + len(source) // 4096):
        start = source[position : position + 4]
        if len(start) < 4:
            raise unreadable(CUT_OFF)
        if start[:2] == b"\xff\xff":  # padding
            position += 1
            continue
        length = int.from_bytes(start[2:], "big")
        if start[0] != 0xFF or start[1] in _WITHOUT_LENGTH or length < 2:
            raise unreadable("is damaged: a JPEG with something between its segments")
        yield start[1], position + 4, position + 2 + length
        if start[1] == _SCAN:
            return
        position += 2 + length
    raise unreadable("is a JPEG of too many segments")

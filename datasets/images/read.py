"""A photograph's bytes to a small square of pixels, safely.

    bytes ─► header: known, bounded, whole ─► decoder ─► reduced square ─► area average ─► upright ─► encoder

Nothing is decoded before the header is checked, so a 20 KB file cannot ask for gigabytes, and metadata is
never unpacked. JPEG is decoded at the smallest scale of 1/8, 1/4, 1/2 that keeps twice the target, others are
averaged over whole blocks; what is left is averaged over exact areas, in whole numbers, so that the bytes
are the same on any processor.
"""

import io
import struct
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import numpy as np
import simplejpeg
from PIL import Image, features

from ..posts.outcomes import IMAGE_TOO_LARGE, UNREADABLE_IMAGE
from ..posts.post import ImageSource
from .average import average_square
from .tiff import tiff_essentials

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
MAX_PARTS = 1000  # segments or chunks of a file, and one more for each 4 KiB; each costs a microsecond
MAX_SCANS = 100  # of a progressive JPEG: each goes over all pixels, and real ones have 20 at most


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason that it is counted under."""


def load_image(source: ImageSource) -> bytes:
    """The encoded image; nothing of one with more than MAX_BYTES is read.

    Raises:
        ImageError: "image too large".
        OSError: as the source does.
    """
    if source.size() > MAX_BYTES:
        raise ImageError(IMAGE_TOO_LARGE)
    return source.read()


def read_image(source: bytes, size: int = 64) -> np.ndarray:
    """Decode, orient, centre-crop and resize one image.

    It is a JPEG, PNG, WebP, GIF, a BMP without run lengths, a TIFF without JPEG or fax in it, an AVIF if
    Pillow has its decoder, or a HEIC with pillow_heif.

    Returns:
        uint8 [size, size, 3], RGB, transparent parts over white; the first frame of an animation.

    Raises:
        ImageError: "image too large" (over MAX_BYTES or MAX_PIXELS), or "unreadable image": another format,
            cut off, or damaged where the decoder can tell.
    """
    if len(source) > MAX_BYTES:
        raise ImageError(IMAGE_TOO_LARGE)
    try:
        if source.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(source, size)
        return _read_other(source, size)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(IMAGE_TOO_LARGE) from error
    except ImageError:
        raise
    except Exception as error:  # decoders raise all sorts on broken files, and one must not stop a build
        raise ImageError(UNREADABLE_IMAGE) from error


def _read_jpeg(source: bytes, size: int) -> np.ndarray:
    *lengths, colours, _ = simplejpeg.decode_jpeg_header(source)
    height, width = map(int, lengths)
    _check_pixels(width, height)
    orientation = 1
    for marker, start, end in _jpeg_segments(source):
        if marker == 0xE1 and source.startswith(b"Exif\0\0", start):
            orientation = _orientation(source[start:end])
        endless = marker in (0xC2, 0xCA) and source.count(b"\xff\xda", end) > MAX_SCANS
        cut_off = marker == 0xDA and source.rfind(b"\xff\xd9", end) < 0
        if endless or cut_off:
            raise ImageError(UNREADABLE_IMAGE)
    side = min(width, height)
    eighths = next((n for n in (1, 2, 4) if side * n >= 2 * size * 8), 8)
    pixels = simplejpeg.decode_jpeg(
        source,
        "CMYK" if colours in ("CMYK", "YCCK") else "RGB",
        min_height=-(-height * eighths // 8),
        min_width=-(-width * eighths // 8),
    )
    if pixels.shape[2] == 4:  # Adobe's inks are stored inverted: as light
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255).astype(np.uint8)
    return _upright(average_square(pixels, (width, height), (eighths, 8), size), orientation)


def _jpeg_segments(source: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment's content, up to the first scan's header."""
    position = 2
    for _ in range(MAX_PARTS + len(source) // 4096):
        if source[position] != 0xFF:
            break
        marker = source[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(source[position + 2 : position + 4], "big")
        yield marker, position + 4, end
        if marker == 0xDA:
            return
        position = end
    raise ImageError(UNREADABLE_IMAGE)


def _read_other(source: bytes, size: int) -> np.ndarray:
    exif = b""
    if source.startswith(b"\x89PNG\r\n\x1a\n"):
        form = "PNG"
        source, exif = _png_essentials(source)
    elif source.startswith((b"GIF87a", b"GIF89a")) and source[-64:].rstrip(b"\0").endswith(b";"):
        form = "GIF"
    elif source.startswith(b"RIFF") and source.startswith(b"WEBP", 8):
        form = "WEBP"  # opening it refuses what is cut off
    elif source.startswith(b"BM"):
        form = "BMP"
        _check_bmp(source)
    elif source.startswith((b"II*\0", b"MM\0*")):
        form = "TIFF"
        source, exif = tiff_essentials(source), source
    elif source.startswith((b"ftypavif", b"ftypavis"), 4) and features.check("avif"):
        form = "AVIF"
    elif source.startswith(b"ftyp", 4) and _can_read_heif():
        form = "HEIF"
    else:
        raise ImageError(UNREADABLE_IMAGE)
    with Image.open(io.BytesIO(source), formats=(form,)) as image:
        _check_pixels(*image.size)
        orientation = _orientation(exif or image.info.get("exif") or b"")
        width, height = image.size
        block = max(1, min(width, height) // (4 * size))
        pixels = np.asarray(_opaque(image, block))
        return _upright(average_square(pixels, (width, height), (1, block), size), orientation)


@cache
def _can_read_heif() -> bool:
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif  # pyright: ignore[reportMissingImports]

    pillow_heif.register_heif_opener()
    return True


def _png_essentials(source: bytes) -> tuple[bytes, bytes]:
    """The PNG without what its picture does not need, and its EXIF.

    Pillow would unpack compressed texts and profiles, up to a megabyte from each kilobyte.
    """
    chunks, exif, position = [source[:8]], b"", 8
    for _ in range(MAX_PARTS + len(source) // 4096):
        length, name = struct.unpack_from(">I4s", source, position)
        end = position + 12 + length
        if end > len(source):
            break
        if name == b"IHDR":
            _check_pixels(*struct.unpack_from(">II", source, position + 8))
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            chunks.append(source[position:end])
        elif name == b"eXIf":
            exif = source[position + 8 : end - 4]
        if name == b"IEND":
            return b"".join(chunks), exif
        position = end
    raise ImageError(UNREADABLE_IMAGE)


def _check_bmp(source: bytes) -> None:
    """Raise an ImageError where a BMP is cut off, or of run lengths, which Pillow undoes byte by byte."""
    start, header = struct.unpack_from("<II", source, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", source, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", source, 18)
    _check_pixels(width, abs(height))
    row = -(-width * bits // 32) * 4
    if compression not in (0, 3) or start + row * abs(height) > len(source):
        raise ImageError(UNREADABLE_IMAGE)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(IMAGE_TOO_LARGE)
    if width <= 0 or height <= 0:
        raise ImageError(UNREADABLE_IMAGE)


def _opaque(image: Image.Image, block: int) -> Image.Image:
    """The first frame in RGB over white, averaged over blocks of that side, colours by their alpha."""
    if image.mode.startswith("I;16"):  # 16-bit grey: Pillow's convert would clip it to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB").reduce(block)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _orientation(exif: bytes) -> int:
    """The orientation that EXIF tells, 1 to 8; 1 where it tells none or is broken: no reason to reject."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(min(count, 1000)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A square stored in that orientation, turned and mirrored as it was seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)

"""A photograph's bytes to a small square of pixels, safely.

    bytes ─► header: known, bounded, whole ─► decoder ─► reduced square ─► area average ─► upright ─► encoder

Nothing is decoded before the header is checked, so a 20 KB file cannot ask for gigabytes, and metadata is
never unpacked. JPEG is decoded at a smaller scale (jpeg.py), others are averaged over whole blocks; what is
left is averaged over exact areas, in whole numbers, so that the bytes are the same on any processor.
"""

import io
import struct
from functools import cache
from importlib.util import find_spec

import numpy as np
from PIL import Image, features

from ..posts.post import ImageSource
from .average import average_square
from .jpeg import read_jpeg
from .orientation import orientation_of, upright
from .refused import (
    CUT_OFF,
    HEIC_BRANDS,
    MAX_BYTES,
    MAX_PARTS,
    MAX_PIXELS,
    ImageError,
    check_pixels,
    foreign,
    too_large,
    undecodable,
    unreadable,
)
from .tiff import tiff_essentials


def load_image(source: ImageSource) -> bytes:
    """The encoded image; nothing of one with more than MAX_BYTES is read.

    Raises:
        ImageError: "image too large".
        OSError: as the source does.
    """
    _check_bytes(source.size())
    return source.read()


def read_image(source: bytes, size: int = 64) -> np.ndarray:
    """Decode, orient, centre-crop and resize one image.

    It is a JPEG, PNG, WebP, GIF, a BMP without run lengths, a TIFF without JPEG or fax in it, an AVIF if
    Pillow has its decoder, or a HEIC with pillow_heif.

    Returns:
        uint8 [size, size, 3], RGB, transparent parts over white; the first frame of an animation.

    Raises:
        ImageError: "image too large" (over MAX_BYTES; over MAX_PIXELS, or a JPEG whose decoding would take
            more than MAX_MEMORY), or "unreadable image": another format, cut off, or damaged where the
            decoder can tell. Its `detail` says which.
    """
    _check_bytes(len(source))
    try:
        return read_jpeg(source, size) if source.startswith(b"\xff\xd8\xff") else _read_other(source, size)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(f"has over {MAX_PIXELS // 10**6} megapixels, which only JPEGs may have") from error
    except (struct.error, IndexError) as error:  # where the next bytes should be, there are none
        raise unreadable(CUT_OFF) from error
    except Exception as error:  # decoders raise all sorts on broken files, and one must not stop a build
        raise undecodable(source, error) from error


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise too_large(f"is larger than {MAX_BYTES // 2**20} MiB")


def _read_other(source: bytes, size: int) -> np.ndarray:
    exif = b""
    if source.startswith(b"\x89PNG\r\n\x1a\n"):
        form = "PNG"
        source, exif = _png_essentials(source)
    elif source.startswith((b"GIF87a", b"GIF89a")):
        form = "GIF"
        if not source[-64:].rstrip(b"\0").endswith(b";"):
            raise unreadable("is a GIF without its end")
    elif source.startswith(b"RIFF") and source.startswith(b"WEBP", 8):
        form = "WebP"
        _check_webp(source)
    elif source.startswith(b"BM"):
        form = "BMP"
        _check_bmp(source)
    elif source.startswith((b"II*\0", b"MM\0*")):
        form = "TIFF"
        source, exif = tiff_essentials(source), source
    elif source.startswith((b"ftypavif", b"ftypavis"), 4) and features.check("avif"):
        form = "AVIF"
    elif source.startswith(b"ftyp", 4) and source[8:12] in HEIC_BRANDS and _can_read_heif():
        form = "HEIF"
    else:
        raise foreign(source)
    with Image.open(io.BytesIO(source), formats=(form,)) as image:
        width, height = image.size
        check_pixels(width, height, form)
        orientation = orientation_of(exif or image.info.get("exif") or b"")
        block = max(1, min(width, height) // (4 * size))
        pixels = np.asarray(_opaque(image, block))
        return upright(average_square(pixels, (width, height), (1, block), size), orientation)


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
            raise unreadable(CUT_OFF)
        if name == b"IHDR":
            check_pixels(*struct.unpack_from(">II", source, position + 8), "PNG")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            chunks.append(source[position:end])
        elif name == b"eXIf":
            exif = source[position + 8 : end - 4]
        if name == b"IEND":
            return b"".join(chunks), exif
        position = end
    raise unreadable("is a PNG of too many chunks")


def _check_webp(source: bytes) -> None:
    """Raise an ImageError where a WebP has too many pixels: to open it takes eight bytes for each."""
    kind = source[12:16]
    if kind == b"VP8X":
        wide, wider, high, higher = struct.unpack_from("<HBHB", source, 24)
        check_pixels(1 + wide + (wider << 16), 1 + high + (higher << 16), "WebP")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", source, 21)
        check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), "WebP")
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", source, 26)
        check_pixels(width & 0x3FFF, height & 0x3FFF, "WebP")


def _check_bmp(source: bytes) -> None:
    """Raise an ImageError where a BMP is cut off, or of run lengths, which Pillow undoes byte by byte."""
    start, header = struct.unpack_from("<II", source, 10)
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", source, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", source, 18)
    check_pixels(width, abs(height), "BMP")
    row = -(-width * bits // 32) * 4
    if compression not in (0, 3):
        raise unreadable("is a BMP of run lengths, which are not read")
    if start + row * abs(height) > len(source):
        raise unreadable(CUT_OFF)


def _opaque(image: Image.Image, block: int) -> Image.Image:
    """The first frame in RGB over white, averaged over blocks of that side, colours by their alpha."""
    if image.mode.startswith("I;16"):  # 16-bit grey: Pillow's convert would clip it to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode != mode:  # else convert would copy it, and 64 megapixels are 256 MB
        image = image.convert(mode)
    image = image.reduce(block)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")

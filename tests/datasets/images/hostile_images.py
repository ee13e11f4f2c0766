"""Files that claim to be pictures and must be refused before any is decoded; the same every time."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from emojigan.datasets.images.jpeg import MAX_SCANS
from emojigan.datasets.images.refused import MAX_BYTES, MAX_PARTS

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(/tmp/owned) (w) file closefile\nshowpage\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>'
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(sh)>>>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
PSD = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 30_000, 30_000, 8, 3)
OTHER_FORMATS = ("PPM", "ICO", "TGA", "SGI", "PCX", "DIB", "EPS")


def hostile_images(seed: int = 0) -> list[tuple[str, bytes]]:
    """Over 200 of them: what is wrong, and the bytes."""
    return [*_bombs(), *_empty(), *_foreign(), *_endless(), *_cut_off(random.Random(seed))]


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims a size, with these chunks between its header and its end."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


def jpeg_claiming(width: int, height: int, **options) -> bytes:
    """A small JPEG whose frame header tells another size."""
    content = encoded(Image.new("RGB", (16, 16)), "JPEG", **options)
    frame = content.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]


def gif_claiming(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    content = bytearray(encoded(Image.new("L", (16, 16)), "GIF"))
    position = content.index(b",\0\0\0\0")
    content[6:10] = struct.pack("<HH", *screen)
    content[position + 5 : position + 9] = struct.pack("<HH", *frame)
    return bytes(content)


def webp_claiming(width: int, height: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    content = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


def bmp_claiming(width: int, height: int, compression: int = 0, kept: int | None = None) -> bytes:
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    content[30:34] = struct.pack("<I", compression)
    return bytes(content[:kept])


def tiff(*entries: tuple[int, int, int, int], content: bytes = b"", count: int | None = None) -> bytes:
    """A TIFF of one directory, of (tag, kind, number, value or place), behind some content."""
    start = 8 + len(content) + len(content) % 2
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    header = b"II*\0" + struct.pack("<I", start) + content.ljust(start - 8, b"\0")
    number = len(entries) if count is None else count
    return header + struct.pack("<H", number) + directory + struct.pack("<I", start)  # and so on for ever


def tiff_claiming(width: int, height: int, *more: tuple[int, int, int, int], **options) -> bytes:
    """A grey TIFF of one strip of deflated bytes."""
    strip = zlib.compress(bytes(1000))
    given = {tag for tag, *_ in more}
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(strip))]
    kept = [entry for entry in entries if entry[0] not in given]
    return tiff(*kept, *more, content=strip, **options)


def with_segments(content: bytes, segments: bytes) -> bytes:
    return content[:2] + segments + content[2:]


def _bombs() -> Iterator[tuple[str, bytes]]:
    rows = zlib.compress(bytes(13_000 * (1 + 13_000 // 8)), 9)
    yield "PNG of 20 KB and 13,000 x 13,000", png(13_000, 13_000, (b"IDAT", rows), depth=1, colour=0)
    for side in (8001, 9000, 14_000, 20_000, 65_535, 2**20, 2**31 - 1):
        yield f"PNG claims {side}", png(side, side, (b"IDAT", zlib.compress(b"")))
        yield f"PNG claims {side} by 64,000,001", png(64_000_001, side, (b"IDAT", zlib.compress(b"")))
    for side in (8001, 13_000, 40_000, 65_500):
        yield f"JPEG claims {side}", jpeg_claiming(side, side)
        yield f"progressive JPEG claims {side}", jpeg_claiming(side, side, progressive=True)
    for side in (13_500, 20_000, 40_000, 65_535):
        yield f"GIF's screen claims {side}", gif_claiming((side, side), (16, 16))
        yield f"GIF's frame claims {side}", gif_claiming((16, 16), (side, side))
    for side in (13_500, 16_383):
        yield f"WebP claims {side}", webp_claiming(side, side)
    for side in (8001, 20_000, 65_535, 2**31 - 1):
        yield f"BMP claims {side}", bmp_claiming(side, side)
        yield f"BMP claims {side}, upside down", bmp_claiming(side, -side)
        yield f"TIFF claims {side}", tiff_claiming(side, side)
    yield "BMP of run lengths", bmp_claiming(8000, 8000, compression=1)
    yield "BMP of 8000 x 8000 without pixels", bmp_claiming(8000, 8000)
    yield "TIFF of 8000 x 8000 without pixels", tiff_claiming(8000, 8000, (259, 3, 1, 1))
    yield "TIFF of huge tiles", tiff_claiming(64, 64, (322, 4, 1, 2**20), (323, 4, 1, 2**20))
    yield "more bytes than allowed", b"\xff\xd8\xff" + bytes(MAX_BYTES)


def _empty() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    for width, height in ((0, 0), (0, 16), (16, 0)):
        yield f"PNG of {width} x {height}", png(width, height, (b"IDAT", zlib.compress(b"")))
        yield f"JPEG of {width} x {height}", jpeg_claiming(width, height)
        yield f"GIF of {width} x {height}", gif_claiming((0, 0), (width, height))
        yield f"BMP of {width} x {height}", bmp_claiming(width, height)
        yield f"TIFF of {width} x {height}", tiff_claiming(width, height)
    yield "BMP of -16 x -16", bmp_claiming(-16, -16)
    for magic in (
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"\0\0\0\x18ftypavif",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"GIF87a",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypheic",
    ):
        yield f"only {magic!r}", magic
        yield f"zeros after {magic!r}", magic + bytes(1000)
        yield f"ones after {magic!r}", magic + b"\xff" * 1000


def _foreign() -> Iterator[tuple[str, bytes]]:
    for name, content in (("EPS", POSTSCRIPT), ("SVG", SVG), ("PDF", PDF), ("PSD", PSD)):
        yield name, content
        yield f"{name} of 1 MB", content + b"\n" * 2**20
    for form in OTHER_FORMATS:
        yield form, encoded(Image.new("RGB", (64, 64)), form)
    yield "HTML", b"<!DOCTYPE html><title>404</title>"
    yield "zip", b"PK\3\4" + bytes(100)
    yield "Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def _endless() -> Iterator[tuple[str, bytes]]:
    """Small files, or of many parts, that would keep a decoder busy."""
    whole = encoded(_texture(64), "JPEG")
    comment, exif = b"\xff\xfe\0\2", b"\xff\xe1\xff\xffExif\0\0" + bytes(65_535 - 8)
    yield "JPEG of too many comments", with_segments(whole, comment * (2 * MAX_PARTS))
    yield "JPEG of much padding", with_segments(whole, b"\xff" * 2**20)
    yield "JPEG of nothing but EXIF", whole[:2] + exif * 100
    text, profile = (
        (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**20))),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20))),
    )
    yield "PNG of too many texts", png(64, 64, *[(b"tEXt", b"a\0")] * (2 * MAX_PARTS))
    for chunk in (text, profile):
        yield f"PNG of nothing but {chunk[0]!r}", png(0, 64, *[chunk] * 100)
    progressive = encoded(_texture(64), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield "JPEG of endless scans", progressive[:-2] + last_scan * MAX_SCANS + b"\xff\xd9"
    yield (
        "JPEG of endless scans that claims 60 MP",
        (jpeg_claiming(7800, 7800, progressive=True)[:-2] + last_scan * MAX_SCANS + b"\xff\xd9"),
    )

    comment = b"\xff\xfe\xff\xff" + bytes(65_533)  # so that there are bytes enough for the pixels
    large = jpeg_claiming(10_000, 10_000, progressive=True, subsampling=2)[:-2]
    scans = large + last_scan * (MAX_SCANS // 4) + comment * 5 + b"\xff\xd9"
    yield "JPEG of many scans that claims 100 MP", scans
    yield "TIFF of endless strips", tiff_claiming(64, 64, (273, 4, 2**31, 8), (279, 4, 2**31, 8))
    yield "TIFF of endless entries", tiff_claiming(64, 64, count=65_535)
    yield "TIFF of strips beyond its end", tiff_claiming(64, 64, (273, 4, 1, 2**31))
    yield "TIFF of JPEG", tiff_claiming(64, 64, (259, 3, 1, 7))
    yield "TIFF of 32 bits", tiff_claiming(64, 64, (258, 3, 1, 32))
    yield "TIFF that repeats its width", tiff_claiming(64, 64, (256, 4, 1, 64), (256, 4, 1, 64))


def _cut_off(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    image = _texture(200)
    wholes = {
        "JPEG": encoded(image, "JPEG", quality=90),
        "progressive JPEG": encoded(image, "JPEG", progressive=True),
        "grey JPEG": encoded(image.convert("L"), "JPEG"),
        "PNG": encoded(image, "PNG"),
        "WebP": encoded(image, "WEBP"),
        "GIF": encoded(image, "GIF"),
        "BMP": encoded(image, "BMP"),
        "TIFF": encoded(image, "TIFF"),
    }
    for name, whole in wholes.items():
        for kept in [len(whole) - 1, *(dice.randrange(len(whole)) for _ in range(19))]:
            part = whole[:kept]
            if not part.endswith(b";"):  # which a GIF may end with
                yield f"{name} cut off after {kept} of {len(whole)} bytes", part


def _texture(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8))

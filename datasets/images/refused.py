"""What is refused as an image: under which reason it is counted, and what a person is told.

Every bound that holds for files of all formats is here, too.
"""

from PIL import UnidentifiedImageError

from ..posts.outcomes import IMAGE_TOO_LARGE, UNREADABLE_IMAGE

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000  # of a JPEG there may be more, see jpeg.py
MAX_PARTS = 1000  # segments or chunks of a file, and one more for each 4 KiB; each costs a microsecond

CUT_OFF = "is cut off"
HEIC_BRANDS = tuple(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_VIDEO_BRANDS = tuple(b"isom iso2 iso4 iso5 iso6 mp41 mp42 avc1 dash M4V qt 3gp".split())
_OTHERS = {  # how a file begins, in small letters and without blanks before it: what it is
    b"%pdf": "is a PDF",
    b"%!ps": "is PostScript",
    b"<svg": "is SVG",
    b"<!doctype html": "is a web page",
    b"<html": "is a web page",
    b"version https://git-lfs": "is a pointer of Git LFS: git lfs pull",
    b"8bps": "is a Photoshop file",
    b"pk\3\4": "is a zip",
    b"\xff\x0a": "is JPEG XL",
    b"\0\0\0\x0cjxl ": "is JPEG XL",
    b"\0\0\0\x0cjp  ": "is JPEG 2000",
}


class ImageError(ValueError):
    """An image that cannot be used. As text it is the reason under which it is counted.

    `detail` says what is wrong, to be put behind the file's name: "is cut off".
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.detail = detail

    def __str__(self) -> str:
        return self.args[0]


def unreadable(detail: str) -> ImageError:
    return ImageError(UNREADABLE_IMAGE, detail)


def too_large(detail: str) -> ImageError:
    return ImageError(IMAGE_TOO_LARGE, detail)


def undecodable(source: bytes, error: Exception) -> ImageError:
    """For what a decoder refused, in its own words where it is not only cut off."""
    # So libjpeg says of a header, and Pillow of a GIF whose last byte is by chance what ends one.
    ends = any(words in str(error) for words in ("Premature end", "file is truncated"))
    if ends or _ends_before_it_should(source):
        return unreadable(CUT_OFF)
    if isinstance(error, UnidentifiedImageError):  # whose words are an address
        return unreadable("is damaged: its header makes no sense")
    words = " ".join(str(error).split()) or type(error).__name__
    return unreadable(f"is damaged: {words}")


def _ends_before_it_should(source: bytes) -> bool:
    """Whether a WebP, AVIF or HEIC is shorter than its header or its outer boxes tell."""
    if source.startswith(b"RIFF"):
        return 8 + int.from_bytes(source[4:8], "little") > len(source)
    position = 0
    if source.startswith(b"ftyp", 4):
        for _ in range(MAX_PARTS):
            if position < len(source) < position + 8:
                return True  # within the header of a box
            length = int.from_bytes(source[position : position + 4], "big")
            if length == 1:
                length = int.from_bytes(source[position + 8 : position + 16], "big")
            if length < 8 or position >= len(source):  # of the last it may be 0: up to the end
                break
            position += length
    return position > len(source)


def foreign(source: bytes) -> ImageError:
    """For a file that begins as none of the formats that are read."""
    start = source[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not source:
        return unreadable("is empty")
    if source.startswith(b"ftyp", 4):
        return unreadable(_of_boxes(source[8:12]))
    if start.startswith(b"<?xml") and b"<svg" in start:
        return unreadable("is SVG")
    words = (what for beginning, what in _OTHERS.items() if start.startswith(beginning))
    return unreadable(next(words, "is none of JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC"))


def _of_boxes(brand: bytes) -> str:
    if brand in HEIC_BRANDS:
        return 'is HEIC: pip install -e ".[heic]"'
    if brand in (b"avif", b"avis"):
        return "is AVIF, for which this Pillow was built without a decoder: pip install -U pillow"
    if brand.rstrip().startswith(_VIDEO_BRANDS):
        return "is a video"
    return "is none of JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC"


def check_pixels(width: int, height: int, form: str) -> None:
    """Raise an ImageError where a picture of any format but JPEG has too many pixels, or none."""
    if width * height > MAX_PIXELS:
        raise too_large(
            f"has {width:,} × {height:,} pixels; {form}s of more than {MAX_PIXELS // 10**6} megapixels "
            "are not decoded"
        )
    if width <= 0 or height <= 0:
        raise unreadable("has no pixels")

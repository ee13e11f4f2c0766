"""A photograph's bytes to a small square of pixels, safely.

The header is checked before anything is decoded: known formats only, and a bound on the pixels, so that a
20 KB file cannot ask for gigabytes. JPEG is decoded at a reduced scale (at least 4 times the target, which
costs 52 dB against a full decode), then averaged over areas; linear filters would alias.
"""

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 64_000_000
UPRIGHT = {  # EXIF orientation → what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason that it is counted under."""


def read_image(source: Path | bytes, size: int = 64) -> np.ndarray:
    """Decode, orient, centre-crop and resize one image.

    Args:
        source: a file, or its bytes.
        size: side of the result, in pixels.

    Returns:
        uint8 [size, size, 3], RGB, transparent parts over white; the first frame of an animation.

    Raises:
        ImageError: "missing image", "unreadable image" or "image too large".
    """
    file: Path | BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError("image too large")
            image.draft(None, (4 * size, 4 * size))
            return _to_square(image, size)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image too large") from error
    except ImageError:
        raise
    except Exception as error:  # Pillow raises all sorts on broken files, and one must not stop a build
        raise ImageError("unreadable image") from error


def _to_square(image: Image.Image, size: int) -> np.ndarray:
    # Not ImageOps.exif_transpose: it writes the EXIF anew, and fails where a camera's is odd.
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if image.mode.startswith("I;16"):  # 16-bit grey: Pillow's convert would clip it to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize((size, size), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    return np.array(square)  # [size, size, 3]


def encode_npy(pixels: np.ndarray) -> bytes:
    """The bytes of a `.npy` file; its last pixels.nbytes bytes are the pixels themselves."""
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG at 4:4:4, quality 95: at 64 pixels, subsampled chroma costs 5 dB."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


ENCODERS = {"npy": encode_npy, "jpg": encode_jpeg}

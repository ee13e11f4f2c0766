"""How the pixels of an image are stored in a sample. No other file knows it.

npy       a .npy file of uint8 [size, size, 3]: its header, and the pixels, with which it ends
jpg       a JPEG of as many pixels: 4:4:4, quality 95
foreign   in others' tars: any image of any size, read like a post's

pixels ─► ENCODERS ─► uint8 [bytes] ─► check_picture, decode ─► pixels
"""

import io

import numpy as np
import simplejpeg

from ..images.read import read_image


def encode_npy(pixels: np.ndarray) -> bytes:
    """The bytes of a `.npy` file."""
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG at 4:4:4, quality 95: at 64 pixels, subsampled chroma costs 5 dB."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 95, colorsubsampling="444")


ENCODERS = {"npy": encode_npy, "jpg": encode_jpeg}
"""By the extension of the image in our tars, which is the name of the encoding."""
ENCODINGS = (*ENCODERS, "foreign")


def num_pixel_bytes(size: int) -> int:
    """Bytes of the pixels of a picture, with which a npy ends."""
    return 3 * size**2


def has_plain_pixels(encoding: str) -> bool:
    """Whether an encoded picture ends with its pixels as they are, so that nothing has to be decoded."""
    return encoding == "npy"


def min_bytes(encoding: str, size: int) -> int:
    """The fewest bytes that an encoded picture can have.

    A reader takes the last bytes of a npy for its pixels: of a shorter one it would take other bytes, too.
    """
    return num_pixel_bytes(size) if has_plain_pixels(encoding) else 1


def check_picture(image: np.ndarray, encoding: str, size: int) -> None:
    """Raise ValueError where an encoded image, uint8 [bytes], is not a picture of `size` pixels.

    That is: where it decodes to none, or where a reader would take other bytes for its pixels.
    """
    if encoding == "npy":
        header = encode_npy(np.empty((size, size, 3), np.uint8))[: -num_pixel_bytes(size)]
        if len(image) != len(header) + num_pixel_bytes(size) or image[: len(header)].tobytes() != header:
            raise ValueError(f"not a picture of {size} pixels")
    elif encoding == "jpg":
        height, width, *_ = simplejpeg.decode_jpeg_header(image)
        if (height, width) != (size, size):
            raise ValueError(f"{width} × {height} pixels, not {size} × {size}")
        simplejpeg.decode_jpeg(image, buffer=np.empty((size, size, 3), np.uint8))
    else:
        read_image(image.tobytes(), size)


def decode(image: np.ndarray, encoding: str, out: np.ndarray) -> None:
    """Decode an image, uint8 [bytes], into `out`, uint8 [size, size, 3]. Raises ValueError if it cannot."""
    if encoding == "jpg":
        simplejpeg.decode_jpeg(image, buffer=out)
    elif encoding == "npy":
        out[:] = image[-out.size :].reshape(out.shape)
    else:
        out[:] = read_image(image.tobytes(), len(out))

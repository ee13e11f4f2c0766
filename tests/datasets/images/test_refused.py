"""An image that cannot be used says what is wrong with it; a large one that can be is used."""

import pickle
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from emojigan.datasets.images import read
from emojigan.datasets.images.read import ImageError, read_image
from emojigan.datasets.images.refused import MAX_BYTES

from .hostile_images import (
    PDF,
    POSTSCRIPT,
    PSD,
    SVG,
    bmp_claiming,
    encoded,
    gif_claiming,
    jpeg_claiming,
    png,
    tiff_claiming,
    webp_claiming,
    with_segments,
)


def texture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


FORMS = {form: encoded(texture(90, 70), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")}
FORMS["progressive JPEG"] = encoded(texture(90, 70), "JPEG", progressive=True)
if features.check("avif"):
    FORMS["AVIF"] = encoded(texture(90, 70), "AVIF")
LOSSY, LOSSLESS = FORMS["WEBP"], encoded(texture(90, 70), "WEBP", lossless=True)
UNKNOWN = "is none of JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC"
UNREADABLE = [
    (b"", "is empty"),
    (bytes(1000), UNKNOWN),
    (PDF, "is a PDF"),
    (POSTSCRIPT, "is PostScript"),
    (PSD, "is a Photoshop file"),
    (b'\n<?xml version="1.0"?>\n' + SVG, "is SVG"),
    (SVG, "is SVG"),
    (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML><title>404</title>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid ", "is a pointer of Git LFS: git lfs pull"),
    (b"\0\0\0\x18ftypisom" + bytes(12), "is a video"),
    (b"\0\0\0\x18ftypcrx " + bytes(12), UNKNOWN),
    (png(0, 16), "has no pixels"),
    (jpeg_claiming(12_000, 9000), "is cut off"),  # of so few bytes
    (with_segments(FORMS["JPEG"], b"\xff\xfe\0\2" * 2000), "is a JPEG of too many segments"),
    (with_segments(FORMS["JPEG"], b"\xff\1"), "is damaged: a JPEG with something between its segments"),
    (FORMS["JPEG"][:2000] + b"\xff\xd9", "is damaged: Corrupt JPEG data: premature end of data segment"),
    (FORMS["GIF"][:-1], "is a GIF without its end"),
    (bmp_claiming(64, 64, compression=1), "is a BMP of run lengths, which are not read"),
    (
        tiff_claiming(64, 64, (259, 3, 1, 7)),
        "is a TIFF of another compression than none, LZW, deflate and PackBits",
    ),
    (tiff_claiming(64, 64, (258, 3, 1, 32)), "is a TIFF of 32 bits a sample, and at most 16 are read"),
    (FORMS["WEBP"][:12] + bytes(len(FORMS["WEBP"]) - 12), "is damaged: its header makes no sense"),
]
PROGRESSIVE = "pixels; a progressive JPEG like it is decoded up to"
NOT_DECODED = "of more than 64 megapixels are not decoded"
TOO_LARGE = [
    (bytes(MAX_BYTES + 1), "is larger than 64 MiB"),
    (png(12_000, 9000), f"has 12,000 × 9,000 pixels; PNGs {NOT_DECODED}"),
    (bmp_claiming(12_000, -9000), f"has 12,000 × 9,000 pixels; BMPs {NOT_DECODED}"),
    (tiff_claiming(9000, 9000), f"has 9,000 × 9,000 pixels; TIFFs {NOT_DECODED}"),
    (webp_claiming(16_384, 12_288), f"has 16,384 × 12,288 pixels; WebPs {NOT_DECODED}"),
    (
        LOSSY[:26] + struct.pack("<HH", 9000, 8000) + LOSSY[30:],
        f"has 9,000 × 8,000 pixels; WebPs {NOT_DECODED}",
    ),
    (
        LOSSLESS[:21] + struct.pack("<I", 8999 | 7999 << 14) + LOSSLESS[25:],
        f"has 9,000 × 8,000 pixels; WebPs {NOT_DECODED}",
    ),
    (gif_claiming((1, 1), (9001, 9001)), f"has 9,001 × 9,001 pixels; GIFs {NOT_DECODED}"),
    (gif_claiming((1, 1), (60_000, 60_000)), "has over 64 megapixels, which only JPEGs may have"),
    (
        jpeg_claiming(65_000, 65_000),
        "has 65,000 × 65,000 pixels; a JPEG like it is decoded up to 800 megapixels",
    ),
    (
        jpeg_claiming(12_000, 9000, progressive=True, subsampling=0),
        f"has 12,000 × 9,000 {PROGRESSIVE} 64 megapixels",
    ),
    (
        jpeg_claiming(16_320, 12_240, progressive=True, subsampling=2),
        f"has 16,320 × 12,240 {PROGRESSIVE} 114 megapixels",
    ),
]


@pytest.mark.parametrize(
    ("reason", "files"), [("unreadable image", UNREADABLE), ("image too large", TOO_LARGE)]
)
def test_what_is_wrong_is_told(reason, files):
    for content, detail in files:
        with pytest.raises(ImageError) as refused:
            read_image(content)
        assert (str(refused.value), refused.value.detail) == (reason, detail)


def test_what_lacks_a_decoder_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr(read, "_can_read_heif", lambda: False)
    monkeypatch.setattr(features, "check", lambda _: False)
    for brand, detail in (("heic", 'is HEIC: pip install -e ".[heic]"'), ("avif", "is AVIF")):
        with pytest.raises(ImageError) as refused:
            read_image(b"\0\0\0\x18ftyp" + brand.encode() + bytes(12))
        assert refused.value.detail.startswith(detail)


@given(st.sampled_from(sorted(FORMS)), st.floats(0, 1, exclude_max=True))
@example("GIF", 0.95590607304477)  # which ends with the byte that ends a GIF
@settings(max_examples=200, deadline=None)
def test_any_file_that_lacks_its_end_is_told_so(form, part):
    whole = FORMS[form]
    kept = whole[: 12 + int(part * (len(whole) - 12))]
    with pytest.raises(ImageError) as refused:
        pytest.fail(f"read: {form}, {read_image(kept).shape}, {len(kept)} of {len(whole)}")
    told = "is a GIF without its end" if form == "GIF" and not kept.endswith(b";") else "is cut off"
    if part < 0.2 and refused.value.detail.startswith("is damaged: "):
        return  # within its header, of which decoders have words of their own
    assert refused.value.detail == told, (len(kept), len(whole))


def test_an_image_error_travels_between_processes_whole():
    error = pickle.loads(pickle.dumps(ImageError("unreadable image", "is cut off")))
    assert (str(error), error.detail) == ("unreadable image", "is cut off")


def test_a_jpeg_of_108_megapixels_is_the_picture_that_a_small_one_is():
    fields = np.asarray(texture(4, 3))
    small, large = (fields.repeat(side, axis=1).repeat(side, axis=0) for side in (75, 3000))
    pixels = read_image(simplejpeg.encode_jpeg(large, 95, colorsubsampling="420"))
    assert np.abs(pixels.astype(int) - read_image(encoded(Image.fromarray(small)))).max() <= 2

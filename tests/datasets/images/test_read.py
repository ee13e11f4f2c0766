"""Any photograph becomes the right small square; anything else is an ImageError with its reason."""

import io
import os
import re
import resource
import struct
import subprocess
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFile, ImageOps, TiffImagePlugin, features

from emojigan.datasets.images.average import _average, _bands, _weights, average_square
from emojigan.datasets.images.duplicates import VALUES, WIDTH, fingerprint, fingerprints, near_clusters
from emojigan.datasets.images.read import MAX_BYTES, ImageError, read_image
from emojigan.datasets.images.tiff import _NEEDED
from emojigan.datasets.shards.encoding import ENCODERS
from emojigan.datasets.worlds.demo import draw, shoot

from .hostile_images import encoded, gif_claiming, hostile_images, jpeg_claiming, png, with_segments

RED, GREEN, BLUE, WHITE = (220, 30, 20), (20, 200, 40), (30, 40, 210), (255, 255, 255)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth at large, textured at small: what a photograph's spectrum is like."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for side in (4, 16, 64, 256):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float64) / side
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


def quarters() -> Image.Image:
    """A square of four colours, so that every orientation looks different."""
    image = Image.new("RGB", (64, 64))
    for corner, colour in zip([(0, 0), (32, 0), (0, 32), (32, 32)], (RED, GREEN, BLUE, WHITE), strict=True):
        image.paste(colour, (*corner, corner[0] + 32, corner[1] + 32))
    return image


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def assert_flat(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 0) -> None:
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("size", [64, 128])
def test_every_form_and_mode_becomes_an_rgb_square(form, mode, size):
    image = photograph(90, 70).convert(mode)
    image = image.convert("L") if (form, mode) in (("JPEG", "P"), ("WEBP", "1")) else image
    pixels = read_image(encoded(image, form), size)
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert pixels.flags.writeable


def test_image_of_the_wanted_size_is_untouched():
    np.testing.assert_array_equal(read_image(encoded(quarters())), np.asarray(quarters()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_undone(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(
        quarters(), form, exif=exif, **({"quality": 95} if form == "JPEG" else {"lossless": True})
    )
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    np.testing.assert_array_equal(read_image(content), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone_after_reduced_decoding(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = quarters().resize((1080, 1080), Image.Resampling.NEAREST).crop((0, 0, 1080, 900))
    content = encoded(image, "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert psnr(read_image(content), read_image(encoded(upright, "PNG"))) > 40


def test_exif_that_cannot_be_written_anew_costs_no_picture():
    exif = Image.Exif()
    exif[0x0112], exif[0x0128] = 6, 2
    content = encoded(quarters(), "JPEG", quality=95, exif=exif)
    resolution_unit = struct.pack("<HHI", 0x0128, 3, 1), struct.pack(">HHI", 0x0128, 3, 1)
    (entry,) = (each for each in resolution_unit if each in content)
    order = "<" if entry == resolution_unit[0] else ">"
    odd = content.replace(entry, struct.pack(f"{order}HHI", 0x0128, 2, 3))  # text, where a number belongs
    assert odd != content
    np.testing.assert_array_equal(read_image(odd), read_image(content))


@pytest.mark.parametrize("side", [80, 1080])
def test_cmyk_jpeg_is_converted(side):
    pixels = read_image(encoded(Image.new("RGB", (side, side), RED).convert("CMYK"), "JPEG", quality=95))
    assert_flat(pixels, RED, tolerance=4)


def test_ycck_jpeg_is_converted():
    content = encoded(quarters().convert("CMYK"), "JPEG", quality=95)
    adobe = content.index(b"Adobe")
    ycck = content[: adobe + 11] + b"\2" + content[adobe + 12 :]  # what the same numbers mean as YCCK
    pillow = np.asarray(Image.open(io.BytesIO(ycck)).convert("RGB"))
    assert np.abs(read_image(ycck).astype(int) - pillow).max() <= 1
    assert np.abs(read_image(content).astype(int) - pillow).max() > 50


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
def test_kinds_of_jpeg_are_read_alike(options):
    image = photograph(700, 500)
    assert (
        psnr(read_image(encoded(image, "JPEG", quality=95, **options)), read_image(encoded(image, "PNG")))
        > 38
    )


def test_grey_jpeg_is_read():
    image = photograph(700, 500).convert("L")
    assert psnr(read_image(encoded(image, "JPEG", quality=95)), read_image(encoded(image, "PNG"))) > 38


def test_16_bit_grey_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    pixels = read_image(encoded(Image.fromarray(np.tile(ramp, (64, 1)))))
    np.testing.assert_array_equal(pixels, np.repeat(np.tile(ramp >> 8, (64, 1))[..., None], 3, axis=2))


def test_16_bit_colour_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    rows = np.tile(np.stack([ramp, ramp[::-1], ramp // 2], axis=1), (64, 1, 1)).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    pixels = read_image(png(64, 64, (b"IDAT", zlib.compress(lines)), depth=16))
    np.testing.assert_array_equal(pixels, rows >> 8)


def test_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (64, 64), 1)
    image.putpalette([*RED, *GREEN])
    image.paste(0, (0, 0, 64, 32))
    pixels = read_image(encoded(image, "PNG", transparency=0))
    assert_flat(pixels[:32], WHITE)
    assert_flat(pixels[32:], GREEN)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_laid_over_white(form):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    assert_flat(read_image(encoded(image, form, lossless=True)), (127, 127, 127))


def test_grey_with_alpha_is_laid_over_white():
    assert_flat(read_image(encoded(Image.new("LA", (64, 64), (0, 0)))), WHITE)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation_is_taken(form):
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert_flat(read_image(content), RED)


@pytest.mark.parametrize("box", [(100, 64), (64, 100)], ids=["wide", "tall"])
def test_the_middle_square_is_kept(box):
    image = Image.new("RGB", box, RED)
    image.paste(quarters(), ((box[0] - 64) // 2, (box[1] - 64) // 2))
    np.testing.assert_array_equal(read_image(encoded(image)), np.asarray(quarters()))


@pytest.mark.parametrize("box", [(1, 5000), (5000, 1), (1, 1), (3, 2)])
def test_tiny_and_thin_images_are_enlarged(box):
    assert_flat(read_image(encoded(Image.new("RGB", box, RED))), RED)


def exact_area(length: int, start: float, stop: float, size: int) -> np.ndarray:
    """What share of each part each pixel covers, by its definition: float64 [size, length]."""
    edges = np.linspace(start, stop, size + 1)[:, None]
    pixels = np.arange(length)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return covered.clip(0) * size / (stop - start)


@given(st.integers(1, 64), st.integers(1, 3), st.integers(0, 5), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_square_is_the_exact_area_average(size, times, more, seed, data):
    side = size * times + more
    width, height = data.draw(st.sampled_from([(side, side), (side + 7, side), (side, side + 8)]))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    down, across = (exact_area(n, (n - side) / 2, (n + side) / 2, size) for n in (height, width))
    exact = np.einsum("oh,hwc,pw->opc", down, image.astype(np.float64), across, optimize=True)
    assert np.abs(average_square(image, (width, height), (1, 1), size) - exact).max() <= 0.5 + 0.125 + 0.15


@given(st.integers(1, 300), st.integers(1, 128), st.booleans())
@settings(max_examples=100, deadline=None)
def test_weights_are_shares_that_keep_the_mean(length, size, smooth):
    weights = _weights(length, 0, length, size, smooth)
    np.testing.assert_array_equal(weights.sum(axis=1), 2**13)
    assert np.abs(weights.sum(axis=0) / 2**13 - size / length).max() <= size / 2**13  # all pixels count alike


@given(
    st.integers(1, 200),
    st.integers(1, 100),
    st.booleans(),
    st.sampled_from([2, 255, 256]),
    st.integers(0, 99),
)
@example(2, 100, True, 2, 0)
@settings(max_examples=60, deadline=None)
def test_averages_are_exact_whatever_the_order_of_adding(length, size, smooth, levels, seed):
    image = np.random.default_rng(seed).integers(0, levels, (length, length, 3)) * (255 // (levels - 1))
    whole = _weights(length, 0, length, size, smooth).astype(np.int64)
    rows = np.rint(np.einsum("oh,hwc->owc", whole, image) / 2**11).astype(np.int64)
    means = np.rint(np.einsum("owc,pw->opc", rows, whole) / 2**15).clip(0, 255)
    bands = _bands(length, 0, length, size, smooth)
    np.testing.assert_array_equal(_average(image.astype(np.uint8), bands, bands), means)


@pytest.mark.parametrize("box", [(700, 600), (1001, 999), (2000, 1500)])
def test_block_means_are_within_50_db_of_the_exact_area(box):
    image = photograph(*box)
    side = min(box)
    shares = [exact_area(n, (n - side) / 2, (n + side) / 2, 64) for n in box]
    exact = np.einsum("oh,hwc,pw->opc", shares[1], np.asarray(image, np.float64), shares[0], optimize=True)
    assert psnr(read_image(encoded(image, compress_level=1)), exact) >= 50


def test_enlarging_keeps_flat_parts_and_makes_no_blocks():
    ramp = np.repeat(np.linspace(0, 240, 16).astype(np.uint8)[None], 16, axis=0)
    pixels = read_image(encoded(Image.fromarray(ramp)))[32, :, 0].astype(int)
    assert (np.diff(pixels)[4:-4] > 0).all()


@pytest.mark.parametrize("box", [(2400, 1600), (1081, 1350), (640, 640), (520, 600)])
def test_reduced_jpeg_decode_is_within_45_db_of_the_full_one(box):
    content = encoded(photograph(*box), "JPEG", quality=85)
    full = read_image(encoded(Image.open(io.BytesIO(content)).convert("RGB"), compress_level=1))
    assert psnr(read_image(content), full) >= 45


@pytest.mark.parametrize(
    ("box", "decoded"),
    [
        ((2400, 1600), (200, 300)),
        ((1080, 1080), (135, 135)),
        ((640, 800), (200, 160)),
        ((200, 100), (100, 200)),
    ],
)
def test_jpeg_is_decoded_at_the_smallest_scale_of_twice_the_size(monkeypatch, box, decoded):
    seen, decode = [], simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *a, **k: (seen.append(decode(*a, **k)), seen[-1])[1]
    )
    read_image(encoded(Image.new("RGB", box), "JPEG"))
    assert seen[0].shape[:2] == decoded


@pytest.fixture
def no_decoding(monkeypatch):
    """Any decoding, and any program, fails the test."""

    def trap(*_, **__):
        pytest.fail("decoded, or ran a program")

    for owner, name in (
        (simplejpeg, "decode_jpeg"),
        (Image.Image, "load"),
        (ImageFile.ImageFile, "load"),
        (subprocess, "Popen"),
        (os, "system"),
    ):
        monkeypatch.setattr(owner, name, trap)


@pytest.fixture
def hostile():
    return hostile_images()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_images_are_refused_before_decoding_in_little_memory(hostile, no_decoding):
    assert len(hostile) >= 200
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for wrong, content in hostile:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with pytest.raises(ImageError) as refused:
                pytest.fail(f"read: {wrong}, {read_image(content).shape}")
            assert re.fullmatch("(is|has) .+", refused.value.detail), wrong
            assert tracemalloc.get_traced_memory()[1] - before < 2**20 + 2 * len(content), wrong
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 50 * 1024  # KiB


@pytest.mark.parametrize(
    "content", [png(8001, 8001), jpeg_claiming(30_000, 30_000), gif_claiming((1, 1), (9001, 9001))]
)
def test_too_many_pixels_are_told_so(content, no_decoding):
    with pytest.raises(ImageError, match=r"^image too large$"):
        read_image(content)


def test_too_many_bytes_are_told_so(no_decoding):
    with pytest.raises(ImageError, match=r"^image too large$"):
        read_image(bytes(MAX_BYTES + 1))


def test_pillows_own_warning_of_bombs_stops_nothing():
    bomb = gif_claiming((10_000, 10_000), (16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="image too large"):
            read_image(bomb)


def test_8000_by_8000_is_not_too_large(monkeypatch):
    monkeypatch.setattr(
        "emojigan.datasets.images.read._opaque", lambda image, block: Image.new("RGB", (266, 266))
    )
    flat = png(8000, 8000, (b"IDAT", zlib.compress(b"")))
    assert read_image(flat).shape == (64, 64, 3)


def test_metadata_is_never_unpacked(monkeypatch):
    """Texts and a profile of a gigabyte, and EXIF of megabytes: the picture is read, and nothing else."""
    bomb, picture = zlib.compress(bytes(2**20)), encoded(quarters())
    lines = b"".join(b"\0" + row.tobytes() for row in np.asarray(quarters()))
    chunks = [(b"iTXt", b"a\0\1\0\0\0" + bomb), (b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb)] * 300
    content = png(64, 64, *chunks, (b"IDAT", zlib.compress(lines)), *chunks[:9])
    for name in ("chunk_iTXt", "chunk_zTXt", "chunk_iCCP"):
        monkeypatch.setattr(f"PIL.PngImagePlugin.PngStream.{name}", lambda *_: pytest.fail("unpacked"))
    np.testing.assert_array_equal(read_image(content), read_image(picture))

    plain = encoded(quarters(), "JPEG", quality=95)
    entries = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x9999, 3, 1, 1) * 5000
    exif = b"\xff\xe1" + struct.pack(">H", len(entries) + 2) + entries
    np.testing.assert_array_equal(read_image(with_segments(plain, exif * 100)), read_image(plain))


def test_two_pictures_in_one_jpeg_give_the_first():
    content = encoded(
        quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))], quality=95
    )
    np.testing.assert_array_equal(read_image(content), read_image(encoded(quarters(), "JPEG", quality=95)))


def test_only_the_first_of_many_frames_is_decoded(monkeypatch):
    frames = [Image.new("L", (64, 64), n % 256) for n in range(2, 2000)]
    content = encoded(quarters().convert("P"), "GIF", save_all=True, append_images=frames)
    loads, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: (loads.append(self.tile), load(self))[1])
    read_image(content)
    assert sum(bool(tile) for tile in loads) == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiff_is_read_in_both_byte_orders_and_what_is_lossless(order, compression):
    image = photograph(300, 200)
    options = {"big_endian": order == ">"} if compression == "raw" else {}
    content = encoded(image, "TIFF", compression=compression, **options)
    np.testing.assert_array_equal(read_image(content), read_image(encoded(image)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_is_undone_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(quarters(), "TIFF", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(quarters(), exif=exif)))))
    np.testing.assert_array_equal(read_image(content), upright)


def test_first_picture_of_a_tiff_is_read_without_the_others_and_their_metadata(monkeypatch):
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], exif=EXIF)
    seen, load = set(), TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(
        TiffImagePlugin.ImageFileDirectory_v2,
        "load",
        lambda self, file: (load(self, file), seen.update(self._tagdata))[0],
    )
    assert_flat(read_image(content), RED)
    assert {256, 257, 273} <= seen <= _NEEDED.keys()


@pytest.mark.parametrize("height", [48, -48])
def test_bmp_is_read_from_above_and_from_below(height):
    content = bytearray(encoded(quarters().crop((0, 0, 64, 48)), "BMP"))
    content[22:26] = struct.pack("<i", height)
    expected = quarters().crop((0, 0, 64, 48))
    expected = expected if height > 0 else ImageOps.flip(expected)
    np.testing.assert_array_equal(read_image(bytes(content)), read_image(encoded(expected)))


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without it")
def test_avif_is_read_where_its_decoder_is(monkeypatch):
    content = encoded(photograph(300, 200), "AVIF", quality=95)
    assert psnr(read_image(content), read_image(encoded(photograph(300, 200)))) > 35
    for kept in (0, 1, len(content) // 2, len(content) - 1):
        with pytest.raises(ImageError, match=r"^unreadable image$"):
            read_image(content[:kept])
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(content)


def test_heic_is_read_where_its_decoder_is():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = photograph(300, 200)
    assert psnr(read_image(encoded(image, "HEIF", quality=95)), read_image(encoded(image, "PNG"))) > 35


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.9])
def test_truncated_or_empty_file_is_unreadable(form, part):
    content = encoded(photograph(90, 70), form)
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(content[: int(part * len(content))])


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_that_lacks_its_middle_is_unreadable(progressive, kept):
    content = encoded(photograph(900, 700), "JPEG", progressive=progressive)
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(content[: int(kept * len(content))] + b"\xff\xd9")


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_raise_only_image_errors(content):
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x24\x01\0\0WEBPVP8 "):
        with pytest.raises(ImageError):
            read_image(start + content)


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F], EXIF[0x829A] = 6, "camera", (1, 100)
SEEDS = [
    encoded(quarters(), "JPEG", exif=EXIF),
    encoded(quarters(), "JPEG", progressive=True),
    encoded(quarters(), "PNG", exif=EXIF),
    encoded(quarters().convert("P"), "PNG", transparency=0),
    encoded(quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
    encoded(quarters(), "WEBP", exif=EXIF),
    encoded(quarters(), "BMP"),
    encoded(quarters().convert("P"), "BMP"),
    encoded(quarters(), "TIFF", exif=EXIF),
    encoded(quarters(), "TIFF", compression="tiff_lzw"),
    *([encoded(quarters(), "AVIF", exif=EXIF)] if features.check("avif") else []),
]


@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(min_size=1, max_size=4)), min_size=1
    ),
)
@settings(max_examples=400, deadline=None)
def test_damaged_images_give_a_picture_or_an_image_error(content, damages):
    for place, width, replacement in damages:
        content = content[:place] + replacement + content[place + width * len(replacement) :]
    try:
        assert read_image(content).shape == (64, 64, 3)
    except ImageError as error:
        assert str(error) in ("unreadable image", "image too large")


def test_npy_ends_with_the_pixels():
    pixels = np.asarray(quarters())
    content = ENCODERS["npy"](pixels)
    assert content.endswith(pixels.tobytes())
    np.testing.assert_array_equal(np.load(io.BytesIO(content), allow_pickle=False), pixels)


def test_jpeg_is_within_35_db_of_the_pixels():
    pixels = read_image(encoded(photograph(600, 400)))
    assert psnr(np.asarray(Image.open(io.BytesIO(ENCODERS["jpg"](pixels)))), pixels) >= 35


@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoding_is_the_same_every_time(encoding):
    pixels = np.asarray(quarters())
    assert ENCODERS[encoding](pixels) == ENCODERS[encoding](pixels.copy())


def test_files_hold_what_they_always_held():
    """Bytes are the data's identity: they may not change with the machine, nor unnoticed with a version."""
    ramp = np.arange(64, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp * 4, ramp[:, None] * 4, (ramp + ramp[:, None]) * 2), axis=2)
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    assert ENCODERS["npy"](pixels) == buffer.getvalue()


@pytest.fixture(scope="module")
def shots() -> list[Image.Image]:
    return [shoot(post) for post in draw(24, seed=3)]


def test_fingerprints_of_other_codings_are_near_and_of_other_crops_far(shots):
    found = [fingerprint(read_image(encoded(shot, "JPEG", quality=92))) for shot in shots]
    half = [shot.resize((shot.width // 2, shot.height // 2), Image.Resampling.LANCZOS) for shot in shots]
    lighter = [ImageEnhance.Brightness(shot).enhance(1.05) for shot in shots]
    again = [
        near_clusters(np.stack([old, fingerprint(read_image(encoded(other, "JPEG", quality=60)))]))[1] == 0
        for others in (shots, half, lighter)
        for old, other in zip(found, others, strict=True)
    ]
    assert np.mean(again) > 0.95
    assert near_clusters(np.stack(found)).tolist() == list(range(len(shots)))


@pytest.mark.parametrize("size", [32, 64, 100])
def test_fingerprints_are_those_of_each_picture(size):
    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, 3)).astype(np.uint8)
    together = fingerprints(pixels)
    assert (together.dtype, together.shape) == (np.int8, (5, WIDTH))
    assert together.tolist() == [fingerprint(one).tolist() for one in pixels]


def test_fingerprint_is_the_same_in_any_light_and_opposite_in_a_negative():
    pixels = np.random.default_rng(0).integers(0, 120, (64, 64, 3)).astype(np.uint8)
    values, bright, negative = (fingerprint(each)[:VALUES] for each in (pixels, pixels * 2, 255 - pixels))
    assert np.abs(bright - values).max() <= 1
    assert np.abs(negative + values).max() <= 1

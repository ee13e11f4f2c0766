"""Any photograph becomes the right small square; anything else is an ImageError with its reason."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from emojigan.datasets.images import ENCODERS, ImageError, read_image

RED, GREEN, BLUE, WHITE = (220, 30, 20), (20, 200, 40), (30, 40, 210), (255, 255, 255)


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


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
    for place, colour in zip([(0, 0), (32, 0), (0, 32), (32, 32)], (RED, GREEN, BLUE, WHITE), strict=True):
        image.paste(colour, (*place, place[0] + 32, place[1] + 32))
    return image


def png(width: int, height: int, content: bytes = b"") -> bytes:
    """A PNG that claims a size, with this content in its IDAT."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def assert_flat(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 0) -> None:
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("size", [64, 128])
def test_every_form_and_mode_becomes_an_rgb_square(form, mode, size):
    image = photograph(90, 70).convert(mode)
    image = image.convert("L") if (form, mode) in (("JPEG", "P"), ("WEBP", "1")) else image
    pixels = read_image(encoded(image, form), size)
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert pixels.flags.writeable


def test_file_and_its_bytes_give_the_same(tmp_path):
    content = encoded(quarters())
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(content))


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


def test_cmyk_is_converted():
    pixels = read_image(encoded(Image.new("RGB", (80, 80), RED).convert("CMYK"), "JPEG", quality=95))
    assert_flat(pixels, RED, tolerance=4)


def test_16_bit_grey_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    pixels = read_image(encoded(Image.fromarray(np.tile(ramp, (64, 1)))))
    np.testing.assert_array_equal(pixels, np.repeat(np.tile(ramp >> 8, (64, 1))[..., None], 3, axis=2))


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


def test_pixels_are_the_mean_of_their_area():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    mean = noise.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(read_image(encoded(Image.fromarray(noise))) - mean).max() <= 1  # two passes, each rounded


@pytest.mark.parametrize("box", [(2400, 1600), (1081, 1350), (640, 640), (520, 600)])
def test_reduced_jpeg_decode_is_within_45_db_of_the_full_one(box):
    content = encoded(photograph(*box), "JPEG", quality=85)
    full = read_image(encoded(Image.open(io.BytesIO(content)).convert("RGB"), compress_level=1))
    assert psnr(read_image(content), full) >= 45


def test_large_jpeg_is_decoded_at_a_reduced_scale(monkeypatch):
    seen = []
    convert = Image.Image.convert
    monkeypatch.setattr(
        Image.Image, "convert", lambda self, mode: (seen.append(self.size), convert(self, mode))[1]
    )
    read_image(encoded(Image.new("RGB", (2400, 1600)), "JPEG"))
    assert seen == [(600, 400)]


@pytest.mark.parametrize("side", [8001, 20_000, 2**31 - 1])
def test_bomb_is_refused_before_it_is_decoded(side, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"^image too large$"):
        read_image(png(side, side))


def test_pillows_own_warning_of_bombs_stops_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ImageError, match="image too large"):
            read_image(png(10_000, 10_000))


def test_8000_by_8000_is_not_too_large(monkeypatch):
    monkeypatch.setattr("emojigan.datasets.images._to_square", lambda image, size: image.size)
    assert read_image(png(8000, 8000)) == (8000, 8000)


def test_postscript_named_jpg_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("ran Ghostscript"))
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64)).save(path, "EPS")
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(path)


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PPM", "ICO", "PDF"])
def test_other_formats_are_refused(form):
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(encoded(Image.new("RGB", (64, 64)), form))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.9])
def test_truncated_or_empty_file_is_unreadable(form, part):
    content = encoded(photograph(90, 70), form)
    with pytest.raises(ImageError, match=r"^unreadable image$"):
        read_image(content[: int(part * len(content))])


@pytest.mark.parametrize("name", ["nothing.jpg", "folder", "file/a.jpg"])
def test_what_is_no_file_is_a_missing_image(tmp_path: Path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match=r"^missing image$"):
        read_image(tmp_path / name)


def test_name_too_long_for_a_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError):
        read_image(tmp_path / ("a" * 5000))


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

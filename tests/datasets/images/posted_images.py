"""Images that many post and that are no photographs: cards with a quotation, screenshots. Each is another.

(kind, number) ─► card, chat, feed or crop ─► PNG or JPEG ─► read_image ─► uint8 [64, 64, 3]
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emojigan.datasets.images.read import read_image

SYLLABLES = (
    "a",
    "be",
    "co",
    "di",
    "el",
    "fa",
    "go",
    "hu",
    "in",
    "jo",
    "ka",
    "li",
    "me",
    "no",
    "or",
    "qui",
    "zen",
)
GROUNDS = ("white", "#111", "#f6e7d8", "#1da1f2", "#2d3436", "#fff3b0", "#6c5ce7", "#e17055")
FONTS = {size: ImageFont.load_default(size) for size in (11, 13, 15, 22, 26, 30, 36)}


def words(rng: np.random.Generator, count: int) -> list[str]:
    lengths = rng.integers(1, 5, count).tolist()
    syllables = iter(rng.integers(0, len(SYLLABLES), sum(lengths)).tolist())
    return ["".join(SYLLABLES[next(syllables)] for _ in range(length)) for length in lengths]


def lines(rng: np.random.Generator, count: int, size: int, width: int) -> list[str]:
    """Words in lines of about that many pixels at most."""
    found: list[list[str]] = [[]]
    room = float(width)
    for word in words(rng, count):
        length = FONTS[size].getlength(word + " ")
        if length > room and found[-1]:
            found.append([])
            room = width
        found[-1].append(word)
        room -= length
    return [" ".join(line) for line in found]


def write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, **options) -> None:
    pen.text(place, text, font=FONTS[size], **options)


def card(rng: np.random.Generator) -> Image.Image:
    """A quotation in the middle of a plain ground, and who said it."""
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    picture = Image.new("RGB", (480, 480), ground)
    pen = ImageDraw.Draw(picture)
    dark = sum(picture.getpixel((0, 0))) > 380  # pyright: ignore[reportArgumentType]
    ink = "#222" if dark else "white"
    size = int(rng.choice((22, 26, 30, 36)))
    text = lines(rng, int(rng.integers(4, 28)), size, 380)
    top = 240 - len(text) * size * 0.65
    for row, line in enumerate(text):
        write(pen, (240, top + row * size * 1.3), line, size, fill=ink, anchor="ma")
    write(pen, (240, 440), "by " + " ".join(words(rng, 2)).title(), 22, fill=ink, anchor="ma")
    return picture


def chat(rng: np.random.Generator) -> Image.Image:
    """A telephone's screen: messages in bubbles, between an app's bars."""
    dark = rng.random() < 0.3
    picture = Image.new("RGB", (360, 640), "#0b141a" if dark else "#ece5dd")
    pen = ImageDraw.Draw(picture)
    y = 64.0
    while y < 570:
        text = lines(rng, int(rng.integers(1, 16)), 15, 220)
        width = max(map(FONTS[15].getlength, text)) + 24
        height = 20 * len(text) + 14
        own = rng.random() < 0.5
        left = 348 - width if own else 12
        fill = ("#005c4b" if own else "#202c33") if dark else ("#dcf8c6" if own else "white")
        pen.rounded_rectangle((left, y, left + width, y + height), 10, fill=fill)
        for row, line in enumerate(text):
            write(pen, (left + 12, y + 6 + 20 * row), line, 15, fill="#e9edef" if dark else "#111")
        y += height + 8
    pen.rectangle((0, 0, 360, 56), fill="#202c33" if dark else "#075e54")
    pen.ellipse((12, 10, 48, 46), fill="#aaa")
    write(pen, (60, 16), " ".join(words(rng, 2)).title(), 15, fill="white")
    pen.rectangle((0, 584, 360, 640), fill="#202c33" if dark else "#f0f0f0")
    return picture


def feed(rng: np.random.Generator) -> Image.Image:
    """A square of an app's feed: entries with an icon, a name and some lines, and the app's bars."""
    picture = Image.new("RGB", (480, 480), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, 480, 44), fill="#f7f7f7")
    write(pen, (240, 10), "Home", 22, fill="black", anchor="ma")
    for y in range(52, 440, 98):
        shade = int(rng.integers(80, 230))
        pen.ellipse((14, y + 4, 54, y + 44), fill=(shade, shade, 220))
        write(pen, (68, y), " ".join(words(rng, 2)).title(), 15, fill="black")
        for row, line in enumerate(lines(rng, int(rng.integers(3, 24)), 13, 390)[:3]):
            write(pen, (68, y + 22 + 18 * row), line, 13, fill="#333")
        pen.line((0, y + 92, 480, y + 92), fill="#ddd")
    pen.rectangle((0, 440, 480, 480), fill="#f7f7f7")
    for x in range(48, 480, 96):
        pen.rectangle((x - 10, 450, x + 10, 470), outline="#555", width=2)
    return picture


SCREENS: dict[str, Callable[[np.random.Generator], Image.Image]] = {"card": card, "chat": chat, "feed": feed}


def drawn(kind: str, number: int) -> Image.Image:
    return SCREENS[kind](np.random.default_rng([list(SCREENS).index(kind), number]))


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def squares(kind: str, count: int) -> np.ndarray:
    """uint8 [count, 64, 64, 3], as a build reads them from files of the posts."""
    return np.stack([read_image(encoded(drawn(kind, n), quality=85)) for n in range(count)])


def joined(pixels: np.ndarray, count: int, on_one_ground: bool) -> Iterator[np.ndarray]:
    """Upper halves on lower halves of so many different pairs of squares, a thousand at a time."""
    above, below = np.divmod(np.random.default_rng(0).permutation(len(pixels) ** 2), len(pixels))
    if on_one_ground:
        corner = pixels[:, 0, 0].astype(int)
        fits = np.flatnonzero(np.abs(corner[above] - corner[below]).max(axis=1) <= 3)
        above, below = above[fits], below[fits]
    for start in range(0, count, 1000):
        some = slice(start, start + 1000)
        yield np.concatenate([pixels[above[some], :32], pixels[below[some], 32:]], axis=1)

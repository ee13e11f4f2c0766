"""The photographs of the demo world, and what people would react to them with: the truth.

packages installed here ─► photograph(name) ─► picture to take posts from
PHOTOGRAPHS, POPULAR ───► truth(name) ──────► p(emoji | photograph)
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from ..errors import InputError

LONGEST_SIDE = 800  # pixels; the largest has 1,411, which would only cost time

# What is posted under any picture, most used first.
POPULAR = tuple("😍❤😂🔥😊✨💕🙌👏😎🙏💯👌😭🎉👍😘🤩💙🥰")
ANYTHING = tuple("🪨🏞🥾🐢🦎🐚🏖🌊🦀🎒🚶🤔🙃😐🤷🎧🎲🧩")


@dataclass(frozen=True)
class Photograph:
    """One photograph and the reactions that are its own.

    Attributes:
        file: where it lies: an importable package, folders, name.
        reactions: canonical emojis and how often each is used, relative to the others.
        popular: the share of POPULAR in all reactions.
        tint: the colours of shadow and light, for a grey one.
        sky: the colours of zenith and horizon, to put behind a black silhouette on white.
    """

    file: str
    reactions: dict[str, int]
    popular: float = 0.1
    tint: tuple[str, str] | None = None
    sky: tuple[str, str] | None = None


# Skewed and multi-modal, as reactions are: half of the photographs have one main emoji, others two. To the
# horse all say the same, to the gravel each says something else. The later, the more often posted.
PHOTOGRAPHS = {
    "gravel": Photograph(
        "skimage/data/gravel.png", dict.fromkeys(ANYTHING, 1), popular=0, tint=("#1c1a17", "#f1e6d2")
    ),
    "brick": Photograph(
        "skimage/data/brick.png",
        {"🧱": 68, "🏠": 12, "👷": 10, "🏙": 6, "🛠": 4},
        tint=("#2a0d06", "#ffc7a8"),
    ),
    "page": Photograph("skimage/data/page.png", {"📚": 40, "📖": 34, "🤓": 12, "📝": 6, "💡": 4, "😴": 4}),
    "clock": Photograph("skimage/data/clock_motion.png", {"⏰": 50, "⏳": 20, "🌀": 14, "😵": 8, "🏃": 8}),
    "tissue": Photograph("skimage/data/ihc.png", {"🔬": 56, "🧬": 20, "🧫": 12, "🧪": 6, "🎨": 6}),
    "retina": Photograph("skimage/data/retina.jpg", {"👁": 52, "🔴": 16, "🩺": 12, "👀": 8, "🏥": 7, "😳": 5}),
    "grass": Photograph(
        "skimage/data/grass.png",
        {"🌱": 40, "🌿": 36, "🐛": 8, "🍀": 8, "🦗": 4, "🐞": 4},
        tint=("#0a1a04", "#d6e88a"),
    ),
    "coins": Photograph(
        "skimage/data/coins.png",
        {"💰": 40, "🪙": 38, "🏛": 8, "🤑": 8, "👑": 6},
        tint=("#140f0a", "#ffe2a0"),
    ),
    "moon": Photograph(
        "skimage/data/moon.png",
        {"🌕": 52, "🌙": 18, "🐺": 12, "🌚": 10, "🧀": 8},
        tint=("#05070f", "#e6ecff"),
    ),
    "galaxies": Photograph(
        "skimage/data/hubble_deep_field.jpg", {"🌌": 42, "✨": 34, "🔭": 10, "🪐": 8, "👽": 6}
    ),
    "motorcycle": Photograph(
        "skimage/data/motorcycle_left.png", {"🏍": 64, "🔧": 12, "🛵": 8, "💨": 7, "😈": 5, "🏁": 4}
    ),
    "rocket": Photograph("skimage/data/rocket.jpg", {"🚀": 60, "🌌": 10, "🌠": 8, "🤯": 8, "🔭": 7, "🛰": 7}),
    "astronaut": Photograph(
        "skimage/data/astronaut.png", {"🧑‍🚀": 55, "🚀": 15, "🇺🇸": 10, "💪": 8, "🌟": 7, "😃": 5}
    ),
    "horse": Photograph("skimage/data/horse.png", {"🐴": 1}, popular=0, sky=("#4a3a78", "#ffb55e")),
    "china": Photograph(
        "sklearn/datasets/images/china.jpg",
        {"🏯": 54, "🇨🇳": 16, "🐉": 10, "🏮": 8, "🥢": 6, "🧘": 6},
    ),
    "coffee": Photograph("skimage/data/coffee.png", {"☕": 62, "🥐": 12, "🍰": 8, "☀": 7, "😋": 6, "🤎": 5}),
    "flower": Photograph(
        "sklearn/datasets/images/flower.jpg", {"🌼": 44, "🌸": 36, "🌺": 8, "🐝": 6, "💐": 6}
    ),
    "cat": Photograph("skimage/data/chelsea.png", {"🐱": 58, "😻": 20, "🐾": 10, "😽": 5, "🥺": 4, "💤": 3}),
}


@cache
def truth(name: str) -> dict[str, float]:
    """p(emoji | photograph): its own reactions, and a share of the popular ones by Zipf's law. Sums to 1."""
    photo = PHOTOGRAPHS[name]
    uses = sum(photo.reactions.values())
    p = {emoji: (1 - photo.popular) * n / uses for emoji, n in photo.reactions.items()}
    if photo.popular:
        zipf = sum(1 / rank for rank in range(1, len(POPULAR) + 1))
        for rank, emoji in enumerate(POPULAR, start=1):
            p[emoji] = p.get(emoji, 0.0) + photo.popular / rank / zipf
    return p


EMOJIS = tuple(dict.fromkeys(emoji for name in PHOTOGRAPHS for emoji in truth(name)))


def path_of(name: str) -> Path:
    """Where the photograph lies.

    Raises:
        InputError: its package is not installed, or comes without it.
    """
    package, _, rest = PHOTOGRAPHS[name].file.partition("/")
    spec = find_spec(package)  # does not import it, which would take seconds
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder, rest)).exists():
            return path
    raise InputError(
        "The photographs of the demo are not installed. In the checkout: pip install -e '.[demo]'."
    )


@cache
def photograph(name: str) -> Image.Image:
    """The photograph in colour: RGB, no side over LONGEST_SIDE."""
    photo, picture = PHOTOGRAPHS[name], Image.open(path_of(name))
    if photo.tint:
        picture = ImageOps.colorize(picture.convert("L"), *photo.tint)
    picture = picture.convert("RGB")
    if photo.sky:
        sky = ImageOps.colorize(Image.linear_gradient("L"), *photo.sky).resize(picture.size)
        picture = ImageChops.multiply(picture, sky)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return picture

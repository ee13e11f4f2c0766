"""The photographs of the demo world, and what people would react to them with: the truth.

packages installed here ─► photograph(name) ──► picture to take posts from
PHOTOGRAPHS, POPULAR ───► reactions_to(name) ─► p(reaction | photograph)
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from ..errors import InputError
from .reactions import Mood, Reactions

LONGEST_SIDE = 800  # pixels; the largest has 1,411, which would only cost time

# What is posted under any picture, in each mood, most used first.
POPULAR = {
    "delighted": tuple("😍❤🔥✨💕🙌👏😘🤩💙🥰"),
    "amused": tuple("😂😎💯😭🎉"),
    "calm": tuple("😊🙏👌👍"),
}
ANYTHING = tuple("🪨🏞🥾🐢🦎🐚🏖🌊🦀🎒🚶🤔🙃😐🤷🎧🎲🧩")
DRAWS = (0.3, 0.4, 0.3)  # share of the people who draw once, twice, three times


@dataclass(frozen=True)
class Photograph:
    """One photograph and the reactions that are its own.

    Attributes:
        file: where it lies: an importable package, folders, name.
        moods: the ways to see it, named as in POPULAR: canonical emojis, and how often each is drawn,
            relative to those of all its moods.
        popular: the share of POPULAR in the draws of each mood.
        tint: the colours of shadow and light, for a grey one.
        sky: the colours of zenith and horizon, to put behind a black silhouette on white.
    """

    file: str
    moods: dict[str, dict[str, int]]
    popular: float = 0.1
    tint: tuple[str, str] | None = None
    sky: tuple[str, str] | None = None


# Skewed and multi-modal, as reactions are: half of the photographs have one main emoji, others two. To the
# horse all say the same, to the gravel each says something else. The later, the more often posted.
PHOTOGRAPHS = {
    "gravel": Photograph(
        "skimage/data/gravel.png",
        {"calm": dict.fromkeys(ANYTHING, 1)},
        popular=0,
        tint=("#1c1a17", "#f1e6d2"),
    ),
    "brick": Photograph(
        "skimage/data/brick.png",
        {"calm": {"🧱": 62, "🏠": 10, "🏙": 5}, "amused": {"👷": 9, "🧱": 8, "🛠": 4, "😂": 2}},
        tint=("#2a0d06", "#ffc7a8"),
    ),
    "page": Photograph(
        "skimage/data/page.png",
        {
            "delighted": {"📚": 36, "📖": 4, "💡": 4},
            "calm": {"📖": 30, "📝": 5},
            "amused": {"🤓": 12, "😴": 4, "📚": 3, "😂": 2},
        },
    ),
    "clock": Photograph(
        "skimage/data/clock_motion.png",
        {"amused": {"⏰": 50, "🏃": 6, "😵": 6, "😂": 2}, "calm": {"⏳": 20, "🌀": 12, "⏰": 4}},
    ),
    "tissue": Photograph(
        "skimage/data/ihc.png",
        {"calm": {"🔬": 56, "🧫": 10, "🧪": 5}, "delighted": {"🧬": 20, "🎨": 5, "🔬": 4}},
    ),
    "retina": Photograph(
        "skimage/data/retina.jpg",
        {
            "delighted": {"👁": 50, "🔴": 13},
            "calm": {"🩺": 12, "🏥": 6, "👁": 4},
            "amused": {"👀": 8, "😳": 5, "😂": 2},
        },
    ),
    "grass": Photograph(
        "skimage/data/grass.png",
        {
            "delighted": {"🌱": 39, "🍀": 6},
            "calm": {"🌿": 36, "🌱": 3},
            "amused": {"🐛": 8, "🐞": 4, "🦗": 4, "😂": 2},
        },
        tint=("#0a1a04", "#d6e88a"),
    ),
    "coins": Photograph(
        "skimage/data/coins.png",
        {
            "amused": {"💰": 39, "🤑": 7, "😂": 2},
            "calm": {"🪙": 36, "🏛": 6},
            "delighted": {"👑": 6, "🪙": 4, "💰": 3},
        },
        tint=("#140f0a", "#ffe2a0"),
    ),
    "moon": Photograph(
        "skimage/data/moon.png",
        {
            "delighted": {"🌕": 50},
            "calm": {"🌙": 18, "🌕": 4},
            "amused": {"🐺": 11, "🌚": 9, "🧀": 7, "😂": 2},
        },
        tint=("#05070f", "#e6ecff"),
    ),
    "galaxies": Photograph(
        "skimage/data/hubble_deep_field.jpg",
        {
            "delighted": {"✨": 36, "🌌": 6},
            "calm": {"🌌": 37, "🔭": 8, "🪐": 3},
            "amused": {"👽": 6, "🪐": 4, "😂": 2},
        },
    ),
    "motorcycle": Photograph(
        "skimage/data/motorcycle_left.png",
        {
            "delighted": {"🏍": 60, "💨": 5, "🏁": 3},
            "calm": {"🔧": 12, "🏍": 5},
            "amused": {"🛵": 8, "😈": 5, "😂": 2},
        },
    ),
    "rocket": Photograph(
        "skimage/data/rocket.jpg",
        {
            "delighted": {"🚀": 54, "🌠": 6},
            "calm": {"🌌": 10, "🔭": 7, "🛰": 7, "🚀": 5},
            "amused": {"🤯": 8, "🚀": 3, "😂": 2},
        },
    ),
    "astronaut": Photograph(
        "skimage/data/astronaut.png",
        {
            "delighted": {"🧑‍🚀": 52, "🌟": 5, "😃": 4},
            "calm": {"🇺🇸": 10, "💪": 8, "🧑‍🚀": 4},
            "amused": {"🚀": 15, "😂": 3},
        },
    ),
    "horse": Photograph(
        "skimage/data/horse.png", {"delighted": {"🐴": 1}}, popular=0, sky=("#4a3a78", "#ffb55e")
    ),
    "china": Photograph(
        "sklearn/datasets/images/china.jpg",
        {
            "delighted": {"🏯": 52, "🏮": 6},
            "calm": {"🇨🇳": 16, "🧘": 5, "🏯": 4},
            "amused": {"🐉": 10, "🥢": 6, "😂": 2},
        },
    ),
    "coffee": Photograph(
        "skimage/data/coffee.png",
        {"calm": {"☕": 60, "☀": 5, "🤎": 4}, "delighted": {"🥐": 12, "🍰": 8, "😋": 6, "☕": 5}},
    ),
    "flower": Photograph(
        "sklearn/datasets/images/flower.jpg",
        {"calm": {"🌼": 46, "🐝": 5}, "delighted": {"🌸": 38, "🌺": 6, "💐": 5}},
    ),
    "cat": Photograph(
        "skimage/data/chelsea.png",
        {
            "calm": {"🐱": 54, "🐾": 8, "💤": 2},
            "delighted": {"😻": 20, "😽": 5, "🐱": 5},
            "amused": {"😂": 5, "🥺": 4, "🐱": 2},
        },
    ),
}


@cache
def reactions_to(name: str) -> Reactions:
    """What one person writes under the photograph."""
    photo = PHOTOGRAPHS[name]
    all_draws = sum(sum(own.values()) for own in photo.moods.values())
    moods = []
    for mood, own in photo.moods.items():
        draws = sum(own.values())
        p = {emoji: (1 - photo.popular) * n / draws for emoji, n in own.items()}
        zipf = sum(1 / rank for rank in range(1, len(POPULAR[mood]) + 1))
        for rank, emoji in enumerate(POPULAR[mood] if photo.popular else (), start=1):
            p[emoji] = p.get(emoji, 0.0) + photo.popular / rank / zipf
        moods.append(Mood(draws / all_draws, p))
    return Reactions(tuple(moods), DRAWS)


EMOJIS = tuple(dict.fromkeys(emoji for name in PHOTOGRAPHS for emoji in reactions_to(name).emojis))


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


def find_photographs() -> None:
    """Raise InputError where one is missing."""
    for name in PHOTOGRAPHS:
        path_of(name)


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

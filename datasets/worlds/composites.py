"""A world of things: emojis, as a colour font draws them, on photographs, one to three in a picture.

Options ─► things, each with moods of its own ─► World: the people under a picture look at one thing in it

A picture's things are named in the order of their sizes, such as "🐶 🍕". What is written under it is told by
what is in it: there are about as many truths as pictures, and a model must find the things.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import blake2b, sha256

import numpy as np
from PIL import Image

from ..emojis.glyphs import glyph
from ..emojis.text import all_canonical
from ..errors import InputError
from .photographs import PHOTOGRAPHS, POPULAR, find_photographs, photograph
from .reactions import Mood, Reactions, looking_at
from .world import World, WorldPost

SIZE = 128  # pixels of a side
THINGS = (0.4, 0.35, 0.25)  # share of the pictures with one, two, three things
SIDES = (
    (0.45, 0.62),
    (0.32, 0.42),
    (0.24, 0.31),
)  # of things, in sides of the picture
TRIES = 20  # places, of which a thing has the one that hides least
TURN = 20  # degrees at most
CROP = (0.3, 0.8)  # of the photograph's shorter side
SKEW = 0.5  # the kth thing is pictured k^-SKEW times as often as the first
KIN = 8  # emojis of the mood that names a thing, itself among them
NAMED = 0.6  # of that mood's draws, how many are the thing itself
MOODS = (0.5, 0.3, 0.2)  # share of the people who name the thing, and of two feelings
DRAWS = (0.3, 0.4, 0.3)  # share of the people who draw once, twice, three times
ACCOUNT = 10  # posts of one, about


@dataclass(frozen=True)
class CompositesOptions:
    """What a world of things is made with."""

    posts: int
    seed: int
    vocabulary: int = 400


def composites_world(options: CompositesOptions) -> World:
    """A world of things.

    Raises:
        InputError: there are not so many emojis, or less than feelings need; or no font that draws them.
    """
    names = _vocabulary(options)
    things = {name: _reactions(options.seed, number, names) for number, name in enumerate(names)}
    return World(
        options={"kind": "composites", **asdict(options), "font": _of_font(names)},
        posts=_Posts(options, things),
        shoot=partial(draw_picture, options.seed),
        emojis=tuple(names),
        things=things,
        quality=90,
        check=find_photographs,
    )


@cache
def drawable() -> tuple[str, ...]:
    """The canonical emojis that the font draws, each otherwise.

    Raises:
        InputError: there is no such font.
    """
    seen: dict[bytes, str] = {}
    for emoji in all_canonical():
        if (pixels := glyph(emoji)) is not None:
            seen.setdefault(pixels.tobytes(), emoji)
    if not seen:
        raise InputError(
            "There is no colour font of emojis here. Install Noto Color Emoji (Debian: "
            "fonts-noto-color-emoji), or make another --kind."
        )
    return tuple(seen.values())


def _vocabulary(options: CompositesOptions) -> list[str]:
    """The emojis of feelings, and others; the first are pictured most often."""
    known = drawable()
    feelings = [emoji for emoji in _feelings() if emoji in known]
    if not len(feelings) <= options.vocabulary <= len(known):
        raise InputError(f"--vocabulary: it can be {len(feelings)} to {len(known)} here.")
    rng = np.random.default_rng([options.seed, 1])
    others = [emoji for emoji in rng.permutation(np.array(known)).tolist() if emoji not in feelings]
    return rng.permutation(np.array([*feelings, *others[: options.vocabulary - len(feelings)]])).tolist()


def _of_font(names: list[str]) -> str:
    """What tells fonts apart that draw other emojis: with them the same options make another world."""
    return sha256(" ".join(names).encode()).hexdigest()[:12]


def _feelings() -> dict[str, None]:
    return dict.fromkeys(emoji for mood in POPULAR.values() for emoji in mood)


def _reactions(seed: int, number: int, names: list[str]) -> Reactions:
    """What is written under a picture of that thing alone: its name and what is like it, or a feeling."""
    rng, thing = np.random.default_rng([seed, 2, number]), names[number]
    alike = sorted(names)  # Unicode has cats beside dogs, and flags beside flags
    place = alike.index(thing)
    near = sorted(range(len(alike)), key=lambda other: (abs(other - place), other))[1:KIN]
    rest = {alike[other]: (1 - NAMED) / rank for rank, other in enumerate(near, start=1)}
    scale = (1 - NAMED) / sum(rest.values())
    moods = [{thing: NAMED, **{emoji: scale * p for emoji, p in rest.items()}}]
    for feeling in rng.permutation(np.array(list(POPULAR)))[: len(MOODS) - 1].tolist():
        said = [emoji for emoji in POPULAR[feeling] if emoji in names]
        weights = 1 / np.arange(1, len(said) + 1)
        order = rng.permutation(len(said))
        moods.append({said[each]: float(w) for each, w in zip(order, weights / weights.sum(), strict=True)})
    return Reactions(tuple(map(Mood, MOODS, moods)), DRAWS)


@dataclass(frozen=True)
class _Posts:
    """The posts in order."""

    options: CompositesOptions
    things: dict[str, Reactions]

    def __iter__(self) -> Iterator[WorldPost]:
        names, seed = np.array(list(self.things)), self.options.seed
        odds = np.arange(1.0, len(names) + 1) ** -SKEW
        odds /= odds.sum()
        for number in range(self.options.posts):
            rng = np.random.default_rng([seed, 0, number])
            seen = rng.choice(names, 1 + rng.choice(len(THINGS), p=THINGS), replace=False, p=odds).tolist()
            emojis = looking_at([self.things[name] for name in seen]).draw(rng)
            yield WorldPost(
                id=blake2b(f"composites/{seed}/{number}".encode(), digest_size=8).hexdigest(),
                account=f"user{rng.integers(1 + self.options.posts // ACCOUNT)}",
                text="".join(emojis),
                emojis=emojis,
                group=" ".join(seen),
            )


def draw_picture(seed: int, post: WorldPost) -> Image.Image:
    """The things of a post, turned a little, on a piece of some photograph. RGB, SIZE × SIZE."""
    rng = np.random.default_rng([seed, int(post.id, 16)])
    picture = _ground(rng)
    taken = np.zeros((SIZE, SIZE), bool)
    for name, sides in zip(post.group.split(), SIDES, strict=False):
        pixels = glyph(name)
        if pixels is None:
            raise InputError(f"The font here no longer draws {name}.")
        side = round(rng.uniform(*sides) * SIZE)
        drawn = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        drawn = drawn.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC)
        corners = rng.integers(0, SIZE - side, size=(TRIES, 2), endpoint=True).tolist()
        top, left = min(corners, key=lambda corner: taken[_box(corner, side)].sum())
        picture.paste(drawn, (left, top), drawn)
        taken[_box((top, left), side)] = True
    return picture


def _box(corner: tuple[int, int], side: int) -> tuple[slice, slice]:
    top, left = corner
    return slice(top, top + side), slice(left, left + side)


def _ground(rng: np.random.Generator) -> Image.Image:
    photo = photograph(list(PHOTOGRAPHS)[rng.integers(len(PHOTOGRAPHS))])
    side = int(rng.uniform(*CROP) * min(photo.size))
    left, top = (int(rng.integers(0, length - side, endpoint=True)) for length in photo.size)
    piece = photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    light = rng.uniform(0.6, 1.2)
    return piece.point([min(255, round(light * level)) for level in range(256)] * 3)

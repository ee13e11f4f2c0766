"""A world of drawings: classes of shapes in colours, and what is written under each, in moods.

Options ─► shapes ─► World: one shape in one colour is a class, and each class has moods of its own

How the classes react depends on the seed and the options that say so, not on the number of posts: a larger
world has the same truth, and begins with the same posts, of other accounts.
"""

from collections.abc import Iterator
from colorsys import hsv_to_rgb
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from math import cos, pi, sin

import emoji as library
import numpy as np
from PIL import Image, ImageDraw

from ..emojis.text import extract
from ..errors import InputError
from .reactions import Mood, Reactions
from .world import World, WorldPost

SIZE = 64  # pixels of a side
FINE = 4  # times as many while it is drawn
COLOURS = 12
ACCOUNT = 10  # posts of one, about
FLAT = 24  # emojis of a flat class
DRAWS = (0.3, 0.4, 0.3)  # share of the people who draw once, twice, three times


@dataclass(frozen=True)
class ShapesOptions:
    """What a world of drawings is made with."""

    posts: int
    seed: int
    classes: int = 24
    moods: int = 3
    per_mood: int = 8  # emojis
    vocabulary: int = 400
    skew: float = 1.0  # of a mood's emojis: the second is said 2^-skew times as often as the first
    junk: float = 0.0  # share of the draws that are of any emoji at all
    flat: int = 1  # classes to which each says something else
    single: int = 1  # classes to which all say the same
    held_out: int = 0  # emojis that moods have and no post


def shapes_world(options: ShapesOptions) -> World:
    """A world of drawings.

    Raises:
        InputError: the options do not go together.
    """
    if options.classes > len(SHAPES) * COLOURS:
        raise InputError(f"--classes: there are {len(SHAPES) * COLOURS} shapes in colours at most.")
    if options.flat + options.single > options.classes:
        raise InputError("--flat and --single are more than there are --classes.")
    names = _vocabulary(options)
    meant = _reactions(options, names)
    held_out = _held_out(options, meant)
    said = {group: reactions.without(held_out) for group, reactions in meant.items()}
    return World(
        options={"kind": "shapes", **asdict(options)},
        posts=_Posts(options, said),
        shoot=partial(draw_picture, options.seed),
        emojis=tuple(names),
        probabilities={group: reactions.tuples() for group, reactions in said.items()},
        reactions=meant,
        held_out=held_out,
        quality=95,
    )


def _vocabulary(options: ShapesOptions) -> list[str]:
    """Emojis of one code point, shuffled."""
    known = sorted(each for each in library.EMOJI_DATA if len(each) == 1 and extract(each) == [each])
    if options.vocabulary > len(known):
        raise InputError(f"--vocabulary: there are {len(known)} such emojis.")
    order = np.random.default_rng([options.seed, 1]).permutation(len(known))
    return [known[each] for each in order[: options.vocabulary]]


def _reactions(options: ShapesOptions, names: list[str]) -> dict[str, Reactions]:
    """What is written under each class, were no emoji held out."""
    found = {}
    for number in range(options.classes):
        rng = np.random.default_rng([options.seed, 2, number])
        if number < options.flat:
            moods, sizes, skew = 1, min(FLAT, len(names)), 0.0
        elif number < options.flat + options.single:
            moods, sizes, skew = 1, 1, 0.0
        else:
            moods, sizes, skew = options.moods, options.per_mood, options.skew
        if moods * sizes > len(names):
            raise InputError("--vocabulary is less than --moods times --per-mood.")
        chosen = rng.permutation(len(names))[: moods * sizes].reshape(moods, sizes)
        weights = np.arange(1.0, sizes + 1) ** -skew
        shares = np.arange(1.0, moods + 1) ** -0.5
        junk = options.junk if sizes > 1 else 0.0
        found[_name(number)] = Reactions(
            tuple(
                Mood(float(share), _with_junk([names[each] for each in row], weights, junk, names))
                for share, row in zip(shares / shares.sum(), chosen.tolist(), strict=True)
            ),
            DRAWS if sizes > 1 else (1.0,),
        )
    return found


def _with_junk(emojis: list[str], weights: np.ndarray, junk: float, names: list[str]) -> dict[str, float]:
    p = dict(zip(emojis, ((1 - junk) * weights / weights.sum()).tolist(), strict=True))
    return p if not junk else {name: p.get(name, 0.0) + junk / len(names) for name in [*p, *names]}


def _held_out(options: ShapesOptions, meant: dict[str, Reactions]) -> tuple[str, ...]:
    """Emojis that moods have, and never all of a mood."""
    moods = [[*mood.p][: options.per_mood] for each in meant.values() for mood in each.moods]
    able = dict.fromkeys(emoji for mood in moods if len(mood) > 1 for emoji in mood[1:])
    able = [each for each in able if all(mood[0] != each for mood in moods)]  # the first stays
    if options.held_out > len(able):
        raise InputError(f"--held-out: {len(able)} emojis can be held out.")
    order = np.random.default_rng([options.seed, 3]).permutation(len(able))
    return tuple(able[each] for each in order[: options.held_out])


@dataclass(frozen=True)
class _Posts:
    """The posts in order."""

    options: ShapesOptions
    said: dict[str, Reactions]

    def __iter__(self) -> Iterator[WorldPost]:
        groups, seed = list(self.said), self.options.seed
        for number in range(self.options.posts):
            rng = np.random.default_rng([seed, 0, number])
            group = groups[rng.integers(len(groups))]
            emojis = self.said[group].draw(rng)
            yield WorldPost(
                id=blake2b(f"{seed}/{number}".encode(), digest_size=8).hexdigest(),
                account=f"user{rng.integers(1 + self.options.posts // ACCOUNT)}",
                text="".join(emojis),
                emojis=emojis,
                group=group,
            )


def draw_picture(seed: int, post: WorldPost) -> Image.Image:
    """The class of a post: a shape somewhere, in some size and light, on some ground. RGB, SIZE × SIZE."""
    rng = np.random.default_rng([seed, int(post.id, 16)])
    shape, _, colour = post.group.partition(" ")
    side = SIZE * FINE
    ground = hsv_to_rgb(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.1, 0.9))
    hue = (int(colour) + rng.uniform(-0.25, 0.25)) / COLOURS
    fill = hsv_to_rgb(hue % 1, rng.uniform(0.75, 1), rng.uniform(0.7, 1))
    picture = Image.new("RGB", (side, side), _bytes(ground))
    radius = rng.uniform(0.22, 0.42) * side
    middle = rng.uniform(radius, side - radius, size=2)
    outline = np.array(SHAPES[shape])
    angle = rng.uniform(0, 2 * pi)
    turn = np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
    points = outline @ turn.T * radius + middle
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points.tolist()], fill=_bytes(fill))
    pixels = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32)
    noise = rng.uniform(2, 12) * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def _bytes(colour: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in colour)


def _polygon(corners: int, inner: float = 1.0) -> list[tuple[float, float]]:
    """A polygon about the origin; with `inner`, a star whose inner corners are so near."""
    number = corners if inner == 1 else 2 * corners
    radii = [1.0 if each % 2 == 0 else inner for each in range(number)]
    return [(r * cos(2 * pi * k / number), r * sin(2 * pi * k / number)) for k, r in enumerate(radii)]


SHAPES = {
    "circle": _polygon(64),
    "triangle": _polygon(3),
    "square": _polygon(4),
    "hexagon": _polygon(6),
    "star": _polygon(5, inner=0.4),
    "cross": _polygon(4, inner=0.25),
    "bar": [(-1, -0.22), (1, -0.22), (1, 0.22), (-1, 0.22)],
    "arrow": [(-1, -0.2), (0.1, -0.2), (0.1, -0.6), (1, 0), (0.1, 0.6), (0.1, 0.2), (-1, 0.2)],
}
"""Outlines within the unit circle, about the origin."""


def _name(number: int) -> str:
    """A class: all shapes in the first colour come first."""
    colour, shape = divmod(number, len(SHAPES))
    return f"{[*SHAPES][shape]} {colour * 5 % COLOURS}"  # neighbours in number are none in hue

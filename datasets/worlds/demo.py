"""The demo world: posts as a user would have them, of photographs.

(seed, number) ─► draw ─► WorldPost ─► shoot ─► a picture
"""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from PIL import Image

from .captions import caption
from .photographs import EMOJIS, PHOTOGRAPHS, find_photographs, photograph, reactions_to
from .world import World, WorldPost

NO_EMOJI = 0.05  # share of the captions without one

SHORTEST, LONGEST = 640, 1080  # pixels, of either side
ASPECTS = {1.0: 0.4, 4 / 5: 0.35, 4 / 3: 0.15, LONGEST / SHORTEST: 0.1}  # width to height: share of the posts
CROP = 0.45, 0.9  # of the largest box of the same aspect in the photograph


def demo_world(posts: int, seed: int) -> World:
    """The world of the demo."""
    reactions = {name: reactions_to(name) for name in PHOTOGRAPHS}
    return World(
        options={"posts": posts, "seed": seed},
        posts=[*draw(posts, seed)],
        shoot=shoot,
        emojis=EMOJIS,
        probabilities={name: each.tuples() for name, each in reactions.items()},
        reactions=reactions,
        check=find_photographs,
    )


def draw(posts: int, seed: int) -> Iterator[WorldPost]:
    """The posts of a world in order; about ten an account, of which a few post most."""
    names = list(PHOTOGRAPHS)
    photograph_odds = np.cumsum(np.linspace(1, 2, len(names)))
    account_odds = np.cumsum(1 / np.arange(5, 6 + posts // 10))
    for number in range(posts):
        rng = np.random.default_rng([seed, number])
        name = names[_pick(rng, photograph_odds)]
        emojis = () if rng.random() < NO_EMOJI else reactions_to(name).draw(rng)
        yield WorldPost(
            id=blake2b(f"{seed}/{number}".encode(), digest_size=8).hexdigest(),
            account=f"user{_pick(rng, account_odds)}",
            text=caption(rng, emojis),
            emojis=emojis,
            group=name,
        )


def _pick(rng: np.random.Generator, odds: np.ndarray) -> int:
    """An index, by cumulative odds."""
    return int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))


def shoot(post: WorldPost) -> Image.Image:
    """The post's picture, RGB: a crop of its photograph, flipped or not, in another light, with grain."""
    rng = np.random.default_rng(int(post.id, 16))
    photo = photograph(post.group)
    aspect = list(ASPECTS)[_pick(rng, np.cumsum(list(ASPECTS.values())))]
    short = int(rng.integers(SHORTEST, int(LONGEST / max(aspect, 1 / aspect)), endpoint=True))
    size = (round(short * aspect), short) if aspect > 1 else (short, round(short / aspect))

    width = rng.uniform(*CROP) * min(photo.width, photo.height * aspect)
    height = width / aspect
    # Beta, not uniform: a crop from the middle is likelier than one from a corner.
    left, top = rng.beta(2, 2, size=2) * (photo.width - width, photo.height - height)
    picture = photo.crop((round(left), round(top), round(left + width), round(top + height)))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Light and grain come before enlarging, while there are few pixels.
    return _grain(rng, picture.point(_light(rng))).resize(size, Image.Resampling.BICUBIC)


def _light(rng: np.random.Generator) -> list[int]:
    """Another brightness, contrast and colour temperature: a table of 256 levels for each of R, G and B."""
    brightness, contrast = np.exp(rng.normal(0, 0.15, size=2))
    warmth = rng.normal(0, 0.08)
    levels = (np.linspace(-0.5, 0.5, 256) * contrast + 0.5) * brightness
    channels = np.outer([1 + warmth, 1, 1 - warmth], levels)
    return (channels.clip(0, 1) * 255).round().astype(int).ravel().tolist()


def _grain(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The picture with a sensor's noise: a standard deviation of up to 4 of the 255 levels."""
    pixels = np.asarray(picture, np.float32)
    noise = rng.uniform(0, 4) * rng.standard_normal((*pixels.shape[:2], 1), np.float32)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))

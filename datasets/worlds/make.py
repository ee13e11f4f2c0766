"""The demo world: posts as a user would have them, and beside them the truth that real posts lack.

    (seed, number) ─► draw ─► WorldPost ─┬─► shoot ─► photos/….jpg
                                         └─► truth.json, posts.jsonl

A post depends on the seed and its number alone, so neither workers nor interruptions change the world.
truth.json is written first and tells the options; posts.jsonl is written last and tells that all is there.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..printable import printable
from ..store.atomic import write_atomic
from ..work.processes import worker_pool
from .captions import caption
from .photographs import EMOJIS, PHOTOGRAPHS, path_of, photograph, truth
from .truth import TRUTH, Truth, options_of

NO_EMOJI = 0.05  # share of the captions without one
TWO_EMOJIS = 0.4  # share of the captions with two, where p(emoji | photograph) allows it

SHORTEST, LONGEST = 640, 1080  # pixels, of either side
ASPECTS = {1.0: 0.4, 4 / 5: 0.35, 4 / 3: 0.15, LONGEST / SHORTEST: 0.1}  # width to height: share of the posts
CROP = 0.45, 0.9  # of the largest box of the same aspect in the photograph

CHUNK = 16  # posts that a worker takes at a time


@dataclass(frozen=True)
class WorldPost:
    """A post before its picture is taken; only the truth may tell its photograph."""

    id: str
    account: str
    text: str
    emojis: tuple[str, ...]
    photograph: str


def draw(posts: int, seed: int) -> Iterator[WorldPost]:
    """The posts of a world in order; about ten an account, of which a few post most."""
    names = list(PHOTOGRAPHS)
    photograph_odds = np.cumsum(np.linspace(1, 2, len(names)))
    account_odds = np.cumsum(1 / np.arange(5, 6 + posts // 10))
    for number in range(posts):
        rng = np.random.default_rng([seed, number])
        name = names[_pick(rng, photograph_odds)]
        emojis = () if rng.random() < NO_EMOJI else draw_emojis(rng, truth(name))
        yield WorldPost(
            id=blake2b(f"{seed}/{number}".encode(), digest_size=8).hexdigest(),
            account=f"user{_pick(rng, account_odds)}",
            text=caption(rng, emojis),
            emojis=emojis,
            photograph=name,
        )


def draw_emojis(rng: np.random.Generator, p: Mapping[str, float]) -> tuple[str, ...]:
    """One or two distinct emojis, such that the tuples they make are distributed as p, exactly.

    Two are drawn with inclusion probabilities 2p, which needs every p to be at most a half.
    """
    count = 2 if max(p.values()) <= 0.5 and rng.random() < TWO_EMOJIS else 1
    emojis, shares = list(p), np.array(list(p.values()))
    order = rng.permutation(len(p))  # else an emoji would always meet the same few others
    return tuple(emojis[i] for i in order[systematic(shares[order], count, rng.random())])


def systematic(p: np.ndarray, count: int, start: float) -> np.ndarray:
    """`count` distinct indices; over uniform starts in [0, 1), i is among them with probability count*p[i].

    Lays the p end to end and takes equidistant points of the line. While no count*p[i] exceeds 1, no two
    points fall on one index.
    """
    ends = np.cumsum(p)
    return np.searchsorted(ends, (start + np.arange(count)) / count * ends[-1], side="right")


def _pick(rng: np.random.Generator, odds: np.ndarray) -> int:
    """An index, by cumulative odds."""
    return int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))


def shoot(post: WorldPost) -> Image.Image:
    """The post's picture, RGB: a crop of its photograph, flipped or not, in another light, with grain."""
    rng = np.random.default_rng(int(post.id, 16))
    photo = photograph(post.photograph)
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


def make_world(out: Path, *, posts: int, seed: int, workers: int) -> None:
    """Write posts.jsonl, photos/ and truth.json into `out`, or go on where that was left.

    Raises:
        InputError: `out` holds other posts or a world of other options, or the photographs are missing.
    """
    truth_file, posts_file, photos = out / TRUTH, out / "posts.jsonl", out / "photos"
    options = {"posts": posts, "seed": seed}
    if truth_file.exists():
        made_with = options_of(truth_file)
        if made_with != options:
            raise InputError(f"{out} was made with {made_with}: give the same, or choose another folder.")
        if posts_file.exists():
            print(printable(f"{out} is complete: nothing to do."), file=sys.stderr)
            return
    elif posts_file.exists() or photos.exists():
        raise InputError(f"{out} holds other posts: choose another folder.")
    for name in PHOTOGRAPHS:
        path_of(name)  # raises before the work starts

    world = list(draw(posts, seed))
    groups = {post.id: post.photograph for post in world}
    Truth(groups, {name: truth(name) for name in PHOTOGRAPHS}).write(truth_file, options, EMOJIS)
    _shoot_all(world, photos, workers)
    write_atomic(posts_file, "".join(_line(post) for post in world))


def _line(post: WorldPost) -> str:
    columns = {"id": post.id, "account": post.account, "image": f"photos/{post.id}.jpg", "text": post.text}
    return json.dumps(columns, ensure_ascii=False) + "\n"


def _shoot_all(world: list[WorldPost], photos: Path, workers: int) -> None:
    """Write the pictures that are not there yet, in that many processes."""
    for remnant in photos.glob(".*.tmp"):  # of a run that was killed
        remnant.unlink()
    chunks = [world[start : start + CHUNK] for start in range(0, len(world), CHUNK)]
    with worker_pool(workers) as pool, tqdm(total=len(world), unit="post", disable=None) as bar:
        for done in pool.map(partial(_shoot_chunk, photos), chunks):
            bar.update(done)


def _shoot_chunk(photos: Path, posts: list[WorldPost]) -> int:
    """Write the pictures of these posts that are not there yet; return the number of posts."""
    for post in posts:
        path = photos / f"{post.id}.jpg"
        if not path.exists():
            jpeg = BytesIO()
            shoot(post).save(jpeg, "JPEG", quality=85)
            write_atomic(path, jpeg.getvalue())
    return len(posts)

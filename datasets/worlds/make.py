"""A world on disk: posts as a user would have them, and beside them the truth that real posts lack.

    World ─► truth.json ─► photos/….jpg ─► posts.jsonl

A post depends on the world and its number alone, so neither workers nor interruptions change the world.
truth.json is written first and tells the options; posts.jsonl is written last and tells that all is there.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..printable import printable
from ..store.atomic import write_atomic
from ..work.processes import worker_pool
from .truth import TRUTH, Truth, options_of
from .world import World, WorldPost

CHUNK = 16  # posts that a worker takes at a time


def make_world(out: Path, world: World, *, workers: int) -> None:
    """Write posts.jsonl, photos/ and truth.json into `out`, or go on where that was left.

    Raises:
        InputError: `out` holds other posts or a world of other options, or pictures cannot be taken.
    """
    truth_file, posts_file, photos = out / TRUTH, out / "posts.jsonl", out / "photos"
    if truth_file.exists():
        made_with = options_of(truth_file)
        if made_with != world.options:
            raise InputError(f"{out} was made with {made_with}: give the same, or choose another folder.")
        if posts_file.exists():
            print(printable(f"{out} is complete: nothing to do."), file=sys.stderr)
            return
    elif posts_file.exists() or photos.exists():
        raise InputError(f"{out} holds other posts: choose another folder.")

    world.check()
    posts = [*world.posts]
    Truth.of(world, posts).write(truth_file, world)
    _shoot_all(posts, world, photos, workers)
    write_atomic(posts_file, "".join(_line(post) for post in posts))


def _line(post: WorldPost) -> str:
    columns = {"id": post.id, "account": post.account, "image": f"photos/{post.id}.jpg", "text": post.text}
    return json.dumps(columns, ensure_ascii=False) + "\n"


def _shoot_all(posts: list[WorldPost], world: World, photos: Path, workers: int) -> None:
    """Write the pictures that are not there yet, in that many processes."""
    for remnant in photos.glob(".*.tmp"):  # of a run that was killed
        remnant.unlink()
    chunks = [posts[start : start + CHUNK] for start in range(0, len(posts), CHUNK)]
    with worker_pool(workers) as pool, tqdm(total=len(posts), unit="post", disable=None) as bar:
        for done in pool.map(partial(_shoot_chunk, photos, world.shoot, world.quality), chunks):
            bar.update(done)


def _shoot_chunk(
    photos: Path, shoot: Callable[[WorldPost], Image.Image], quality: int, posts: list[WorldPost]
) -> int:
    """Write the pictures of these posts that are not there yet; return the number of posts."""
    for post in posts:
        path = photos / f"{post.id}.jpg"
        if not path.exists():
            jpeg = BytesIO()
            shoot(post).save(jpeg, "JPEG", quality=quality)
            write_atomic(path, jpeg.getvalue())
    return len(posts)

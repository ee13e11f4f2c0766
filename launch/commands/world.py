"""`emojigan world`: the demo world, whose truth is known."""

from pathlib import Path

import click

from ...datasets.printable import printable
from ..parameters import workers_option


@click.group()
def world() -> None:
    """Make posts whose p(emoji | image) is known."""


@world.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
@click.option("--posts", type=click.IntRange(min=1), default=3000, show_default=True, help="How many posts.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the world: another one makes other posts.",
)
@workers_option
def make(out: Path, posts: int, seed: int, workers: int) -> None:
    """Make posts with pictures and captions, and the truth about them.

    Writes posts.jsonl, photos/ and truth.json, about 100 kB a post. After an interruption, run the same
    command again. Needs the photographs that the extra `demo` installs.

    \b
    Example:
      emojigan world make --out demo/world
    """
    from ...datasets.worlds.make import make_world
    from ...datasets.worlds.photographs import EMOJIS, PHOTOGRAPHS

    make_world(out, posts=posts, seed=seed, workers=workers)
    click.echo(
        f"{posts:,} posts of {len(PHOTOGRAPHS)} photographs with {len(EMOJIS)} emojis in {printable(out)}"
    )

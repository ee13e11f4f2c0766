"""`emojigan world`: worlds whose truth is known."""

from pathlib import Path
from typing import Any

import click

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ..parameters import workers_option

COUNT = click.IntRange(min=0)
SHARE = click.FloatRange(min=0, max=1)


@click.group()
def world() -> None:
    """Make posts whose p(emoji | image) is known."""


@world.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
@click.option(
    "--kind",
    type=click.Choice(["photographs", "shapes"]),
    default="photographs",
    show_default=True,
    help="Photographs as people post them, or drawings of 64 pixels; under both, people write in moods. The "
    "options below are of shapes.",
)
@click.option("--posts", type=click.IntRange(min=1), default=3000, show_default=True, help="How many posts.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the world: another one makes other posts.",
)
@click.option("--classes", type=click.IntRange(min=1), help="Shapes in colours.  [default: 24]")
@click.option(
    "--moods",
    type=click.IntRange(min=1),
    help="Moods of each class; a post is of one. With 1, its emojis are independent.  [default: 3]",
)
@click.option("--per-mood", type=click.IntRange(min=1), help="Emojis of a mood.  [default: 8]")
@click.option("--vocabulary", type=click.IntRange(min=1), help="Emojis in all.  [default: 400]")
@click.option(
    "--skew",
    type=click.FloatRange(min=0),
    help="How much some emojis of a mood are used more: the kth k^-SKEW times.  [default: 1]",
)
@click.option("--junk", type=SHARE, help="Share of the emojis that have nothing to do with it.  [default: 0]")
@click.option("--flat", type=COUNT, help="Classes to which each says something else.  [default: 1]")
@click.option("--single", type=COUNT, help="Classes to which all say the same.  [default: 1]")
@click.option("--held-out", type=COUNT, help="Emojis that moods have, and no post.  [default: 0]")
@workers_option
def make(out: Path, kind: str, posts: int, seed: int, workers: int, **of_shapes: Any) -> None:
    """Make posts with pictures and captions, and the truth about them.

    Writes posts.jsonl, photos/ and truth.json: of photographs about 100 kB a post, of shapes 3 kB. After an
    interruption, run the same command again. Photographs are those that the extra `demo` installs.

    \b
    Examples:
      emojigan world make --out demo/world
      emojigan world make --out moods --kind shapes --posts 80000
    """
    from ...datasets.worlds.make import make_world

    given = {name: value for name, value in of_shapes.items() if value is not None}
    if kind == "photographs":
        from ...datasets.worlds.demo import demo_world

        if given:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} is of --kind shapes.")
        made = demo_world(posts, seed)
    else:
        from ...datasets.worlds.shapes import ShapesOptions, shapes_world

        made = shapes_world(ShapesOptions(posts, seed, **given))
    make_world(out, made, workers=workers)
    click.echo(
        f"{posts:,} posts of {len(made.probabilities)} {kind} with {len(made.emojis)} emojis in "
        f"{printable(out)}"
    )

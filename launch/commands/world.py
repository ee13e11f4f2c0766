"""`emojigan world`: worlds whose truth is known."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ..parameters import workers_option

if TYPE_CHECKING:
    from ...datasets.worlds.world import World

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
    type=click.Choice(["photographs", "shapes", "composites"]),
    default="photographs",
    show_default=True,
    help="Photographs as people post them; drawings of 64 pixels; or emojis on photographs, one to three in "
    "a picture of 128 pixels. Under all, people write in moods. --classes and what follows are of shapes, "
    "--vocabulary of composites, too.",
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
@click.option(
    "--vocabulary",
    type=click.IntRange(min=1),
    help="Emojis in all; of composites up to all that the font draws.  [default: 400]",
)
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

    Writes posts.jsonl, photos/ and truth.json: of photographs about 100 kB a post, of shapes 3 kB, of
    composites 7 kB. After an interruption, run the same command again. Photographs are those that the extra
    `demo` installs; the emojis of composites are drawn by the font Noto Color Emoji.

    \b
    Examples:
      emojigan world make --out demo/world
      emojigan world make --out moods --kind shapes --posts 80000
      emojigan world make --out things --kind composites --posts 80000 --vocabulary 1000
    """
    from ...datasets.worlds.make import make_world

    given = {name: value for name, value in of_shapes.items() if value is not None}
    takes = {"photographs": (), "shapes": tuple(of_shapes), "composites": ("vocabulary",)}[kind]
    if others := [name for name in given if name not in takes]:
        raise InputError(f"--{others[0].replace('_', '-')} is not of --kind {kind}.")
    made = _world(kind, posts, seed, given)
    make_world(out, made, workers=workers)
    pictured = f"{len(made.things)} things" if made.things else f"{len(made.probabilities)} {kind}"
    click.echo(f"{posts:,} posts of {pictured} with {len(made.emojis)} emojis in {printable(out)}")


def _world(kind: str, posts: int, seed: int, given: dict[str, Any]) -> "World":
    if kind == "photographs":
        from ...datasets.worlds.demo import demo_world

        return demo_world(posts, seed)
    if kind == "shapes":
        from ...datasets.worlds.shapes import ShapesOptions, shapes_world

        return shapes_world(ShapesOptions(posts, seed, **given))
    from ...datasets.worlds.composites import CompositesOptions, composites_world

    return composites_world(CompositesOptions(posts, seed, **given))

"""`emojigan shards`: build and stats."""

from pathlib import Path
from typing import Any

import click

from ..datasets.storage import Folder
from .folder import FOLDER
from .workers import workers_option


@click.group()
def shards() -> None:
    """Build shards from posts, and look at them."""


@shards.command(context_settings={"show_default": True})
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the new dataset.",
)
@click.option("--image-size", type=click.Choice(["32", "64", "128"]), default="64", help="Side, in pixels.")
@click.option(
    "--encoding", type=click.Choice(["npy", "jpg"]), default="npy", help="npy is fast, jpg is small."
)
@click.option("--images-per-shard", type=click.IntRange(1), default=1024)
@click.option(
    "--min-count", type=click.IntRange(1), default=5, help="Tuples that put an emoji in the vocabulary."
)
@click.option("--keep-variants", is_flag=True, help="Keep skin tones and genders apart.")
@click.option(
    "--val-share", type=click.FloatRange(0, 0.5), default=0.1, help="Accounts that choose the snapshot."
)
@click.option(
    "--test-share", type=click.FloatRange(0, 0.5), default=0.1, help="Accounts that evaluation looks at."
)
@click.option(
    "--max-bad", type=click.FloatRange(0, 1), default=0.05, help="Posts that may be unusable, as a share."
)
@workers_option
def build(source: Path, out: Path, workers: int, max_bad: float, image_size: str, **options: Any) -> None:
    """Build a dataset from the table of posts SOURCE (.jsonl or .csv).

    Its columns are id, account, image (a path relative to the table) and text. A killed build goes on when
    the same command is run again.

    \b
    emojigan shards build posts.jsonl --out shards
    """
    from ..datasets.plan import BuildOptions
    from ..datasets.shards import build_shards
    from ..datasets.stats import describe

    manifest = build_shards(
        source, out, BuildOptions(image_size=int(image_size), **options), workers=workers, max_bad=max_bad
    )
    click.echo(describe(manifest))


@shards.command()
@click.argument("folder", type=FOLDER)
def stats(folder: Folder) -> None:
    """Say what is in the dataset FOLDER, and what was left out of it and why.

    \b
    emojigan shards stats shards
    """
    from ..datasets.manifest import read_manifest
    from ..datasets.stats import describe

    click.echo(describe(read_manifest(folder)))

"""`emojigan shards`: build and stats."""

from pathlib import Path
from typing import Any

import click

from ..datasets.posts import FORMATS
from ..datasets.storage import Folder
from ..datasets.workers import ENGINES
from .folder import FOLDER
from .workers import workers_option


@click.group()
def shards() -> None:
    """Build shards from posts, and look at them."""


def _texts(ctx: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    from ..datasets.plan import TEXTS

    texts = tuple(value.split(","))
    if not set(texts) <= set(TEXTS):
        raise click.BadParameter(f"give one or more of {', '.join(TEXTS)}, with commas between.")
    return tuple(text for text in TEXTS if text in texts)


def _columns(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(ours and name for ours, _, name in pairs):
        raise click.BadParameter("give it as text=caption: our name of a column, and that of the table.")
    return {ours: name for ours, _, name in pairs}


@shards.command(context_settings={"show_default": True})
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, help="Folder of the new dataset, or a URL such as s3://bucket/shards.")
@click.option(
    "--format", "form", type=click.Choice(["auto", *FORMATS]), default="auto", help="auto finds it out."
)
@click.option(
    "--column", "columns", multiple=True, callback=_columns, help="Of a table, as text=caption; repeatable."
)
@click.option(
    "--text", "texts", default="caption", callback=_texts, help="Of caption,comments,reactions: for emojis."
)
@click.option(
    "--repeat",
    type=click.Choice(["once", "all"]),
    default="once",
    help="How often an emoji counts in a post; all: up to 1000 times, reactions too.",
)
@click.option(
    "--deny",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of what to leave out, one a line: emojis, @accounts, words.",
)
@click.option("--image-size", type=click.Choice(["32", "64", "128"]), default="64", help="Side, in pixels.")
@click.option(
    "--encoding", type=click.Choice(["npy", "jpg"]), default="npy", help="npy is fast, jpg is small."
)
@click.option("--images-per-shard", type=click.IntRange(1, 1_000_000), default=1024)
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
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    help="Processes here, or Ray: at RAY_ADDRESS, else here.",
)
@click.option("--task-index", type=click.IntRange(0), default=0, help="Number of this task of a job array.")
@click.option("--task-count", type=click.IntRange(1), default=1, help="Tasks in the job array.")
@workers_option
def build(
    sources: tuple[Path, ...],
    out: str,
    form: str,
    columns: dict[str, str],
    deny: Path | None,
    image_size: str,
    keep_variants: bool,
    max_bad: float,
    engine: str,
    task_index: int,
    task_count: int,
    workers: int,
    **options: Any,
) -> None:
    """Build a dataset from the posts of each SOURCE.

    A table (.jsonl or .csv) has the columns id, account, image (a path relative to the table) and text. A
    killed build goes on when the same command is run again.

    \b
    emojigan shards build posts.jsonl --out shards
    emojigan shards build posts.jsonl --out s3://bucket/shards --engine ray
    emojigan shards build posts.jsonl --out shards --task-index $SLURM_ARRAY_TASK_ID --task-count 16
    """
    from ..datasets.deny import DenyList, read_deny_list
    from ..datasets.plan import BuildOptions
    from ..datasets.shards import Source, Task, build_shards
    from ..datasets.stats import describe
    from ..datasets.storage import Folder

    if task_index >= task_count:
        raise click.BadParameter("tasks are numbered from 0 to --task-count − 1.", param_hint="--task-index")
    manifest = build_shards(
        Source([source.absolute() for source in sources], form, columns),
        Folder(out).absolute(),
        BuildOptions(
            image_size=int(image_size),
            keep_variants=keep_variants,
            deny=read_deny_list(deny, keep_variants=keep_variants) if deny else DenyList(),
            **options,
        ),
        max_bad=max_bad,
        workers=workers,
        engine=engine,
        task=Task(task_index, task_count),
    )
    if manifest:
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

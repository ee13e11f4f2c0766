"""`emojigan shards build` and `emojigan shards adopt`: what makes a dataset."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...datasets.posts.read import FORMATS
from ...datasets.store.folder import Folder
from ...datasets.work.processes import ENGINES
from ..parameters import FOLDER, workers_option

SIZES = ("32", "64", "128")
SHARE = click.FloatRange(0, 0.5)


def _texts(ctx: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    from ...datasets.build.options import TEXTS

    texts = tuple(value.split(","))
    if not set(texts) <= set(TEXTS):
        raise click.BadParameter(f"give one or more of {', '.join(TEXTS)}, with commas between.")
    return tuple(text for text in TEXTS if text in texts)


def _columns(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if not all(ours and name for ours, _, name in pairs):
        raise click.BadParameter("give it as text=caption: our name of a column, and that of the table.")
    return {ours: name for ours, _, name in pairs}


def _broken(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[int | str, ...]:
    """Numbers, and names of files as readers have them: absolute paths, or URLs."""
    return tuple(
        int(value) if value.isdecimal() else value if "://" in value else str(Path(value).absolute())
        for value in values
    )


def _dataset_options(command: Callable) -> Callable:
    """The options of the commands that make a dataset."""
    for option in (
        workers_option,
        click.option(
            "--skip-broken",
            multiple=True,
            callback=_broken,
            metavar="NUMBER|FILE",
            help="How many broken files may be skipped, or the path of one; repeatable. What can be read of "
            "them is used.",
        ),
        click.option(
            "--max-bad",
            type=click.FloatRange(0, 1),
            default=0.05,
            help="Share of the posts that may be unusable; with more the command stops.",
        ),
        click.option(
            "--test-share",
            type=SHARE,
            default=0.1,
            help="Share of the accounts or posts kept for the evaluation.",
        ),
        click.option(
            "--val-share",
            type=SHARE,
            default=0.1,
            help="Share of the accounts or posts kept for choosing a snapshot.",
        ),
        click.option("--keep-variants", is_flag=True, help="Keep skin tones and genders apart."),
        click.option(
            "--min-count",
            type=click.IntRange(1),
            default=5,
            help="Tuples in train that an emoji needs to be in the vocabulary.",
        ),
        click.option(
            "--repeat",
            type=click.Choice(["once", "all"]),
            default="once",
            help="How often an emoji counts in a post: once, or all its times and reactions, up to 1000.",
        ),
        click.option(
            "--image-size",
            type=click.Choice(SIZES),
            default="64",
            help="Side of the stored images, in pixels.",
        ),
    ):
        command = option(command)
    return command


@click.command(context_settings={"show_default": True})
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder of the new dataset, or a URL such as s3://bucket/shards.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", *FORMATS]),
    default="auto",
    help="What the sources are; auto finds it out for each.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    help="Another name of a column, ours=theirs, such as text=caption; repeatable.",
)
@click.option(
    "--text",
    "texts",
    default="caption",
    callback=_texts,
    help="Where emojis are looked for: caption, comments, reactions, with commas between.",
)
@click.option(
    "--deny",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of what to leave out, one a line: emojis, @accounts as `emojigan shards forget` names them "
    "(@ann; of an archive @x/12345 or @mastodon/https://m.social/users/ann), whole words in --text.",
)
@click.option(
    "--encoding",
    type=click.Choice(["npy", "jpg"]),
    default="npy",
    help="How images are stored: npy is fast, jpg is small.",
)
@click.option(
    "--images-per-shard",
    type=click.IntRange(1, 1_000_000),
    default=1024,
    help="Images in each shard.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    help="Who does the work: processes of this machine, or Ray (at RAY_ADDRESS, if that is set).",
)
@click.option(
    "--task-index", type=click.IntRange(0), default=0, help="Number of this task in a job array, from 0."
)
@click.option("--task-count", type=click.IntRange(1), default=1, help="How many tasks the job array has.")
@click.option(
    "--split-by",
    type=click.Choice(["auto", "account", "post", "time"]),
    default="auto",
    help="What is dealt to train, val and test: accounts; posts; posts by time, the newest to test. Auto is "
    "account, or post where there are too few accounts.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 100),
    show_default="none",
    help="Folds that train is dealt to as it is to the splits, for `emojigan sweep` and `train --fold`.",
)
@_dataset_options
def build(
    sources: tuple[Path, ...],
    out: Folder,
    form: str,
    columns: dict[str, str],
    deny: Path | None,
    image_size: str,
    keep_variants: bool,
    max_bad: float,
    skip_broken: tuple[int | str, ...],
    engine: str,
    task_index: int,
    task_count: int,
    workers: int,
    **options: Any,
) -> None:
    """Build a dataset from the posts of each SOURCE.

    A SOURCE is a table of posts (CSV, TSV, JSONL or Parquet), a folder of tables, WebDataset tars, what
    Instaloader saved, or an archive of one's data from Instagram, X, Mastodon or Telegram; which one is found
    out. A table has the columns id, account, image (a path relative to the table), text and time. A killed
    build goes on when the same command is run again.

    \b
    emojigan shards build posts.jsonl --out shards
    emojigan shards build posts.jsonl --out s3://bucket/shards --engine ray
    emojigan shards build posts.jsonl --out shards --task-index $SLURM_ARRAY_TASK_ID --task-count 16
    """
    from ...datasets.build.dataset import Task, build_shards
    from ...datasets.build.deny import DenyList, read_deny_list
    from ...datasets.build.options import BuildOptions
    from ...datasets.build.survey import Source
    from ...datasets.care.stats import page

    if task_index >= task_count:
        raise click.BadParameter("tasks are numbered from 0 to --task-count − 1.", param_hint="--task-index")
    if options["split_by"] == "time" and options["folds"]:
        raise click.BadParameter(
            "posts that are split by time have no folds: later ones would teach.", param_hint="--folds"
        )
    manifest = build_shards(
        Source([source.absolute() for source in sources], form, columns),
        out.absolute(),
        BuildOptions(
            image_size=int(image_size),
            keep_variants=keep_variants,
            deny=read_deny_list(deny, keep_variants=keep_variants) if deny else DenyList(),
            **options,
        ),
        max_bad=max_bad,
        skip_broken=skip_broken,
        workers=workers,
        engine=engine,
        task=Task(task_index, task_count),
    )
    if manifest:
        click.echo(page(manifest))


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=FOLDER)
@click.option(
    "--split-by",
    type=click.Choice(["account", "post"]),
    default="account",
    help="What is dealt to train, val and test, except of our own shards in their folders.",
)
@_dataset_options
def adopt(
    folder: Folder,
    image_size: str,
    max_bad: float,
    skip_broken: tuple[int | str, ...],
    workers: int,
    **options: Any,
) -> None:
    """Make the WebDataset tars in FOLDER a dataset, where they lie.

    For tars of img2dataset and others, and for ours without their indexes. No tar is copied or changed: an
    index is written beside it for each split, and a manifest. Emojis are those of a sample's .txt, or of the
    caption, text or emojis of its .json. Where no account is told, each post is its own. Images that cannot
    be read are left out and counted. Equal images are not looked for: `emojigan shards build` does, and its
    shards are read faster. A killed command goes on when it is run again.

    \b
    emojigan shards adopt laion
    """
    from ...datasets.build.options import BuildOptions
    from ...datasets.care.adopt import adopt as adopt_tars
    from ...datasets.care.stats import page

    built_with = BuildOptions(image_size=int(image_size), **options)
    manifest = adopt_tars(
        folder.absolute(), built_with, max_bad=max_bad, skip_broken=skip_broken, workers=workers
    )
    click.echo(page(manifest))


index = copy.copy(adopt)  # what `adopt` was called in version 0.1; it goes with the next one
index.name, index.hidden, index.deprecated = "index", True, "It is called `emojigan shards adopt` now."

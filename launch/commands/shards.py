"""`emojigan shards`: build, adopt, verify, stats and forget."""

import copy
import json
import os
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...datasets.errors import InputError
from ...datasets.posts.read import FORMATS
from ...datasets.store.folder import Folder
from ...datasets.work.processes import ENGINES
from ..parameters import FOLDER, workers_option

if TYPE_CHECKING:
    from ...datasets.shards.manifest import Manifest

FAULTS = 20  # that are shown of a verification
SIZES = ("32", "64", "128")
SHARE = click.FloatRange(0, 0.5)


@click.group()
def shards() -> None:
    """Build shards from posts or adopt tars, look at them, check them, and forget people."""


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


@shards.command(context_settings={"show_default": True})
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
    help="File of what to leave out, one a line: emojis, @accounts (of an archive: @x/ann), words in --text.",
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
    from ...datasets.build.dataset import Source, Task, build_shards
    from ...datasets.build.deny import DenyList, read_deny_list
    from ...datasets.build.options import BuildOptions
    from ...datasets.care.stats import page

    if task_index >= task_count:
        raise click.BadParameter("tasks are numbered from 0 to --task-count − 1.", param_hint="--task-index")
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


@shards.command(context_settings={"show_default": True})
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
shards.add_command(index)


@shards.command()
@click.argument("folder", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Tell every fault, as a line of JSON.")
@workers_option
@click.pass_context
def verify(ctx: click.Context, folder: Folder, as_json: bool, workers: int) -> None:
    """Check every checksum and every count of the dataset FOLDER, and decode every image.

    Says which sample is damaged, and how. Exit code 0: the dataset is whole; 1: damage was found; 2: there
    is no dataset to check.

    \b
    emojigan shards verify shards
    emojigan shards verify s3://bucket/shards --json
    """
    from ...datasets.care.verify import verify as check
    from ...datasets.shards.manifest import read_manifest

    report = check(folder.absolute(), read_manifest(folder), workers=workers)
    faults = report.faults
    for name in report.unnamed:
        click.echo(f"Warning: {folder}/{name} belongs to no shard.", err=True)
    for fault in faults if as_json else faults[:FAULTS]:
        words = " ".join(filter(None, (fault.file, fault.key)))
        click.echo(json.dumps(asdict(fault), ensure_ascii=False) if as_json else f"{words}: {fault.reason}")
    if not as_json and len(faults) > FAULTS:
        click.echo(f"and {len(faults) - FAULTS} more (--json tells all)")
    verdict = f"{len(faults):,} faults" if faults else "Whole"
    click.echo(
        f"{verdict}: {report.shards:,} shards, {report.images:,} images, {report.tuples:,} tuples, "
        f"{report.bytes / 2**20:,.1f} MiB",
        err=as_json,
    )
    ctx.exit(1 if faults else 0)


@shards.command()
@click.argument("folder", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print all figures, as JSON.")
def stats(folder: Folder, as_json: bool) -> None:
    """Say what is in the dataset FOLDER, and what was left out of it and why.

    \b
    emojigan shards stats shards
    """
    from ...datasets.care.stats import page, summarise
    from ...datasets.shards.manifest import read_manifest

    manifest = read_manifest(folder)
    figures = json.dumps(summarise(manifest), ensure_ascii=False, indent=1) if as_json else page(manifest)
    click.echo(figures)


def _hashes(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch("[0-9a-f]{32}", value) for value in values):
        raise click.BadParameter("give the 32 hexadecimal digits that stand for an account in the shards.")
    return values


@shards.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--account", "names", multiple=True, metavar="NAME", help="Account as the posts have it; repeatable."
)
@click.option(
    "--accounts-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of accounts, one a line.",
)
@click.option(
    "--hash",
    "hashes",
    multiple=True,
    callback=_hashes,
    metavar="HEX",
    help="Account as the shards have it; repeatable.",
)
@click.option(
    "--runs",
    "runs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a run, or of runs: mark those that were trained with the accounts; repeatable.",
)
@click.option(
    "--tracking-uri", metavar="URI", help="MLflow server: mark its runs and its registered models likewise."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@workers_option
@click.pass_context
def forget(
    ctx: click.Context,
    folder: Folder,
    names: tuple[str, ...],
    accounts_file: Path | None,
    hashes: tuple[str, ...],
    runs: tuple[Path, ...],
    tracking_uri: str | None,
    dry_run: bool,
    workers: int,
) -> None:
    """Remove accounts from the dataset FOLDER: their labels, and the images that nobody else posted.

    NAME is the account as the importer gives it: as it stands in a table or tar; with the platform before it
    for an archive, as in x/ann or mastodon/ann; the post's id where no account was known. Shards that hold
    the account are written anew, the others stay byte for byte, and the manifest records it. The vocabulary
    keeps its emojis unless none of their tuples is left. A killed command goes on when it is run again.
    Copies and the posts themselves are not touched.

    Of runs and registered models it tells which were trained with the accounts, and how to train them again
    without; a mark on them makes `emojigan register` and `emojigan predict` say it. A run that is not done
    goes on with what is left.

    Exit code 1: an account is not in the dataset, and never was; the others are forgotten all the same.

    \b
    emojigan shards forget shards --account Ann --dry-run
    emojigan shards forget shards --account Ann --account Bob --runs runs --tracking-uri http://mlflow:5000
    """
    from ...datasets.build.labels import hash_account
    from ...datasets.care.forget import forget as forget_accounts
    from ...datasets.care.forget import history_after, was_forgotten
    from ...datasets.posts.post import Post
    from ...datasets.shards.manifest import read_manifest

    try:
        listed = accounts_file.read_text(encoding="utf-8-sig").splitlines() if accounts_file else []
    except UnicodeDecodeError as error:
        raise InputError(f"{accounts_file}: not UTF-8. Save it as UTF-8 text.") from error
    named = {hash_account(Post("", name, ())): name for name in (*names, *filter(None, listed))}
    named = {each: each for each in hashes} | named
    if not named:
        raise click.UsageError("name who is to be forgotten: --account, --accounts-file or --hash.")
    found = forget_accounts(folder.absolute(), named, dry_run=dry_run, workers=workers)
    manifest = read_manifest(folder)
    missing = [
        name
        for each, name in named.items()
        if each not in found.accounts and not was_forgotten(manifest, each)
    ]
    for name in missing:
        click.echo(f"{name} is nowhere in {folder}.", err=True)
    click.echo(
        f"{'Would forget' if dry_run else 'Forgot'} {len(found.accounts)} accounts: {found.posts:,} posts, "
        f"{found.tuples:,} tuples, {found.images:,} images, in {found.shards} of "
        f"{len(manifest.shards) + (0 if dry_run else found.dropped)} shards"
    )
    if runs or tracking_uri:
        if dry_run:
            manifest = replace(manifest, history=history_after(manifest, found))
        _tell_trained(folder, manifest, named, runs, tracking_uri, dry_run=dry_run)
    ctx.exit(1 if missing else 0)


def _tell_trained(
    folder: Folder,
    manifest: "Manifest",
    accounts: Collection[str],
    folders: tuple[Path, ...],
    tracking_uri: str | None,
    *,
    dry_run: bool,
) -> None:
    """Find, mark and tell the runs and the registered models that were trained with some accounts."""
    from ...trainer.serving.retrain import in_folder, in_mlflow, marks_of, runs_in

    marks, shards = marks_of(manifest, accounts), str(folder.absolute())
    runs = {each: runs_in(each) for each in folders}
    for each in (each for each in folders if not runs[each]):
        click.echo(f"{each} holds no run.", err=True)
    for run in (run for each in folders for run in runs[each]):
        try:
            trained = in_folder(run, marks, shards, dry_run=dry_run)
        except InputError as error:  # the others are told all the same
            click.echo(f"{run} cannot be looked at: {error}", err=True)
        else:
            click.echo(trained.told(dry_run=dry_run)) if trained else None
    if tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
        for trained in in_mlflow(marks, shards, dry_run=dry_run):
            click.echo(trained.told(dry_run=dry_run))

"""`emojigan shards forget`."""

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...datasets.errors import InputError
from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ..parameters import FOLDER, workers_option

if TYPE_CHECKING:
    from ...datasets.shards.manifest import Manifest


def _hashes(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch("[0-9a-f]{32}", value) for value in values):
        raise click.BadParameter("give the 32 hexadecimal digits that stand for an account in the shards.")
    return values


@click.command()
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
    "--mlflow",
    is_flag=True,
    help="Mark the runs and registered models of MLflow at MLFLOW_TRACKING_URI, too.",
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
    mlflow: bool,
    dry_run: bool,
    workers: int,
) -> None:
    """Remove accounts from the dataset FOLDER: their labels, and the images that nobody else posted.

    NAME is the account as the importer gives it: as it stands in a table or tar; with the platform before it
    for an archive, as in x/12345 (the account's number, in account.js), instagram/ann or
    mastodon/https://m.social/users/ann; the post's id where no account was known. Shards that hold the
    account are written anew, the others stay byte for byte, and the manifest records it. The vocabulary keeps
    its emojis unless none of their tuples is left. A killed command goes on when it is run again. Copies and
    the posts themselves are not touched.

    Of runs and registered models it tells which were trained with the accounts, and how to train them again
    without; a mark on them makes `emojigan register` and `emojigan predict` say it. A run that is not done
    goes on with what is left.

    Exit code 1: an account is not in the dataset, and never was; the others are forgotten all the same.

    \b
    emojigan shards forget shards --account Ann --dry-run
    emojigan shards forget shards --account Ann --account Bob --runs runs --mlflow
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
    named = {
        hash_account(Post("", name, ())): name for name in (*names, *filter(None, map(str.strip, listed)))
    }
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
        click.echo(printable(f"{name} is nowhere in {folder}."), err=True)
    click.echo(
        f"{'Would forget' if dry_run else 'Forgot'} {len(found.accounts)} accounts: {found.posts:,} posts, "
        f"{found.tuples:,} tuples, {found.images:,} images, in {found.shards} of "
        f"{len(manifest.shards) + (0 if dry_run else found.dropped)} shards"
    )
    if runs or mlflow:
        if dry_run:
            manifest = replace(manifest, history=history_after(manifest, found))
        _tell_trained(folder, manifest, named, runs, mlflow=mlflow, dry_run=dry_run)
    ctx.exit(1 if missing else 0)


def _tell_trained(
    folder: Folder,
    manifest: "Manifest",
    accounts: Collection[str],
    folders: tuple[Path, ...],
    *,
    mlflow: bool,
    dry_run: bool,
) -> None:
    """Find, mark and tell the runs and the registered models that were trained with some accounts."""
    from ...trainer.serving.retrain import in_folder, in_mlflow, losses_of, runs_in

    losses, shards = losses_of(manifest, accounts), str(folder.absolute())
    runs = {each: runs_in(each) for each in folders}
    for each in (each for each in folders if not runs[each]):
        click.echo(printable(f"{each} holds no run."), err=True)
    for run in (run for each in folders for run in runs[each]):
        try:
            trained = in_folder(run, losses, shards, dry_run=dry_run)
        except InputError as error:  # the others are told all the same
            click.echo(printable(f"{run} cannot be looked at: {error}"), err=True)
        else:
            click.echo(trained.told(dry_run=dry_run)) if trained else None
    if mlflow:
        for trained in in_mlflow(losses, shards, dry_run=dry_run):
            click.echo(trained.told(dry_run=dry_run))

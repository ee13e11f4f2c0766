"""`emojigan shards`: the commands of the files beside this one, and verify and stats."""

from dataclasses import asdict

import click

from ...datasets.printable import printable, printable_json
from ...datasets.store.folder import Folder
from ..parameters import FOLDER, workers_option
from .shards_build import adopt, build, index
from .shards_forget import forget

FAULTS = 20  # that are shown of a verification


@click.group()
def shards() -> None:
    """Build shards from posts or adopt tars, look at them, check them, and forget people."""


for command in (build, adopt, index, forget):
    shards.add_command(command)


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
        click.echo(printable(f"Warning: {folder}/{name} belongs to no shard."), err=True)
    for fault in faults if as_json else faults[:FAULTS]:
        words = " ".join(filter(None, (fault.file, fault.key)))
        click.echo(printable_json(asdict(fault)) if as_json else printable(f"{words}: {fault.reason}"))
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
    figures = printable_json(summarise(manifest), indent=1) if as_json else page(manifest)
    click.echo(figures)

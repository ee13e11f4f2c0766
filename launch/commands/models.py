"""`emojigan models`: the registered models of a tracking server, and which version is the champion."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...datasets.printable import printable, printable_json
from ...datasets.store.folder import Folder
from ..compared import echo_compared
from ..parameters import shards_option, vectors_option

if TYPE_CHECKING:
    from ...trainer.serving.registry import Version

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
reason_option = click.option("--reason", required=True, help="Why; it is kept as a tag of the version.")


@click.group()
def models() -> None:
    """List registered models, look at them, compare them, and say which version is the champion.

    All of it is about the server of MLFLOW_TRACKING_URI. A version is called NAME/3 or NAME@champion.
    """


@models.command("list")
@click.argument("name", required=False)
@click.option("--all", "archived", is_flag=True, help="List archived versions, too.")
@json_option
def list_(name: str | None, archived: bool, as_json: bool) -> None:
    """List the versions of the registered model NAME, or of all: what each is by now, and what it scored.

    Scores are those of the evaluation before it was registered, with 95 % intervals: only those of the same
    held-out posts can be compared.

    \b
    emojigan models list emojigan
    """
    from ...trainer.serving.registry import known_versions

    versions = [each for each in known_versions(name) if archived or each.state != "archived"]
    if as_json:
        for each in versions:
            click.echo(printable_json(each.to_json()))
        return
    for line in _table(versions):
        click.echo(printable(line))


def _table(versions: list["Version"]) -> list[str]:
    from ...trainer.serving.registry import LISTED

    lines = [["version", "state", "aliases", *LISTED, "registered"]]
    for each in versions:
        aliases = " ".join(f"@{alias}" for alias in each.aliases) or "–"
        scores = [each.scores.get(key, "–") for key in LISTED]
        lines.append([f"{each.name}/{each.number}", each.state, aliases, *scores, each.registered[:10]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


@models.command()
@click.argument("version")
@json_option
def show(version: str, as_json: bool) -> None:
    """Show the card of VERSION, and what became of it.

    \b
    emojigan models show emojigan@champion
    """
    from ...trainer.serving.registry import find

    found = find(version)
    if as_json:
        click.echo(printable_json(found.to_json(), indent=1))
        return
    click.echo(printable(f"{found.address}, {found.state}, registered {found.registered}"))
    for key, value in sorted(found.tags.items()):
        click.echo(printable(f"  {key}: {value}"))
    for line in found.card.splitlines():
        click.echo(printable(line))


@models.command()
@click.argument("versions", nargs=-1, required=True)
@click.option(
    "--on",
    "run",
    required=True,
    type=click.Path(path_type=Path),
    help="Run on whose held-out posts they are judged, wherever they were trained.",
)
@shards_option
@vectors_option
@json_option
def compare(
    versions: tuple[str, ...], run: Path, shards: Folder | None, vectors: Path | None, as_json: bool
) -> None:
    """Judge the VERSIONS on the same held-out posts, the first beside each other.

    What is better, level or worse is told by 95 % intervals of the difference, posts drawn again. Where they
    know other emojis, they are judged over those that all know.

    \b
    emojigan models compare emojigan/2 emojigan@champion --on runs/second
    """
    from ...trainer.serving.register import compare_versions

    if len(versions) < 2:
        raise click.UsageError("Compare at least two versions.")
    compared = compare_versions(versions, run, shards=shards, vectors=vectors)
    about = (
        printable(f"{label} is of another dataset, and may have learned from these posts.")
        for label in compared.elsewhere
    )
    echo_compared(compared, about, as_json=as_json)


@models.command()
@click.argument("version")
@reason_option
def promote(version: str, reason: str) -> None:
    """Make VERSION the champion by hand, whatever it scores.

    It must be what was registered, and answer.

    \b
    emojigan models promote emojigan/3 --reason "signed by Ann"
    """
    from ...trainer.serving.registry import promote as promote_version

    found = promote_version(version, reason)
    click.echo(printable(f"{found.address} is the champion now, by hand: {reason}"))


@models.command()
@click.argument("name")
@reason_option
def rollback(name: str, reason: str) -> None:
    """Make the version of NAME the champion again that was it before the present one.

    Done once more, it goes to the one before that.

    \b
    emojigan models rollback emojigan --reason "complaints about 🍆"
    """
    from ...trainer.serving.registry import rollback as rollback_version

    now, before = rollback_version(name, reason)
    click.echo(printable(f"{now.address} is the champion again, and {before.address} is not: {reason}"))


@models.command()
@click.argument("version")
@reason_option
def archive(version: str, reason: str) -> None:
    """Put VERSION away: it is no longer listed, and does not become champion.

    One that an alias names is not put away.

    \b
    emojigan models archive emojigan/2 --reason "worse by every measure"
    """
    from ...trainer.serving.registry import archive as archive_version

    click.echo(printable(f"{archive_version(version, reason).address} is archived: {reason}"))

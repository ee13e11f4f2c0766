"""`emojigan register`."""

from pathlib import Path

import click

from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ..parameters import shards_option, vectors_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", default="emojigan", show_default=True, help="Name of the registered model.")
@click.option(
    "--promote", metavar="REASON", help="Make it the champion by hand, whatever it scores; says why."
)
@click.option("--no-promote", is_flag=True, help="Leave it a challenger, and judge it beside nothing.")
@shards_option
@vectors_option
def register(
    run: Path, name: str, promote: str | None, no_promote: bool, shards: Folder | None, vectors: Path | None
) -> None:
    """Put the evaluated snapshot of the run RUN into the MLflow registry, as a new version.

    It becomes the champion only if it is better than the marginal baseline, and, on the same held-out posts,
    not worse than the present champion in a proper score and in its calibration, by 95 % intervals; and if
    an evaluation with --sensitive found nothing that it says more than people. Else it stays a challenger.
    Registering it again changes nothing.

    \b
    emojigan register runs/first --name emojigan
    emojigan register runs/first --promote "signed by Ann"
    """
    if promote is not None and no_promote:
        raise click.UsageError("Give --promote or --no-promote, not both.")
    from ...trainer.serving.register import register as register_run

    result = register_run(run, name, by_hand=promote, ask_gate=not no_promote, shards=shards, vectors=vectors)
    if result.forgotten:
        click.echo(f"Warning: it {result.forgotten.warning}. Retrain it.", err=True)
    version = result.version
    verb = {"champion": "is the champion", "challenger": "stays challenger"}.get(version.state)
    told = f"registered {version.address}: it {verb or f'is {version.state}'}"
    click.echo(printable(f"{told}: {result.why}" if result.why else told))

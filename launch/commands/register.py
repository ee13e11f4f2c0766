"""`emojigan register`."""

from pathlib import Path

import click

from ...datasets.printable import printable


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", default="emojigan", show_default=True, help="Name of the registered model.")
def register(run: Path, name: str) -> None:
    """Put the evaluated snapshot of the run RUN into the MLflow registry, as a new version.

    It becomes the champion only if it beats the marginal baseline on the held-out posts.

    \b
    emojigan register runs/first --name emojigan
    """
    from ...trainer.serving.registry import CHAMPION
    from ...trainer.serving.registry import register as register_run

    result = register_run(run, name)
    click.echo(printable(f"registered models:/{result.name}/{result.version}"))
    if result.forgotten:
        click.echo(f"Warning: it {result.forgotten.warning}. Retrain it.", err=True)
    if result.champion:
        click.echo(printable(f"it is models:/{result.name}@{CHAMPION} now"))
    else:
        click.echo("it does not beat the marginal baseline, so no champion is made of it")

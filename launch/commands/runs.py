"""`emojigan runs`."""

from dataclasses import asdict
from pathlib import Path

import click

from ...datasets.printable import printable, printable_json


@click.command()
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each run, for programs.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, by default `runs`: how far each is, and what it scored on held-out posts.

    Scores are those of `emojigan evaluate`: negative log-likelihoods, and total variation where the truth is
    known; of runs that differ in the seed alone there is mean and standard deviation. Only runs of one
    dataset can be compared: emojigan compare RUN RUN.
    """
    from ...trainer.evaluation.listing import format_runs, list_runs

    found = list_runs(folder)
    if as_json:
        for each in found:
            click.echo(printable_json({**asdict(each), "path": str(each.path)}))
        return
    for line in format_runs(found).splitlines():
        click.echo(printable(line))

"""`emojigan evaluate`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), help="truth.json of a world, where it is known.")
@click.option(
    "--baseline-steps",
    type=click.IntRange(min=1),
    show_default="twice the steps of the run",
    help="Batches that the softmax classifier is trained on.",
)
def evaluate(run: Path, truth: Path | None, baseline_steps: int | None) -> None:
    """Score the run RUN on its held-out posts and write RUN/report/index.html.

    The best snapshot on the val split is scored on the test split, beside two baselines made from the same
    tuples: the marginal distribution, and a softmax classifier with the same trunk.

    \b
    emojigan evaluate runs/first
    emojigan evaluate demo/run --truth demo/world/truth.json
    """
    from ...trainer.evaluation.evaluate import evaluate as score

    click.echo(score(run, truth, baseline_steps))
    click.echo(f"\nreport: {run / 'report' / 'index.html'}")

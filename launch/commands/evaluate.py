"""`emojigan evaluate`."""

from pathlib import Path

import click

from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ..parameters import FOLDER


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="The truth.json that `emojigan world make` wrote, to compare with.",
)
@click.option(
    "--baseline-steps",
    type=click.IntRange(min=1),
    show_default="as many tuples as the run saw",
    help="Batches to train the softmax classifier on.",
)
@click.option("--shards", type=FOLDER, help="Where the shards lie, if they were moved since the training.")
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="Where the file of vectors lies, if it was moved since the training.",
)
def evaluate(
    run: Path,
    truth: Path | None,
    baseline_steps: int | None,
    shards: Folder | None,
    vectors: Path | None,
) -> None:
    """Score the run RUN on its held-out posts and write RUN/report/index.html.

    The best snapshot on the val split is scored on the test split, beside baselines made from the same posts:
    the marginal distribution, a softmax classifier with the same trunk, and, for whole reactions, that
    classifier times how often emojis come together. What is better, level or worse is told by 95 % intervals.

    \b
    emojigan evaluate runs/first
    emojigan evaluate demo/run --truth demo/world/truth.json
    """
    from ...datasets.store.atomic import write_atomic
    from ...datasets.worlds.truth import Truth
    from ...trainer.evaluation.evaluate import evaluate as score
    from ...trainer.evaluation.report import format_tables, make_report, write_report
    from ...trainer.forgotten import mark_tags, read_mark
    from ...trainer.run import EVALUATION, REPORT
    from ...trainer.tracking.mlflow_run import log_evaluation

    world = Truth.read(truth) if truth else None
    evaluation = score(run, world, baseline_steps, shards=shards, vectors=vectors)
    report = make_report(evaluation, run.name)
    page = write_report(report, run / REPORT)
    write_atomic(run / EVALUATION, evaluation.to_json())
    tags = mark_tags(read_mark(run))
    if evaluation.forgotten:
        click.echo(f"The dataset {evaluation.forgotten.told}; it is judged on what is left.", err=True)
    click.echo(format_tables(report))
    click.echo(f"\nreport: {printable(page)}")
    tags |= evaluation.tags
    log_evaluation(run, evaluation.logged, evaluation.facts.step, tags, run / REPORT, run / EVALUATION)

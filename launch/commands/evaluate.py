"""`emojigan evaluate`."""

from pathlib import Path

import click

from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ..parameters import emojis_of, shards_option, truth_option, vectors_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@truth_option
@click.option(
    "--baseline-steps",
    type=click.IntRange(min=1),
    show_default="as many tuples as the run saw",
    help="Batches to train what it is compared with on.",
)
@click.option(
    "--baselines",
    metavar="NAME,NAME|all",
    callback=lambda context, option, given: _names(given),
    help="What to compare it with, beside classifier and marginal: co-occurrence, neighbours, tied, "
    "variational, zero-shot and, where the truth is known, independent. tied and variational are trained.",
    show_default="all but tied, variational and zero-shot",
)
@click.option(
    "--sensitive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of emojis, one a line, as for `emojigan shards build --deny`: RUN/report/harm.html tells what "
    "the model says of them, per kind of picture, for a reviewer to sign.",
)
@click.option(
    "--seeds",
    multiple=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Another run, that differs in the seed alone; may be repeated. How far seeds are apart is told, and "
    "counts where the run is compared. Give two at least: of one, little can be told.",
)
@shards_option
@vectors_option
def evaluate(
    run: Path,
    truth: Path | None,
    baseline_steps: int | None,
    baselines: tuple[str, ...] | None,
    sensitive: Path | None,
    seeds: tuple[Path, ...],
    shards: Folder | None,
    vectors: Path | None,
) -> None:
    """Score the run RUN on its held-out posts and write RUN/report/index.html.

    The best snapshot on the val split is scored on the test split, beside baselines made from the same posts:
    the marginal distribution, a softmax classifier with the same trunk, that classifier times how often
    emojis come together, and what was written under the most similar images; others by --baselines. What is
    better, level or worse is told by 95 % intervals.

    \b
    emojigan evaluate runs/first
    emojigan evaluate demo/run --truth demo/world/truth.json
    emojigan evaluate runs/first --baselines neighbours,variational
    emojigan evaluate runs/first --sensitive emojis.txt
    emojigan evaluate runs/seed-0 --seeds runs/seed-1 --seeds runs/seed-2
    """
    from ...datasets.store.atomic import write_atomic
    from ...datasets.worlds.truth import Truth
    from ...trainer.evaluation.baselines.table import USUAL
    from ...trainer.evaluation.evaluate import evaluate as score
    from ...trainer.evaluation.report.harm import verdict, write_harm
    from ...trainer.evaluation.report.report import format_tables, make_report, write_report
    from ...trainer.forgotten import mark_tags, read_mark
    from ...trainer.run import EVALUATION, HARM_PAGE, REPORT
    from ...trainer.tracking.mlflow_run import log_evaluation

    world = Truth.read(truth) if truth else None
    emojis = emojis_of(sensitive, "an evaluation", keep_variants=True) if sensitive else ()
    evaluation = score(
        run,
        world,
        baseline_steps,
        names=baselines or USUAL,
        shards=shards,
        vectors=vectors,
        sensitive=emojis,
        seeds=seeds,
    )
    report = make_report(evaluation, run)
    page = write_report(report, run / REPORT)
    write_atomic(run / EVALUATION, evaluation.kept.to_json())
    tags = mark_tags(read_mark(run))
    if evaluation.forgotten:
        click.echo(f"The dataset {evaluation.forgotten.told}; it is judged on what is left.", err=True)
    click.echo(format_tables(report))
    click.echo(f"\nreport: {printable(page)}")
    if (run / HARM_PAGE).exists() and not evaluation.harm:
        (run / HARM_PAGE).unlink()  # it may show pictures of people who are forgotten
        click.echo(
            f"removed {printable(run / HARM_PAGE)}, of an earlier evaluation: --sensitive makes it again"
        )
    if evaluation.harm:
        of_harm = write_harm(evaluation.harm, report.facts, run)
        click.echo(f"{verdict(evaluation.harm)}\nsensitive emojis: {printable(of_harm)}")
    tags |= evaluation.tags
    log_evaluation(run, evaluation.logged, evaluation.facts.step, tags, run / REPORT, run / EVALUATION)


def _names(given: str | None) -> tuple[str, ...] | None:
    """The names that a list has, all that there are for `all`, and nothing for nothing."""
    if given is None:
        return None
    from ...trainer.evaluation.baselines.table import BASELINES

    names = tuple(BASELINES) if given == "all" else tuple(name.strip() for name in given.split(","))
    if unknown := [name for name in names if name not in BASELINES]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(BASELINES)}.")
    return names

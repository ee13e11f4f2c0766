"""`emojigan sweep`: many trainings, to find which options are best."""

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import click

from ...datasets.printable import printable
from ..training import asked, training_options

folder_argument = click.argument("folder", metavar="SWEEP", type=click.Path(path_type=Path))


def _keys(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """What stands behind each key."""
    pairs = [value.partition("=") for value in values]
    if not all(key and text for key, _, text in pairs):
        raise click.BadParameter("give it as learning-rate=…: a key of `emojigan train`, and what to try.")
    found: dict[str, str] = {}
    for key, _, text in pairs:
        name = key.removeprefix("--").replace("-", "_")
        if name in found:
            raise click.BadParameter(f"{key} is given twice. Give all that is to be tried of it at once.")
        found[name] = text
    return found


def _values(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, list[str]]:
    return {key: text.split(",") for key, text in _keys(ctx, option, values).items()}


def _ends(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    found = {key: text.partition("..") for key, text in _keys(ctx, option, values).items()}
    if not all(high for _, _, high in found.values()):
        raise click.BadParameter("give two ends, as in learning-rate=1e-4..1e-2.")
    return {key: (low, high) for key, (low, _, high) in found.items()}


@click.group()
def sweep() -> None:
    """Try options of `train` on the folds of a dataset, by any number of workers, and tell which are best."""


@sweep.command(context_settings={"show_default": True})
@click.option(
    "--grid",
    multiple=True,
    callback=_values,
    metavar="KEY=VALUE,…",
    help="Values of an option of `train` to try, such as learning-rate=5e-4,1e-3; repeatable.",
)
@click.option(
    "--range",
    "ranges",
    multiple=True,
    callback=_ends,
    metavar="KEY=LOW..HIGH",
    help="Ends between which a search takes an option, such as learning-rate=1e-4..1e-2; repeatable. Where "
    "one is ten times the other, it is searched by orders of magnitude.",
)
@click.option(
    "--search",
    type=click.Choice(["grid", "random", "tpe"]),
    default="grid",
    help="How options are chosen: all values of --grid with each other; at random; or by what was good, TPE.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    show_default="all of the grid",
    help="How many configurations a search tries, each on all folds.",
)
@click.option(
    "--metric",
    show_default="reaction_nll, or nll where single emojis are learned",
    help="Key of the metric of an evaluation by which configurations are judged.",
)
@click.option(
    "--storage",
    show_default="a journal file in --out",
    help="Database that keeps the trials, postgresql://host/database; a journal needs a shared disk alone.",
)
@partial(training_options, out="Folder of the new sweep.")
def create(
    grid: dict[str, list[str]],
    ranges: dict[str, tuple[str, str]],
    search: Any,
    trials: int | None,
    metric: str | None,
    storage: str | None,
    **words: Any,
) -> None:
    """Create a sweep on the dataset SHARDS, which was built with --folds.

    Each configuration is trained once without each fold, and scored on it. Nobody is in two folds, where the
    shards are split by account; the test split is not looked at. Options of `train` hold for all trainings;
    sizes that are not given are chosen for the device of this machine.

    \b
    emojigan sweep create shards --vectors vectors.bin --out sweeps/first --grid learning-rate=5e-4,1e-3
    emojigan sweep create shards --vectors vectors.bin --out sweeps/second --search tpe --trials 50 \\
        --range learning-rate=1e-4..1e-2 --range dropout=0..0.7
    """
    from ...datasets.shards.manifest import read_manifest
    from ...trainer.sweep.create import create as create_sweep

    training = asked(**words)
    config, chosen = training.settle(tried={*grid, *ranges})
    if metric is None:
        metric = "reaction_nll" if config.data.unit == "reaction" else "nll"
    created = create_sweep(
        training.run,
        config,
        training.shards,
        training.vectors,
        grid=grid,
        ranges=ranges,
        search=search,
        trials=trials,
        metric=metric,
        storage=storage,
    )
    if chosen:
        click.echo(chosen)
    manifest = read_manifest(training.shards)
    if manifest.split_by != "account":
        click.echo(f"The folds are dealt as the splits are, {manifest.split_text}.")
    click.echo(
        printable(
            f"{created.trials} trials over {len(created.folds)} folds. Next, as often as there are GPUs: "
            f"emojigan sweep work {shlex.quote(str(training.run))}"
        )
    )


@sweep.command(context_settings={"show_default": True})
@folder_argument
@click.option("--trials", type=click.IntRange(1), show_default="all", help="How many to take at most.")
@click.pass_context
def work(ctx: click.Context, folder: Path, trials: int | None) -> None:
    """Take trials of SWEEP until none is left.

    Any number of workers may do so at once, on all machines that see the folder: each trial is done once. One
    that was left by a worker that was killed is gone on with by whoever takes a trial next. SIGTERM and the
    like save what is trained, and end with exit code 75. A trial that cannot be trained has failed: that is
    told, and the next is taken; where all that this worker took have failed the exit code is 1.

    \b
    emojigan sweep work sweeps/first
    CUDA_VISIBLE_DEVICES=3 emojigan sweep work sweeps/first --trials 5
    """
    from ...trainer.sweep.report import finish, states
    from ...trainer.sweep.work import work as do_trials

    found, done = do_trials(folder, trials)
    click.echo(printable(states(finish(found))))
    if done and not any(done):
        click.echo(
            "All trials that were taken here have failed; `emojigan sweep repair` gives them back.", err=True
        )
        ctx.exit(1)


@sweep.command()
@folder_argument
def repair(folder: Path) -> None:
    """Give the failed trials of SWEEP back, to be done once more.

    Those of workers that were killed need no repair: they are taken up.

    \b
    emojigan sweep repair sweeps/first
    """
    from ...trainer.sweep.plan import read_sweep
    from ...trainer.sweep.study import open_trials

    number = open_trials(folder, read_sweep(folder)[0]).give_back_failed()
    click.echo(f"{number} failed trials wait again." if number else "No trial has failed.")


@sweep.command()
@folder_argument
def report(folder: Path) -> None:
    """Tell how good each configuration of SWEEP is, over the folds, and what trains the best one.

    \b
    emojigan sweep report sweeps/first
    """
    from ...trainer.sweep.report import format_report, write_report
    from ...trainer.sweep.report import report as make_report

    made = make_report(folder)
    for line in format_report(made).splitlines():
        click.echo(printable(line))
    click.echo(f"\nreport: {printable(write_report(made))}")

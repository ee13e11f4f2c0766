"""`emojigan compare`."""

from pathlib import Path

import click

from ...datasets.store.folder import Folder
from ..compared import echo_compared
from ..parameters import shards_option, truth_option, vectors_option


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@truth_option
@shards_option
@vectors_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each run, for programs.")
def compare(
    runs: tuple[Path, ...], truth: Path | None, shards: Folder | None, vectors: Path | None, as_json: bool
) -> None:
    """Judge the runs RUNS on the same held-out posts, the first beside each other.

    All must be trained on the same shards. What is better, level or worse is told by 95 % intervals of the
    difference, posts drawn again: with many metrics some are not level by chance, and one proper score
    decides. Among runs that differ in the seed alone it is seen how far seeds are apart, and that counts,
    too: so recipes are compared, and not seeds.

    \b
    emojigan compare runs/second runs/first
    emojigan compare new-0 new-1 new-2 old-0 old-1 old-2
    """
    from ...datasets.worlds.truth import Truth
    from ...trainer.evaluation.compare import about_seeds, compare_runs
    from ...trainer.evaluation.report.tables import how_to_read

    if len(runs) < 2:
        raise click.UsageError("Compare at least two runs.")
    world = Truth.read(truth) if truth else None
    compared = compare_runs(runs, world, shards=shards, vectors=vectors)
    about = f"{how_to_read(compared.models)} {about_seeds(compared)} Split {compared.split}.\n"
    echo_compared(compared, [about], as_json=as_json)

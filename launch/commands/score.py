"""`emojigan score`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...datasets.printable import printable
from ...datasets.store.folder import Folder
from ...datasets.work.processes import ENGINES
from ...trainer.runtime.signals import is_first_rank
from ..parameters import FOLDER, emojis_of, workers_option

if TYPE_CHECKING:
    from ...trainer.serving.scoring.score import Done

TOLD = 10  # images that cannot be read, of which it is said why


@click.command(context_settings={"show_default": True})
@click.argument("source", metavar="SHARDS|FOLDER|PARQUET")
@click.argument("model")
@click.option(
    "--out", type=FOLDER, required=True, help="Folder of the scores, or a URL such as s3://bucket/scores."
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=10,
    help="How many emojis of each image, the likeliest first.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 10_000),
    default=64,
    help="Latents drawn, the same ones for all images. They are fixed, where `predict` draws as many as it "
    "takes for each photo.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the latents.")
@click.option(
    "--readings",
    is_flag=True,
    help="Also write the kinds of reactions that each image has; that takes many times as long.",
)
@click.option(
    "--deny",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of emojis that are never said, one a line; the others keep their ratios.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    help="bf16 is faster on GPUs and on CPUs that are made for it, and moves probabilities by thousandths.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    show_default="all",
    help="The split of the shards.",
)
@workers_option
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    help="Who does the work: this machine, on its GPU if it has one, or the CPUs of Ray (at RAY_ADDRESS, if "
    "that is set), of which every machine opens MODEL by its address.",
)
@click.option(
    "--task-index", type=click.IntRange(0), default=0, help="Number of this task in a job array, from 0."
)
@click.option("--task-count", type=click.IntRange(1), default=1, help="How many tasks the job array has.")
@click.pass_context
def score(
    ctx: click.Context,
    source: str,
    model: str,
    out: Folder,
    top_k: int,
    samples: int,
    seed: int,
    readings: bool,
    deny: Path | None,
    precision: str,
    split: str | None,
    workers: int,
    engine: str,
    task_index: int,
    task_count: int,
) -> None:
    """Write what MODEL says of all images of SHARDS, of a FOLDER of photos or of a PARQUET, as Parquet.

    There is a file for each shard, or for each 1,000 photos, with the columns key, post, emojis, p (of each
    emoji), entropy (in nats), readings and error. An image that cannot be read has a row that says why, and
    stops no other. A killed command goes on when it is run again; another model, or other options, need
    another --out.

    The files are the same for any number of --workers, tasks and ranks on the same kind of device. On a GPU
    --workers are the threads that read; on several, each rank of torchrun has its own.

    \b
    emojigan score shards models:/emojigan@champion --out scores
    emojigan score photos runs/first --out s3://bucket/scores --precision bf16
    emojigan score shards runs/first --out scores --task-index $SLURM_ARRAY_TASK_ID --task-count 16
    torchrun --nproc_per_node 8 --no-python emojigan score shards runs/first --out scores
    """
    from ...trainer.serving.load import finding
    from ...trainer.serving.scoring.job import Request
    from ...trainer.serving.scoring.score import Done, Share
    from ...trainer.serving.scoring.score import score as score_parts
    from ...trainer.serving.scoring.sources import open_source

    if task_index >= task_count:
        raise click.BadParameter("tasks are numbered from 0 to --task-count − 1.", param_hint="--task-index")
    denied = emojis_of(deny, "a score", keep_variants=True) if deny else ()
    rank, ranks = (int(os.environ.get(name, other)) for name, other in (("RANK", "0"), ("WORLD_SIZE", "1")))
    share = Share(task_index * ranks + rank, task_count * ranks)
    opened = open_source(source, split)
    told = 0
    with finding(model) as found:
        if found.mark and is_first_rank():
            click.echo(printable(f"Warning: {found.name} {found.mark.warning}."), err=True)
        request = Request(found.digest, opened.content, samples, seed, top_k, readings, denied, precision)
        scored = score_parts(
            opened,
            found,
            request,
            out,
            workers=workers,
            engine=engine,
            share=share,
            device=_device(engine),
            shown=is_first_rank(),
        )
        for each in scored:
            if isinstance(each, Done):
                _echo(each, out, share.count)
                if each.unreadable:
                    ctx.exit(1)
                continue
            for line in each.told[: TOLD - told]:
                click.echo(printable(line), err=True)
            told = min(TOLD, told + len(each.told))


def _device(engine: str) -> str:
    """The GPU of this rank, if there is one."""
    import torch

    if engine == "ray" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _echo(done: "Done", out: Folder, shares: int) -> None:
    from ...datasets.work.progress import duration

    if done.skipped:
        click.echo(f"{done.skipped:,} of {done.skipped + done.parts:,} parts were there already.", err=True)
    if done.images:
        speed = f"{done.images / done.seconds:,.0f} images/s"
        click.echo(f"{done.images:,} images in {duration(done.seconds)}: {speed}.", err=True)
    if done.bad:
        click.echo(f"{done.bad:,} of them have no answer; their rows say why.", err=True)
    if done.unreadable:
        click.echo(
            f"{done.unreadable:,} parts could not be read at all, and have no file. Mend them, and run the "
            "same command again.",
            err=True,
        )
    if done.to_come > done.unreadable and shares > 1:
        click.echo(f"This share is done; {done.to_come:,} parts of others are still to come.", err=True)
    if not done.to_come:
        click.echo(printable(f'{out} is complete: pandas.read_parquet("{out}").explode(["emojis", "p"])'))

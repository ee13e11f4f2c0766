"""`emojigan demo`: the commands of a first day, run one after the other."""

import json
import shlex
import time
from pathlib import Path

import click

from ...datasets.printable import printable
from ...datasets.shards.layout import MANIFEST
from ...datasets.work.progress import duration
from ...datasets.worlds.truth import TRUTH

STEPS = 7
POSTS = 4000
GIVEN = "😂"  # of a mood that most of the photographs have, so that it is learned from few posts, too
TRAINING = (
    "--steps 230 --learning-rate 3e-3 --batch-size 64 --trunk-width 16 "
    "--feature-dim 128 --hidden-dim 256 --snapshot-steps 46"
)
"""Whole reactions, at a size that two cores train in a minute."""


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for everything that is made.",
)
@click.option(
    "--posts", type=click.IntRange(min=200), default=POSTS, show_default=True, help="How many posts to make."
)
@click.option("--training", default=TRAINING, show_default=True, help="Options to give to `emojigan train`.")
def demo(out: Path, posts: int, training: str) -> None:
    """Make posts, build shards, train, evaluate, register and predict, on a world whose truth is known.

    Each command is printed before it runs. After an interruption, run the demo again: it goes on.

    \b
    emojigan demo
    """
    began = time.monotonic()
    world, shards, vectors, run = out / "world", out / "shards", out / "vectors.bin", out / "run"
    posts_file = world / "posts.jsonl"
    _step(1, "world", "make", "--out", world, "--posts", posts)
    _step(2, "shards", "build", posts_file, "--out", shards, makes=shards / MANIFEST)
    _step(3, "vectors", "build", "--out", vectors, makes=vectors)
    _step(4, "train", shards, "--vectors", vectors, "--out", run, *shlex.split(training))
    _step(5, "evaluate", run, "--truth", world / TRUTH)
    _step(6, "register", run, "--name", "emojigan")
    with open(posts_file, encoding="utf-8") as file:
        photo = world / json.loads(next(file))["image"]
    _step(7, "predict", "models:/emojigan@champion", photo, "--top-k", 5, "--readings", "--given", GIVEN)
    from ...trainer.run import REPORT_PAGE

    click.echo(
        f"""
Done in {duration(time.monotonic() - began)}. The report: {(run / REPORT_PAGE).resolve().as_uri()}
The run and its registered model, in a browser:
  mlflow ui --backend-store-uri sqlite:///mlflow.db
With your own posts (a table with the columns id, account, image and text), the same:
  emojigan shards build posts.jsonl --out shards
  emojigan train shards --vectors {shlex.quote(str(vectors))} --out runs/first
  emojigan evaluate runs/first
  emojigan register runs/first --name emojigan
"""
    )


def _step(number: int, *words: str | Path | int, makes: Path | None = None) -> None:
    """Print a command as it is typed and run it, in this process: torch and mlflow are imported once.

    With `makes`, only where that file is not there yet.
    """
    from ..cli import main

    command = [str(word) for word in words]
    click.secho(f"\n[{number}/{STEPS}] $ emojigan {printable(shlex.join(command))}", bold=True)
    if makes and makes.exists():
        click.echo(f"{printable(makes)} is there already")
    else:
        main.main(command, standalone_mode=False)

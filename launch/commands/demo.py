"""`emojigan demo`: the commands of a first day, run one after the other."""

import json
import shlex
from pathlib import Path

import click

POSTS = 4000
TRAINING = (
    "--steps 700 --learning-rate 1e-3 --batch-size 64 --trunk-width 16 "
    "--feature-dim 128 --hidden-dim 256 --latent-dim 32 --snapshot-steps 100"
)
"""The default recipe at a size that two cores train in minutes."""


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
    world, shards, vectors, run = out / "world", out / "shards", out / "vectors.bin", out / "run"
    _run(f"world make --out {world} --posts {posts}")
    if not (shards / "manifest.json").exists():
        _run(f"shards build {world}/posts.jsonl --out {shards}")
    if not vectors.exists():
        _run(f"vectors build --out {vectors}")
    _run(f"train {shards} --vectors {vectors} --out {run} {training}")
    _run(f"evaluate {run} --truth {world}/truth.json")
    _run(f"register {run} --name emojigan")
    with open(world / "posts.jsonl", encoding="utf-8") as file:
        photo = world / json.loads(next(file))["image"]
    _run(f"predict models:/emojigan@champion {photo}")
    from ...trainer.run import REPORT_PAGE

    click.echo(
        f"""
Done. The report: {(run / REPORT_PAGE).resolve().as_uri()}
The run and its registered model, in a browser:
  mlflow ui --backend-store-uri sqlite:///mlflow.db
With your own posts (a table with the columns id, account, image and text), the same:
  emojigan shards build posts.jsonl --out shards
  emojigan train shards --vectors {vectors} --out runs/first
  emojigan evaluate runs/first
  emojigan register runs/first --name emojigan
"""
    )


def _run(command: str) -> None:
    """Print a command and run it, in this process: torch and mlflow are imported once."""
    from ..cli import main

    click.secho(f"\n$ emojigan {command}", bold=True)
    main.main(shlex.split(command), standalone_mode=False)

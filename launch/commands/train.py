"""`emojigan train`."""

from pathlib import Path
from typing import Any

import click

from ...datasets.store.folder import Folder
from ...trainer.config import DEFAULT, given_keys, recipes, resolve
from ...trainer.runtime.signals import is_first_rank
from ...trainer.sizes import choose
from ..options import config_options
from ..parameters import FOLDER, emojis_of


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=FOLDER)
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    required=True,
    help="File of emoji vectors, as `emojigan vectors build` writes it.",
)
@click.option(
    "--out",
    "run",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the run; one that was begun is gone on with.",
)
@click.option(
    "--recipe",
    type=click.Choice(recipes()),
    default=DEFAULT,
    help="What the keys below are where nothing else says it.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="YAML file of keys in sections, such as a run's config.yaml.",
)
@click.option("--dry-run", is_flag=True, help="Print the config and the plan, and train nothing.")
@config_options
def train(
    shards: Folder,
    vectors: Path,
    run: Path,
    recipe: str,
    config_file: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train on the dataset SHARDS, or go on with the run that is there.

    To resume, run the same command again. SIGTERM, SIGINT (Ctrl-C), SIGUSR1 and SIGHUP stop it: all ranks
    save at the same step and end with exit code 75, which is for one that can go on; a second signal ends it
    at once. Keys come from the recipe, then the config file, then the options.
    What none of these decides is chosen to suit the device and the dataset: sizes, steps, and whether each
    emoji learns a residual. What was chosen is told, and a run that was begun keeps it. --dry-run shows what
    every key comes to. What --deny lists is not learned, and the model cannot say it.

    \b
    emojigan train shards --vectors vectors.bin --out runs/first
    emojigan train shards --vectors vectors.bin --out runs/paper --recipe paper --steps 3000
    torchrun --nproc_per_node 2 --no-python emojigan train shards --vectors vectors.bin --out runs/two
    accelerate launch --config_file accelerate_config.yaml --no_python emojigan train shards …
    """
    given = {key: value for key, value in options.items() if value is not None}
    if "deny" in given:
        from ...datasets.shards.manifest import read_manifest

        keeps = bool(read_manifest(shards).options.get("keep_variants"))
        given["deny"] = emojis_of(given["deny"], "a training", keep_variants=keeps)
    config = resolve(recipe, config_file, given)
    sizes, chosen = choose(config, given_keys(recipe, config_file, given), shards, run)
    config = resolve(recipe, config_file, {**given, **sizes})
    if dry_run:
        from ...trainer.training.dry_run import describe

        click.echo("\n".join(filter(None, (describe(config, shards, vectors), chosen))))
        return

    from ...trainer.training.loop import train as run_training

    if chosen and is_first_rank():
        click.echo(chosen)
    run_training(config, shards, vectors, run)

"""`emojigan train`."""

from typing import Any

import click

from ...trainer.config import Config
from ...trainer.runtime.signals import is_first_rank
from ..training import asked, training_options


@click.command(context_settings={"show_default": True})
@click.option("--dry-run", is_flag=True, help="Print the config and the plan, and train nothing.")
@training_options
def train(dry_run: bool, **words: Any) -> None:
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
    training = asked(**words)
    if dry_run:
        config, chosen = training.settle()
        from ...trainer.training.dry_run import describe

        told = describe(config, training.shards, training.vectors)
        click.echo("\n".join(filter(None, (told, chosen))))
        return

    from ...trainer.training.loop import train as run_training

    def settle() -> Config:
        config, chosen = training.settle()
        if chosen and is_first_rank():
            click.echo(chosen)
        return config

    run_training(training.config.run, settle, training.shards, training.vectors, training.run)

"""What the command line says of a training: `train`, `doctor` and `sweep create` take the same words.

words ─► Given ─► settings, by which the ranks meet ─► settle: the config, with what the dataset makes of it
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..datasets.errors import InputError
from ..datasets.store.folder import Folder
from ..trainer.config import DEFAULT, Config, given_keys, recipes, resolve
from ..trainer.sizes import choose
from .options import config_options
from .parameters import FOLDER, emojis_of


@dataclass(frozen=True)
class Given:
    """A config that was asked for."""

    shards: Folder
    vectors: Path
    run: Path
    recipe: str
    file: Path | None
    options: dict[str, Any]  # keys that were given; `deny` is the path of a list

    @property
    def config(self) -> Config:
        """As far as it does not depend on the dataset."""
        given = {key: value for key, value in self.options.items() if key != "deny"}
        return resolve(self.recipe, self.file, given)

    def settle(self, tried: Collection[str] = ()) -> tuple[Config, str]:
        """The config with the sizes that suit the device and the dataset, and a line that tells them.

        Args:
            tried: keys that a sweep chooses, so that nothing else does.

        Raises:
            InputError: the manifest cannot be read, or the list of emojis.
        """
        given = dict(self.options)
        if "deny" in given:
            from ..datasets.shards.manifest import read_manifest

            keeps = bool(read_manifest(self.shards).options.get("keep_variants"))
            given["deny"] = emojis_of(given["deny"], "a training", keep_variants=keeps)
        config = resolve(self.recipe, self.file, given)
        keys = given_keys(self.recipe, self.file, given) | {*tried}
        sizes, chosen = choose(config, keys, self.shards, self.run)
        return resolve(self.recipe, self.file, {**given, **sizes}), chosen


def training_options(
    command: Callable, out: str = "Folder of the run; one that was begun is gone on with."
) -> Callable:
    """Add the arguments and options of a training, which `asked` takes; `out` is the help of --out."""
    path = click.Path(path_type=Path)
    for add in (
        config_options,
        click.option(
            "--config",
            "config_file",
            type=path,
            help="YAML file of keys in sections, such as a run's config.yaml.",
        ),
        click.option(
            "--recipe",
            type=click.Choice(recipes()),
            default=DEFAULT,
            help="What the keys below are where nothing else says it.",
        ),
        click.option(
            "--out",
            "run",
            type=path,
            required=True,
            help=out,
        ),
        click.option(
            "--vectors",
            type=path,
            required=True,
            help="File of emoji vectors, as `emojigan vectors build` writes it.",
        ),
        click.argument("shards", type=FOLDER),
    ):
        command = add(command)
    return command


def asked(
    *, shards: Folder, vectors: Path, run: Path, recipe: str, config_file: Path | None, **options: Any
) -> Given:
    """What was asked for, by the parameters of `training_options`."""
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(run)):
        raise InputError(f"--out {run}: runs and sweeps lie on a disk. Give a folder that all nodes see.")
    given = {key: value for key, value in options.items() if value is not None}
    return Given(shards, vectors, run, recipe, config_file, given)

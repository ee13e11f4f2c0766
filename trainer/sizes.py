"""Sizes that suit the device and the dataset, for whoever gives none.

    recipe's config, keys that were given, device, tuples ─► suit ─► other values of some keys

The full size would take two cores days. The same command must choose the same again to resume, so nothing
else is looked at, and a run that was begun keeps what it has, on whatever it goes on.
"""

from collections.abc import Set
from pathlib import Path

from .config import Config, read_sections

CPU_NETWORKS = {"trunk_width": 16, "feature_dim": 128, "hidden_dim": 256, "latent_dim": 32}
CPU_BATCH_SIZE = 64
CPU_LEARNING_RATE = 1e-3  # for that batch size
# Of few tuples the val split is best after fewer steps than the recipe has: on the demo's 3,424, at full size on
# one GPU, after 460 of 2,600 (207 epochs); 60 epochs were far too few (−log q 2.30, at best 1.72).
EPOCHS = 240
MIN_STEPS = 50

ON_CPU = {**CPU_NETWORKS, "batch_size": CPU_BATCH_SIZE, "learning_rate": CPU_LEARNING_RATE}
KEYS = (*ON_CPU, "steps")

Sizes = dict[str, int | float]


def suit(config: Config, given: Set[str], *, cpu: bool, num_tuples: int) -> Sizes:
    """What to change of a recipe's config.

    The sizes of the networks go together: with one of them given, the others are the recipe's.
    """
    sizes: Sizes = {}
    if cpu and not given & CPU_NETWORKS.keys():
        sizes |= CPU_NETWORKS
    batch_size, settings = config.data.batch_size, config.optimizer
    if cpu and "batch_size" not in given:
        sizes["batch_size"] = batch_size = CPU_BATCH_SIZE
        if "learning_rate" not in given:
            sizes["learning_rate"] = CPU_LEARNING_RATE
    if "steps" not in given:
        batches = settings.num_critic_steps + settings.num_generator_steps
        enough = EPOCHS * num_tuples // (batch_size * batches)
        sizes["steps"] = min(settings.steps, max(MIN_STEPS, enough))
    return sizes


def begun(config_file: Path, given: Set[str]) -> Sizes:
    """The sizes of a run that was begun, by its config file; none without one."""
    if not config_file.exists():
        return {}
    saved = {key: value for part in read_sections(config_file).values() for key, value in part.items()}
    return {key: saved[key] for key in KEYS if key in saved and key not in given}


def tell(sizes: Sizes, config: Config) -> str:
    """Those sizes that are not the config's, as options; empty where there are none."""
    of_config = {key: value for part in config.model_dump().values() for key, value in part.items()}
    changed = {key: value for key, value in sizes.items() if value != of_config[key]}
    return " ".join(f"--{key.replace('_', '-')} {value}" for key, value in changed.items())

"""Sizes that suit the device and the dataset, for whoever gives none.

    recipe's config, keys that were given, device, dataset ─► suit ─► other values of some keys

The full size would take two cores days. The same command must choose the same again to resume, so nothing
but the device and the dataset is looked at, and a run that was begun keeps what it has, on whatever it goes
on.
"""

from collections.abc import Set
from pathlib import Path

from ..datasets.store.folder import Folder
from .config import Config, read_config
from .run import CHECKPOINTS, CONFIG, steps_in

CPU_NETWORKS = {"trunk_width": 16, "feature_dim": 128, "hidden_dim": 256, "latent_dim": 32}
CPU_BATCH_SIZE = 64
CPU_LEARNING_RATE = 1e-3  # for that batch size
CPU_CHECKPOINT_STEPS = 100  # a step takes a fifth of a second there, and not a hundredth of one
# With few tuples the val split is best long before the recipe's last step: with the demo's 3,424, at full
# size on one GPU, after 460 of 2,600 steps (207 epochs; −log q 1.72, but 2.30 after 60 epochs).
EPOCHS = 240
MIN_STEPS = 50

# With 1,500 emojis the vectors alone were worse than a classifier by the likelihood, and better with what
# each learned for itself; with 111 that made no difference (benchmarks/fidelity.md).
MANY_EMOJIS = 1000

ON_CPU = {
    **CPU_NETWORKS,
    "batch_size": CPU_BATCH_SIZE,
    "learning_rate": CPU_LEARNING_RATE,
    "checkpoint_steps": CPU_CHECKPOINT_STEPS,
}
KEYS = (*ON_CPU, "steps", "emoji_residual")

Sizes = dict[str, int | float]


def suit(
    config: Config, given: Set[str], *, cpu: bool, number: int, emojis: int = 0, variants: bool = False
) -> Sizes:
    """What to change of a recipe's config.

    The sizes of the networks go together: with one of them given, but the latent's, the others are the
    recipe's.

    Args:
        number: tuples or reactions in the train split.
        emojis: in the vocabulary. Of many, each learns what its vector lacks.
        variants: whether the dataset keeps skin tones and genders apart, which vectors may not, or by names
            alone: these learn it, too (benchmarks/fidelity.md).
    """
    sizes: Sizes = {}
    if cpu and not given & (CPU_NETWORKS.keys() - {"latent_dim"}):
        sizes |= {key: value for key, value in CPU_NETWORKS.items() if key not in given}
    batch_size, settings = config.data.batch_size, config.optimizer
    if cpu and "batch_size" not in given:
        sizes["batch_size"] = batch_size = CPU_BATCH_SIZE
        if "learning_rate" not in given:
            sizes["learning_rate"] = CPU_LEARNING_RATE
    if cpu and "checkpoint_steps" not in given:
        sizes["checkpoint_steps"] = CPU_CHECKPOINT_STEPS
    if "batch_size" not in given and 0 < number < batch_size:
        sizes["batch_size"] = batch_size = 2 ** (number.bit_length() - 1)  # which ranks can share
    if "steps" not in given:
        batches = settings.num_critic_steps + settings.num_generator_steps
        epochs = EPOCHS
        if config.objective.nll_batches == "all":  # the generator learns as much from fewer
            epochs = EPOCHS * settings.num_generator_steps // batches
        enough = epochs * number // (batch_size * batches)
        sizes["steps"] = min(settings.steps, max(MIN_STEPS, enough))
    fresh = config.run.init_from is None  # other networks have a residual, or have none
    lacking = variants or emojis >= MANY_EMOJIS
    if lacking and fresh and config.model.output == "tied" and "emoji_residual" not in given:
        sizes["emoji_residual"] = True
    return sizes


def begun(run: Path, given: Set[str]) -> Sizes:
    """The sizes of a run that was begun, by its config file; none where no checkpoint was written yet."""
    if not steps_in(run / CHECKPOINTS):
        return {}
    saved = read_config(run / CONFIG).flat()
    return {key: saved[key] for key in KEYS if key not in given}


def choose(config: Config, given: Set[str], shards: Folder, run: Path) -> tuple[Sizes, str]:
    """The sizes that a run has, or that suit where none was begun; and a line that tells them.

    Raises:
        InputError: the manifest cannot be read, or does not tell how many units there are.
    """
    import torch  # not with this file, for the help of `train` needs it, and must not wait

    from ..datasets.shards.manifest import read_manifest
    from ..datasets.stream.split import Split

    if sizes := begun(run, given):
        if config.model.output == "free":  # of another recipe: that is told where the configs are compared
            sizes.pop("emoji_residual", None)
        told = tell(sizes, config)
        return sizes, told and f"as in {run / CONFIG}: {told}"
    cpu = not torch.cuda.is_available()
    unit, manifest = config.data.unit, read_manifest(shards)
    number = Split(shards, manifest, "train", unit=unit, fold=config.data.fold).num_units
    variants, emojis = bool(manifest.options.get("keep_variants")), len(manifest.vocabulary)
    sizes = suit(config, given, cpu=cpu, number=number, emojis=emojis, variants=variants)
    told, device = tell(sizes, config), "CPU" if cpu else "GPU"
    return sizes, told and (
        f"chosen for a {device} and {number:,} {unit}s: {told}; give such options to choose yourself"
    )


def tell(sizes: Sizes, config: Config) -> str:
    """Those sizes that are not the config's, as options; empty where there are none."""
    of_config = config.flat()
    changed = {key: value for key, value in sizes.items() if value != of_config[key]}
    return " ".join(
        f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}")
        for key, value in changed.items()
    )

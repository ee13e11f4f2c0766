"""The configuration of a training: defaults < recipe < `--config` file < options.

Each section is what one part needs. The command line makes its options from these fields, so a key has one
name, one type, one range and one description, here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..datasets.emojis.text import canonical
from ..datasets.errors import InputError
from ..datasets.store.atomic import telling_where
from ..datasets.store.trouble import MISSING

RECIPES = Path(__file__).parent / "recipes"
DEFAULT = "reactions"  # the recipe of whoever names none
PLAIN = "tuples"  # the recipe that changes nothing of the defaults below


class Section(BaseModel):
    """A group of keys; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Data"""

    unit: Literal["tuple", "reaction"] = Field(
        default="tuple",
        description="What is learned from: single emojis of posts, or whole reactions, all emojis of a post.",
    )
    batch_size: int = Field(
        default=256, ge=1, description="Tuples or reactions in a batch, on all ranks together."
    )
    window: int = Field(
        default=64, ge=1, description="Shards whose tuples are mixed; with all of them the shuffle is full."
    )
    lanes: int = Field(
        default=1,
        ge=1,
        description="Parts of the shards that share each batch. As many as nodes: each fetches its own.",
    )
    augment: bool = Field(
        default=True, description="Flip, shift, and change brightness and contrast of the images."
    )
    fold: int | None = Field(
        default=None,
        ge=0,
        description="Fold of the train split that is not learned from, and that an evaluation is of: for "
        "cross-validation, on shards that were built with --folds.",
    )
    deny: tuple[str, ...] = Field(
        default=(),
        description="File of emojis that are not learned, one a line, as for `emojigan shards build`; in a "
        "config file the emojis themselves.",
    )

    @field_validator("deny")
    @classmethod
    def _check_deny(cls, emojis: tuple[str, ...]) -> tuple[str, ...]:
        """Sorted: the order of a list is not of a training's identity."""
        for emoji in emojis:
            if canonical(emoji, keep_variants=True) != emoji:
                raise ValueError(f"{emoji!r} is not an emoji as shards have them: give the file to --deny")
        return tuple(sorted({*emojis}))


class ModelConfig(Section):
    """Model"""

    output: Literal["tied", "free"] = Field(
        default="tied",
        description="What the generator makes: q(emoji | image, z), tied to the vectors, or a free vector.",
    )
    critic: Literal["projection", "concatenation"] = Field(
        default="projection",
        description="How the critic joins image and emoji vector.",
    )
    center_vectors: bool = Field(
        default=True, description="Centre the emoji vectors and scale them to unit variance."
    )
    emoji_bias: bool = Field(
        default=False,
        description="Learn for each emoji how much it is said, whatever the image; begins at its share.",
    )
    emoji_residual: bool = Field(
        default=False, description="Learn what the vector of each emoji lacks; begins with nothing."
    )
    trunk_width: int = Field(
        default=64, ge=4, description="Channels of the first convolution; each further one has twice as many."
    )
    feature_dim: int = Field(default=256, ge=4, description="How many features an image has.")
    hidden_dim: int = Field(default=512, ge=4, description="Units of the hidden layers.")
    latent_dim: int = Field(default=100, ge=1, description="Dimensions of the noise z.")
    latent_scale: float = Field(
        default=1.0,
        gt=0,
        description="How large z is beside the features of an image; a large one is sooner made use of.",
    )


class ObjectiveConfig(Section):
    """Objective"""

    penalty_weight: float = Field(default=10.0, ge=0, description="Weight λ of the gradient penalty.")
    nll_weight: float = Field(
        default=5.0,
        ge=0,
        description="Weight of the likelihood term, −log q of the observed emojis; needs a tied output.",
    )
    nll_batches: Literal["generator", "all"] = Field(
        default="generator",
        description="Which batches the likelihood is of: the generator's, or the critic's, too.",
    )
    latents: int = Field(
        default=1, ge=1, description="Latents z over which the likelihood of a reaction is averaged, K."
    )
    critic_sees: Literal["reaction", "tuple", "nothing"] = Field(
        default="reaction",
        description="What the critic scores: reactions, one emoji of each, or nothing: likelihood alone.",
    )
    weights: Literal["none", "exponential", "tfidf", "tfidf-corpus"] = Field(
        default="none",
        description="How the samples are weighted; `emojigan weights report` tells what it does.",
    )
    k: float = Field(default=10.0, ge=0, description="The k of the exponential weights (Eq. 2 of the paper).")


class OptimizerConfig(Section):
    """Optimizer"""

    steps: int = Field(
        default=2600,
        ge=1,
        description="Steps of training: each is critic updates, then generator updates (Algorithm 1).",
    )
    num_critic_steps: int = Field(
        default=5, ge=1, description="Critic updates in a step, each on a fresh batch."
    )
    num_generator_steps: int = Field(default=1, ge=1, description="Generator updates in a step.")
    learning_rate: float = Field(
        default=5e-4, gt=0, description="Learning rate of both Adams at the first step."
    )
    final_learning_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Learning rate at the last step, as a share of that at the first.",
    )
    beta1: float = Field(default=0.1, ge=0, lt=1, description="The β₁ of both Adams.")
    beta2: float = Field(default=0.9, ge=0, lt=1, description="The β₂ of both Adams.")
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of an image's features that are left out in training, others each time, so that "
        "pictures are not known by heart.",
    )
    ema_decay: float = Field(
        default=0.9995,
        ge=0,
        lt=1,
        description="Decay of the averaged generator, the one that is sampled; 0 averages nothing.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the first weights, the order of the tuples and the noise.",
    )


class RunConfig(Section):
    """Run (these may change when a run is resumed)"""

    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = Field(
        default="auto",
        description="How the trunks compute; what comes behind them, the penalty too, is in float32. auto "
        "takes bf16 where the device is made for it.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Compile the updates: auto does on a GPU, where it takes half a minute once.",
    )
    graphs: Literal["auto", "off"] = Field(
        default="auto",
        description="Capture the updates as CUDA graphs: auto does on a GPU.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Parts in which a rank takes its batch, one after the other, where memory is short.",
    )
    deterministic_ranks: int | None = Field(
        default=None,
        ge=1,
        description="Add up gradients so that training is the same, bit for bit, on any number of CPU ranks "
        "that divides this one, a power of two; slower.",
    )
    init_from: str | None = Field(
        default=None,
        description="Run or snapshot whose networks a new training begins with; its sizes must be these.",
    )
    world_size: int | None = Field(
        default=None,
        ge=1,
        description="How many ranks are promised: training refuses to start on another number.",
    )
    timeout: float = Field(
        default=5,
        gt=0,
        description="Minutes without a step after which ranks that wait for another one end. Longer than a "
        "snapshot and a checkpoint take.",
    )
    helpers: int | None = Field(
        default=None, ge=0, description="Threads of each rank that make batches ahead."
    )
    device_cache: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Keep the images in the device's memory; auto does where a quarter of a GPU's is enough.",
    )
    max_quarantined: float = Field(
        default=0.001,
        ge=0,
        le=1,
        description="Share of the tuples that may be damaged before training stops.",
    )
    cache: str = Field(
        default="~/.cache/emojigan",
        description="Folder in which shards of a store are kept while they are read.",
    )
    cache_gib: float = Field(default=50, gt=0, description="GiB that the folder of --cache may hold.")
    stop_on_collapse: bool = Field(
        default=False,
        description="End, with the best snapshot, when training diverges or the generator says few emojis.",
    )
    log_steps: int = Field(default=10, ge=1, description="Steps between metrics.")
    checkpoint_steps: int = Field(default=500, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="How many checkpoints are kept: the last.")
    snapshot_steps: int = Field(
        default=200, ge=1, description="Steps between snapshots, scored on the val split."
    )
    keep_snapshots: int | None = Field(
        default=None, ge=1, description="How many snapshots are kept: the last, and always the best."
    )


class Config(Section):
    """Everything that a training depends on, besides its data and vectors."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()

    @property
    def generator_updates(self) -> int:
        """Of a step: also with the critic's batches, where the likelihood is of all."""
        settings = self.optimizer
        also = settings.num_critic_steps if self.objective.nll_batches == "all" else 0
        return settings.num_generator_steps + also

    def flat(self) -> dict[str, Any]:
        """All keys in one mapping: a key is in one section alone."""
        return {key: value for part in self.model_dump().values() for key, value in part.items()}

    def but_seed(self) -> str:
        """All that a training depends on but its seed: two that have the same are of one recipe."""
        others = {*RunConfig.model_fields} - {"init_from"}  # from where weights come is no matter of running
        return self.model_dump_json(exclude={"run": others, "optimizer": {"seed"}})

    @model_validator(mode="after")
    def _check(self) -> "Config":
        objective, model = self.objective, self.model
        if model.output == "free" and (model.emoji_bias or model.emoji_residual):
            raise ValueError(
                "a free output has no emojis of its own: leave emoji_bias and emoji_residual out"
            )
        if self.model.output == "free" and objective.nll_weight > 0:
            raise ValueError("a free output has no likelihood: set nll_weight to 0")
        if self.model.output == "free" and self.data.unit == "reaction":
            raise ValueError("a free output says one emoji: set unit to tuple")
        if objective.critic_sees == "nothing" and objective.nll_batches == "generator":
            raise ValueError("what the critic sees nothing of teaches the generator: set nll_batches to all")
        if objective.nll_batches == "all" and not objective.nll_weight:
            raise ValueError("nll_batches all has no likelihood to learn: set nll_weight above 0")
        return self


def recipes() -> list[str]:
    """The names of the recipes in the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def resolve(recipe: str, file: Path | None, options: dict[str, Any]) -> Config:
    """The configuration that a recipe, a YAML file of sections and flat options make together.

    Raises:
        InputError: an unknown key or a value out of range, with its name.
    """
    sections: dict[str, dict[str, Any]] = {}
    for path in (RECIPES / f"{recipe}.yaml", file):
        for section, values in (_read_sections(path) if path else {}).items():
            sections.setdefault(section, {}).update(values)
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        given = {key: options[key] for key in field.annotation.model_fields if key in options}
        sections[name] = {**sections.get(name, {}), **given}
    return _validated(sections, file or recipe)


def read_config(path: Path) -> Config:
    """The configuration in a file of a run.

    Raises:
        InputError: it is not there, or a key of it is unknown or out of range.
    """
    return _validated(_read_sections(path), path)


def _validated(sections: dict[str, dict[str, Any]], origin: Path | str) -> Config:
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "config"
        unknown = first["type"] == "extra_forbidden"
        message = "unknown key" if unknown else first["msg"].removeprefix("Value error, ")
        raise InputError(f"{origin}: {key}: {message}.") from error


def with_keys(config: Config, keys: Mapping[str, Any], origin: str) -> Config:
    """A configuration with other values of some of its keys.

    Args:
        origin: of these, for a message.

    Raises:
        InputError: a value is out of range, or does not fit the others.
    """
    sections = config.model_dump()
    for values in sections.values():
        values.update({key: keys[key] for key in values.keys() & keys.keys()})
    return _validated(sections, origin)


def given_keys(recipe: str, file: Path | None, options: dict[str, Any]) -> set[str]:
    """The keys that somebody decided: by an option, in the file, or in a recipe, which changes them."""
    in_file = (_read_sections(file) if file else {}).values()
    without, of_recipe = Config().flat(), resolve(recipe, None, {}).flat()
    changed = {key for key, value in of_recipe.items() if value != without[key]}
    return {*options, *(key for section in in_file for key in section), *changed}


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of keys in a YAML file; whether the keys are known is not looked at.

    Raises:
        InputError: it cannot be read, or has no sections.
    """
    try:
        with telling_where(path):
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.") from error
    except (*MISSING, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: not a YAML file that can be read: {str(error).splitlines()[0]}."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(values, dict) for values in content.values()):
        raise InputError(f"{path}: give sections with keys, such as `optimizer: {{steps: 1000}}`.")
    return content

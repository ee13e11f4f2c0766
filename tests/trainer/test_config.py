"""Where a training's configuration comes from, and what is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotated_types
import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from click.testing import CliRunner
from torch.distributed.run import get_args_parser

from emojigan.datasets.errors import InputError
from emojigan.launch.cli import main
from emojigan.launch.commands.train import train
from emojigan.trainer.config import DEFAULT, Config, Section, recipes, resolve
from emojigan.trainer.model.networks import Generator, make_critic

SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Config.model_fields.items()}
KEYS = [(section, key) for section, kind in SECTIONS.items() for key in kind.model_fields]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a config file."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def invoke(*words: str | Path) -> Any:
    return CliRunner().invoke(main, ["train", *(str(word) for word in words)])


# Precedence.


def test_what_nothing_else_says_is_the_default():
    assert resolve("paper", None, {}).model.trunk_width == Config().model.trunk_width


def test_a_recipe_outranks_the_defaults():
    assert Config().optimizer.learning_rate == 5e-4
    assert resolve("paper", None, {}).optimizer.learning_rate == 1e-4


def test_a_config_file_outranks_the_recipe(written):
    config = resolve("paper", written("optimizer: {learning_rate: 0.002}"), {})
    assert config.optimizer.learning_rate == 0.002
    assert config.optimizer.ema_decay == 0  # of the same section, from the recipe


def test_an_option_outranks_the_config_file(written):
    file = written("optimizer: {learning_rate: 0.002, steps: 7}")
    config = resolve("paper", file, {"learning_rate": 0.003})
    assert config.optimizer.learning_rate == 0.003
    assert config.optimizer.steps == 7


def test_the_command_line_gives_every_source_to_the_config(shards: Path, vectors_file: Path, written):
    file = written("optimizer: {learning_rate: 0.002, steps: 7}\nmodel: {trunk_width: 4}")
    words = ["--recipe", "paper", "--config", file, "--learning-rate", "0.003", "--augment", "--dry-run"]
    result = invoke(shards, "--vectors", vectors_file, "--out", "unused", *words)
    assert result.exit_code == 0, result.output
    config = yaml.safe_load(result.stdout.split("\n\n")[0])
    assert config["optimizer"]["learning_rate"] == 0.003
    assert config["optimizer"]["steps"] == 7
    assert config["model"]["critic"] == "concatenation"
    assert config["data"]["augment"] is True


def test_an_exponent_without_a_point_is_a_number(written):
    """YAML 1.1 takes 1e-4 for text."""
    assert resolve("tuples", written("optimizer: {learning_rate: 1e-4}"), {}).optimizer.learning_rate == 1e-4


def test_an_empty_config_file_says_nothing(written):
    assert resolve("tuples", written("# nothing yet\n"), {}) == resolve("tuples", None, {})


def test_a_saved_config_gives_itself_back(written):
    config = resolve("paper", None, {"steps": 9, "world_size": 2})
    assert resolve("tuples", written(yaml.safe_dump(config.model_dump())), {}) == config


# What is refused.


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("optimiser: {steps: 3}", "optimiser"),
        ("optimizer: {step: 3}", "optimizer.step"),
        ("optimizer: {steps: 0}", "optimizer.steps"),
        ("optimizer: {steps: many}", "optimizer.steps"),
        ("optimizer: {steps: 1.5}", "optimizer.steps"),
        ("optimizer: {steps: null}", "optimizer.steps"),
        ("optimizer: {steps: [1, 2]}", "optimizer.steps"),
        ("optimizer: {learning_rate: 0}", "optimizer.learning_rate"),
        ("optimizer: {learning_rate: .nan}", "optimizer.learning_rate"),
        ("optimizer: {learning_rate: .inf}", "optimizer.learning_rate"),
        ("optimizer: {beta2: 1}", "optimizer.beta2"),
        ("optimizer: {final_learning_rate: 1.01}", "optimizer.final_learning_rate"),
        ("optimizer: {seed: 18446744073709551616}", "optimizer.seed"),
        ("objective: {penalty_weight: -1}", "objective.penalty_weight"),
        (
            "objective: {critic_sees: nothing}",
            "config: what the critic sees nothing of teaches the generator",
        ),
        (
            "objective: {nll_batches: all, nll_weight: 0}",
            "config: nll_batches all has no likelihood to learn",
        ),
        (
            "data: {unit: reaction}\nmodel: {output: free}\nobjective: {nll_weight: 0}",
            "config: a free output says one emoji",
        ),
        ("objective: {weights: log}", "objective.weights"),
        ("model: {critic: paper}", "model.critic"),
        ("data: {augment: maybe}", "data.augment"),
        ("data: {deny: [❤️]}", "data.deny"),  # styled, as no shard has it
        ("data: {deny: [spam]}", "data.deny"),
        ("run: {world_size: 0}", "run.world_size"),
        ("1: {steps: 3}", "1"),
    ],
)
def test_a_wrong_key_or_value_is_named_in_one_line(written, text: str, named: str):
    with pytest.raises(InputError) as error:
        resolve("tuples", written(text), {})
    assert f"config.yaml: {named}: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["3", "steps", "optimizer: 3", "steps: 3", "{{", "a: b: c", "\x00", "run: {seed: 2020-13-45}"]
)
def test_a_file_that_is_not_sections_of_keys_is_refused_in_one_line(written, text: str):
    with pytest.raises(InputError, match=r"config\.yaml: ") as error:
        resolve("tuples", written(text), {})
    assert "\n" not in str(error.value)


def test_a_config_file_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file\."):
        resolve("tuples", Path("nowhere.yaml"), {})


def test_a_config_file_that_is_not_text_is_named(tmp_path: Path):
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.yaml: not a YAML file"):
        resolve("tuples", tmp_path / "config.yaml", {})


def test_a_likelihood_of_a_free_output_is_refused():
    with pytest.raises(InputError, match="a free output has no likelihood: set nll_weight to 0"):
        resolve("tuples", None, {"output": "free"})


def test_a_free_output_without_likelihood_is_allowed():
    assert resolve("tuples", None, {"output": "free", "nll_weight": 0}).model.output == "free"


def test_a_wrong_value_ends_the_command_line_with_2_and_one_line(shards: Path, vectors_file: Path):
    result = invoke(shards, "--vectors", vectors_file, "--out", "unused", "--learning-rate", "nan")
    assert result.exit_code == 2
    assert result.stderr == "Error: reactions: optimizer.learning_rate: Input should be a finite number.\n"


# Recipes.


def test_there_are_three_recipes():
    assert recipes() == ["paper", "reactions", "tuples"]


@pytest.mark.parametrize("recipe", ["tuples", "paper"])
def test_a_recipe_makes_networks(recipe: str):
    config = resolve(recipe, None, {"trunk_width": 4})
    Generator(config.model, torch.zeros(3, 300), 64)
    make_critic(config.model, 300, 64)


def test_the_recipe_of_tuples_is_the_defaults():
    assert resolve("tuples", None, {}) == Config()


def test_the_paper_recipe_is_the_paper():
    config = resolve("paper", None, {})
    assert (config.model.output, config.model.critic) == ("free", "concatenation")
    assert (config.objective.penalty_weight, config.objective.nll_weight) == (10, 0)
    settings = config.optimizer
    assert (settings.learning_rate, settings.beta1, settings.beta2) == (1e-4, 0.1, 0.9)
    assert (settings.num_critic_steps, settings.ema_decay, config.data.augment) == (5, 0, False)


# Options.


def test_no_two_sections_share_a_key():
    """An option and an MLflow parameter have the key alone as their name."""
    keys = [key for _, key in KEYS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_is_an_option_with_its_range_and_description(section: str, key: str):
    field = SECTIONS[section].model_fields[key]
    (option,) = (each for each in train.params if each.name == key)
    assert option.opts == [f"--{key.replace('_', '-')}"]
    assert getattr(option, "help", "").startswith(f"{field.description} [default: ")
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge | annotated_types.Gt):
            limit, is_open = (bound.gt, True) if isinstance(bound, annotated_types.Gt) else (bound.ge, False)
            assert (option.type.min, option.type.min_open) == (limit, is_open)
        else:
            limit, is_open = (bound.lt, True) if isinstance(bound, annotated_types.Lt) else (bound.le, False)
            assert (option.type.max, option.type.max_open) == (limit, is_open)


def test_the_help_shows_every_option_and_its_range():
    text = invoke("--help").stdout
    for _, key in KEYS:
        assert f"--{key.replace('_', '-')}" in text
    assert "--beta1 FLOAT RANGE" in text and "[0<=x<1]" in text and "[tied|free]" in text


@pytest.mark.parametrize("make_parser", [get_args_parser, launch_command_parser])
def test_launchers_leave_every_option_to_the_training(make_parser: Callable):
    """They parse what stands behind the script too, and take an option that begins one of theirs for it."""
    options = [name for option in train.params for name in option.opts if name.startswith("--")]
    words = ["train", "shards", *(word for name in options for word in (name, "1"))]
    parsed = make_parser().parse_args(["--no_python", "emojigan", *words])
    assert (parsed.training_script, parsed.training_script_args) == ("emojigan", words)


# The dry run.


def test_a_dry_run_starts_nothing(
    shards: Path, vectors_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = invoke(shards, "--vectors", vectors_file, "--out", "run", "--dry-run", "--batch-size", "16")
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_weights(shards: Path, vectors_file: Path):
    words = ["--dry-run", "--batch-size", "16", "--trunk-width", "4", "--hidden-dim", "16"]
    result = invoke(shards, "--vectors", vectors_file, "--out", "unused", *words)
    model = resolve(DEFAULT, None, {"trunk_width": 4, "hidden_dim": 16}).model
    networks = Generator(model, torch.zeros(8, 300), 64), make_critic(model, 300, 64)
    of_generator, of_critic = (sum(p.numel() for p in network.parameters()) for network in networks)
    assert f"{of_generator:,} in the generator, {of_critic:,} in the critic" in result.stdout


def test_a_dry_run_of_a_batch_larger_than_the_data_is_refused(shards: Path, vectors_file: Path):
    words = ["--vectors", vectors_file, "--out", "unused", "--dry-run", "--batch-size", "100000"]
    result = invoke(shards, *words)
    assert result.exit_code == 2
    assert "fewer than --batch-size 100000" in result.stderr


def test_sections_cannot_be_changed_after_the_fact():
    section: Section = Config().optimizer
    with pytest.raises(ValueError, match="frozen"):
        section.steps = 3  # pyright: ignore[reportAttributeAccessIssue]

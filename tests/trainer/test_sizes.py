"""Sizes suit the device and the dataset where nobody gave any, and a begun run keeps its own."""

from pathlib import Path

import pytest
import yaml

from emojigan.trainer.config import Config, given_keys, resolve
from emojigan.trainer.sizes import CPU_NETWORKS, ON_CPU, begun, suit, tell

MANY = 10**9


def test_on_a_cpu_the_sizes_are_small():
    assert suit(Config(), set(), cpu=True, number=MANY) == {**ON_CPU, "steps": 2600}


def test_on_a_gpu_the_sizes_are_the_recipes():
    assert suit(Config(), set(), cpu=False, number=MANY) == {"steps": 2600}


@pytest.mark.parametrize("key", [*ON_CPU, "steps"])
def test_what_is_given_is_left_alone(key: str):
    assert key not in suit(Config(), {key}, cpu=True, number=1)


@pytest.mark.parametrize("key", [key for key in CPU_NETWORKS if key != "latent_dim"])
def test_one_size_of_the_networks_given_leaves_the_others_to_the_recipe(key: str):
    assert not CPU_NETWORKS.keys() & suit(Config(), {key}, cpu=True, number=1).keys()


def test_the_learning_rate_belongs_to_the_batch_size():
    assert "learning_rate" not in suit(Config(), {"batch_size"}, cpu=True, number=1)


@pytest.mark.parametrize(
    ("cpu", "num_tuples", "steps"),
    [(False, 1, 50), (False, 3200, 500), (True, 3200, 2000), (True, 800, 500), (False, MANY, 2600)],
)
def test_few_tuples_have_as_many_steps_as_make_240_epochs(cpu: bool, num_tuples: int, steps: int):
    sizes = suit(Config(), set(), cpu=cpu, number=num_tuples)
    assert sizes["steps"] == steps
    batch = sizes.get("batch_size", 256) * 6
    assert steps in (50, 2600) or steps * batch == 240 * num_tuples


def test_reactions_have_sizes_for_a_cpu_and_as_many_of_the_generators_batches():
    config, given = resolve("reactions", None, {}), given_keys("reactions", None, {})
    sizes = suit(config, given, cpu=True, number=3200)
    of_recipe = {key: value for key, value in ON_CPU.items() if key not in given}
    assert sizes == {**of_recipe, "steps": 40 * 3200 // (64 * 6)}


def test_variants_that_are_kept_apart_are_learned_apart_unless_somebody_says_otherwise():
    def chosen(recipe: str, given: set[str]) -> bool | None:
        config = resolve(recipe, None, {})
        return suit(config, given, cpu=False, number=MANY, variants=True).get("emoji_residual")

    assert chosen("reactions", set()) is True and chosen("tuples", set()) is True
    assert chosen("reactions", {"emoji_residual"}) is None
    assert chosen("paper", set()) is None  # its output has no emojis of its own
    other = resolve("reactions", None, {"init_from": "another"})
    assert "emoji_residual" not in suit(other, set(), cpu=False, number=MANY, variants=True)
    assert "--emoji-residual" in tell({"emoji_residual": True}, Config()).split()


def test_of_many_emojis_each_learns_what_its_vector_lacks():
    def chosen(emojis: int) -> bool:
        config = resolve("reactions", None, {})
        return "emoji_residual" in suit(config, set(), cpu=False, number=MANY, emojis=emojis)

    assert chosen(1000) and not chosen(999)


def test_steps_are_never_more_than_the_recipes():
    config = resolve("tuples", None, {"steps": 7})
    assert suit(config, set(), cpu=False, number=MANY) == {"steps": 7}


def test_the_paper_keeps_what_it_fixes_on_a_cpu():
    config = resolve("paper", None, {})
    sizes = suit(config, given_keys("paper", None, {}), cpu=True, number=800)
    assert sizes == {**CPU_NETWORKS, "steps": 500, "checkpoint_steps": 100}


def test_options_the_file_and_another_recipe_give_keys(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("model: {trunk_width: 4}")
    assert given_keys("tuples", file, {"steps": 3}) == {"trunk_width", "steps"}
    assert given_keys("tuples", None, {}) == set()
    assert {"learning_rate", "critic"} <= given_keys("paper", None, {})


def test_a_begun_run_keeps_its_sizes_on_another_device(tmp_path: Path):
    config = resolve("tuples", None, suit(Config(), set(), cpu=True, number=3200))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump()))
    (tmp_path / "checkpoints" / "step-00000100").mkdir(parents=True)
    assert resolve("tuples", None, begun(tmp_path, set())) == config
    assert "steps" not in begun(tmp_path, {"steps"})


def test_a_run_without_a_checkpoint_decides_nothing(tmp_path: Path):
    assert begun(tmp_path, set()) == {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(Config().model_dump()))
    assert begun(tmp_path, set()) == {}


@pytest.mark.parametrize(
    ("cpu", "num_tuples", "batch_size"), [(True, 51, 32), (False, 255, 128), (True, 1, 1)]
)
def test_a_batch_is_no_larger_than_the_tuples_there_are(cpu: bool, num_tuples: int, batch_size: int):
    assert suit(Config(), set(), cpu=cpu, number=num_tuples)["batch_size"] == batch_size
    assert "batch_size" not in suit(Config(), {"batch_size"}, cpu=cpu, number=num_tuples)


def test_only_what_changes_is_told():
    sizes = {"trunk_width": 16, "hidden_dim": 512, "learning_rate": 1e-3}
    assert tell(sizes, Config()) == "--trunk-width 16 --learning-rate 0.001"

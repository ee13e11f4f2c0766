"""The commands that train again what was trained with an account that is forgotten."""

import shlex

import pytest

from emojigan.launch.commands.train import train
from emojigan.trainer.config import PLAIN, RunConfig, resolve
from emojigan.trainer.serving.retrain import _options


@pytest.mark.parametrize(
    ("recipe", "residual"),
    [("reactions", False), ("reactions", True), ("tuples", False), ("tuples", True), ("paper", False)],
)
def test_the_options_of_a_run_make_its_config_again(recipe: str, residual: bool):
    options = {"trunk_width": 8, "augment": False, "emoji_residual": residual}
    config = resolve(recipe, None, options)
    told = shlex.split(_options({key: str(value) for key, value in config.flat().items()}))
    words = ["shards", "--vectors", "v.bin", "--out", "run", "--recipe", PLAIN, *told]
    parsed = train.make_context("train", words).params
    given = {key: value for key, value in parsed.items() if key in config.flat() and value is not None}
    assert given["emoji_residual"] == residual  # said, whatever it is: the dataset could choose another
    again = resolve(PLAIN, None, given)
    assert again.model_copy(update={"run": RunConfig()}) == config.model_copy(update={"run": RunConfig()})


def test_what_a_run_denied_is_to_be_denied_again():
    config = resolve("reactions", None, {"deny": ("🔫",)})
    assert "--deny FILE" in _options({key: str(value) for key, value in config.flat().items()})

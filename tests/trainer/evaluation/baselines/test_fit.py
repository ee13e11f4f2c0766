"""What is trained to be compared with is trained as well as can be, once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import Config, resolve
from emojigan.trainer.evaluation.baselines import fit as fitting
from emojigan.trainer.evaluation.baselines.classifier import classify, train_classifier
from emojigan.trainer.evaluation.baselines.fit import as_many
from emojigan.trainer.inputs import Inputs, read_inputs
from emojigan.trainer.validation import read_val, val_loss

SMALL = {"trunk_width": 4, "batch_size": 16}


@pytest.fixture
def inputs(shards: Path, vectors_file: Path) -> Inputs:
    return read_inputs(Config(), LocalFolder(shards), vectors_file)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[float, float]:
    """Of each rate that was tried."""
    train, noted = fitting.train, {}

    def note(*given: Any) -> tuple[float, dict[str, torch.Tensor]]:
        noted[given[-1]], weights = train(*given)
        return noted[given[-1]], weights

    monkeypatch.setattr(fitting, "train", note)
    return noted


@pytest.mark.parametrize(("rate", "rates"), [(0.02, (1e-3, 0.02)), (5e-4, (1e-3,))])
def test_of_two_rates_it_has_that_which_val_likes_better(
    inputs: Inputs, tmp_path: Path, losses: dict[float, float], rate: float, rates: tuple[float, ...]
):
    config = resolve("tuples", None, SMALL | {"learning_rate": rate})
    classifier, held_out = train_classifier(config, inputs, tmp_path, 12), read_val(inputs)
    assert tuple(losses) == rates and held_out
    found = val_loss(classify(classifier, held_out.images), held_out, inputs)
    assert abs(found - min(losses.values())) < 1e-6


def test_it_is_trained_again_where_what_it_is_made_from_differs_and_else_not(
    inputs: Inputs, tmp_path: Path, losses: dict[float, float]
):
    config = resolve("tuples", None, SMALL)
    for steps, trained in ((6, True), (6, False), (7, True)):
        losses.clear()
        train_classifier(config, inputs, tmp_path, steps)
        assert bool(losses) == trained


def test_as_many_are_seen_as_the_run_saw(inputs: Inputs):
    config = resolve("tuples", None, {"steps": 10, "num_critic_steps": 4})
    assert as_many(config, inputs, "tuple") == 50
    of_reactions = replace(inputs, train=replace(inputs.train, unit="reaction"))
    assert as_many(config, of_reactions, "reaction") == 50
    train = of_reactions.train
    assert as_many(config, of_reactions, "tuple") == round(50 * train.num_tuples / train.num_units) > 50

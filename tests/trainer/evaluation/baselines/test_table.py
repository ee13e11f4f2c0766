"""Each baseline answers for the whole scene, and what it says is made as it should be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emojigan.datasets.store.folder import LocalFolder
from emojigan.trainer.config import resolve
from emojigan.trainer.evaluation.baselines.baseline import Given
from emojigan.trainer.evaluation.baselines.classifier import features, train_classifier
from emojigan.trainer.evaluation.baselines.neighbours import Neighbours, Settings
from emojigan.trainer.evaluation.baselines.table import BASELINES
from emojigan.trainer.evaluation.baselines.variational import Autoencoder
from emojigan.trainer.evaluation.baselines.zero_shot import near
from emojigan.trainer.evaluation.metrics.scene import set_scene
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.model.networks import TiedClassifier

SMALL = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 8, "latent_dim": 3, "batch_size": 16, "steps": 2}


@pytest.fixture(scope="module")
def given(shards: Path, vectors_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    config, run = resolve("reactions", None, SMALL), tmp_path_factory.mktemp("run")
    inputs = read_inputs(config, LocalFolder(shards), vectors_file)
    scene = set_scene(inputs, vectors_file, None)
    classifier = train_classifier(config, inputs, run, 4)
    scene = replace(scene, features=features(classifier, scene.held_out.images))
    return Given(config, inputs, scene, run, 4, classifier)


@pytest.mark.parametrize("name", [*BASELINES])
def test_a_baseline_answers_for_all_tuples_and_reactions(given: Given, name: str):
    found = BASELINES[name](given)
    if name == "independent":  # the truth is not known
        assert found is None
        return
    assert found and found.label and found.explanation.endswith(".")
    if found.q is not None:
        assert found.q.shape == (len(given.scene.observed), len(given.scene.support))
        assert found.q.sum(axis=1) == pytest.approx(1)
        assert (found.q >= 0).all()
    assert found.reactions is not None
    assert len(found.reactions["reaction_nll"]) == len(given.scene.posted.image)
    assert np.isfinite(found.reactions["reaction_nll"]).all()


def test_a_neighbour_says_what_was_written_under_it():
    seen, said = np.eye(3), np.array([[2.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 4]])
    found = Neighbours(seen, said, np.full(4, 0.25))
    nearest = found.nearest(np.array([[0.1, 1.0, 0.0]]))
    (answers,) = found.answers(nearest, Settings(2, alike=0, from_marginal=0))
    assert answers.q[0].tolist() == [[0, 0.5, 0.5, 0], [1, 0, 0, 0]]  # the nearest first
    (alike,) = found.answers(nearest, Settings(2, alike=1, from_marginal=0.5))
    assert alike.q[0] == pytest.approx(np.tile([0.375, 0.25, 0.25, 0.125], (2, 1)))


def test_what_is_near_to_what_is_said_is_likely_also_where_no_post_has_it():
    known, unseen = np.eye(3), np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    unseen[0] /= np.linalg.norm(unseen[0])
    q = near(np.array([[1.0, 0.0, 0.0]]), known, np.vstack([known, unseen]), 10.0)
    assert q.sum() == pytest.approx(1) and q[0, 4] == 0
    assert q[0].argsort()[::-1][:2].tolist() == [0, 3]


def test_a_tied_classifier_is_a_softmax_of_products_with_the_vectors():
    config = resolve("tuples", None, SMALL).model
    network = TiedClassifier(config, torch.randn(6, 5), 64)
    images = torch.randn(2, 3, 64, 64)
    output = network.output(network.trunk(images))
    expected = (output @ network.vectors.T / 5**0.5).softmax(dim=1)
    assert torch.allclose(network(images).exp(), expected)


def test_the_bound_of_the_autoencoder_is_that_of_its_definition():
    torch.manual_seed(0)
    config = resolve("reactions", None, SMALL).model
    network = Autoencoder(config, torch.randn(6, 5), 64)
    features, noise = torch.randn(3, 8), torch.randn(3, 3)
    emoji = torch.tensor([[2, 4], [1, -1], [-1, -1]])  # the last has none that can be said
    expected = []
    for row, said in enumerate(([2, 4], [1])):
        read = network.generator.vectors[said].mean(dim=0)
        mean, log_variance = network.encoder(torch.cat([features[row], read])).chunk(2)
        posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
        prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
        divergence = torch.distributions.kl_divergence(posterior, prior).sum()
        z = mean + (log_variance / 2).exp() * noise[row]
        log_q = network.generator.log_probabilities(network.generator.head(features[row], z))
        expected.append(0.3 * divergence - log_q[said].sum())
    assert network.loss(features, emoji, noise, 0.3).item() == pytest.approx(
        torch.stack(expected).mean().item(), rel=1e-5
    )

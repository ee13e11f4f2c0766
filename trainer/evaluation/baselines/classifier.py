"""The same trunk with a softmax over the vocabulary: what most would use instead."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ....datasets.stream.held_out import HeldOut
from ...config import Config
from ...inputs import Inputs
from ...model.augment import normalise
from ...model.networks import Classifier
from ...model.noise import initial_weights, kept
from ...validation import val_loss
from .baseline import Candidate, Given
from .fit import Task, as_many, fit

LABEL = "Softmax classifier"
CHUNK = 256  # images asked about at a time


def classifier(given: Given) -> Candidate:
    """The classifier that is given."""
    return given.says(
        LABEL,
        "The same trunk and the same tuples, with a softmax over the vocabulary; of two rates the better.",
        classify(given.classifier, given.scene.held_out.images),
    )


def train_classifier(config: Config, inputs: Inputs, run: Path, steps: int | None) -> Classifier:
    """The classifier of a run; by default trained on as many tuples as the run saw."""
    with initial_weights(config.optimizer.seed):
        network = Classifier(config.model, len(inputs.vocabulary), inputs.train.manifest.image_size)
    return fit_classifier("classifier", network, config, inputs, run, steps)


def fit_classifier(
    name: str, network: Classifier, config: Config, inputs: Inputs, run: Path, steps: int | None
) -> Classifier:
    """Train any by the likelihood of tuples."""

    def loss(
        network: Classifier, images: torch.Tensor, emoji: torch.Tensor, drawn: torch.Tensor, _: float
    ) -> torch.Tensor:
        log_q = network.head(network.trunk(images) * kept(drawn, config.optimizer.dropout))
        return -(log_q.gather(1, emoji.clamp(min=0)) * (emoji >= 0)).mean()

    def score(network: Classifier, held_out: HeldOut) -> float:
        return val_loss(classify(network, held_out.images), held_out, inputs)

    task = Task(name, "tuple", config.model.feature_dim, loss, score)
    return fit(task, network, config, inputs, run, steps or as_many(config, inputs, "tuple"))


def classify(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    """q(e | y) of uint8 images [n, 3, size, size], float64 [n, V]."""
    return _asked(lambda seen: classifier(seen).exp(), classifier, images)


def features(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    """What the classifier's trunk sees in uint8 images [n, 3, size, size], float64 [n, feature_dim]."""
    return _asked(classifier.trunk, classifier, images)


@torch.inference_mode()
def _asked(
    ask: Callable[[torch.Tensor], torch.Tensor], classifier: Classifier, images: torch.Tensor
) -> np.ndarray:
    device = next(classifier.parameters()).device
    chunks = [ask(normalise(chunk.to(device))).float().cpu() for chunk in images.split(CHUNK)]
    return torch.cat(chunks).double().numpy()

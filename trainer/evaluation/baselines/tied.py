"""The classifier with the generator's head, but for the latent: what the vectors alone are good for."""

from ...model.networks import TiedClassifier
from ...model.noise import initial_weights
from .baseline import Candidate, Given
from .classifier import classify, fit_classifier


def tied(given: Given) -> Candidate:
    """Trained as the classifier is."""
    config, inputs = given.config, given.inputs
    with initial_weights(config.optimizer.seed):
        network = TiedClassifier(config.model, inputs.vectors, inputs.train.manifest.image_size)
    fitted = fit_classifier("tied", network, config, inputs, given.run, given.steps)
    return given.says(
        "Tied classifier",
        "The classifier, whose softmax is over products with the emojis' vectors.",
        classify(fitted, given.scene.held_out.images),
    )

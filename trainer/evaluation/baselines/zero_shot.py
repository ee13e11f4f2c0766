"""ConSE (Norouzi et al. 2014): what the classifier says, as a point among the vectors, and who is near it.

    q(e | y) ─► the mean vector of its likeliest emojis ─► softmax of cosines, over all that it is judged on

So it can say emojis that are too rare for the vocabulary, or in no post of train; which of them there are, it
is told by what it is judged on.
"""

import numpy as np

from ...validation import val_loss
from ..metrics.metric import Floats
from .baseline import Candidate, Given
from .classifier import classify

LIKELIEST = 10
SHARPNESS = (3.0, 10.0, 30.0, 100.0)  # of the softmax, of which the val split takes one


def zero_shot(given: Given) -> Candidate:
    """With the sharpness that val likes best."""
    inputs, scene = given.inputs, given.scene
    vectors, known = scene.vectors, scene.vectors[: len(inputs.vocabulary)]
    held_out, sharpness = given.val, SHARPNESS[1]
    if held_out:
        of_val = classify(given.classifier, held_out.images)
        losses = {each: val_loss(near(of_val, known, known, each), held_out, inputs) for each in SHARPNESS}
        sharpness = min(losses, key=losses.__getitem__)
    return given.says(
        "Zero-shot (ConSE)",
        f"The mean vector of the {LIKELIEST} likeliest emojis of the classifier, and how near to it each "
        "emoji's lies; of those that are too rare for the vocabulary, too.",
        near(classify(given.classifier, scene.held_out.images), known, vectors, sharpness),
    )


def near(said: Floats, known: Floats, vectors: Floats, sharpness: float) -> Floats:
    """A distribution over emojis by the cosine to what is said.

    Args:
        said: over the emojis of the vocabulary, [n, V].
        known: their unit vectors, [V, d].
        vectors: of all emojis, [S, d]; one that is 0 is never said.

    Returns:
        [n, S]
    """
    least = np.sort(said, axis=1)[:, [-min(LIKELIEST, said.shape[1])]]
    first = np.where(said >= least, said, 0)
    point = (first / first.sum(axis=1, keepdims=True)) @ known
    point /= np.maximum(np.linalg.norm(point, axis=1, keepdims=True), 1e-12)
    logits = np.where((vectors**2).sum(axis=1) > 0, sharpness * point @ vectors.T, -np.inf)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)

"""How often each emoji is posted, whatever the image: who beats this has looked."""

import numpy as np

from .baseline import Candidate, Given


def marginal(given: Given) -> Candidate:
    """The shares of the train split."""
    shares = given.scene.shares[: len(given.inputs.vocabulary)]
    return given.says(
        "Marginal",
        "How often each emoji is posted, whatever the image.",
        np.tile(shares, (len(given.scene.held_out.images), 1)),
    )
